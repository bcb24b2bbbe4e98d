"""Report the events of pytorch-ignite's engines as they fire, to be judged by a camshaft loop."""

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
    """A reporter for an engine of pytorch-ignite, which keeps its counters and limits itself."""

    def __init__(self, engine: Any, loop: Loop | None, name: str) -> None:
        super().__init__(standard_loop(engine) if loop is None else loop, name)
        self.engine = engine
        self.state = engine.state
        self.is_running = False
        self._is_standard = loop is None

    def __call__(self, event: Any) -> None:
        """Report an event of the engine. Events fired by hand between runs belong to no run."""
        if not self.is_running:
            return
        known = next(
            (own for own in self.engine._allowed_events if own == event), event
        )  # they compare equal to strings
        if self._is_standard and event_key(known) not in self.loop.event_keys:
            self._update_loop()
        super().__call__(known)

    def _update_loop(self) -> None:
        """Declare the loop anew, with the events registered since the last time."""
        self.loop = standard_loop(self.engine)
        if self.current_run is not None:
            self.current_run.start_observers()

    def is_over(self, key: str) -> bool:
        """Return False for every event.

        A run ends when the call of ``run()`` returns, because handlers of COMPLETED and EXCEPTION_RAISED are part of
        it.
        """
        return False

    def count(self, counter: str) -> None:
        """Do nothing: the engine counts itself, and a wrong count must show up in the trace."""

    def reset(self) -> None:
        """Read state, data and position from the engine, because a run begins."""
        engine, self.state = self.engine, self.engine.state
        self.has_data = self.state.dataloader is not None
        data_loop, done = self.loop.data_loop, _batches_done(engine)
        self.position = {data_loop.name: done} if data_loop is not None and done else {}

    def _leave(self, failed: bool) -> None:
        """Do nothing: the run ends when the call of ``run()`` returns, not when the engine around it goes on."""

    def __enter__(self) -> Reporter:
        self.is_running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, generator = self.current_run, self.engine._internal_run_generator
        is_paused = generator is not None and generator.gi_frame is not None
        if run is not None and is_paused:
            run.leave("interrupted")  # the next event resumes it, even if run() refused its arguments
        else:
            if run is not None and error is not None and run.last != "exception_raised":
                self("exception_raised")
            self._finish()
        self.is_running = False


@contextmanager
def reporting(engine: Any, loop: Loop | None = None, name: str = "engine") -> Iterator[Reporter]:
    """Report the events of an engine of pytorch-ignite to recordings and checks, inside the ``with`` block.

    Its events are reported before its handlers are called. Nothing else about it changes. If a run was interrupted
    before the block and resumes inside, it cannot be judged.

    Args:
        engine: an ``ignite.engine.Engine``.
        loop: the loop by which its events are judged. The default is pytorch-ignite's standard loop, with custom states
            for the events registered with the engine. ``X_STARTED`` and ``X_COMPLETED`` then belong to ITERATION, and
            other events to the whole run.
        name: the name of the engine in traces and errors.

    Yields:
        The reporter of the engine.
    """
    reporter = _EngineReporter(engine, loop, name)
    fire, run = engine._fire_event, engine.run

    def fire_and_report(event: Any, *args: Any, **kwargs: Any) -> None:
        reporter(event)
        fire(event, *args, **kwargs)

    def run_and_report(*args: Any, **kwargs: Any) -> Any:
        if reporter.is_running:
            return run(*args, **kwargs)  # the engine itself refuses a call from inside its own run
        with reporter:
            return run(*args, **kwargs)

    replaced: dict[str, Callable[..., Any]] = {"_fire_event": fire_and_report, "run": run_and_report}
    before = {attribute: vars(engine)[attribute] for attribute in replaced if attribute in vars(engine)}
    # All events of the engine pass through _fire_event(), from every caller. Attributes of the instance hide the
    # methods of its class, so other engines are not affected, and deleting them restores everything.
    vars(engine).update(replaced)
    try:
        yield reporter
    finally:
        for attribute in replaced:
            del vars(engine)[attribute]
        vars(engine).update(before)


def standard_loop(engine: Any) -> Loop:
    """Return the standard loop of pytorch-ignite, with the events registered with this engine."""
    loop = Loop("EPOCH", Loop("ITERATION", OpaqueStep(), over=DATA))
    custom = {event_key(event): event for event in engine._allowed_events if event_key(event) not in BUILT_IN}
    states = Counter(state_of(key)[0] for key in custom)
    pairs = [event for key, event in custom.items() if states[state_of(key)[0]] > 1]
    # A single event, such as SAVED_CHECKPOINT, may be fired by a handler at any place of the run.
    alone = [event for key, event in custom.items() if states[state_of(key)[0]] == 1]
    loop = register(loop, pairs) if pairs else loop
    return register(loop, alone, within=RUN) if alone else loop


def _batches_done(engine: Any) -> int:
    """Return the number of batches already done in the first epoch of a run; not 0 if it resumes inside an epoch."""
    if engine._dataloader_iter is not None:
        return 0
    if engine._init_iter is not None:
        return int(engine._init_iter)
    done, length = engine.state.iteration, engine.state.epoch_length
    return int(done if length is None else done % length)
