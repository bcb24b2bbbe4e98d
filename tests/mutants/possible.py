"""Find whether a loop can produce a trace, by running the loop along the trace.

The trace determines the data, the conditions, the control calls, the faults and the nested runs. When the loop needs
a batch or an answer, the next event of the trace decides. The trace is possible if the generated loop fires its events
one by one, with its counters and its outcome. This code does not use the machine, by which ``assert_legal`` judges.

One rule is not part of the generated loop, because the user's code fires the events of custom states: a custom state
must be entered before it is left, and left before its pass ends. This module checks the rule itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from camshaft import DATA, Engine, Loop, Phase, Trace
from camshaft.engine.observing import ObservedRun, observing
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.states import RUN, Every, OpaqueStep
from camshaft.testing import PlantedError, no_op
from camshaft.trace.log import RunRecord

__all__ = ["is_possible"]


class Diverged(BaseException):
    """Raised when the loop fires another event than the trace has next."""


class TraceEnded(BaseException):
    """Raised when the loop continues after the end of the trace."""


def is_possible(trace: Trace) -> bool:
    """Return whether unmutated loops can produce exactly this trace, with its nested runs."""
    follower = _Follower(trace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            follower.follow()
        except TraceEnded:
            pass
        except Diverged:
            return False
    return follower.has_arrived()


class _Follower:
    """Runs loops along a trace."""

    def __init__(self, trace: Trace) -> None:
        self.records = trace.runs
        self.events = [(run, key, count) for run, key, count, _ in trace.raw_events()]
        self.position = 0
        self.has_diverged = False
        self.entered: dict[int, set[str]] = {}
        self.outside = copy_context()
        self.running: set[int] = set()
        self.engines: dict[int, Engine] = {}
        self.outcomes: dict[int, str] = {}

    def follow(self) -> None:
        """Start or resume runs until every event of the trace has fired."""
        while self.position < len(self.events):
            before, run = self.position, self.events[self.position][0]
            if self.records[run].parent is not None:
                raise Diverged
            self.run(run)
            if self.position == before:
                raise Diverged

    def has_arrived(self) -> bool:
        """Return whether all events fired, and each run has the outcome of its record."""
        for run, record in enumerate(self.records):
            unfinished = record.outcome in (None, "paused")  # recording or stepping ended before the run
            if self.outcomes.get(run) != (None if unfinished else record.outcome):
                return False
            if not unfinished and run in self.engines:
                length = record.limits.get("epoch_length")
                if length != self.engines[run].state.epoch_length:
                    return False
        return not self.has_diverged and self.position == len(self.events)

    # -- one run -----------------------------------------------------------------------------------------------------

    def run(self, run: int) -> None:
        """Start a run, or resume it."""
        record = self.records[run]
        self.running.add(run)
        begins = run not in self.engines
        if begins:
            self.engines[run] = self.engine(run, record)
        engine, runs = self.engines[run], self.engines[run]._run_number
        try:
            if not begins:
                if engine.current_run is None:
                    raise Diverged
                with calling(lambda: self.expects(run, "interrupt") and engine.interrupt()):
                    engine.run()
            elif engine.state.resumed:
                engine.run(self.data(run, record))
            else:
                context = record.context
                with calling(lambda: self.set_counts(engine, context.counts)):
                    engine.run(self.data(run, record), context.max_epochs, context.max_iters, context.epoch_length)
            self.outcomes[run] = "interrupted" if engine.current_run is not None else self.ended(engine)
        except PlantedError:
            self.outcomes[run] = "failed"
        self.running.discard(run)
        assert engine._run_number <= runs + 1

    def ended(self, engine: Engine) -> str:
        """Return the outcome of a run that is over."""
        return {"completed": "completed", "terminate": "terminated"}[engine._location.last_event or ""]

    def engine(self, run: int, record: RunRecord) -> Engine:
        """Return an engine whose handlers follow the trace."""
        engine = Engine(self.scripted(run, record.loop), record.engine)
        counted = counter_loop_by_event(record.loop)
        for key in record.loop.event_keys:
            engine.add_event_handler(key, self.follower(run, key, counted[key].lower()))
        context = record.context
        if context.position:
            saved: dict[str, Any] = {name.lower(): count for name, count in context.counts.items()}
            saved |= {name: getattr(context, name) for name in ("max_epochs", "max_iters", "epoch_length")}
            position, path = context.position, record.loop.data_path
            passes = {name: position[name] + (name in context.resumed) for name in path[1:-1] if name in position}
            in_data = position.get(path[-1]) if path else None
            engine.load_state_dict(saved | {"position": in_data, "passes": passes})
        return engine

    def set_counts(self, engine: Engine, counts: dict[str, int]) -> None:
        """Set the counters at the start of a run, for a run that continues with the next epoch."""
        if engine.current_run is not None and engine.current_run.line() is None:
            for name, count in counts.items():
                setattr(engine.state, name.lower(), count)

    def data(self, run: int, record: RunRecord) -> Any:
        """Return data that yields a batch whenever the trace has GET_BATCH_COMPLETED next."""
        if record.loop.data_loop is None or not record.context.has_data:
            return None
        had, length = record.context.position.get(record.loop.data_loop.name, 0), record.context.epoch_length
        return _Batches(lambda: self.expects(run, "get_batch_completed"), had if had != length else 0)

    def scripted(self, run: int, item: Any) -> Any:
        """Return a state whose conditions give the answers of the trace, and whose functions do nothing."""
        if isinstance(item, OpaqueStep):
            return OpaqueStep(no_op)
        if isinstance(item, Phase):
            when: Any = item.when
            if when is not None and not isinstance(when, Every):
                when = lambda engine: self.expects(run, item.started)
            return Phase(item.name, no_op, when, started=item.started, completed=item.completed)
        if not isinstance(item, Loop):
            return item
        made = item.evolve(body=tuple(self.scripted(run, child) for child in item.body), nested=())
        if made.until is not None:
            return made.evolve(until=lambda engine: not self.expects(run, item.started))
        if made.over is not None and made.over is not DATA:
            return made.evolve(over=lambda engine: self.elements(run, item.started))
        return made

    def elements(self, run: int, started: str) -> Iterator[None]:
        """Yield an element for each pass in the trace."""
        while self.expects(run, started):
            yield None

    def expects(self, run: int, key: str) -> bool:
        """Return whether this event of this run is next in the trace."""
        return self.position < len(self.events) and self.events[self.position][:2] == (run, key)

    # -- one event ---------------------------------------------------------------------------------------------------

    def follower(self, run: int, key: str, counter: str) -> Callable[..., Any]:
        """Return the handler of an event of a run: it compares the event with the trace, and causes the next one."""

        def follow_event(engine: Engine, *error: BaseException) -> bool:
            if self.position == len(self.events):
                raise TraceEnded
            if self.has_diverged or self.events[self.position] != (run, key, getattr(engine.state, counter)):
                raise self.diverge()
            self.position += 1
            self.follow_states(run, key)
            self.run_inside(run)
            if self.position < len(self.events) and self.events[self.position][0] == run:
                self.prepare(engine, run, self.events[self.position][1])
            return False

        return follow_event

    def run_inside(self, run: int) -> None:
        """Start or resume the runs inside the current event: nested ones, and others that run at the same time."""
        while self.position < len(self.events):
            inner = self.events[self.position][0]
            if self.records[inner].parent == run:
                self.run(inner)
            elif self.records[inner].parent is None and inner not in self.running:
                self.outside.copy().run(self.run, inner)
            else:
                return

    def follow_states(self, run: int, key: str) -> None:
        """Check that an event enters and leaves custom states in a legal order."""
        loop = self.records[run].loop
        if not loop.custom_states:
            return
        entered = self.entered.setdefault(run, {RUN})
        passes = {item.name: item for _, item in loop.walk() if isinstance(item, (Loop, Phase))}
        if key in ("terminate", "terminate_single_epoch"):
            entered &= {RUN} if key == "terminate" else {RUN, loop.name}
        for state in loop.custom_states:
            wrong = state.within not in entered or (
                state.is_pair and (state.name in entered) != (key == state.completed)
            )
            if key in state.events and wrong:
                raise self.diverge()
            around = passes.get(state.within)
            ends = set() if around is None else {around.completed}
            ends |= {"iteration_skipped"} if around is loop.data_loop else set()
            if key in ends and state.name in entered:
                raise self.diverge()
            if state.is_pair and key in state.events:
                (entered.add if key == state.started else entered.discard)(state.name)
        for name, item in passes.items():
            if key == item.started:
                entered.add(name)
            elif key == item.completed or (key == "iteration_skipped" and item is loop.data_loop):
                entered.discard(name)

    def diverge(self) -> Diverged:
        """Return the exception to raise when the loop leaves the trace."""
        self.has_diverged = True
        return Diverged()

    def prepare(self, engine: Engine, run: int, key: str) -> None:
        """Make the call that causes the next event of the run, if the loop does not fire it without a call."""
        if key == "exception_raised":
            raise PlantedError
        if key == "terminate":
            engine.terminate(skip_completed=not self.follows(run, "completed"))
        elif key == "terminate_single_epoch":
            engine.terminate_epoch(skip_epoch_completed=not self.follows(run, engine.loop.completed))
        elif key == "iteration_skipped":
            engine.skip_iteration()
        elif key == "interrupt":
            engine.interrupt()  # it has no effect at INTERRUPT: run() requests a second one when it resumes
        elif any(key in state.events for state in engine.loop.custom_states):
            engine.fire_event(key)

    def follows(self, run: int, key: str) -> bool:
        """Return whether an event follows the next event of the run."""
        later = (event for number, event, _ in self.events[self.position + 1 :] if number == run)
        return next(later, None) == key


@contextmanager
def calling(function: Callable[[], Any]) -> Iterator[None]:
    """Call a function as soon as a run starts or resumes, as another thread or a signal could."""
    with observing(_OnStart(function)):
        yield


class _OnStart:
    """An observer that calls a function when a run starts or resumes."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def on_run_start(self, run: ObservedRun) -> None:
        """Call the function."""
        self.function()

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Do nothing."""


class _Batches:
    """Data whose iterators yield a batch as long as ``has_next()`` is True, even after one has said that it is over."""

    def __init__(self, has_next: Callable[[], bool], skipped: int) -> None:
        self.has_next = has_next
        self.skipped = skipped

    def __iter__(self) -> Iterator[None]:
        return _Iterator(self)


class _Iterator:
    def __init__(self, batches: _Batches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[None]:
        return self

    def __next__(self) -> None:
        if self.batches.skipped:
            self.batches.skipped -= 1
        elif not self.batches.has_next():
            raise StopIteration
