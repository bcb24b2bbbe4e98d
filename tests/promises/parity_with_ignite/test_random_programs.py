"""The same program on an engine of camshaft and on one of pytorch-ignite: wherever camshaft does not decide otherwise,
both fire the same events. Where it does, what each of them does is said here, difference by difference. And traces of
pytorch-ignite's engines are recorded and judged.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import cached_property
from typing import Any

import attrs
import ignite.engine
import ignite.metrics
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, EarlyStopping
from torch.utils.data import DataLoader, TensorDataset

import camshaft
from camshaft import Engine, Phase, event, record
from camshaft.events import attachments
from camshaft.loop import DATA, RUN, Free, Loop, Step
from camshaft.machine import EventOrderError
from camshaft.registration import register
from camshaft.testing import Batches, Call, Data, Fires, PlantedError, Play, Scenario, reporting
from camshaft.trace import RunRecord, Trace, TraceEvent
from support.steps import fires, nothing

FREES = (
    Free("X", "x_started", "x_completed", "ITERATION"),
    Free("Z", "z_started", "z_completed", "ITERATION"),
    Free("Y", "y", None, RUN),
)
ORDERLY = [
    (),
    ("x_started", "x_completed"),
    ("x_started", "y", "x_completed", "y"),
    ("z_started", "x_started", "z_completed", "x_completed"),
]


class Custom(ignite.engine.EventEnum):
    X_STARTED = "x_started"
    X_COMPLETED = "x_completed"
    Y = "y"
    Z_STARTED = "z_started"
    Z_COMPLETED = "z_completed"


COUNTED_BY = {"y": "iteration"}
CUSTOM = [event.value for event in Custom]
THEIRS = {event.value: event for event in (*ignite.engine.Events, *Custom)}


@pytest.fixture(autouse=True, scope="module")
def quiet_and_clean():
    """Its engines log each exception as an error, and share what they register with ``event_to_attr``."""
    logger, state = logging.getLogger("ignite"), ignite.engine.State
    level, counted = logger.level, state.event_to_attr
    logger.setLevel(logging.CRITICAL + 1)
    state.event_to_attr = dict(counted)
    yield
    logger.setLevel(level)
    state.event_to_attr = counted


# -- the two engines --------------------------------------------------------------------------------------------------


def make_ours(loop: Loop, name: str) -> Engine:
    engine = Engine(loop, name)
    if "y" in loop.event_keys:
        engine.register_events(*COUNTED_BY, event_to_attr=COUNTED_BY)
    return engine


class Endless(RuntimeError):
    """What ends a run that would go on without end."""


class Ignite:
    """An engine of pytorch-ignite, with what a scenario asks of an engine. It is reported as long as it lives."""

    def __init__(self, loop: Loop, name: str) -> None:
        step = loop.data_loop.body[0].run
        self.parent = None
        self.engine = ignite.engine.Engine(lambda _, batch: step(self, batch))
        custom = [THEIRS[key] for key in loop.event_keys if key in CUSTOM]
        self.engine.register_events(*custom, event_to_attr={THEIRS[key]: name for key, name in COUNTED_BY.items()})
        self.engine.add_event_handler(ignite.engine.Events.EPOCH_STARTED, self._stop)
        self.reports = reporting(self.engine, name=name)
        self.reports.__enter__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def _stop(self) -> None:
        if self.state.epoch > 50:
            raise Endless

    @property
    def active(self) -> Any:
        """What goes on at the next ``run()``, if it paused."""
        generator = self.engine._internal_run_generator
        return generator if generator is not None and generator.gi_frame is not None else None

    def add_event_handler(self, handle: Any, handler: Callable[..., Any]) -> Any:
        (single,) = attachments(handle)
        theirs, filter = THEIRS[single.key], single.filter
        if filter is not None:
            parts = attrs.asdict(filter)
            theirs = theirs(**parts | {"once": list(filter.once) if filter.once is not None else None})

        def call(_: Any, *error: BaseException, iter_counter: int | None = None) -> None:
            handler(self, *error)

        return self.engine.add_event_handler(theirs, call)

    def fire_event(self, key: str) -> None:
        self.engine.fire_event(THEIRS[key])

    def nest(self, inner: Ignite, on: str, data: Any = None, **limits: int) -> None:
        """Run another engine, from its start unless it paused."""

        def run_nested(_: Any) -> None:
            inner.parent = self
            try:
                if inner.active is not None:
                    inner.run()
                    return
                inner.state.max_epochs = inner.state.max_iters = inner.state.epoch_length = None
                inner.engine._internal_run_generator = None
                inner.run(data, **limits)
            finally:
                inner.parent = None

        self.add_event_handler(on, run_nested)

    def close(self) -> None:
        """Drop a run that paused. Left to itself it fires EXCEPTION_RAISED when it is collected."""
        if self.active is not None:
            self.engine._event_handlers.clear()
            self.active.close()

    def run(self, data: Any = None, **limits: int) -> Any:
        """Going on, it wants to be given data: the same before the first fetch, and from then on any at all."""
        if data is None and self.active is not None:
            data = self.state.dataloader if self.engine._dataloader_iter is None else Batches([])
        return self.engine.run(data, **limits)


# -- programs ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Program:
    """A scenario, and further runs of the same engine: their data and limits."""

    scenario: Scenario
    again: tuple[tuple[Data | None, dict[str, int]], ...] = ()


def make_loop(fires: Any) -> Loop:
    """The standard loop, with the states of all that its step fires."""
    free = tuple(state for state in FREES if set(state.events) & set(fires))
    return Loop("EPOCH", Loop("ITERATION", Step(Fires(*fires)), over=DATA), free=free)


def program(
    *calls: Call,
    data: Data | None = Data(3),
    fires: Any = (),
    handlers: Any = (),
    nested: Any = (),
    again: Any = (),
    swallow: bool = False,
    resumes: int = 2,
    **limits: int,
) -> Program:
    scenario = Scenario(make_loop(fires), data, limits, calls, tuple(handlers), tuple(nested), swallow, resumes)
    return Program(scenario, tuple(again))


def make_data(data: Data | None) -> Any:
    return None if data is None else eval(data.python(None), {"Batches": Batches})


@attrs.define
class NotedPlay(Play):
    """Notes where in the trace each step ran."""

    steps: list[tuple[str, Trace, int]] = attrs.field(factory=list)

    def _work(self, name: str, *args: Any) -> Any:
        self.steps.append((name, self.trace, len(self.trace)))
        return super()._work(name, *args)


@attrs.frozen
class Ran:
    """One call of ``run()``, and those that went on with it."""

    trace: Trace
    error: BaseException | None
    warned: int
    is_paused: bool
    states: dict[str, dict[str, Any]]
    events: list[TraceEvent]

    @property
    def fired(self) -> list[Any]:
        return [(event.engine, event.event, event.count, event.depth) for event in self.events]

    @property
    def record(self) -> Any:
        """What the trace says about each run of each engine, besides its loop."""
        runs = [(run.engine, run.parent, run.place, run.context, run.outcome, run.limits) for run in self.trace.runs]
        return runs, self.trace.segments

    @property
    def outcome(self) -> Any:
        """What left: a planted error with its message, which tells where."""
        if isinstance(self.error, (PlantedError, KeyboardInterrupt)):
            return type(self.error), str(self.error)
        return type(self.error)


class Side:
    """A program run on one kind of engine, with all that can be seen from outside."""

    def __init__(self, program: Program, make: Callable[[Loop, str], Any]) -> None:
        self.program = program
        self.engines: dict[str, Any] = {}
        self.runs: list[Ran] = []
        self.play = play = NotedPlay(program.scenario)
        try:
            with record() as play.trace:
                play.run(lambda loop, name: self.engines.setdefault(name, make(loop, name)))
        except Exception as error:  # none that the scenario plans: then the other engine is to raise it too
            play.error = error
        self._note(play.error, len(play.warned))
        for data, limits in program.again:
            with warnings.catch_warnings(record=True) as caught, record() as play.trace:
                warnings.simplefilter("always")
                error = self._run_again(make_data(data), limits)
            self._note(error, len(caught))
        for engine in self.engines.values():
            engine.close()

    def _run_again(self, data: Any, limits: dict[str, int]) -> BaseException | None:
        play = self.play
        try:
            play.engine.run(data, **limits)
            for _ in range(play.scenario.resumes):
                if play.is_paused:
                    play.engine.run()
        except (Exception, KeyboardInterrupt) as error:
            return error
        return None

    def _note(self, error: BaseException | None, warned: int) -> None:
        names = ("epoch", "iteration", "max_epochs", "max_iters", "epoch_length", "output")
        states = {engine: {name: getattr(made.state, name) for name in names} for engine, made in self.engines.items()}
        trace = self.play.trace
        self.runs.append(Ran(trace, error, warned, self.play.is_paused, states, list(trace)))

    def seen(self) -> dict[str, Any]:
        """What must be the same on both engines."""
        return {
            "events": [run.fired for run in self.runs],
            "outcomes": [run.outcome for run in self.runs],
            "warnings": [run.warned for run in self.runs],
            "pauses": [run.is_paused for run in self.runs],
            "states": [run.states["trainer"] for run in self.runs],
            "handlers": self.play.heard,
            "steps": self.play.worked,
            "records": [run.record for run in self.runs],
        }

    def after(self, key: str, n: int = 1) -> list[str]:
        """The events after the n-th of that key, in all runs."""
        fired = [event.event for run in self.runs for event in run.events]
        places = [index for index, event in enumerate(fired) if event == key]
        return fired[places[n - 1] + 1 :]

    @property
    def batches(self) -> list[Any]:
        """What the steps got."""
        return [batch for *_, batch in self.play.worked]

    @property
    def heard(self) -> list[int]:
        """The iterations at which handlers were called."""
        return [iteration for *_, (_, iteration) in self.play.heard]

    # -- what happened, for the predicates ----------------------------------------------------------------------------

    def scenarios(self) -> Iterator[tuple[str, Scenario]]:
        """The scenario of each engine."""
        yield from scenarios_in("trainer", self.program.scenario)

    def has(self, name: str, key: str) -> bool:
        """Whether an engine fired an event."""
        return any((event.engine, event.event) == (name, key) for run in self.runs for event in run.events)

    @cached_property
    def made(self) -> list[Made]:
        """Every call that was made."""
        return [made for name, scenario in self.scenarios() for made in self._made(name, scenario)]

    def _made(self, name: str, scenario: Scenario) -> Iterator[Made]:
        ran = [(trace, index) for engine, trace, index in self.play.steps if engine == name]
        raised: set[tuple[int, int]] = set()  # handlers behind one that raises do not hear that firing
        in_turn = [call for call in scenario.calls if call.at != "STEP"]
        for call in [*in_turn, *(call for call in reversed(scenario.calls) if call.at == "STEP")]:
            if call.at == "STEP":
                moments = [(number, index) for trace, index in ran for number in self._number(trace)]
            else:
                moments = [
                    (number, index)
                    for number, run in enumerate(self.runs)
                    for index, event in enumerate(run.events)
                    if (event.engine, event.event) == (name, call.at)
                ]
            moments = [moment for moment in moments if moment not in raised]
            if call.n > len(moments):
                continue
            number, index = moments[call.n - 1]
            if call.what == "raise":
                raised.add((number, index))
            in_step = call.at == "STEP" or call.at in CUSTOM
            yield Made(name, call, number, self._before(name, number, index - (call.at == "STEP")), in_step)
            if call.what == "terminate_parent" and "_" in name:
                outer = name.rpartition("_")[0]
                place = self._before(outer, number, index)
                at = self.runs[number].events[place].event
                yield Made(outer, Call(at, 1, "terminate", False), number, place, in_step=False)

    def _number(self, trace: Trace) -> list[int]:
        return [number for number, run in enumerate(self.runs) if run.trace is trace]

    def _before(self, name: str, number: int, index: int) -> int:
        """The last event up to an index that an engine fired by itself."""
        events = self.runs[number].events
        own = (place for place in range(index, -1, -1) if events[place].engine == name)
        return next(place for place in own if events[place].event not in CUSTOM)


@attrs.frozen
class Made:
    """A call that was made, at or after this event of this run."""

    engine: str
    call: Call
    run: int
    index: int
    in_step: bool


def scenarios_in(name: str, scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    yield name, scenario
    for number, (_, inner) in enumerate(scenario.nested):
        yield from scenarios_in(f"{name}_{number}", inner)


def verdict(trace: Trace) -> str:
    try:
        trace.assert_legal()
    except EventOrderError as error:
        return str(error)
    return "legal"


# -- what camshaft decides otherwise: random programs stay clear of exactly this ---------------------------------------

DIFFERENCES: dict[str, Callable[[Side], bool]] = {}
"""By name, whether a program that ran on camshaft's engine came upon a difference. Each has a test of its own below."""

