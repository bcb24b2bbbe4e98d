"""A Hypothesis state machine that uses an engine in any order and checks what :mod:`camshaft.testing.promises` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from camshaft.engine.engine import Engine
from camshaft.events import ENDS_A_RUN, event, event_key
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState, OpaqueStep, Path, Phase, every
from camshaft.testing.callables import FireEvents, no_op, return_batch
from camshaft.testing.faults import PlantedError, call_at
from camshaft.testing.promises import (
    AFTER_ALL_HANDLERS,
    EVENT_OF_CALL,
    PROMISES_WHILE_IDLE,
    PROMISES_WHILE_PAUSED,
    Promise,
    RecordingHandler,
    Turn,
    any_length_of_data,
    expect_refusal,
    is_due,
    promises_at,
)
from camshaft.trace.log import TraceEvent
from camshaft.trace.recording import record
from camshaft.trace.trace import Trace

__all__ = ["EngineStateMachine"]

X = CustomState("X", "x_started", "x_completed", "ITERATION")
LOOPS = (
    Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA)),
    Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", return_batch), Phase("OPTIM_STEP", no_op, every(2)), over=DATA)),
    Loop("EPOCH", Loop("ITERATION", OpaqueStep(FireEvents("x_started", "x_completed")), over=DATA), custom_states=(X,)),
    Loop("EPISODE", Phase("RESET", no_op), Loop("TIMESTEP", Phase("ACT", no_op), times=2)),
)
"""The loops of the engines that are tried unless a subclass makes its own engine."""

# -- arguments of the rules -------------------------------------------------------------------------------------------

When = tuple[str, int] | None
"""The moment of an action: (key, n) for the n-th firing of an event from now on, or None for now."""

_numbers = st.integers(1, 3)
_limits: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"max_epochs": st.integers(0, 4)}),
    st.fixed_dictionaries({"max_iters": st.integers(1, 8)}),
)
_events = st.runner().flatmap(lambda machine: st.sampled_from(machine.events))
_whens = st.one_of(st.none(), st.tuples(_events, _numbers))


@st.composite
def _plans(draw: st.DrawFn) -> tuple[str, str, int]:
    """Draw a call, the event at which a handler makes it, and the number of the firing.

    The call and its promised result are drawn first. Otherwise most draws would be calls that are refused.
    """
    machine = draw(st.runner())
    promises = {key: promises_at(machine.engine.loop, key) for key in machine.engine.loop.event_keys}
    call = draw(st.sampled_from([*EVENT_OF_CALL, "run", "close"]))
    result = draw(st.sampled_from(sorted({found[call] for found in promises.values() if call in found})))
    keys = [key for key, found in promises.items() if found.get(call) == result]
    return call, draw(st.sampled_from([key for key in keys if key in machine.events] or keys)), draw(st.integers(1, 2))


Subscription = tuple[str, dict[str, Any]]
"""The key of an event, and options of :func:`camshaft.event`."""


@st.composite
def _subscriptions(draw: st.DrawFn) -> Subscription:
    """Draw an event with a filter and a priority.

    Events of the first fetch have the count 0. The result of a filter for that count is not promised.
    """
    key, filters = draw(_events), _options()
    if key not in ENDS_A_RUN | {"started", "get_batch_started", "get_batch_completed"}:
        some = _options(every=_numbers, after=st.integers(0, 2), before=st.integers(4, 6))
        filters = st.one_of(filters, some, _options(once=_numbers))
    return key, draw(filters) | draw(_options(priority=st.sampled_from([-1, 1])))


def _options(**options: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options)


class EngineStateMachine(RuleBasedStateMachine):
    """A test that runs, steps, interrupts, terminates, fails and closes an engine in any order.

    After each rule it checks the order of events, the counters, the position and the calls of handlers. Without a
    subclass it tries small engines of camshaft. A subclass tries your engine:

    >>> class Mine(EngineStateMachine):
    ...     def make_engine(self):
    ...         return Engine([Phase("FORWARD", return_batch)])
    >>> TestMine = Mine.TestCase  # what pytest collects

    Rules of a subclass may read everything, and attach and remove handlers. To run, control or close the engine, they
    must call the rules of this class, for example ``self.run({"max_epochs": 2})``. These check the result.

    Attributes:
        engine: the engine.
        trace: the events of the current run, or of the last one.
        steps: the iterator of ``engine.steps()`` while a run is stepped, or None.
    """

    engine: Engine
    trace: Trace
    steps: Iterator[Any] | None = None
    handlers: Bundle[RecordingHandler] = Bundle("handlers")

    _limit: tuple[str, int] | None = None  # of the current run; None if the next run must start from the beginning
    _ended_early = False
    _equals_twin = False  # whether an undisturbed twin would have fired the same events so far
    _pending: str | None = None  # the call that takes effect next
    _fault: PlantedError | None = None
    _last_event: str | None = None  # the last event that the loop fired, custom events excluded
    _where: Path | None = None
    _turns = 0

    # -- methods that a subclass may replace -------------------------------------------------------------------------

    def make_engine(self) -> Engine:
        """Return a new engine. Every call within one test must build the same engine."""
        return Engine(self.loop, "trainer")

    def make_twin(self) -> Engine | None:
        """Return a new engine that must fire, in one undisturbed run, the same events as a run that was paused.

        Return None if no such engine exists: for example, if the handlers of the engine keep state between runs.
        """
        return self.make_engine()

    def make_data(self) -> Any:
        """Return data for a run. It must be possible to iterate it again. Not called for a loop without data."""
        return self.draw(_numbers.map(lambda n: [*range(n)]), "data")

    @cached_property
    def loop(self) -> Loop:
        """The loop of the engine, drawn once."""
        return self.draw(st.sampled_from(LOOPS), "loop")  # type: ignore[no-any-return]

    @cached_property
    def events(self) -> Sequence[str]:
        """The events that rules use. They are few in one test, so that several actions meet at one event."""
        keys = self.engine.loop.event_keys
        often = st.sampled_from([key for key in keys if key not in ENDS_A_RUN | {*EVENT_OF_CALL.values()}])
        some = st.lists(often | st.sampled_from(keys), min_size=1, max_size=3, unique=True)
        return self.draw(some, "events")  # type: ignore[no-any-return]

    def draw(self, strategy: st.SearchStrategy[Any], label: str) -> Any:
        """Draw a value from a strategy. The report of a failure shows it with this label."""
        return self._source.draw(strategy, label)

    # -- rules -------------------------------------------------------------------------------------------------------

    @initialize(source=st.data())
    def create(self, source: st.DataObject) -> None:
        """Make the engine, and start recording."""
        self._source = source
        self._attached: list[RecordingHandler] = []
        self._counts: dict[str, int] = {}
        self._recording = ExitStack()
        self.engine = self.make_engine()
        self._record_new_run()

    @property
    def is_idle(self) -> bool:
        """True if no run is under way."""
        return self.engine.current_run is None

    @precondition(lambda self: self.is_idle)
    @rule(limits=_limits)
    def run(self, limits: dict[str, int]) -> None:
        """Run the engine with these limits."""
        self._begin(limits, self._run)

    @precondition(lambda self: self.is_idle)
    @rule(limits=_limits)
    def run_in_steps(self, limits: dict[str, int]) -> None:
        """Start a run with ``engine.steps()``, and take the first step."""
        self._begin(limits, self._begin_steps)

    @precondition(lambda self: not self.is_idle)
    @rule()
    def step(self) -> None:
        """Take the next step of the current run."""
        self.steps = self.steps or self.engine.steps()
        length = len(self.trace)
        result = self._run_engine(partial(next, self.steps, None))
        if self._fault is None:
            keys = map(self.trace.key_of, range(length, len(self.trace)))
            fired = [key for key in keys if key not in self._custom_events]
            assert fired == [event_key(result)], f"a step returned {result!r}, but fired {fired}"
            if fired[0] not in ("interrupt", "completed"):
                return
            assert next(self.steps, None) is None, "steps() did not end with the run"
        self.steps = None

    @precondition(lambda self: self.steps is not None)
    @rule()
    def leave_steps(self) -> None:
        """Drop the iterator of the steps. This pauses the run."""
        self.steps = None

    @precondition(lambda self: not self.is_idle)
    @rule(same_data=st.booleans())
    def resume(self, same_data: bool = False) -> None:
        """Resume the current run after a pause, or between two steps."""
        self._run(self._data if same_data else None)
        self.steps = None

    @precondition(lambda self: not self.is_idle and self.engine.loop.data_loop is not None)
    @rule()
    def resume_with_other_data(self) -> None:
        """Check that the current run refuses other data."""
        with expect_refusal(ValueError, "other data"):
            self._run([0])
        self.steps = None

    @precondition(lambda self: self._limit is not None)
    @rule()
    def close(self) -> None:
        """Close the engine. The next run starts from the beginning."""
        self.check()
        self.engine.close()
        self.steps = self._limit = self._last_event = self._where = self._pending = None
        self._equals_twin = False

    @rule(call=st.runner().flatmap(lambda machine: st.sampled_from([*machine.promised])))
    def call(self, call: str) -> None:
        """Make a control call between two steps or two runs."""
        self.check()
        self._make_call(call, self.promised[call], len(self.trace) - 1, AFTER_ALL_HANDLERS)

    @property
    def promised(self) -> dict[str, Promise]:
        """The promised results of control calls between two steps or two runs."""
        if self.steps is None:
            return PROMISES_WHILE_IDLE if self.is_idle else PROMISES_WHILE_PAUSED
        promises = promises_at(self.engine.loop, str(self._last_event))
        return {call: promises[call] for call in ("interrupt", *PROMISES_WHILE_IDLE) if call in promises}

    @rule(plan=_plans())
    def plant(self, plan: tuple[str, str, int]) -> None:
        """Attach a handler that makes a call, or raises, at the n-th firing of an event from now on."""
        call, key, n = plan
        self._do_at((key, n), partial(self._make_call, call, promises_at(self.engine.loop, key)[call]))

    @rule(target=handlers, on=_subscriptions(), when=_whens)
    def add_handler(self, on: Subscription, when: When = None) -> RecordingHandler:
        """Attach a recording handler, now or inside a handler."""
        handler = RecordingHandler(event(on[0], **on[1]))
        self._do_at(when, lambda index, turn: self._attach(handler))
        return handler

    @rule(handler=consumes(handlers), when=_whens)
    def remove_handler(self, handler: RecordingHandler, when: When = None) -> None:
        """Remove a recording handler, now or inside a handler."""
        self._do_at(when, partial(self._detach, handler))

    # -- actions of the rules ----------------------------------------------------------------------------------------

    def _begin(self, limits: dict[str, Any], start: Callable[..., None]) -> None:
        """Start a run and check whether the engine must refuse it, continue, or start from the beginning."""
        self.check()  # a rule of a subclass may have run something else in the same step
        loop = self.engine.loop
        if self._limit is not None and loop.passes:
            self.close()  # for a loop with its own passes, nothing is promised about a second run without close()
        expected = self._expected_start(limits)
        data = self.make_data() if loop.data_loop is not None else None
        if expected == "refused":
            with expect_refusal(ValueError, f"run({limits})"):
                start(data, **limits)
            return
        self._record_new_run()
        self._data, self._ended_early, self._equals_twin = data, False, expected == "anew"
        if expected == "anew":
            self._limits, self._limit = limits, ("max_epochs", 1)
            self._counts = {item.name: 0 for _, item in loop.walk() if isinstance(item, Loop)}
            for handler in self._attached:
                handler.fired = 0
        self._limit = next(iter(limits.items()), self._limit)
        start(data, **limits)

    def _expected_start(self, limits: dict[str, int]) -> str:
        """Return what a run with these limits must do: start ``"anew"``, ``"continue"``, or be ``"refused"``."""
        loop = self.engine.loop
        unknown = {"max_epochs"} if loop.over is DATA else {"max_iters"} if loop.data_loop is None else set()
        if 0 in limits.values() or unknown & limits.keys():
            return "refused"
        if self._limit is None:
            return "anew"
        kind, limit = self._limit
        if limits and kind not in limits:
            return "refused" if self._ended_early else "anew"
        counted = loop if kind == "max_epochs" else loop.data_loop or loop
        requested, done = limits.get(kind, limit), self._counts[counted.name]
        return "refused" if requested < done else "continue" if requested > done else "anew"

    def _begin_steps(self, *data: Any, **limits: Any) -> None:
        with any_length_of_data():
            self.steps = self.engine.steps(*data, **limits)
        self.step()

    def _run(self, *data: Any, **limits: Any) -> None:
        self._run_engine(partial(self.engine.run, *data, **limits))

    def _run_engine(self, call: Callable[[], Any]) -> Any:
        """Call a method that runs the engine, and check that it raises exactly the planted fault, if any."""
        self._fault, result = None, None
        try:
            with any_length_of_data():
                result = call()
        except PlantedError as error:
            assert error is self._fault, f"the engine raised {error!r} instead of {self._fault!r}"
            place, *raised_in = error.__notes__[0].partition(", ")
            assert place == self._note, f"the notes of the error lack {self._note!r}: {error.__notes__}"
            assert "in handler" in raised_in[-1], f"the notes of the error name no handler: {error.__notes__}"
            return None
        assert self._fault is None, f"the engine did not raise {self._fault!r}"
        return result

    def _do_at(self, when: When, act: Callable[[int, Turn], None]) -> None:
        """Call ``act`` now or in a handler, with the index of the current event in the trace and the handler's turn."""
        if when is None:
            act(len(self.trace) - 1, AFTER_ALL_HANDLERS)
            return
        turn = self._next_turn(0)
        call_at(self.engine, when[0], lambda: act(self._index(when[0]), turn), when[1])

    def _make_call(self, call: str, promise: Promise, index: int, turn: Turn) -> None:
        """Make a call and note what must follow from it."""
        if promise == "refused":
            with expect_refusal(RuntimeError, call):
                getattr(self.engine, call)()
            return
        if promise == "done":
            # handlers of the engine's own may have made calls too; of all of them, the highest rank takes effect
            own = self.engine.current_run.control if self.engine.current_run is not None else None
            self._requested += [(index, own.call)] if own is not None else []
            self._requested.append((index, call))
            self._equals_twin = self._equals_twin and call == "interrupt"
        if call == "fault":
            self._faults[index] = turn
            self._fault, self._note = PlantedError("planted"), f"in {self.engine.name}: {self.engine.place}"
            raise self._fault
        getattr(self.engine, call)()

    def _attach(self, handler: RecordingHandler) -> None:
        if handler.until is None:  # it may be removed before the moment at which it would be attached
            handler.turn, handler.since = self._next_turn(handler.on.priority), len(self.trace)
            handler.handle = self.engine.add_event_handler(handler.on, partial(self._note_call, handler))
            self._attached.append(handler)

    def _detach(self, handler: RecordingHandler, index: int, turn: Turn) -> None:
        handler.until = index, turn
        if handler.handle is not None:
            handler.handle.remove()

    def _note_call(self, handler: RecordingHandler, *_: Any) -> None:
        self._calls_made.append(handler.called_at(self._index(handler.on.key)))

    def _index(self, key: str) -> int:
        """Return the index, in the trace, of the event that is being dispatched now."""
        return next(index for index in reversed(range(len(self.trace))) if self.trace.key_of(index) == key)

    def _next_turn(self, priority: int) -> Turn:
        """Return the turn of a handler that is attached now."""
        self._turns += 1
        return -priority, self._turns

    def _record_new_run(self) -> None:
        """Start a new trace for the next run."""
        self._recording.close()
        self.trace = self._recording.enter_context(record(self.engine))
        self._attached = [handler for handler in self._attached if handler.until is None]
        for handler in self._attached:
            handler.since = 0
        self._checked, self._pending = 0, None
        self._calls_made: list[str] = []
        self._requested: list[tuple[int, str]] = []
        self._faults: dict[int, Turn] = {}
        self._custom_events = {key for state in self.engine.loop.custom_states for key in state.events}

    # -- checks ------------------------------------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        """Check everything that must be true between two rules."""
        has_new = len(self.trace) > self._checked
        self._check_new_events()
        # after a step to TERMINATE the trace has no legal end yet: COMPLETED follows with the next step
        if has_new and (self.is_idle or self._last_event != "terminate"):
            self.trace.assert_legal()
        self._check_place()
        if self.is_idle and self._equals_twin:
            self._compare_twin()

    def _check_new_events(self) -> None:
        """Check, for each new event, the counters, the effects of calls, and the calls of recording handlers."""
        expected: list[str] = []
        for index in range(self._checked, len(self.trace)):
            fired = self.trace.event(index)
            if fired.event not in self._custom_events:
                self._keep_highest_rank(before=index)
                self._take_effect(fired)
            expected += self._expected_calls(index, fired)
        self._checked = len(self.trace)
        self._keep_highest_rank(before=self._checked)
        called, self._calls_made = self._calls_made, []
        assert called == expected, f"the handlers called were {called} instead of {expected}"
        assert self._pending is None or not self.is_idle, f"{self._pending} had no effect"

    def _keep_highest_rank(self, before: int) -> None:
        """Keep, of the calls made before an event, the one that takes effect."""
        while self._requested and self._requested[0][0] < before:
            call = self._requested.pop(0)[1]
            self._pending = max(self._pending or call, call, key=[*EVENT_OF_CALL].index)

    def _take_effect(self, fired: TraceEvent) -> None:
        """Update counters and position for an event of the loop, and check that the pending call causes it."""
        key, pending, data_loop = fired.event, self._pending, self.engine.loop.data_loop
        self._last_event = key
        if key == "exception_raised" or (
            key == "terminate" and (pending == "terminate" or self._expected_start({}) != "anew")
        ):
            self._ended_early = True
        if key != "interrupt":
            self._where = () if key == "started" else None
        for path, item in self.engine.loop.walk():
            if isinstance(item, (Loop, Phase)) and key in (item.started, item.completed):
                self._where = path
            if isinstance(item, Loop) and key in (item.started, item.completed):
                self._counts[item.name] += key == item.started
                assert fired.count == self._counts[item.name], (
                    f"{fired} has a wrong count: it is pass {self._counts[item.name]}"
                )
        if pending == "skip_iteration" and data_loop is not None and key == data_loop.started:
            return  # an iteration is entered before it is skipped
        assert pending is None or key == EVENT_OF_CALL[pending], f"{pending} was called, but {key} fired"
        self._pending = None

    def _expected_calls(self, index: int, fired: TraceEvent) -> Iterator[str]:
        """Yield the calls of recording handlers that an event must make, in order."""
        loops = [item for _, item in self.engine.loop.walk() if isinstance(item, Loop)]
        counts_passes = {"started", "iteration_skipped", "completed"}
        counts_passes |= {key for loop in loops for key in (loop.started, loop.completed)}
        attached = [handler for handler in self._attached if handler.on.key == fired.event and handler.since <= index]
        for handler in sorted(attached, key=lambda handler: handler.turn):
            if handler.until is not None and (index, handler.turn) > handler.until:
                continue
            handler.fired += 1
            count = fired.count if fired.event in counts_passes else handler.fired
            if handler.turn < self._faults.get(index, AFTER_ALL_HANDLERS) and is_due(handler.on.filter, count):
                yield handler.called_at(index)

    def _check_place(self) -> None:
        """Check that the counters and the position of the engine follow from its last event."""
        engine = self.engine
        counts = {name: getattr(engine.state, name.lower()) for name in self._counts}
        assert self._limit is None or counts == self._counts, f"the state counts {counts} instead of {self._counts}"
        assert engine.parent is None
        if self.is_idle:
            assert engine.where == (), f"the engine is idle in {engine.where}"
            assert self._last_event in (None, *ENDS_A_RUN), f"the engine is idle after {self._last_event}"
            return
        assert self._last_event not in ("completed", "exception_raised"), f"the run goes on after {self._last_event}"
        assert self._where in (None, engine.where), f"the engine is in {engine.where} instead of {self._where}"
        words = " / ".join(f"{name} {counts[name]}" if name in counts else name for name in engine.where)
        assert not words or engine.place == words, f"the engine is in {engine.place} instead of {words}"

    def _compare_twin(self) -> None:
        """Check that a run that was only paused fired the same events as a run of a twin without pauses."""
        self._equals_twin, twin = False, self.make_twin()
        if twin is None:
            return
        with record(twin) as expected:
            twin.run(self._data, **self._limits)
        ours, twins = ([str(one) for one in trace if one.event != "interrupt"] for trace in (self.trace, expected))
        assert ours == twins, f"a twin fires {twins} instead of {ours}"

    def teardown(self) -> None:
        """Close the engine, and stop recording."""
        if "engine" in self.__dict__:
            self.engine.close()
            self._recording.close()
