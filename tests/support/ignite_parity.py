"""Programs that run on an engine of camshaft and on one of pytorch-ignite, and the observations of both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import attrs
import ignite.engine

from camshaft import Engine, record
from camshaft.events import attachments
from camshaft.exceptions import EventOrderError
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, RUN, CustomState, OpaqueStep
from camshaft.testing import Batches, Call, Data, FireEvents, PlantedError, Play, Scenario, reporting
from camshaft.trace.log import TraceEvent
from camshaft.trace.trace import Trace

CUSTOM_STATES = (
    CustomState("X", "x_started", "x_completed", "ITERATION"),
    CustomState("Z", "z_started", "z_completed", "ITERATION"),
    CustomState("Y", "y", None, RUN),
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


def make_ours(loop: Loop, name: str) -> Engine:
    engine = Engine(loop, name)
    if "y" in loop.event_keys:
        engine.register_events(*COUNTED_BY, event_to_attr=COUNTED_BY)
    return engine


class Endless(RuntimeError):
    """Raised to end an endless run."""


class Ignite:
    """An engine of pytorch-ignite with the methods that scenarios call. Its events are reported."""

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
    def current_run(self) -> Any:
        """The generator of a paused run, which the next ``run()`` continues; None if there is none."""
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
        """Run another engine at an event: from the beginning, or from its pause."""

        def run_nested(_: Any) -> None:
            inner.parent = self
            try:
                if inner.current_run is not None:
                    inner.run()
                    return
                inner.state.max_epochs = inner.state.max_iters = inner.state.epoch_length = None
                inner.engine._internal_run_generator = None
                inner.run(data, **limits)
            finally:
                inner.parent = None

        self.add_event_handler(on, run_nested)

    def close(self) -> None:
        """Discard a paused run. Otherwise it fires EXCEPTION_RAISED when it is garbage-collected."""
        if self.current_run is not None:
            self.engine._event_handlers.clear()
            self.current_run.close()

    def run(self, data: Any = None, **limits: int) -> Any:
        """Run or resume. ignite needs data to resume: the same before the first fetch, and any data after it."""
        if data is None and self.current_run is not None:
            data = self.state.dataloader if self.engine._dataloader_iter is None else Batches([])
        return self.engine.run(data, **limits)


@attrs.frozen
class Program:
    """A scenario, and the data and limits of further runs of the same engine."""

    scenario: Scenario
    again: tuple[tuple[Data | None, dict[str, int]], ...] = ()


def make_loop(fires: Any) -> Loop:
    """Return the standard loop, with a custom state for each pair of events that its step fires."""
    states = tuple(state for state in CUSTOM_STATES if set(state.events) & set(fires))
    return Loop("EPOCH", Loop("ITERATION", OpaqueStep(FireEvents(*fires)), over=DATA), custom_states=states)


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
    """A play that also records, for each step, the length of the trace when it ran."""

    steps: list[tuple[str, Trace, int]] = attrs.field(factory=list)

    def _log_function(self, name: str, *args: Any) -> Any:
        self.steps.append((name, self.trace, len(self.trace)))
        return super()._log_function(name, *args)


@attrs.frozen
class Ran:
    """The observations of one call of ``run()``, and of the calls that resumed it."""

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
        """The records of all runs in the trace, without their loops."""
        runs = [(run.engine, run.parent, run.place, run.context, run.outcome, run.limits) for run in self.trace.runs]
        return runs, self.trace.segments

    @property
    def outcome(self) -> Any:
        """The class of the raised error. A planted error also has its message, which says where it was planted."""
        if isinstance(self.error, (PlantedError, KeyboardInterrupt)):
            return type(self.error), str(self.error)
        return type(self.error)


class Side:
    """The run of a program on one kind of engine, with everything that is visible from outside."""

    def __init__(self, program: Program, make: Callable[[Loop, str], Any]) -> None:
        self._program = program
        self.engines: dict[str, Any] = {}
        self.runs: list[Ran] = []
        self.play = play = NotedPlay(program.scenario)
        try:
            with record() as play.trace:
                play.run(lambda loop, name: self.engines.setdefault(name, make(loop, name)))
        except Exception as error:  # not planned by the scenario: the other engine must raise it too
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
        """Return everything that must be equal on both engines."""
        return {
            "events": [run.fired for run in self.runs],
            "outcomes": [run.outcome for run in self.runs],
            "warnings": [run.warned for run in self.runs],
            "pauses": [run.is_paused for run in self.runs],
            "states": [run.states["trainer"] for run in self.runs],
            "handlers": self.play.handler_calls,
            "steps": self.play.function_calls,
            "records": [run.record for run in self.runs],
        }

    def after(self, key: str, n: int = 1) -> list[str]:
        """Return the keys of the events after the n-th one with this key, in all runs."""
        fired = [event.event for run in self.runs for event in run.events]
        places = [index for index, event in enumerate(fired) if event == key]
        return fired[places[n - 1] + 1 :]

    @property
    def batches(self) -> list[Any]:
        """The batches that the steps got."""
        return [batch for *_, batch in self.play.function_calls]

    @property
    def called_at(self) -> list[int]:
        """The iterations at which handlers were called."""
        return [iteration for *_, (_, iteration) in self.play.handler_calls]

    # -- observations for predicates ----------------------------------------------------------------------------------

    def scenarios(self) -> Iterator[tuple[str, Scenario]]:
        """Yield the name and the scenario of each engine."""
        yield from scenarios_in("trainer", self._program.scenario)

    def has(self, name: str, key: str) -> bool:
        """Return whether an engine fired an event."""
        return any((event.engine, event.event) == (name, key) for run in self.runs for event in run.events)

    @cached_property
    def made(self) -> list[Made]:
        """Every control call and fault that was made."""
        return [made for name, scenario in self.scenarios() for made in self._made(name, scenario)]

    def _made(self, name: str, scenario: Scenario) -> Iterator[Made]:
        ran = [(trace, index) for engine, trace, index in self.play.steps if engine == name]
        raised: set[tuple[int, int]] = set()  # handlers after one that raises are not called
        at_events = [call for call in scenario.calls if call.at != "STEP"]
        for call in [*at_events, *(call for call in reversed(scenario.calls) if call.at == "STEP")]:
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
        """Return the index of the last event of an engine up to an index, except custom events."""
        events = self.runs[number].events
        own = (place for place in range(index, -1, -1) if events[place].engine == name)
        return next(place for place in own if events[place].event not in CUSTOM)


@attrs.frozen
class Made:
    """A call that was made, with the run and the index of the event at or after which it was made."""

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