TO_STOP = ("terminate", "terminate_epoch", "interrupt")
IN_ITERATION = {f"get_batch_{role}" for role in ("started", "completed")}
IN_ITERATION |= {"iteration_started", "iteration_completed", "dataloader_stop_iteration"}
COUNTED = {"epoch_started", "epoch_completed", *COUNTED_BY, *IN_ITERATION} - {"dataloader_stop_iteration"}
"""The events whose filters count something on ignite."""


def differs(predicate: Callable[[Side], bool]) -> Callable[[Side], bool]:
    DIFFERENCES[predicate.__name__] = predicate
    return predicate


def calls_at(side: Side, key: str, *whats: str) -> list[Made]:
    return [made for made in side.made if made.call.at == key and made.call.what in whats]


@differs
def a_control_call_in_the_step(side: Side) -> bool:
    """ignite fires ITERATION_COMPLETED first."""
    return any(made.in_step and made.call.what in TO_STOP for made in side.made)


@differs
def several_control_calls_at_once(side: Side) -> bool:
    """ignite does all but terminate() one after the other, and the last of a kind counts; camshaft does one of them."""
    moments: dict[Any, set[Any]] = {}
    for made in side.made:
        if made.call.what in (*TO_STOP, "set_data") and made.call.at not in ("terminate", "completed"):
            moment = made.engine, made.run, made.index, made.in_step
            moments.setdefault(moment, set()).add((made.call.what, repr(made.call.value)))
    ended = [[what for what, _ in calls].count("terminate") for calls in moments.values()]
    return any(len(calls) > 1 and count != 1 for calls, count in zip(moments.values(), ended, strict=True))


@differs
def a_control_call_at_terminate_single_epoch(side: Side) -> bool:
    """ignite fires EPOCH_COMPLETED before it looks again; and another terminate_epoch() changes what is skipped."""
    return bool(calls_at(side, "terminate_single_epoch", *TO_STOP))


@differs
def terminate_at_interrupt(side: Side) -> bool:
    """ignite pauses all the same, and stops when it goes on."""
    return bool(calls_at(side, "interrupt", "terminate", "terminate_epoch"))


@differs
def terminate_at_terminate(side: Side) -> bool:
    """ignite lets it decide whether COMPLETED is skipped."""
    for made in calls_at(side, "terminate", "terminate"):
        events = side.runs[made.run].events[made.index :]
        completes = any((event.engine, event.event) == (made.engine, "completed") for event in events)
        if made.call.value == completes:
            return True
    return False


@differs
def terminate_epoch_at_started(side: Side) -> bool:
    """ignite raises after STARTED, camshaft in the call."""
    return bool(calls_at(side, "started", "terminate_epoch"))


@differs
def terminate_epoch_at_epoch_started(side: Side) -> bool:
    """ignite raises, camshaft ends the epoch."""
    return bool(calls_at(side, "epoch_started", "terminate_epoch"))


@differs
def terminate_epoch_at_exception_raised_before_an_epoch(side: Side) -> bool:
    """It does nothing on ignite, and raises on camshaft."""
    made = calls_at(side, "exception_raised", "terminate_epoch")
    return any(failed_at(side.runs[one.run].events[: one.index + 1]) == "started" for one in made)


@differs
def an_interrupt_at_dataloader_stop_iteration(side: Side) -> bool:
    """ignite fires GET_BATCH_STARTED once more when it goes on."""
    return bool(calls_at(side, "dataloader_stop_iteration", "interrupt"))


@differs
def set_data_in_a_run_without_data(side: Side) -> bool:
    """ignite takes the data, camshaft refuses it."""
    has_none = {name for name, scenario in side.scenarios() if scenario.data is None}
    return any(made.engine in has_none and made.call.what == "set_data" for made in side.made)


@differs
def data_that_cannot_be_restarted(side: Side) -> bool:
    """ignite goes on with empty epochs, without end under max_iters; camshaft ends the run."""
    return any(run.warned for run in side.runs)


@differs
def max_iters_with_data_of_unknown_length(side: Side) -> bool:
    """ignite sets max_epochs when it learns the length."""
    records = [record for run in side.runs for record in run.trace.runs]
    return any(record.limits["max_iters"] and learned_length(record) for record in records)


@differs
def every_where_nothing_is_counted_yet(side: Side) -> bool:
    """GET_BATCH_STARTED at iteration 0: due for any ``every`` on ignite, for none on camshaft."""
    return any(
        handler.key in ("get_batch_started", "get_batch_completed")
        and handler.filter is not None
        and handler.filter.every is not None
        and handler.filter.after is None
        and any((event.engine, event.event, event.count) == (name, handler.key, 0) for event in all_events(side))
        for name, scenario in side.scenarios()
        for handler in scenario.handlers
    )


@differs
def every_with_before_alone(side: Side) -> bool:
    """every=2, before=6 is 1, 3, 5 on ignite, and 2, 4 on camshaft."""
    filters = [(name, one.key, one.filter) for name, scenario in side.scenarios() for one in scenario.handlers]
    return any(
        filter is not None
        and (filter.every or 1) > 1
        and filter.before
        and filter.after is None
        and side.has(name, key)
        for name, key, filter in filters
    )


@differs
def a_filtered_event_that_fires_twice_at_one_count(side: Side) -> bool:
    """After terminate_epoch(), or by hand: both firings are due on ignite, the first one is on camshaft."""
    twice = {
        (name, key, count)
        for run in side.runs
        for (_, name, key, count), times in Counter(filter_counts(run)).items()
        if times > 1
    }
    return any(
        one.filter is not None and one.filter.event_filter is None and one.filter.next_due(count) == count
        for name, scenario in side.scenarios()
        for one in scenario.handlers
        for engine, key, count in twice
        if (engine, key) == (name, one.key)
    )


@differs
def a_filter_on_an_event_without_counter(side: Side) -> bool:
    """ignite raises when the event fires, camshaft counts its firings."""
    filters = [(name, one.key, one.filter) for name, scenario in side.scenarios() for one in scenario.handlers]
    return any(filter is not None and key not in COUNTED and side.has(name, key) for name, key, filter in filters)


@differs
def a_failure_that_a_handler_hears(side: Side) -> bool:
    """Any handler of EXCEPTION_RAISED takes the exception on ignite; on camshaft one that returns True does."""
    return any(not scenario.swallow and listens(scenario) for name, scenario in failed(side))


@differs
def a_keyboard_interrupt_that_a_handler_takes(side: Side) -> bool:
    """ignite goes on as if nothing had been, on camshaft it leaves."""
    interrupts = {(made.engine, made.run) for made in side.made if made.call.value is KeyboardInterrupt}
    engines = {name for name, scenario in failed(side) if scenario.swallow}
    return any(name.startswith(engine) for name, _ in interrupts for engine in engines)


@differs
def a_failure_in_an_iteration_that_a_handler_takes(side: Side) -> bool:
    """ignite completes the epoch and goes on, on camshaft the run is over."""
    return any(
        failed_at(run.events[: index + 1]) in IN_ITERATION
        for name, scenario in failed(side)
        for run in side.runs
        for index, event in enumerate(run.events)
        if scenario.swallow and (event.engine, event.event) == (name, "exception_raised")
    )


@differs
def a_run_again_after_a_failure(side: Side) -> bool:
    """The first one does nothing on ignite, and returns None."""
    return any(run.error is not None and run.fired for run in side.runs[:-1])


@differs
def a_run_again_of_unknown_length(side: Side) -> bool:
    """One that starts anew: ignite keeps the length that it learned or was given before."""
    return any(
        before.states["trainer"]["epoch_length"] and starts_anew(run) and run.trace.runs[0].context.epoch_length is None
        for before, run, _ in runs_again(side)
    )


@differs
def a_run_again_that_fetches_nothing(side: Side) -> bool:
    """One that starts anew: ignite keeps the output of the run before."""
    return any(
        before.states["trainer"]["output"] is not None
        and starts_anew(run)
        and not {"get_batch_completed", "iteration_started"} & {event.event for event in run.events if not event.depth}
        for before, run, _ in runs_again(side)
    )


@differs
def a_refused_run_again(side: Side) -> bool:
    """ignite takes the new limit on before it refuses the new epoch_length."""
    return any(
        isinstance(run.error, ValueError)
        and again[1].get("epoch_length") not in (None, before.states["trainer"]["epoch_length"])
        and len(again[1]) > 1
        for before, run, again in runs_again(side)
    )


@differs
def a_run_again_with_the_other_limit(side: Side) -> bool:
    """When the run was done: ignite refuses it, camshaft starts anew."""
    other = {"max_epochs": "max_iters", "max_iters": "max_epochs"}
    return any(
        run.error is None and any(before.states["trainer"][other[limit]] for limit in other if limit in again[1])
        for before, run, again in runs_again(side)
    )


@differs
def a_run_again_after_a_short_epoch(side: Side) -> bool:
    """One that goes on after terminate_epoch(): its first epoch is short as well on ignite."""
    for before, run, _ in runs_again(side):
        done, length = before.states["trainer"]["iteration"], before.states["trainer"]["epoch_length"]
        last = next((one for one in reversed(side.runs[: side.runs.index(run)]) if one.events), before)
        was_terminated = any((event.engine, event.event) == ("trainer", "terminate") for event in last.events)
        if run.events and not starts_anew(run) and not was_terminated and (done % length if length else done):
            return True
    return False


@differs
def a_run_again_of_a_paused_engine(side: Side) -> bool:
    """With data of its own: ignite passes over it, camshaft refuses it."""
    return any(before.is_paused for before, _, _ in runs_again(side))


