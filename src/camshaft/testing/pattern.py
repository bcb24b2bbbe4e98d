"""The patterns of :mod:`camshaft.trace.pattern`, under the name that tests use."""

from camshaft.trace import pattern
from camshaft.trace.pattern import PatternError, check

__all__ = ["PatternError", "check"]

__doc__ = pattern.__doc__
