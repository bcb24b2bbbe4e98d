"""Patterns for tests: :mod:`camshaft.trace.pattern` under the name for use in tests."""

# Trace.assert_matches() needs patterns, and camshaft.trace must not import camshaft.testing: so their code is there.

from camshaft.trace import pattern
from camshaft.trace.pattern import PatternError, check

__all__ = ["PatternError", "check"]

__doc__ = pattern.__doc__