@differs
def a_nested_engine_that_is_left_paused(side: Side) -> bool:
    """When the outer run is over: it goes on in the next one on ignite, and starts anew on camshaft."""
    for number, run in enumerate(side.runs):
        outcomes = {record.engine: record.outcome for record in run.trace.runs}
        later = {event.engine for further in side.runs[number + 1 :] for event in further.events}
        if any(outcomes.get(name) == "interrupted" for name in later - {"trainer"}):
            return True
    return False


def learned_length(record: RunRecord) -> bool:
    return record.context.epoch_length is None and record.limits["epoch_length"] is not None


def all_events(side: Side) -> Iterator[TraceEvent]:
    return (event for run in side.runs for event in run.events)


def filter_counts(run: Ran) -> Iterator[tuple[int, str, str, int]]:
    """For each event the run of its engine, the engine, the key and what filters count."""
    iterations: dict[int, int] = {}
    for index, fired in enumerate(run.events):
        number = run.trace.run_of(index)
        if fired.event == "iteration_started":
            iterations[number] = fired.count
        count = iterations[number] if fired.event in COUNTED_BY else fired.count
        yield number, fired.engine, fired.event, count


def failed(side: Side) -> Iterator[tuple[str, Scenario]]:
    return ((name, scenario) for name, scenario in side.scenarios() if side.has(name, "exception_raised"))


def listens(scenario: Scenario) -> bool:
    keys = [*(handler.key for handler in scenario.handlers), *(call.at for call in scenario.calls)]
    return scenario.swallow or "exception_raised" in keys


def failed_at(events: list[TraceEvent]) -> str | None:
    """The last event that an engine fired by itself before the present one."""
    passed_over = {"exception_raised", "interrupt", *CUSTOM}
    own = [event.event for event in events if event.engine == events[-1].engine]
    return next((key for key in reversed(own) if key not in passed_over), None)


def runs_again(side: Side) -> Iterator[tuple[Ran, Ran, tuple[Data | None, dict[str, int]]]]:
    """Each further run with the one before it, and what it was given."""
    return zip(side.runs, side.runs[1:], side.program.again, strict=False)


def starts_anew(run: Ran) -> bool:
    return bool(run.events) and run.events[0].count == 0


def differences(side: Side) -> list[str]:
    return [name for name, predicate in DIFFERENCES.items() if predicate(side)]


# -- random programs --------------------------------------------------------------------------------------------------

ONCE_A_RUN = ("started", "completed", "terminate", "exception_raised", "interrupt", "terminate_single_epoch")
OFTEN = ("started", "epoch_started", "epoch_completed", "completed", *sorted(IN_ITERATION), "STEP")
PLACES = ("started", "epoch_started", "iteration_started", "iteration_completed", "epoch_completed", "completed")


def odd(engine: Any, count: int) -> bool:
    return count % 2 == 1


@st.composite
def calls(draw: st.DrawFn, fires: tuple[str, ...], is_nested: bool) -> Call:
    """One control call or fault, at any moment, most often one that comes."""
    moment = draw(st.sampled_from(OFTEN) | st.sampled_from((*ONCE_A_RUN, *fires)))
    n = draw(st.integers(1, 1 if moment in ONCE_A_RUN else 3))
    kinds = [
        st.tuples(st.just("raise"), st.sampled_from([PlantedError, KeyboardInterrupt])),
        st.tuples(st.sampled_from(["terminate", "terminate_epoch"]), st.booleans()),
        st.tuples(st.just("interrupt"), st.none()),
        st.tuples(st.just("set_data"), st.builds(Data, st.integers(1, 4))),
    ]
    if is_nested:
        kinds.append(st.tuples(st.just("terminate_parent"), st.none()))
    return Call(moment, n, *draw(st.one_of(kinds)))


@st.composite
def handlers(draw: st.DrawFn, loop: Loop) -> Any:
    """An event to listen to, most often one that can have a filter."""
    keys = [key for key in loop.event_keys if key != "iteration_skipped"]  # ignite has none
    counted = [key for key in keys if key in COUNTED]
    key = draw(st.sampled_from(counted) | st.sampled_from(keys))
    filters: st.SearchStrategy[dict[str, Any]] = st.just({})
    if key in counted:
        counts, after = st.integers(1, 4), st.integers(0, 2)
        filters |= st.fixed_dictionaries({"every": st.integers(1, 3)}, optional={"after": after})
        filters |= st.fixed_dictionaries({"every": st.integers(2, 3), "after": after, "before": st.integers(5, 8)})
        filters |= st.fixed_dictionaries({"once": counts | st.lists(counts, min_size=1, max_size=2)})
        filters |= st.fixed_dictionaries({"before": st.integers(4, 6)}, optional={"after": after})
        filters |= st.just({"event_filter": odd})
    return event(key, **draw(filters))


@st.composite
def limits(draw: st.DrawFn, data: Data | None) -> dict[str, int]:
    drawn = {}
    if data is None or draw(st.booleans()):
        drawn["epoch_length"] = draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["", "max_epochs", "max_epochs", "max_iters"]))
    if kind:
        drawn[kind] = draw(st.integers(1, 3 if kind == "max_epochs" else 8))
    return drawn


@st.composite
def scenarios(draw: st.DrawFn, fires: st.SearchStrategy[Any], depth: int, is_nested: bool = False) -> Scenario:
    fired = tuple(draw(fires))
    loop = make_loop(fired)
    kinds = ["list", "list", "unsized"] if is_nested else ["list", "list", "unsized", "once"]
    data = draw(st.none() | st.builds(Data, st.integers(1, 4), st.sampled_from(kinds)))
    drawn = draw(limits(data))
    nested: Any = ()
    if depth and draw(st.integers(0, 3)) == 0:
        places = st.lists(st.sampled_from(PLACES), min_size=1, max_size=2, unique=True).map(tuple)
        nested = [(draw(places), draw(scenarios(fires, depth - 1, True))) for _ in range(draw(st.integers(1, 2)))]
    made = draw(st.lists(calls(fired, is_nested), min_size=0 if is_nested else 1, max_size=1 if is_nested else 3))
    heard = draw(st.lists(handlers(loop), max_size=1 if is_nested else 3))
    swallow = draw(st.integers(0, 3)) == 0
    return Scenario(loop, data, drawn, tuple(made), tuple(heard), tuple(nested), swallow)


@st.composite
def programs(draw: st.DrawFn, fires: st.SearchStrategy[Any], depth: int = 1) -> Program:
    """A run of an engine, and up to two further ones that start anew or go on."""
    scenario = draw(scenarios(fires, depth))
    again = []
    kind = next((name for name in ("max_epochs", "max_iters") if name in scenario.limits), None)
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        drawn = {}
        if kind is not None and draw(st.booleans()):
            drawn[kind] = draw(st.integers(1, 12 if kind == "max_iters" else 5))
        data = scenario.data
        if data is None or draw(st.integers(0, 3)) == 0:
            drawn["epoch_length"] = scenario.limits.get("epoch_length", data.n if data else 1)
        again.append((data, drawn))
    return Program(scenario, tuple(again))


any_order = st.sampled_from(ORDERLY) | st.lists(st.sampled_from(CUSTOM), max_size=4)


@given(programs(any_order))
def test_both_engines_do_the_same(program: Program) -> None:
    ours = Side(program, make_ours)
    assume(not differences(ours))
    expected = Side(program, Ignite).seen()
    for name, found in ours.seen().items():
        assert found == expected[name], name


# -- each difference: what ignite does, and what camshaft does ---------------------------------------------------------


def differing(difference: Callable[[Side], bool], program: Program, *others: Any) -> tuple[Side, Side]:
    """A program that comes upon this difference, and no others than these, on both engines."""
    ours = Side(program, make_ours)
    assert differences(ours) == [one.__name__ for one in (difference, *others)]
    theirs = Side(program, Ignite)
    assert ours.seen() != theirs.seen(), "nothing differs: random programs need not stay clear of it"
    return ours, theirs


def test_each_difference_and_each_disorder_has_its_test():
    assert {f"test_{name}" for name in [*DIFFERENCES, *DISORDERS]} <= set(globals())


@pytest.mark.parametrize("at", ["STEP", "y"])
def test_a_control_call_in_the_step(at):
    ours, theirs = differing(a_control_call_in_the_step, program(Call(at, 2, "terminate", False), fires=["y"]))
    assert theirs.after("iteration_started", 2) == ["y", "iteration_completed", "terminate", "completed"]
    assert ours.after("iteration_started", 2) == ["y", "terminate", "completed"]


@pytest.mark.parametrize(
    ("one", "other", "by_ignite", "by_camshaft"),
    [
        (
            ("terminate_epoch", False),
            ("interrupt", None),
            ["terminate_single_epoch", "epoch_completed", "interrupt", "completed"],
            ["terminate_single_epoch", "epoch_completed", "completed"],
        ),
        (
            ("terminate_epoch", False),
            ("terminate_epoch", True),
            ["terminate_single_epoch", "completed"],
            ["terminate_single_epoch", "epoch_completed", "completed"],
        ),
        (("terminate", False), ("terminate", True), ["terminate"], ["terminate", "completed"]),
    ],
)
def test_several_control_calls_at_once(one, other, by_ignite, by_camshaft):
    calls = [Call("iteration_completed", 2, *one), Call("iteration_completed", 2, *other)]
    ours, theirs = differing(several_control_calls_at_once, program(*calls))
    assert theirs.after("iteration_completed", 2) == by_ignite
    assert ours.after("iteration_completed", 2) == by_camshaft


@pytest.mark.parametrize(
    ("other", "by_ignite", "by_camshaft"),
    [
        (("set_data", Data(2)), [0, 1, 0, 1], [0, 1, 0, 0]),
        (("terminate_epoch", False), [0, 1, 0, 0, 0, 0], [0, 1, 0, 1, 2, 3]),
    ],
)
def test_set_data_and_another_call_at_once(other, by_ignite, by_camshaft):
    calls = [Call("iteration_completed", 2, "set_data", Data(1)), Call("iteration_completed", 2, *other)]
    ours, theirs = differing(several_control_calls_at_once, program(*calls, data=Data(4), max_epochs=2))
    assert theirs.batches[: len(by_ignite)] == by_ignite
    assert ours.batches[: len(by_camshaft)] == by_camshaft


def test_set_data_and_interrupt_at_once():
    calls = [Call("iteration_completed", 2, "interrupt"), Call("iteration_completed", 2, "set_data", Data(1))]
    ours, theirs = differing(several_control_calls_at_once, program(*calls, data=Data(4)))
    assert theirs.after("iteration_completed", 2)[0] == "interrupt"
    assert "interrupt" not in ours.after("started")
    assert ours.batches == theirs.batches == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("call", "by_ignite", "by_camshaft"),
    [
        (("terminate", False), ["epoch_completed", "terminate", "completed"], ["terminate", "completed"]),
        (
            ("interrupt", None),
            ["epoch_completed", "interrupt", "completed"],
            ["interrupt", "epoch_completed", "completed"],
        ),
        (("terminate_epoch", True), ["completed"], ["epoch_completed", "completed"]),
    ],
)
def test_a_control_call_at_terminate_single_epoch(call, by_ignite, by_camshaft):
    calls = [Call("iteration_started", 2, "terminate_epoch", False), Call("terminate_single_epoch", 1, *call)]
    ours, theirs = differing(a_control_call_at_terminate_single_epoch, program(*calls))
    assert theirs.after("terminate_single_epoch") == by_ignite
    assert ours.after("terminate_single_epoch") == by_camshaft


