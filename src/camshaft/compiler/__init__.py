"""The generated loop: a declaration written as Python source and compiled."""

from camshaft.compiler.writer import Line, Program, generate

__all__ = ["Line", "Program", "generate"]
