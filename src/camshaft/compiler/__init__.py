"""The compiler of loops: it turns a declaration into Python source and compiles that."""

from camshaft.compiler.program import Line, Program
from camshaft.compiler.writer import generate

__all__ = ["Line", "Program", "generate"]