@pytest.mark.parametrize(
    ("what", "stops"),
    [
        ("terminate", ["terminate", "completed"]),
        ("terminate_epoch", ["terminate_single_epoch", "epoch_completed", "completed"]),
    ],
)
def test_terminate_at_interrupt(what, stops):
    calls = [Call("iteration_started", 2, "interrupt"), Call("interrupt", 1, what, False)]
    ours, theirs = differing(terminate_at_interrupt, program(*calls))
    assert theirs.after("interrupt") == ["iteration_completed", *stops]
    assert ours.after("interrupt") == stops
    ours, theirs = differing(terminate_at_interrupt, program(*calls, resumes=0))
    assert theirs.runs[0].is_paused
    assert theirs.after("interrupt") == []
    assert not ours.runs[0].is_paused


@pytest.mark.parametrize("skips_first", [True, False])
def test_terminate_at_terminate(skips_first):
    calls = [Call("iteration_started", 2, "terminate", skips_first), Call("terminate", 1, "terminate", not skips_first)]
    ours, theirs = differing(terminate_at_terminate, program(*calls))
    assert theirs.after("terminate") == ["completed"] * skips_first
    assert ours.after("terminate") == ["completed"] * (not skips_first)


def test_terminate_epoch_at_started():
    differing(terminate_epoch_at_started, program(Call("started", 1, "terminate_epoch", False)))
    for library, behind, message in [
        (ignite.engine, ["heard"], "should not be called on Event.STARTED or Event.EPOCH_STARTED"),
        (camshaft, [], "none has begun; call it from EPOCH_STARTED on"),
    ]:
        trainer, heard = library.Engine(nothing), []
        trainer.add_event_handler(library.Events.STARTED, lambda engine: engine.terminate_epoch())
        trainer.add_event_handler(library.Events.STARTED, lambda: heard.append("heard"))
        with pytest.raises(RuntimeError, match=message):
            trainer.run([1])
        assert heard == behind


def test_terminate_epoch_at_epoch_started():
    call = Call("epoch_started", 1, "terminate_epoch", False)
    ours, theirs = differing(terminate_epoch_at_epoch_started, program(call, max_epochs=2))
    assert theirs.after("epoch_started") == ["exception_raised"]
    assert isinstance(theirs.runs[0].error, RuntimeError)
    assert ours.after("epoch_started")[:3] == ["terminate_single_epoch", "epoch_completed", "epoch_started"]
    assert ours.runs[0].error is None


def test_terminate_epoch_at_exception_raised_before_an_epoch():
    calls = [Call("started", 1, "raise", PlantedError), Call("exception_raised", 1, "terminate_epoch", False)]
    ours, theirs = differing(terminate_epoch_at_exception_raised_before_an_epoch, program(*calls, swallow=True))
    assert theirs.runs[0].error is None
    assert isinstance(ours.runs[0].error.__cause__, RuntimeError)
    assert "none has begun" in str(ours.runs[0].error.__cause__)


def test_an_interrupt_at_dataloader_stop_iteration():
    call = Call("dataloader_stop_iteration", 1, "interrupt")
    ours, theirs = differing(an_interrupt_at_dataloader_stop_iteration, program(call, data=Data(2), epoch_length=3))
    assert theirs.after("dataloader_stop_iteration")[:3] == ["interrupt", "get_batch_started", "get_batch_completed"]
    assert ours.after("dataloader_stop_iteration")[:2] == ["interrupt", "get_batch_completed"]


def test_set_data_in_a_run_without_data():
    call = Call("iteration_completed", 1, "set_data", Data(2))
    ours, theirs = differing(set_data_in_a_run_without_data, program(call, data=None, epoch_length=3))
    assert theirs.batches == [None, 0, 1]
    assert theirs.after("iteration_completed")[0] == "get_batch_started"
    assert ours.batches == [None]
    assert "has no run that takes data" in str(ours.runs[0].error.__cause__)


def test_data_that_cannot_be_restarted():
    once = program(data=Data(3, "once"), epoch_length=2, max_epochs=4)
    ours, theirs = differing(data_that_cannot_be_restarted, once)
    empty = ["epoch_started", "get_batch_started", "dataloader_stop_iteration", "epoch_completed"]
    assert theirs.after("epoch_completed", 2) == [*empty, *empty, "completed"]
    assert theirs.runs[0].warned == 2, "in the second epoch and in the third one, but not in the last"
    assert ours.after("dataloader_stop_iteration") == ["terminate", "completed"]
    assert ours.runs[0].warned == 1
    assert ours.batches == theirs.batches == [0, 1, 2]


def test_data_that_cannot_be_restarted_under_max_iters():
    ours, theirs = differing(data_that_cannot_be_restarted, program(data=Data(3, "once"), epoch_length=2, max_iters=4))
    assert isinstance(theirs.runs[0].error, Endless)
    assert theirs.runs[0].states["trainer"]["iteration"] == 3
    assert ours.after("dataloader_stop_iteration") == ["terminate", "completed"]


def test_max_iters_with_data_of_unknown_length():
    unsized = Data(2, "unsized")
    ours, theirs = differing(max_iters_with_data_of_unknown_length, program(data=unsized, max_iters=3))
    assert theirs.runs[0].states["trainer"]["max_epochs"] == 2
    assert ours.runs[0].states["trainer"]["max_epochs"] is None
    cut_short = Call("iteration_started", 1, "terminate_epoch", False)
    ours, theirs = differing(max_iters_with_data_of_unknown_length, program(cut_short, data=unsized, max_iters=4))
    assert theirs.runs[0].states["trainer"]["iteration"] == 3, "it stopped after the second epoch"
    assert ours.runs[0].states["trainer"]["iteration"] == 4


@pytest.mark.parametrize("every", [1, 3])
def test_every_where_nothing_is_counted_yet(every):
    listener = event("get_batch_started", every=every)
    ours, theirs = differing(every_where_nothing_is_counted_yet, program(data=Data(4), handlers=[listener]))
    assert theirs.heard == [0, 3] if every == 3 else [0, 1, 2, 3]
    assert ours.heard == [3] if every == 3 else [1, 2, 3]


def test_every_with_before_alone():
    listener = event("iteration_started", every=2, before=6)
    ours, theirs = differing(every_with_before_alone, program(data=Data(7), handlers=[listener]))
    assert theirs.heard == [1, 3, 5]
    assert ours.heard == [2, 4]


def test_every_with_after_is_the_same():
    listener = event("iteration_started", every=5, after=8, before=25)
    sides = [Side(program(data=Data(30), handlers=[listener]), make) for make in (make_ours, Ignite)]
    assert [side.heard for side in sides] == [[9, 14, 19, 24]] * 2


@pytest.mark.parametrize("filter", [{"every": 1, "after": 0}, {"once": [1, 2]}, {"before": 3}])
def test_a_filtered_event_that_fires_twice_at_one_count(filter):
    by_hand = program(data=Data(2), fires=["y", "y"], handlers=[event("y", **filter)])
    ours, theirs = differing(a_filtered_event_that_fires_twice_at_one_count, by_hand)
    assert theirs.heard == [1, 1, 2, 2]
    assert ours.heard == [1, 2]
    call, listener = Call("get_batch_started", 2, "terminate_epoch", False), event("get_batch_started", **filter)
    again = program(call, data=Data(1), handlers=[listener], max_epochs=2, epoch_length=2)
    ours, theirs = differing(a_filtered_event_that_fires_twice_at_one_count, again)
    assert theirs.heard == [1, 1, 2]
    assert ours.heard == [1, 2]


def test_a_filter_on_an_event_without_counter():
    listener = event("x_started", every=2)
    program_ = program(fires=["x_started", "x_completed"], handlers=[listener])
    ours, theirs = differing(a_filter_on_an_event_without_counter, program_)
    assert isinstance(theirs.runs[0].error, RuntimeError)
    assert str(theirs.runs[0].error).startswith("Unknown event name")
    assert ours.heard == [2]


def test_a_failure_that_a_handler_hears():
    call = Call("epoch_started", 1, "raise", PlantedError)
    ours, theirs = differing(a_failure_that_a_handler_hears, program(call, handlers=[event("exception_raised")]))
    assert theirs.runs[0].error is None
    assert isinstance(ours.runs[0].error, PlantedError)
    assert theirs.after("epoch_started") == ours.after("epoch_started") == ["exception_raised"]


def test_a_keyboard_interrupt_that_a_handler_takes():
    call = Call("epoch_started", 1, "raise", KeyboardInterrupt)
    ours, theirs = differing(a_keyboard_interrupt_that_a_handler_takes, program(call, swallow=True))
    assert theirs.runs[0].error is None
    assert isinstance(ours.runs[0].error, KeyboardInterrupt)
    assert theirs.after("epoch_started") == ours.after("epoch_started") == ["exception_raised"]


def test_a_failure_in_an_iteration_that_a_handler_takes():
    call = Call("iteration_started", 2, "raise", PlantedError)
    ours, theirs = differing(a_failure_in_an_iteration_that_a_handler_takes, program(call, swallow=True, max_epochs=2))
    assert theirs.after("iteration_started", 2)[:3] == ["exception_raised", "epoch_completed", "epoch_started"]
    assert ours.after("iteration_started", 2) == ["exception_raised"]
    assert theirs.runs[0].states["trainer"]["epoch"] == 2
    assert ours.runs[0].states["trainer"]["epoch"] == 1


def test_a_run_again_after_a_failure():
    call, further = Call("epoch_completed", 1, "raise", PlantedError), (Data(3), {"max_epochs": 2})
    ours, theirs = differing(a_run_again_after_a_failure, program(call, max_epochs=2, again=[further, further]))
    assert [bool(run.events) for run in theirs.runs] == [True, False, True], "the second one returned None at once"
    assert theirs.runs[2].events[1].count == ours.runs[1].events[1].count == 2, "the epoch that it goes on with"


def test_a_run_again_after_a_failure_in_an_epoch():
    call, further = Call("iteration_completed", 2, "raise", PlantedError), (Data(3), {"max_epochs": 2})
    failing = program(call, max_epochs=2, again=[further, further])
    ours, theirs = differing(a_run_again_after_a_failure, failing, a_run_again_after_a_short_epoch)
    assert theirs.batches == [0, 1, 0], "the next epoch counts what the failed one had done"
    assert ours.batches[:5] == [0, 1, 0, 1, 2]


def test_a_run_again_of_unknown_length():
    unsized = Data(2, "unsized")
    ours, theirs = differing(a_run_again_of_unknown_length, program(data=unsized, again=[(unsized, {})]))
    assert theirs.runs[1].events[-3].event == "iteration_completed"
    assert ours.runs[1].events[-3].event == "get_batch_started", "it learns the length anew"


