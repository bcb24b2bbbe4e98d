"""Traces of pytorch-ignite's engines: what they fire is reported as it happens, and judged by a camshaft loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from camshaft.adapters.reporter import Reporter
from camshaft.events import BUILT_IN, event_key, state_of
from camshaft.loop.loop import Loop
from camshaft.loop.registration import register
from camshaft.loop.states import DATA, RUN, OpaqueStep

__all__ = ["reporting"]


class _EngineReporter(Reporter):
    """Reports an engine that keeps counters and limits itself."""

    def __init__(self, engine: Any, loop: Loop | None, name: str) -> None:
        super().__init__(standard_loop(engine) if loop is None else loop, name)
        self.engine = engine
        self.state = engine.state
        self.is_running = False
        self._is_standard = loop is None

    def __call__(self, event: Any) -> None:
        """Report an event that the engine fires. What it fires by hand while it does not run is part of no run."""
        if not self.is_running:
            return
        known = next((own for own in self.engine._allowed_events if own == event), event)  # it knows them by name
        if self._is_standard and event_key(known) not in self.loop.event_keys:
            self._learn()
        super().__call__(known)

    def _learn(self) -> None:
        """Take on the events that were registered since."""
        self.loop = standard_loop(self.engine)
        if self.current_run is not None:
            self.current_run.on_run_start()

    def is_over(self, key: str) -> bool:
        """The call of ``run()`` tells: handlers of COMPLETED and of EXCEPTION_RAISED are part of it."""
        return False

    def count(self, key: str) -> None:
        """The engine has done that: a wrong counter of its own is to be seen."""

    def reset(self) -> None:
        """Read what the engine has set."""
        engine, self.state = self.engine, self.engine.state
        self.has_data = self.state.dataloader is not None
        data_loop, behind = self.loop.data_loop, _batches_behind(engine)
        self.position = {data_loop.name: behind} if data_loop is not None and behind else {}

    def _leave(self, failed: bool) -> None:
        """Nothing: the call of ``run()`` tells when it is over, not what is reported around it."""

    def __enter__(self) -> Reporter:
        self.is_running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, generator = self.current_run, self.engine._internal_run_generator
        is_paused = generator is not None and generator.gi_frame is not None
        if run is not None and is_paused:
            run.leave("interrupted")  # it goes on with the next event, even if run() refused its arguments
        else:
            if run is not None and error is not None and run.last != "exception_raised":
                self("exception_raised")
            self._finish()
        self.is_running = False


@contextmanager
def reporting(engine: Any, loop: Loop | None = None, name: str = "engine") -> Iterator[Reporter]:
    """Let an engine of pytorch-ignite be heard by whatever records or checks engines, inside the ``with`` block.

    Its events are reported before its handlers are called; nothing else about it changes. A run that was interrupted
    before the block cannot be judged when it goes on inside.

    Args:
        engine: an ``ignite.engine.Engine``.
        loop: what its events are judged by: the standard loop, with the events that are registered with the engine as
            free states, unless given. ``X_STARTED`` and ``X_COMPLETED`` belong to ITERATION then, other events to the
            whole run.
        name: how traces and errors call it.

    Yields:
        The reporter that stands for it in traces.
    """
    reporter = _EngineReporter(engine, loop, name)
    fire, run = engine._fire_event, engine.run

    def fire_and_report(event: Any, *args: Any, **kwargs: Any) -> None:
        reporter(event)
        fire(event, *args, **kwargs)

    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        if reporter.is_running:
            return run(*args, **kwargs)  # an engine inside itself, which it refuses
        with reporter:
            return run(*args, **kwargs)

    replaced: dict[str, Callable[..., Any]] = {"_fire_event": fire_and_report, "run": run_and_report}
    before = {attribute: vars(engine)[attribute] for attribute in replaced if attribute in vars(engine)}
    vars(engine).update(replaced)  # the one place that all its events come by, whoever fires them
    try:
        yield reporter
    finally:
        for attribute in replaced:
            del vars(engine)[attribute]
        vars(engine).update(before)


def standard_loop(engine: Any) -> Loop:
    """The loop that every engine of pytorch-ignite runs, with the events that were registered with this one."""
    loop = Loop("EPOCH", Loop("ITERATION", OpaqueStep(), over=DATA))
    custom = {event_key(event): event for event in engine._allowed_events if event_key(event) not in BUILT_IN}
    states = Counter(state_of(key)[0] for key in custom)
    pairs = [event for key, event in custom.items() if states[state_of(key)[0]] > 1]
    alone = [event for key, event in custom.items() if states[state_of(key)[0]] == 1]  # any handler may fire these
    loop = register(loop, pairs) if pairs else loop
    return register(loop, alone, within=RUN) if alone else loop


def _batches_behind(engine: Any) -> int:
    """How many batches of its first epoch a run counts as done already: it may go on in the middle of one."""
    if engine._dataloader_iter is not None:
        return 0
    if engine._init_iter is not None:
        return int(engine._init_iter)
    done, length = engine.state.iteration, engine.state.epoch_length
    return int(done if length is None else done % length)
