"""An alias of :mod:`camshaft.adapters.as_ignite`, kept so that ``from camshaft.compat import as_ignite`` works."""

from camshaft.adapters.as_ignite import as_ignite

__all__ = ["as_ignite"]