def test_a_run_again_that_fetches_nothing():
    call = Call("started", 2, "terminate", False)
    ours, theirs = differing(a_run_again_that_fetches_nothing, program(call, again=[(Data(3), {})]))
    assert theirs.runs[1].states["trainer"]["output"] == 2
    assert ours.runs[1].states["trainer"]["output"] is None


def test_a_refused_run_again():
    refused = (Data(3), {"max_epochs": 3, "epoch_length": 2})
    ours, theirs = differing(a_refused_run_again, program(max_epochs=2, again=[refused]))
    assert isinstance(theirs.runs[1].error, ValueError)
    assert theirs.runs[1].states["trainer"]["max_epochs"] == 3
    assert isinstance(ours.runs[1].error, ValueError)
    assert ours.runs[1].states["trainer"]["max_epochs"] == 2


def test_a_run_again_with_the_other_limit():
    ours, theirs = differing(a_run_again_with_the_other_limit, program(again=[(Data(3), {"max_iters": 2})]))
    assert "you must first reset" in str(theirs.runs[1].error)
    assert ours.runs[1].states["trainer"]["iteration"] == 2


def test_a_run_again_after_a_short_epoch():
    call, further = Call("iteration_completed", 1, "terminate_epoch", False), (Data(3), {"max_epochs": 2})
    ours, theirs = differing(a_run_again_after_a_short_epoch, program(call, again=[further]))
    assert theirs.batches == [0, 0, 1]
    assert ours.batches == [0, 0, 1, 2]


def test_a_run_again_of_a_paused_engine():
    call = Call("iteration_completed", 1, "interrupt")
    ours, theirs = differing(a_run_again_of_a_paused_engine, program(call, resumes=0, again=[(Data(2), {})]))
    assert theirs.batches == [0, 1, 2]
    assert "is paused and goes on with the data it has" in str(ours.runs[1].error)


def test_a_nested_engine_that_is_left_paused():
    evaluator = program(Call("iteration_completed", 1, "interrupt"), data=Data(2)).scenario
    outer = program(nested=[(("epoch_completed",), evaluator)], again=[(Data(3), {})])
    ours, theirs = differing(a_nested_engine_that_is_left_paused, outer)
    assert [event.event for event in theirs.runs[1].events if event.depth][:1] == ["get_batch_started"]
    assert [event.event for event in ours.runs[1].events if event.depth][:1] == ["started"]


# -- differences that no random program comes upon ---------------------------------------------------------------------


def run_out(engine: Any, *args: Any, **limits: Any) -> BaseException:
    """What leaves a run."""
    with pytest.raises(BaseException) as caught:
        engine.run(*args, **limits)
    return caught.value


def test_a_handler_that_is_added_while_its_event_fires():
    def heard(library):
        trainer, iterations = library.Engine(nothing), []

        @trainer.on(library.Events.ITERATION_STARTED(once=1))
        def add():
            listen = lambda engine: iterations.append(engine.state.iteration)
            trainer.add_event_handler(library.Events.ITERATION_STARTED, listen)

        trainer.run([1, 2])
        return iterations

    assert heard(ignite.engine) == [1, 2]
    assert heard(camshaft) == [2]


def test_a_handler_that_is_removed_while_its_event_fires():
    def heard(library):
        trainer, iterations = library.Engine(nothing), []
        trainer.add_event_handler(library.Events.ITERATION_STARTED, lambda: handle.remove())
        listen = lambda engine: iterations.append(engine.state.iteration)
        handle = trainer.add_event_handler(library.Events.ITERATION_STARTED, listen)
        trainer.run([1, 2])
        return iterations

    assert heard(ignite.engine) == [1]
    assert heard(camshaft) == []


def test_members_of_one_name_or_of_one_value():
    def heard(library, attached, fired):
        one = library.EventEnum("One", {"X": "x"})
        other = library.EventEnum("Other", {"X": "another", "Y": "x"})
        trainer, called = library.Engine(lambda engine, batch: engine.fire_event(other[fired])), []
        trainer.register_events(one.X, other[fired])
        trainer.add_event_handler(one[attached], lambda: called.append(fired))
        trainer.run([1])
        return called

    assert heard(ignite.engine, "X", "X") == ["X"], "of one name: the same event on ignite"
    assert heard(camshaft, "X", "X") == []
    assert heard(ignite.engine, "X", "Y") == []
    assert heard(camshaft, "X", "Y") == ["Y"], "of one value: the same event on camshaft"


def test_the_string_that_names_a_built_in_event():
    assert ignite.engine.Engine(nothing).has_registered_events("EPOCH_STARTED")
    assert not ignite.engine.Engine(nothing).has_registered_events("epoch_started")
    assert not Engine(nothing).has_registered_events("EPOCH_STARTED")
    assert Engine(nothing).has_registered_events("epoch_started")


def test_a_built_in_event_fired_by_hand():
    trainer = ignite.engine.Engine(lambda engine, batch: engine.fire_event(ignite.engine.Events.EPOCH_COMPLETED))
    epochs = []
    trainer.add_event_handler(ignite.engine.Events.EPOCH_COMPLETED, lambda: epochs.append("completed"))
    trainer.run([1])
    assert epochs == ["completed", "completed"]
    error = run_out(Engine(lambda engine, batch: engine.fire_event(camshaft.Events.EPOCH_COMPLETED)), [1])
    assert "fires EPOCH_COMPLETED itself" in str(error)


def test_an_event_fired_by_hand_at_dataloader_stop_iteration():
    def fetches(library):
        trainer, iterations = library.Engine(nothing), []
        trainer.register_events("restarting")
        stop, start = library.Events.DATALOADER_STOP_ITERATION, library.Events.GET_BATCH_STARTED
        trainer.add_event_handler(stop, lambda engine: engine.fire_event("restarting"))
        trainer.add_event_handler(start, lambda engine: iterations.append(engine.state.iteration))
        trainer.run([1], epoch_length=2)
        return iterations

    assert fetches(ignite.engine) == [0, 1, 1], "GET_BATCH_STARTED fires once more after the restart"
    assert fetches(camshaft) == [0, 1]


def test_an_attribute_for_filters_is_there_on_every_engine():
    def leaks(library):
        trainer = library.Engine(nothing)
        trainer.register_events("counted", event_to_attr={"counted": "times_counted"})
        return hasattr(library.Engine(nothing).state, "times_counted")

    assert leaks(ignite.engine)
    assert not leaks(camshaft)


def test_handlers_of_terminate_single_epoch():
    def run(library, handler):
        trainer = library.Engine(nothing)
        trainer.add_event_handler(library.Events.TERMINATE_SINGLE_EPOCH, handler)
        trainer.add_event_handler(library.Events.ITERATION_STARTED(once=2), lambda engine: engine.terminate_epoch())
        trainer.run([1, 2, 3])

    counts, heard = [], []
    run(ignite.engine, lambda engine, iter_counter: counts.append(iter_counter))
    assert counts == [2], "ignite passes the batches of the epoch, by name"
    with pytest.raises(TypeError, match="iter_counter"):
        run(ignite.engine, lambda engine: None)
    with pytest.raises(TypeError, match="does not fit TERMINATE_SINGLE_EPOCH"):
        run(camshaft, lambda engine, iter_counter: None)
    run(camshaft, lambda engine: heard.append(engine.state.iteration))
    assert heard == [2]


def test_a_handler_whose_signature_does_not_fit():
    with pytest.raises(ValueError, match="Error adding"):
        ignite.engine.Engine(nothing).add_event_handler(ignite.engine.Events.STARTED, lambda one, two, three: None)
    with pytest.raises(TypeError, match="does not fit STARTED"):
        Engine(nothing).add_event_handler(camshaft.Events.STARTED, lambda one, two, three: None)


def test_terminate_as_a_handler():
    def completes(library):
        trainer, completed = library.Engine(nothing), []
        trainer.add_event_handler(library.Events.ITERATION_STARTED(once=2), trainer.terminate)
        trainer.add_event_handler(library.Events.COMPLETED, lambda: completed.append(True))
        assert trainer.run([1, 2, 3]).iteration == 2
        return completed

    assert completes(ignite.engine) == [], "the engine is passed, and taken for skip_completed"
    assert completes(camshaft) == [True]


def test_what_ignite_does_not_have():
    assert not hasattr(ignite.engine.Engine(nothing), "skip_iteration")
    assert not hasattr(ignite.engine.Engine(nothing), "parent")
    with pytest.raises(TypeError):
        ignite.engine.Events.STARTED(priority=1)
    heard = []
    trainer = Engine(nothing)
    trainer.add_event_handler(camshaft.Events.GET_BATCH_COMPLETED(once=1), lambda engine: engine.skip_iteration())
    trainer.add_event_handler(camshaft.Events.ITERATION_SKIPPED, lambda engine: heard.append("later"))
    trainer.add_event_handler(camshaft.Events.ITERATION_SKIPPED(priority=1), lambda engine: heard.append("first"))
    trainer.run([1, 2])
    assert heard == ["first", "later"]


def test_a_failure_that_nobody_hears():
    def last_of(library):
        trainer = library.Engine(lambda engine, batch: 1 / 0)
        assert isinstance(run_out(trainer, [1]), ZeroDivisionError)
        return trainer.last_event_name.value

    assert last_of(ignite.engine) == "iteration_started", "EXCEPTION_RAISED does not fire at all"
    assert last_of(camshaft) == "exception_raised"


def test_a_handler_of_exception_raised_that_was_removed():
    def run(library):
        trainer = library.Engine(lambda engine, batch: 1 / 0)
        with trainer.add_event_handler(library.Events.EXCEPTION_RAISED, lambda error: True):
            pass
        return trainer.run([1])

    assert run(ignite.engine).iteration == 1, "it takes the exception still"
    with pytest.raises(ZeroDivisionError):
        run(camshaft)


@pytest.mark.parametrize(("fails_at", "times"), [("ITERATION_STARTED", 2), ("EPOCH_STARTED", 1)])
def test_a_handler_of_exception_raised_that_raises(fails_at, times):
    def raised(library):
        trainer, errors = library.Engine(nothing), []
        trainer.add_event_handler(library.Events[fails_at], lambda: 1 / 0)

        @trainer.on(library.Events.EXCEPTION_RAISED)
        def fail(engine, error):
            errors.append(type(error))
            raise KeyError

        left = run_out(trainer, [1])
        assert isinstance(left, KeyError)
        return errors, type(left.__context__)

    assert raised(ignite.engine)[0] == [ZeroDivisionError, KeyError][:times]
    assert raised(camshaft) == ([ZeroDivisionError], ZeroDivisionError)


def test_an_engine_inside_itself():
    assert (
        str(run_out(ignite.engine.Engine(lambda engine, batch: engine.run([1])), [1])) == "generator already executing"
    )
    error = run_out(Engine(lambda engine, batch: engine.run([1])), [1])
    assert isinstance(error, RuntimeError)
    assert "is running" in str(error)


def test_set_data_outside_of_a_run():
    trainer = ignite.engine.Engine(lambda engine, batch: batch)
    trainer.set_data([5])
    assert trainer.run([1]).output == 5
    with pytest.raises(RuntimeError, match="has no run that takes data"):
        Engine(nothing).set_data([5])


