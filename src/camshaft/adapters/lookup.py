"""The reporter for an engine of another library."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from camshaft.adapters.ignite import reporting
from camshaft.adapters.reporter import Reporter

__all__ = ["reporter_of"]


def reporter_of(engine: Any) -> AbstractContextManager[Reporter]:
    """A reporter for whatever can report: a reporter, or an engine of pytorch-ignite.

    Raises:
        TypeError: it can not.
    """
    if isinstance(engine, Reporter):
        return engine
    if any(base.__module__.partition(".")[0] == "ignite" for base in type(engine).__mro__):
        return reporting(engine)
    raise TypeError(f"{engine!r} cannot be recorded: give an Engine, a Reporter, or an engine of pytorch-ignite")
