"""Find the reporter for an engine of another library."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from camshaft.adapters.ignite import reporting
from camshaft.adapters.reporter import Reporter

__all__ = ["reporter_of"]


def reporter_of(engine: Any) -> AbstractContextManager[Reporter]:
    """Return a reporter for another library's engine.

    Args:
        engine: an engine of pytorch-ignite, or a reporter (returned unchanged).

    Returns:
        A context manager; inside its block the events of ``engine`` are reported.

    Raises:
        TypeError: ``engine`` is neither.
    """
    if isinstance(engine, Reporter):
        return engine
    # Compare names of modules instead of importing pytorch-ignite: it may not be installed.
    if any(base.__module__.partition(".")[0] == "ignite" for base in type(engine).__mro__):
        return reporting(engine)
    raise TypeError(f"{engine!r} cannot be recorded: give an Engine, a Reporter, or an engine of pytorch-ignite")