def test_going_on_without_data_after_terminate():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        trainer.add_event_handler(library.Events.ITERATION_COMPLETED(once=1), lambda engine: engine.terminate())
        trainer.run([1, 2], max_epochs=2)
        trainer.run()
        return got

    assert batches(ignite.engine) == [1, None, None]
    assert batches(camshaft) == [1, 1, 2]


def test_a_new_run_without_data():
    trainer = ignite.engine.Engine(lambda engine, batch: batch)
    trainer.run([1, 2])
    assert trainer.run().output is None
    assert trainer.state.iteration == 2, "it knows the length of an epoch"
    trainer = Engine(nothing)
    trainer.run([1, 2])
    assert "data=None needs epoch_length" in str(run_out(trainer))


def test_going_on_without_data_after_an_interrupt_before_the_first_fetch():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        trainer.add_event_handler(library.Events.STARTED, lambda engine: engine.interrupt())
        trainer.run([1, 2])
        trainer.run()
        return got

    assert batches(ignite.engine) == [None, None]
    assert batches(camshaft) == [1, 2]


def test_going_on_without_data_where_the_length_is_unknown():
    def interrupted(library):
        trainer = library.Engine(lambda engine, batch: batch)
        trainer.add_event_handler(library.Events.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
        trainer.run(Batches([1, 2]))
        return trainer

    trainer = interrupted(ignite.engine)
    assert "epoch_length should be provided if data is None" in str(run_out(trainer))
    assert trainer.run(Batches([])).output == 2, "it goes on when it is given any data, with what it has"
    assert interrupted(camshaft).run().output == 2


def test_empty_data():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert ignite.engine.Engine(nothing).run([], epoch_length=2, max_epochs=2).iteration == 0
    assert len(caught) == 1
    assert ignite.engine.Engine(nothing).run(iter([])).epoch_length == 0
    assert "data is empty" in str(run_out(Engine(nothing), [], epoch_length=2))
    assert "data is empty" in str(run_out(Engine(nothing), iter([])))


def test_a_handler_that_raises_stop_iteration_while_a_batch_is_fetched():
    def stopped(library):
        trainer = library.Engine(nothing)

        @trainer.on(library.Events.GET_BATCH_COMPLETED)
        def stop(engine):
            if engine.state.iteration == 1:
                raise StopIteration

        return trainer

    trainer = stopped(ignite.engine)
    with pytest.warns(UserWarning, match="can not provide data anymore"):
        assert trainer.run([1, 2, 3], max_epochs=2).iteration == 1, "it is taken for the end of the data"
    error = run_out(stopped(camshaft), [1, 2, 3], max_epochs=2)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


def test_a_state_that_is_loaded_in_the_middle_of_an_epoch():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        trainer.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 3})
        return trainer.state.epoch, got, trainer.run([1, 2, 3], max_epochs=3).epoch

    assert batches(ignite.engine) == (1, [1, 2, 3, 1, 2], 3), "the epoch was not begun, and gets the first batches"
    assert batches(camshaft) == (2, [2, 3, 1, 2, 3], 3), "the epoch goes on with the batch that comes next"


def test_a_paused_engine_that_nobody_holds_any_more():
    def raised(library):
        errors = []
        trainer = library.Engine(nothing)
        trainer.add_event_handler(library.Events.EXCEPTION_RAISED, lambda error: errors.append(type(error)))
        trainer.add_event_handler(library.Events.STARTED, lambda engine: engine.interrupt())
        trainer.run([1])
        del trainer
        gc.collect()
        return errors

    assert raised(ignite.engine) == [GeneratorExit]
    assert raised(camshaft) == []


def test_metrics_of_the_run_before():
    def metrics(library):
        trainer = library.Engine(nothing)
        trainer.run([1]).metrics["loss"] = 1.0
        return trainer.run([1]).metrics

    assert metrics(ignite.engine) == {"loss": 1.0}
    assert metrics(camshaft) == {}


def test_starting_over():
    trainer = ignite.engine.Engine(nothing)
    trainer.run([1], max_epochs=2)
    trainer.state.max_epochs = None
    assert trainer.run([1], max_epochs=1).epoch == 1
    trainer = Engine(nothing)
    trainer.run([1], max_epochs=2)
    trainer.state.max_epochs = None
    assert "call close() first to start over" in str(run_out(trainer, [1], max_epochs=1))
    trainer.close()
    assert trainer.run([1], max_epochs=1).epoch == 1


def test_a_limit_of_none_at_all():
    assert ignite.engine.Engine(nothing).run([1], max_epochs=0).epoch == 0
    assert "max_epochs=0 is no limit" in str(run_out(Engine(nothing), [1], max_epochs=0))


def test_filters_that_are_never_due():
    assert ignite.engine.Engine(nothing).add_event_handler(ignite.engine.Events.STARTED(once=2), lambda: None)
    assert ignite.engine.Events.ITERATION_STARTED(before=0)
    with pytest.raises(ValueError, match="can never be due"):
        Engine(nothing).add_event_handler(camshaft.Events.STARTED(once=2), nothing)
    with pytest.raises(ValueError, match="is never due"):
        camshaft.Events.ITERATION_STARTED(before=0)


def test_should_terminate_after_the_run():
    def is_told(library):
        trainer = library.Engine(lambda engine, batch: engine.terminate())
        trainer.run([1])
        return bool(trainer.should_terminate)

    assert is_told(ignite.engine)
    assert not is_told(camshaft)


def test_last_event_name_when_an_event_fired_by_hand_is_over():
    def last(library):
        names = []

        def step(engine, batch):
            engine.fire_event("by_hand")
            names.append(engine.last_event_name)

        trainer = library.Engine(step)
        trainer.register_events("by_hand")
        trainer.run([1])
        return names

    assert last(ignite.engine) == ["by_hand"]
    assert last(camshaft) == [camshaft.Events.ITERATION_STARTED]


def test_the_batch_while_the_next_one_is_fetched():
    def batches(library):
        trainer, seen = library.Engine(nothing), []
        listen = lambda engine: seen.append(engine.state.batch)
        trainer.add_event_handler(library.Events.GET_BATCH_STARTED, listen)
        trainer.run([1, 2, 3])
        return seen

    assert batches(ignite.engine) == [None, None, None]
    assert batches(camshaft) == [None, 1, 2]


# -- traces of pytorch-ignite's engines -------------------------------------------------------------------------------

DISORDERS: dict[str, Callable[[Side], bool]] = {}
"""By name, whether a program that ran on ignite's engine made it leave its own order. Each has a test of its own."""


def leaves_its_order(predicate: Callable[[Side], bool]) -> Callable[[Side], bool]:
    DISORDERS[predicate.__name__] = predicate
    return predicate


@leaves_its_order
def an_epoch_that_is_completed_although_data_gave_out(side: Side) -> bool:
    """EPOCH_COMPLETED after DATALOADER_STOP_ITERATION."""
    return any(
        following.event == "epoch_completed"
        for event, following in in_pairs(side)
        if event.event == "dataloader_stop_iteration"
    )


@leaves_its_order
def an_epoch_without_batches(side: Side) -> bool:
    """EPOCH_COMPLETED after the first GET_BATCH_STARTED, where the length is unknown: it is learned to be 0."""
    return any(record.limits["epoch_length"] == 0 for run in side.runs for record in run.trace.runs)


@leaves_its_order
def a_get_batch_that_is_started_twice(side: Side) -> bool:
    """When it goes on after an interrupt at DATALOADER_STOP_ITERATION."""
    return an_interrupt_at_dataloader_stop_iteration(side)


@leaves_its_order
def an_exception_that_is_not_the_end(side: Side) -> bool:
    """EPOCH_COMPLETED, or a second one, after EXCEPTION_RAISED."""
    return any(event.event == "exception_raised" for event, _ in in_pairs(side))


@leaves_its_order
def batches_in_a_run_without_data(side: Side) -> bool:
    """GET_BATCH_STARTED after set_data() in a run that began with none."""
    return set_data_in_a_run_without_data(side)


@leaves_its_order
def max_iters_that_is_not_reached(side: Side) -> bool:
    """COMPLETED too early: it made max_epochs of max_iters, and an epoch was cut short."""
    return any(
        record.limits["max_iters"]
        and record.limits["max_epochs"]
        and run.states[record.engine]["iteration"] < record.limits["max_iters"]
        for run in side.runs
        for record in run.trace.runs
    )


def in_pairs(side: Side) -> Iterator[tuple[TraceEvent, TraceEvent]]:
    """Every two events that follow each other in one run of an engine."""
    for run in side.runs:
        last: dict[int, TraceEvent] = {}
        for index, fired in enumerate(run.events):
            number = run.trace.run_of(index)
            if number in last:
                yield last[number], fired
            last[number] = fired


@given(programs(st.sampled_from(ORDERLY)))
def test_traces_of_ignite_are_legal(program: Program) -> None:
    theirs = Side(program, Ignite)
    assume(not any(disorder(theirs) for disorder in DISORDERS.values()))
    for run in theirs.runs:
        run.trace.assert_legal()


def test_an_epoch_that_is_completed_although_data_gave_out():
    theirs = disorderly(
        an_epoch_that_is_completed_although_data_gave_out, program(data=Data(1, "once"), epoch_length=2)
    )
    assert "EPOCH_COMPLETED is illegal in EPOCH 1 / GET_BATCH" in verdict(theirs.runs[0].trace)


def test_an_epoch_without_batches():
    call = Call("get_batch_started", 2, "terminate_epoch", False)
    theirs = disorderly(an_epoch_without_batches, program(call, data=Data(1, "once"), max_epochs=2))
    assert "[iteration > 0] does not hold" in verdict(theirs.runs[0].trace)


def test_a_get_batch_that_is_started_twice():
    call = Call("dataloader_stop_iteration", 1, "interrupt")
    theirs = disorderly(a_get_batch_that_is_started_twice, program(call, data=Data(1), epoch_length=2))
    assert "GET_BATCH_STARTED is illegal in EPOCH 1 / GET_BATCH" in verdict(theirs.runs[0].trace)


def test_an_exception_that_is_not_the_end():
    call = Call("iteration_started", 1, "raise", PlantedError)
    theirs = disorderly(an_exception_that_is_not_the_end, program(call, swallow=True))
    assert "EPOCH_COMPLETED is illegal in FAILED" in verdict(theirs.runs[0].trace)


def test_batches_in_a_run_without_data():
    call = Call("iteration_completed", 1, "set_data", Data(1))
    theirs = disorderly(batches_in_a_run_without_data, program(call, data=None, epoch_length=2))
    assert "GET_BATCH_STARTED is illegal in EPOCH 1 / after ITERATION 1: [data] does not hold" in verdict(
        theirs.runs[0].trace
    )


def test_max_iters_that_is_not_reached():
    call = Call("iteration_started", 1, "terminate_epoch", False)
    theirs = disorderly(max_iters_that_is_not_reached, program(call, data=Data(2, "unsized"), max_iters=4))
    assert "COMPLETED is illegal after EPOCH 2: [epoch == max_epochs] does not hold" in verdict(theirs.runs[0].trace)


