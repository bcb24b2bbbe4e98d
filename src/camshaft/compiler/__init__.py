"""The generated loop: a declaration written as Python source and compiled."""

from camshaft.compiler.program import Line, Program
from camshaft.compiler.writer import generate

__all__ = ["Line", "Program", "generate"]
