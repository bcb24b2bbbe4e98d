"""Nesting: check an inner engine, and the handler that runs it."""

from __future__ import annotations

from collections.abc import Iterator

from camshaft.engine.limits import Limits
from camshaft.engine.run import RunHost
from camshaft.loop.states import Nested

__all__ = ["NestedRun", "check_nested"]


def check_nested(engine: RunHost, nested: Nested) -> None:
    """Refuse an engine that cannot run inside another one.

    Args:
        engine: the outer engine.
        nested: the inner engine, with its data and limits.

    Raises:
        TypeError: the data is not iterable.
        ValueError: the outer engine would run inside itself, the data can be read only once, or data and limits do not
            fit the inner loop.
    """
    inner, data = nested.engine, nested.data
    if inner is None:
        raise ValueError(
            f"{nested.name} was read from a file, without its engine: such a loop can be judged and drawn, not run"
        )
    if any(engine is other for other in _with_nested(inner)):
        raise ValueError(f"{inner.name} cannot be nested in {engine.name}: {engine.name} would run inside itself")
    try:
        Limits(nested.max_epochs, nested.max_iters, nested.epoch_length).check(inner.loop, data)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{engine.name}.nest({inner.name}): {error}") from None
    if isinstance(data, Iterator):
        raise ValueError(
            f"{inner.name} would find no data in its second run, because {data!r} can be read only once: "
            f"give a list or a DataLoader"
        )


class NestedRun:
    """The handler that runs a nested engine.

    Args:
        nested: the inner engine, with its data and limits.
    """

    def __init__(self, nested: Nested) -> None:
        self.nested = nested
        self.__qualname__ = f"run {nested.name}"  # the name in diagrams and reports

    def __call__(self, *_: object) -> None:
        """Run the inner engine: continue its paused run, or start a new one."""
        __tracebackhide__ = True
        nested, inner = self.nested, self.nested.engine
        if inner.current_run is not None:
            inner.run()  # it is paused: continue with its own data and limits
            return
        inner.close()  # start a new run, however the last one ended
        inner.run(nested.data, nested.max_epochs, nested.max_iters, nested.epoch_length)


def _with_nested(engine: RunHost) -> Iterator[RunHost]:
    """Yield an engine and all engines nested in it, at any depth."""
    yield engine
    for nested in engine.loop.nested:
        if nested.engine is not None:
            yield from _with_nested(nested.engine)