def test_an_event_fired_by_hand_at_dataloader_stop_iteration_disturbs_the_order():
    trainer = ignite.engine.Engine(nothing)
    trainer.register_events("restarting")
    trainer.add_event_handler(
        ignite.engine.Events.DATALOADER_STOP_ITERATION, lambda engine: engine.fire_event("restarting")
    )
    with record(trainer) as trace:
        trainer.run([1], epoch_length=2)
    assert "GET_BATCH_STARTED is illegal in EPOCH 1 / GET_BATCH" in verdict(trace)


def disorderly(disorder: Callable[[Side], bool], program: Program) -> Side:
    """A program that makes ignite leave its order in this way and no other."""
    theirs = Side(program, Ignite)
    assert [name for name, predicate in DISORDERS.items() if predicate(theirs)] == [disorder.__name__]
    return theirs


# -- recording --------------------------------------------------------------------------------------------------------

THEIR = ignite.engine.Events


def make_trainer(step: Any = nothing, *events: Any) -> ignite.engine.Engine:
    trainer = ignite.engine.Engine(step)
    if events:
        trainer.register_events(*events)
    return trainer


LEGAL = {
    "a list": program(max_epochs=2),
    "data of unknown length": program(data=Data(3, "unsized"), max_epochs=2),
    "an iterator": program(data=Data(3, "once")),
    "no data": program(data=None, epoch_length=2, max_epochs=2),
    "an epoch shorter than the data": program(data=Data(4), epoch_length=3, max_epochs=3),
    "an epoch longer than the data": program(data=Data(2), epoch_length=5),
    "max_iters inside an epoch": program(max_iters=4),
    "max_iters at the end of an epoch": program(max_iters=6),
    "terminate": program(Call("iteration_started", 2, "terminate", False), max_epochs=2),
    "terminate without COMPLETED": program(Call("epoch_completed", 1, "terminate", True), max_epochs=2),
    "terminate_epoch": program(Call("get_batch_completed", 2, "terminate_epoch", False), max_epochs=2),
    "terminate_epoch without EPOCH_COMPLETED": program(Call("STEP", 2, "terminate_epoch", True), max_epochs=2),
    "an interrupt": program(Call("STEP", 2, "interrupt")),
    "an interrupt before the first epoch": program(Call("started", 1, "interrupt")),
    "new data": program(Call("get_batch_started", 2, "set_data", Data(1)), max_epochs=2),
    "a failure": program(Call("STEP", 2, "raise", PlantedError)),
    "a failure that is heard": program(Call("epoch_started", 1, "raise", PlantedError), swallow=True),
    "a failure at the very end": program(Call("completed", 1, "raise", PlantedError)),
    "runs again after a failure": program(
        Call("STEP", 2, "raise", PlantedError), max_epochs=2, again=[(Data(3), {}), (Data(3), {})]
    ),
    "a run that goes on": program(again=[(Data(3), {"max_epochs": 2}), (Data(3), {"max_epochs": 4})]),
    "a run that goes on after a short epoch": program(
        Call("STEP", 2, "terminate_epoch", False), again=[(Data(3), {"max_epochs": 3})]
    ),
    "custom events": program(fires=["z_started", "x_started", "y", "z_completed", "y", "x_completed"], max_epochs=2),
    "a nested engine": program(nested=[(("epoch_completed", "completed"), program(data=Data(2)).scenario)]),
    "a nested engine that stops the outer one": program(
        nested=[(("iteration_completed",), program(Call("STEP", 3, "terminate_parent"), data=Data(2)).scenario)]
    ),
    "a nested engine that pauses": program(
        nested=[(("iteration_completed",), program(Call("STEP", 2, "interrupt"), data=Data(3)).scenario)]
    ),
    "a nested engine that fails": program(
        nested=[(("started",), program(Call("STEP", 2, "raise", PlantedError), data=Data(3)).scenario)]
    ),
}


@pytest.mark.parametrize("program", LEGAL.values(), ids=LEGAL)
def test_a_run_of_ignite_is_legal(program):
    theirs = Side(program, Ignite)
    assert theirs.runs[0].events
    assert [verdict(run.trace) for run in theirs.runs] == ["legal"] * len(theirs.runs)


def test_a_trace_of_ignite():
    trainer = make_trainer()
    with record(trainer) as trace:
        trainer.run([1, 2], max_epochs=1)
    trace.assert_legal()
    trace.assert_matches(
        "STARTED EPOCH_STARTED (GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED){2} "
        "EPOCH_COMPLETED COMPLETED",
        strict=True,
    )
    assert [event.count for event in trace] == [0, 1, 0, 0, 1, 1, 1, 1, 2, 2, 1, 1]
    assert {event.engine for event in trace} == {"engine"}
    assert trace.runs[0].outcome == "completed"
    assert trace.runs[0].limits == {"max_epochs": 1, "max_iters": None, "epoch_length": 2}


def test_it_can_be_saved_and_judged_elsewhere(tmp_path):
    trainer = make_trainer(lambda engine, batch: engine.fire_event("x_started"), "x_started", "x_completed")
    trainer.load_state_dict({"iteration": 2, "epoch_length": 3, "max_epochs": 2})
    with record(trainer) as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    trace.save(tmp_path / "trace.jsonl")
    assert verdict(Trace.load(tmp_path / "trace.jsonl")) == verdict(trace) != "legal"


@pytest.mark.parametrize("iteration", range(7))
def test_a_run_that_goes_on_from_a_checkpoint_in_the_middle_of_an_epoch(iteration):
    trainer = make_trainer()
    trainer.load_state_dict({"iteration": iteration, "epoch_length": 3, "max_epochs": 2})
    with record(trainer) as trace:
        trainer.run([1, 2, 3], max_epochs=3)
    trace.assert_legal()
    assert trainer.state.iteration == 9


@pytest.mark.parametrize("outcome", ["completed", "interrupted", "failed"])
def test_without_interrupts_its_runs_are_legal_as_before(monkeypatch, outcome):
    monkeypatch.setattr(ignite.engine.Engine, "interrupt_resume_enabled", False)
    trainer = make_trainer()
    if outcome != "completed":
        trainer.add_event_handler(THEIR.ITERATION_STARTED, lambda engine: engine.interrupt())
    with record(trainer) as trace:
        if outcome == "completed":
            trainer.run([1, 2], max_epochs=2)
        else:
            assert isinstance(run_out(trainer, [1, 2]), RuntimeError), "it cannot be interrupted then"
    trace.assert_legal()
    assert trace.runs[0].outcome == ("completed" if outcome == "completed" else "failed")


def test_an_engine_of_a_subclass():
    trainer = ignite.engine.DeterministicEngine(nothing)
    with record(trainer) as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    trace.assert_legal()
    assert trace.count("iteration_completed") == 6


# -- nesting


def test_nested_engines_of_ignite():
    trainer, evaluator = make_trainer(), make_trainer()
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED | THEIR.COMPLETED, lambda: evaluator.run([1]))
    with reporting(trainer, name="trainer"), reporting(evaluator, name="evaluator"), record() as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert [(record.engine, record.parent) for record in trace.runs] == [("trainer", None), *[("evaluator", 0)] * 3]
    assert {event.depth for event in trace.select(engine="evaluator")} == {1}
    assert trace.select(event="epoch_completed", engine="trainer").indices != []


def test_an_evaluator_that_runs_when_its_trainer_fails():
    trainer, evaluator = make_trainer(lambda engine, batch: 1 / 0), make_trainer()

    @trainer.on(THEIR.EXCEPTION_RAISED)
    def evaluate(error):
        evaluator.run([1])
        raise error

    with record(trainer, evaluator) as trace:
        assert isinstance(run_out(trainer, [1]), ZeroDivisionError)
    assert [record.parent for record in trace.runs] == [None, 0, 0]


@pytest.mark.parametrize("outer", ["ignite", "camshaft"])
def test_an_engine_of_one_library_inside_one_of_the_other(outer):
    theirs, ours = make_trainer(), Engine(nothing, "ours")
    trainer, evaluator = (theirs, ours) if outer == "ignite" else (ours, theirs)
    events = THEIR if outer == "ignite" else camshaft.Events
    trainer.add_event_handler(events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(ours, theirs) as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert [record.parent for record in trace.runs] == [None, 0, 0]


def test_an_engine_that_is_not_asked_for_is_not_recorded():
    trainer, evaluator = make_trainer(), make_trainer()
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(trainer) as trace:
        trainer.run([1])
    trace.assert_legal()
    assert len(trace.runs) == 1


# -- pauses and failures


def test_an_interrupted_run():
    trainer = make_trainer()
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt())
    with record(trainer) as trace:
        trainer.run([1, 2, 3])
        assert trace[-1].event == "interrupt"
        assert trace.runs[0].outcome == "interrupted"
        trace.assert_legal()
        trainer.run([1, 2, 3])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed"]
    assert trace.count("iteration_completed") == 3


