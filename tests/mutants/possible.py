"""Whether a loop can do what a trace says: it is let to, and what it does is compared.

The data, the conditions, the control calls, the faults and the nested runs are those that the trace needs: whatever
the loop asks or tells is answered by looking at the event that comes next in the trace. So a trace is possible when
the generated loop takes its way event by event, with its counters and to its outcome. Nothing here knows the machine,
by which ``assert_legal`` judges.

One thing the loop leaves to those who write the steps: that a custom state is left after it was entered, and before
the pass ends that it belongs to. That is looked at here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from camshaft import DATA, Engine, Loop, Phase, Trace
from camshaft.engine.observing import ObservedRun, observers
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.states import RUN, Every, OpaqueStep
from camshaft.testing import PlantedError, no_op
from camshaft.trace.log import RunRecord

__all__ = ["is_possible"]


class Strayed(BaseException):
    """The loop did something else than the trace says."""


class Left(BaseException):
    """The loop goes on where the trace ends."""


def is_possible(trace: Trace) -> bool:
    """Whether unmutated loops can do just this, nested as they are."""
    guide = _Guide(trace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            guide.go()
        except Left:
            pass
        except Strayed:
            return False
    return guide.has_arrived()


class _Guide:
    """Leads loops along a trace."""

    def __init__(self, trace: Trace) -> None:
        self.records = trace.runs
        self.events = [(run, key, count) for run, key, count, _ in trace.raw_events()]
        self.at = 0
        self.strayed = False
        self.entered: dict[int, set[str]] = {}
        self.outside = copy_context()
        self.going: set[int] = set()
        self.engines: dict[int, Engine] = {}
        self.outcomes: dict[int, str] = {}

    def go(self) -> None:
        """Begin or go on with runs until every event has fired."""
        while self.at < len(self.events):
            before, run = self.at, self.events[self.at][0]
            if self.records[run].parent is not None:
                raise Strayed
            self.run(run)
            if self.at == before:
                raise Strayed

    def has_arrived(self) -> bool:
        """Whether all events fired, and each run ended as its record says."""
        for run, record in enumerate(self.records):
            left = record.outcome in (None, "paused")  # recording ended there, or stepping
            if self.outcomes.get(run) != (None if left else record.outcome):
                return False
            if not left and run in self.engines:
                length = record.limits.get("epoch_length")
                if length != self.engines[run].state.epoch_length:
                    return False
        return not self.strayed and self.at == len(self.events)

    # -- one run -----------------------------------------------------------------------------------------------------

    def run(self, run: int) -> None:
        """Begin a run, or go on with it."""
        record = self.records[run]
        self.going.add(run)
        begins = run not in self.engines
        if begins:
            self.engines[run] = self.engine(run, record)
        engine, runs = self.engines[run], self.engines[run]._run_number
        try:
            if not begins:
                if engine.current_run is None:
                    raise Strayed
                with asking(lambda: self.expects(run, "interrupt") and engine.interrupt()):
                    engine.run()
            elif engine.state.resumed:
                engine.run(self.data(run, record))
            else:
                context = record.context
                with asking(lambda: self.count(engine, context.counts)):
                    engine.run(self.data(run, record), context.max_epochs, context.max_iters, context.epoch_length)
            self.outcomes[run] = "interrupted" if engine.current_run is not None else self.ended(engine)
        except PlantedError:
            self.outcomes[run] = "failed"
        self.going.discard(run)
        assert engine._run_number <= runs + 1

    def ended(self, engine: Engine) -> str:
        """How a run ended that is over."""
        return {"completed": "completed", "terminate": "terminated"}[engine._location.last_event or ""]

    def engine(self, run: int, record: RunRecord) -> Engine:
        """An engine that does nothing but what the trace says."""
        engine = Engine(self.led(run, record.loop), record.engine)
        counted = counter_loop_by_event(record.loop)
        for key in record.loop.event_keys:
            engine.add_event_handler(key, self.hearing(run, key, counted[key].lower()))
        context = record.context
        if context.position:
            saved: dict[str, Any] = {name.lower(): count for name, count in context.counts.items()}
            saved |= {name: getattr(context, name) for name in ("max_epochs", "max_iters", "epoch_length")}
            engine.load_state_dict(saved | {"position": sum(context.position.values())})
        return engine

    def count(self, engine: Engine, counts: dict[str, int]) -> None:
        """Let a run begin with these counts, as one does that goes on with the next epoch."""
        if engine.current_run is not None and engine.current_run.line() is None:
            for name, count in counts.items():
                setattr(engine.state, name.lower(), count)

    def data(self, run: int, record: RunRecord) -> Any:
        """Batches, as long as the trace says."""
        if record.loop.data_loop is None or not record.context.has_data:
            return None
        had, length = sum(record.context.position.values()), record.context.epoch_length
        return _Batches(lambda: self.expects(run, "get_batch_completed"), had if had != length else 0)

    def led(self, run: int, item: Any) -> Any:
        """The same state with conditions that answer what the trace says."""
        if isinstance(item, OpaqueStep):
            return OpaqueStep(no_op)
        if isinstance(item, Phase):
            when: Any = item.when
            if when is not None and not isinstance(when, Every):
                when = lambda engine: self.expects(run, item.started)
            return Phase(item.name, no_op, when, started=item.started, completed=item.completed)
        if not isinstance(item, Loop):
            return item
        made = item.evolve(body=tuple(self.led(run, child) for child in item.body), nested=())
        if made.until is not None:
            return made.evolve(until=lambda engine: not self.expects(run, item.started))
        if made.over is not None and made.over is not DATA:
            return made.evolve(over=lambda engine: self.elements(run, item.started))
        return made

    def elements(self, run: int, started: str) -> Iterator[None]:
        """One element for each pass."""
        while self.expects(run, started):
            yield None

    def expects(self, run: int, key: str) -> bool:
        """Whether an event of a run comes next."""
        return self.at < len(self.events) and self.events[self.at][:2] == (run, key)

    # -- one event ---------------------------------------------------------------------------------------------------

    def hearing(self, run: int, key: str, counter: str) -> Callable[..., Any]:
        """What is to be done when an event of a run fires."""

        def hear(engine: Engine, *error: BaseException) -> bool:
            if self.at == len(self.events):
                raise Left
            if self.strayed or self.events[self.at] != (run, key, getattr(engine.state, counter)):
                raise self.stray()
            self.at += 1
            self.follow_states(run, key)
            self.run_inside(run)
            if self.at < len(self.events) and self.events[self.at][0] == run:
                self.prepare(engine, run, self.events[self.at][1])
            return False

        return hear

    def run_inside(self, run: int) -> None:
        """The runs that come inside the present event: those called by it, and those of others at the same time."""
        while self.at < len(self.events):
            inner = self.events[self.at][0]
            if self.records[inner].parent == run:
                self.run(inner)
            elif self.records[inner].parent is None and inner not in self.going:
                self.outside.copy().run(self.run, inner)
            else:
                return

    def follow_states(self, run: int, key: str) -> None:
        """Take note of custom states that are entered and left."""
        loop = self.records[run].loop
        if not loop.custom_states:
            return
        entered = self.entered.setdefault(run, {RUN})
        passes = {item.name: item for _, item in loop.walk() if isinstance(item, (Loop, Phase))}
        if key in ("terminate", "terminate_single_epoch"):
            entered &= {RUN} if key == "terminate" else {RUN, loop.name}
        for free in loop.custom_states:
            wrong = free.within not in entered or (free.is_pair and (free.name in entered) != (key == free.completed))
            if key in free.events and wrong:
                raise self.stray()
            around = passes.get(free.within)
            ends = set() if around is None else {around.completed}
            ends |= {"iteration_skipped"} if around is loop.data_loop else set()
            if key in ends and free.name in entered:
                raise self.stray()
            if free.is_pair and key in free.events:
                (entered.add if key == free.started else entered.discard)(free.name)
        for name, item in passes.items():
            if key == item.started:
                entered.add(name)
            elif key == item.completed or (key == "iteration_skipped" and item is loop.data_loop):
                entered.discard(name)

    def stray(self) -> Strayed:
        """What is raised off the way."""
        self.strayed = True
        return Strayed()

    def prepare(self, engine: Engine, run: int, key: str) -> None:
        """See to it that the next event comes, where it does not come by itself."""
        if key == "exception_raised":
            raise PlantedError
        if key == "terminate":
            engine.terminate(skip_completed=not self.follows(run, "completed"))
        elif key == "terminate_single_epoch":
            engine.terminate_epoch(skip_epoch_completed=not self.follows(run, engine.loop.completed))
        elif key == "iteration_skipped":
            engine.skip_iteration()
        elif key == "interrupt":
            engine.interrupt()  # at INTERRUPT it has no effect: what comes then is asked for when the run goes on
        elif any(key in free.events for free in engine.loop.custom_states):
            engine.fire_event(key)

    def follows(self, run: int, key: str) -> bool:
        """Whether, of a run, an event follows the next one."""
        later = (event for number, event, _ in self.events[self.at + 1 :] if number == run)
        return next(later, None) == key


@contextmanager
def asking(ask: Callable[[], Any]) -> Iterator[None]:
    """Ask something of a run as soon as it goes on, as another thread or a signal would."""
    token = observers.set((*observers.get(), _Asks(ask)))
    try:
        yield
    finally:
        observers.reset(token)


class _Asks:
    """Observes that a run goes on."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.ask = ask

    def on_run_start(self, run: ObservedRun) -> None:
        """A run goes on."""
        self.ask()

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """It ended or paused."""


class _Batches:
    """Data whose iterators give a batch when one is wanted."""

    def __init__(self, wanted: Callable[[], bool], passed_over: int) -> None:
        self.wanted = wanted
        self.passed_over = passed_over

    def __iter__(self) -> Iterator[None]:
        return self

    def __next__(self) -> None:
        if self.passed_over:
            self.passed_over -= 1
        elif not self.wanted():
            raise StopIteration
