"""Traces of pytorch-ignite's engines: what they fire is reported as it happens, and judged by a camshaft loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from camshaft.events import event_key
from camshaft.loop import BUILT_IN, DATA, Loop, Step
from camshaft.registration import register
from camshaft.testing.reporter import Reporter

__all__ = ["reporting"]


class _EngineReporter(Reporter):
    """Reports an engine that keeps counters and limits itself."""

    def __init__(self, engine: Any, loop: Loop, name: str) -> None:
        super().__init__(loop, name)
        self.engine = engine
        self.state = engine.state

    def count(self, key: str) -> None:
        """The engine has done that: a wrong counter of its own is to be seen."""

    def reset(self) -> None:
        """Read what the engine has set."""
        self.state = self.engine.state
        self.has_data = self.state.dataloader is not None


@contextmanager
def reporting(engine: Any, loop: Loop | None = None, name: str = "engine") -> Iterator[Reporter]:
    """Let an engine of pytorch-ignite be heard by whatever records or checks engines, inside the ``with`` block.

    Its events are reported before its handlers are called; nothing else about it changes.

    Args:
        engine: an ``ignite.engine.Engine``.
        loop: what its events are judged by: the standard loop, with the events that are registered with the engine as
            free states, unless given.
        name: how traces and errors call it.

    Yields:
        The reporter that stands for it in traces.
    """
    reporter = _EngineReporter(engine, standard_loop(engine) if loop is None else loop, name)
    fire, run = engine._fire_event, engine.run

    def fire_and_report(event: Any, *args: Any, **kwargs: Any) -> None:
        reporter(event)
        fire(event, *args, **kwargs)

    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        with reporter:
            return run(*args, **kwargs)

    replaced: dict[str, Callable[..., Any]] = {"_fire_event": fire_and_report, "run": run_and_report}
    vars(engine).update(replaced)  # the one place that all its events come by, whoever fires them
    try:
        yield reporter
    finally:
        for attribute in replaced:
            del vars(engine)[attribute]


def standard_loop(engine: Any) -> Loop:
    """The loop that every engine of pytorch-ignite runs, with the events that were registered with this one."""
    loop = Loop("EPOCH", Loop("ITERATION", Step(), over=DATA))
    custom = [event for event in engine._allowed_events if event_key(event) not in BUILT_IN]
    return register(loop, custom) if custom else loop