@pytest.mark.parametrize(
    "key", ["STARTED", "EPOCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "EPOCH_COMPLETED"]
)
def test_an_interrupted_run_that_goes_on_in_another_trace(key):
    trainer = make_trainer()
    trainer.add_event_handler(THEIR[key], lambda engine: engine.interrupt())
    with reporting(trainer):
        with record() as before:
            trainer.run([1, 2])
        with record() as after:
            while trainer._internal_run_generator is not None:
                trainer.run([1, 2])
    before.assert_legal()
    after.assert_legal()
    assert before[-1].event == "interrupt"
    assert (after[0].event, after[-1].event) != ("started", "interrupt")


def test_a_paused_run_that_is_given_up():
    trainer = make_trainer()
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    with record(trainer) as trace:
        trainer.run([1, 2])
        trainer._event_handlers.clear()
        trainer.state.max_epochs = None
        trainer.run([1, 2])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["interrupted", "completed"]


def test_arguments_that_are_refused_end_no_run():
    trainer = make_trainer()
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    with record(trainer) as trace:
        assert isinstance(run_out(trainer), ValueError)
        assert len(trace) == 0
        trainer.run([1, 2])
        assert isinstance(run_out(trainer, [1, 2], epoch_length=7), ValueError)
        trainer.run([1, 2])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed"]


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("key", ["STARTED", "ITERATION_STARTED", "EPOCH_COMPLETED", "COMPLETED"])
def test_a_failed_run(key, heard):
    trainer, errors = make_trainer(), []
    trainer.add_event_handler(THEIR[key], lambda: 1 / 0)
    if heard:
        trainer.add_event_handler(THEIR.EXCEPTION_RAISED, errors.append)
    with record(trainer) as trace:
        if heard:
            trainer.run([1])
        else:
            assert isinstance(run_out(trainer, [1]), ZeroDivisionError)
    assert [type(error) for error in errors] == [ZeroDivisionError] * heard
    assert trace.count("exception_raised") == 1
    if not (heard and key == "ITERATION_STARTED"):  # ignite goes on then
        trace.assert_legal()
        assert trace.runs[0].outcome == "failed"


def test_an_engine_inside_itself_is_one_failed_run():
    trainer = make_trainer(lambda engine, batch: engine.run([1]))
    with record(trainer) as trace:
        run_out(trainer, [1])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["failed"]


def test_an_engine_that_catches_that_it_runs_already_goes_on():
    trainer = make_trainer(lambda engine, batch: run_out(engine, [1]))
    with record(trainer) as trace:
        trainer.run([1])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed"]


# -- custom events


@pytest.mark.parametrize(
    ("fired", "message"),
    [
        (["x_completed"], "X_COMPLETED is illegal in EPOCH 1 / ITERATION 1: [in X] does not hold"),
        (["x_completed", "x_started"], "X_COMPLETED is illegal in EPOCH 1 / ITERATION 1: [in X] does not hold"),
        (["x_started", "x_started"], "X_STARTED is illegal in EPOCH 1 / ITERATION 1 / X: [not in X] does not hold"),
        (["x_started"], "ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / X: [not in X or Z] does not hold"),
        (["y", "z_started", "x_started", "x_completed"], "ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1"),
    ],
)
def test_custom_events_in_the_wrong_order(fired, message):
    trainer = make_trainer(fires(*fired), *CUSTOM)
    with record(trainer) as trace:
        trainer.run([1])
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    assert message in str(caught.value)


def test_custom_events_by_whatever_they_are_called():
    class Backward(ignite.engine.EventEnum):
        BACKWARD_STARTED = "backward_started"
        BACKWARD_COMPLETED = "backward_completed"

    trainer = make_trainer(fires("BACKWARD_STARTED", Backward.BACKWARD_COMPLETED, "note"), *Backward, "note")
    with record(trainer) as trace:
        trainer.run([1])
    trace.assert_legal()
    assert trace.select(inside="ITERATION") == ["backward_started", "backward_completed", "note"]


def test_an_event_of_its_own_is_fired_anywhere():
    trainer = make_trainer(nothing, "saved")
    anywhere = THEIR.STARTED | THEIR.EPOCH_STARTED | THEIR.ITERATION_COMPLETED | THEIR.EPOCH_COMPLETED
    trainer.add_event_handler(anywhere, lambda engine: engine.fire_event("saved"))
    with record(trainer) as trace:
        trainer.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert trace.count("saved") == 1 + 2 + 4 + 2


def test_an_event_that_is_registered_while_it_runs():
    trainer = make_trainer()

    @trainer.on(THEIR.EPOCH_COMPLETED)
    def save(engine):
        if not engine.has_registered_events("saved"):
            engine.register_events("saved")
        engine.fire_event("saved")

    with record(trainer) as trace:
        trainer.run([1], max_epochs=3)
    trace.assert_legal()
    assert trace.count("saved") == 3
    assert [event.depth for event in trace] == [0] * len(trace)


def test_an_event_that_is_registered_while_it_runs_inside_another():
    trainer, evaluator = make_trainer(), make_trainer()
    evaluator.add_event_handler(THEIR.STARTED, lambda engine: engine.register_events("late"))
    evaluator.add_event_handler(THEIR.COMPLETED, lambda engine: trainer.terminate())
    evaluator.add_event_handler(THEIR.EPOCH_STARTED, lambda engine: engine.fire_event("late"))
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(trainer, evaluator) as trace:
        trainer.run([1], max_epochs=3)
    trace.assert_legal()
    assert trace.count("late") == 1
    assert [run.parent for run in trace.runs] == [None, 0]


def test_an_event_fired_outside_of_a_run_is_part_of_none():
    trainer, heard = make_trainer(nothing, "by_hand"), []
    trainer.add_event_handler("by_hand", lambda: heard.append("by hand"))
    with record(trainer) as trace:
        trainer.fire_event("by_hand")
        trainer.run([1])
        trainer.fire_event("by_hand")
    trace.assert_legal()
    assert heard == ["by hand", "by hand"]
    assert trace.count("by_hand") == 0
    with record() as after:
        Engine(nothing).run([1])
    assert after.runs[0].parent is None


# -- a loop of the user's own

PHASES = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), Phase("BACKWARD"), Phase("OPTIM_STEP"), over=DATA))
BACKPROP = [f"{phase}_{role}" for phase in ("forward", "backward", "optim_step") for role in ("started", "completed")]


@pytest.mark.parametrize(
    ("fired", "message"),
    [
        (BACKPROP[2:], "trainer event #6 BACKWARD_STARTED is illegal in EPOCH 1 / ITERATION 1"),
        (
            [*BACKPROP[:2], *BACKPROP[4:], *BACKPROP[2:4]],
            "trainer event #8 OPTIM_STEP_STARTED is illegal in EPOCH 1 / ITERATION 1 / after FORWARD",
        ),
        (
            BACKPROP[:4],
            "trainer event #10 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / after BACKWARD",
        ),
        (["forward_completed"], "expected: FORWARD_STARTED"),
    ],
)
def test_a_declared_loop_judges_an_engine_of_ignite(fired, message):
    for keys in (BACKPROP, fired):
        trainer = make_trainer(fires(*keys), *BACKPROP)
        with reporting(trainer, loop=PHASES, name="trainer"), record() as trace:
            trainer.run([1, 2])
        if keys is BACKPROP:
            trace.assert_legal()
    assert message in verdict(trace)


def test_a_declared_order_judges_an_engine_of_ignite():
    events = ("x_started", "x_completed", "z_started", "z_completed")
    loop = register(Loop("EPOCH", Loop("ITERATION", Step(), over=DATA)), events, order="declared")
    for fired, is_legal in [(events, True), (events[2:], True), ((*events[2:], *events[:2]), False)]:
        trainer = make_trainer(fires(*fired), *events)
        with reporting(trainer, loop=loop), record() as trace:
            trainer.run([1, 2])
        assert (verdict(trace) == "legal") == is_legal


def test_an_event_that_the_declared_loop_does_not_have():
    trainer = make_trainer(fires("foward_started"), "foward_started")
    with reporting(trainer, loop=PHASES, name="trainer"), record() as trace:
        error = run_out(trainer, [1])
    hint = "trainer: its loop EPOCH has no event FOWARD_STARTED; did you mean FORWARD_STARTED"
    assert isinstance(error, ValueError)
    assert hint in str(error)
    trace.assert_legal()
    assert trace[-1].event == "exception_raised"


# -- what recording leaves alone


def watched(watch: Callable[[Any], Any]) -> list[Any]:
    """What handlers see of a run with a bit of everything, and what is left of it."""
    seen: list[Any] = []

    def note(what, engine, *args):
        state = engine.state
        seen.append((what, state.epoch, state.iteration, state.batch, state.output, engine.last_event_name, args))

    def step(engine, batch):
        engine.fire_event("by_hand")
        return batch * 2

    trainer = make_trainer(step, "by_hand")
    for key in [*THEIR, "by_hand"]:
        if key not in (THEIR.TERMINATE_SINGLE_EPOCH, THEIR.EXCEPTION_RAISED):
            trainer.add_event_handler(key, lambda engine, key=key: note((key, "first"), engine))
            trainer.add_event_handler(key, lambda engine, key=key: note((key, "second"), engine))
    trainer.add_event_handler(THEIR.TERMINATE_SINGLE_EPOCH, lambda engine, iter_counter: note(iter_counter, engine))
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate_epoch())
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=4), lambda engine: engine.interrupt())
    with watch(trainer):
        for _ in range(2):
            state = trainer.run([1, 2, 3], max_epochs=2, epoch_length=3)
            seen.append((state is trainer.state, state.epoch, state.iteration, state.output))
    return seen


def test_handlers_their_order_and_results_are_as_without():
    assert watched(record) == watched(reporting) == watched(lambda trainer: nullcontext())


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_engine_is_as_before(fails):
    trainer = make_trainer()
    attributes = dict(vars(trainer))
    with suppress(ZeroDivisionError), record(trainer):
        assert set(vars(trainer)) - set(attributes) == {"run", "_fire_event"}
        if fails:
            raise ZeroDivisionError
    assert vars(trainer) == attributes
    assert trainer.run.__func__ is ignite.engine.Engine.run
    with record() as trace:
        trainer.run([1])
    assert len(trace) == 0


def test_what_somebody_else_put_in_its_place_is_put_back():
    trainer, fired = make_trainer(), []
    fire = trainer._fire_event
    trainer._fire_event = lambda event, *args, **kwargs: (fired.append(event), fire(event, *args, **kwargs))
    theirs = trainer._fire_event
    with record(trainer) as trace:
        trainer.run([1])
    assert trainer._fire_event is theirs
    assert trace == fired


def test_two_traces_of_one_engine_at_once():
    trainer, evaluator = make_trainer(), make_trainer()
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(trainer) as outer, record(evaluator, trainer) as inner:
        trainer.run([1, 2])
    for trace in (outer, inner):
        trace.assert_legal()
    assert [len(trace.runs) for trace in (outer, inner)] == [1, 2]
    assert vars(trainer).keys().isdisjoint({"run", "_fire_event"})
    with record() as after:
        Engine(nothing).run([1])
    assert after.runs[0].parent is None


def test_the_recorder_hears_an_event_before_the_handlers():
    trainer, heard = make_trainer(fires("by_hand"), "by_hand"), []
    with record(trainer) as trace:
        for event in (THEIR.STARTED, THEIR.ITERATION_COMPLETED, THEIR.COMPLETED, "by_hand"):
            trainer.add_event_handler(event, lambda: heard.append(trace[-1].event))
        trainer.run([1, 2])
    assert heard == ["started", *["by_hand", "iteration_completed"] * 2, "completed"]


def test_call_sites_name_the_lines_of_the_user():
    def step(engine, batch):
        engine.fire_event("by_hand")

    trainer = make_trainer(step, "by_hand")
    with record(trainer, call_sites=True) as trace:
        trainer.run([1])
    sites = {event.event: event.site for event in trace}
    first = step.__code__.co_firstlineno
    assert sites.pop("by_hand") == f"{__file__.removeprefix(f'{os.getcwd()}/')}:{first + 1} in step"
    (site,) = set(sites.values())
    assert site.endswith(f":{first + 5} in test_call_sites_name_the_lines_of_the_user")


def test_without_call_sites_none_are_noted():
    trainer = make_trainer()
    with record(trainer) as trace:
        trainer.run([1])
    assert {event.site for event in trace} == {None}


# -- the real thing


def test_training_with_metrics_and_checkpoints(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    data = DataLoader(TensorDataset(torch.randn(10, 3), torch.randint(2, (10,))), batch_size=4)
    criterion = torch.nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), 0.1), criterion)
    evaluator = create_supervised_evaluator(model, {"loss": ignite.metrics.Loss(criterion)})
    saver = Checkpoint({"model": model}, DiskSaver(tmp_path, create_dir=False), n_saved=2)
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run(data))
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, saver)
    stopping = EarlyStopping(1, lambda engine: -engine.state.epoch - trainer.state.epoch, trainer)
    evaluator.add_event_handler(THEIR.COMPLETED, stopping)
    with reporting(trainer, name="trainer"), reporting(evaluator, name="evaluator"), record() as trace:
        trainer.run(data, max_epochs=5)
    trace.assert_legal()
    assert trainer.state.epoch == 2, "it stopped early"
    assert trace.count("saved_checkpoint") == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert trace.select(engine="trainer")[-2:] == ["terminate", "completed"]
    assert {event.depth for event in trace.select(engine="evaluator")} == {1}
