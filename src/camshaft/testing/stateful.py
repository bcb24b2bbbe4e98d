"""A state machine of Hypothesis that lives the life of an engine in any order, and knows what must be true of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from camshaft.control import CALLS
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.events import ENDS_A_RUN, Filter, FilteredEvent, event, event_key
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState, OpaqueStep, Path, Phase, every
from camshaft.testing.faults import PlantedError, call_at
from camshaft.testing.scenario import FireEvents, no_op, return_batch
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
"""What the engine runs unless a test makes its own."""

# -- what is promised -------------------------------------------------------------------------------------------------

BRINGS = {made.call: key for key, made in reversed(CALLS.items())} | {"fault": "exception_raised"}
"""The event that each call brings. Of several at one time the last of these takes effect, the others are dropped."""

IDLE = {"terminate": "nothing", "terminate_epoch": "refused", "skip_iteration": "refused"}
PAUSED = {"terminate": "nothing"}


def _promises(loop: Loop, key: str) -> dict[str, str]:
    """What comes of calls at an event: one is ``"done"``, does ``"nothing"``, or is ``"refused"``; the rest is open."""
    data_loop = loop.data_loop
    found = {"run": "refused", "close": "refused"}
    if key != "exception_raised":
        can_skip = data_loop is not None and key in ("get_batch_completed", data_loop.started)
        found |= {"fault": "done", "skip_iteration": "done" if can_skip else "refused"}
    if key in ENDS_A_RUN:
        found["terminate"] = "nothing"
    elif key != "interrupt":
        found |= {"terminate": "done", "interrupt": "done"}
        if key == "started" or loop.over is DATA:
            found["terminate_epoch"] = "refused"
        elif key not in ("terminate_single_epoch", loop.completed):
            found["terminate_epoch"] = "done"
    return found


def _is_due(filter: Filter | None, count: int) -> bool:
    """Whether a filter lets a count through, worked out from its description alone."""
    if filter is None or filter.once is not None:
        return filter is None or count in (filter.once or ())
    first = filter.after + 1 if filter.after is not None else filter.every or 1
    on_beat = count >= first and (count - first) % (filter.every or 1) == 0
    return on_beat and (filter.before is None or count < filter.before)


@contextmanager
def _refused(error: type[Exception], what: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"{what} was not refused")


# -- what rules are given ---------------------------------------------------------------------------------------------

Turn = tuple[float, float]
"""Whose turn it is at a firing: by priority, then in the order of attachment."""

LAST: Turn = (math.inf, math.inf)
When = tuple[str, int] | None
"""At the n-th firing of an event from now on, or at once."""


@attrs.define(eq=False)
class _RecordingHandler:
    """A handler that notes its calls: attached before the event ``since`` of the trace, removed at a turn of one."""

    on: FilteredEvent
    turn: Turn = LAST
    since: int = 0
    until: tuple[int, Turn] | None = None
    fired: int = 0  # how often its event did, in this run, while it was attached
    handle: RemovableEventHandle | None = None

    def called_at(self, index: int) -> str:
        """A call of it, in words."""
        return f"#{index + 1} {self.on} (handler {self.turn[1]})"


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
    """A call, and when it is made: at one of the chosen events, if one of them promises the same."""
    machine = draw(st.runner())
    promises = {key: _promises(machine.engine.loop, key) for key in machine.engine.loop.event_keys}
    call = draw(st.sampled_from([*BRINGS, "run", "close"]))
    kind = draw(st.sampled_from(sorted({found[call] for found in promises.values() if call in found})))
    keys = [key for key, found in promises.items() if found.get(call) == kind]
    return call, draw(st.sampled_from([key for key in keys if key in machine.events] or keys)), draw(st.integers(1, 2))


On = tuple[str, dict[str, Any]]
"""An event, and the options of :func:`camshaft.event`."""


@st.composite
def _listening(draw: st.DrawFn) -> On:
    """What a handler listens to. What filters make of the count 0, which the first fetch has, is open."""
    key, filters = draw(_events), _options()
    if key not in ENDS_A_RUN | {"started", "get_batch_started", "get_batch_completed"}:
        some = _options(every=_numbers, after=st.integers(0, 2), before=st.integers(4, 6))
        filters = st.one_of(filters, some, _options(once=_numbers))
    return key, draw(filters) | draw(_options(priority=st.sampled_from([-1, 1])))


def _options(**options: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options)


class EngineStateMachine(RuleBasedStateMachine):
    """Runs, steps, interrupts, ends, breaks and closes an engine in any order, and checks what must be true of it.

    As it is, it tries small engines of camshaft's own; a subclass tries yours:

    >>> class Mine(EngineStateMachine):
    ...     def make_engine(self):
    ...         return Engine([Phase("FORWARD", return_batch)])
    >>> TestMine = Mine.TestCase  # what pytest collects

    Rules of a subclass may look at everything, and attach and remove handlers. To run, steer or close the engine they
    call the rules of this class, as in ``self.run({"max_epochs": 2})``: these know what must come of it.

    Attributes:
        engine: the engine.
        trace: what its present run has fired, or its last one.
        steps: the iterator over the steps of a run that is stepped, or None.
    """

    engine: Engine
    trace: Trace
    steps: Iterator[Any] | None = None
    handlers: Bundle[_RecordingHandler] = Bundle("handlers")

    _limit: tuple[str, int] | None = None  # of the run; None where the next one must start anew
    _ended_early = False
    _is_plain = False  # whether a twin would have fired the same so far
    _pending: str | None = None  # the call that takes effect next
    _fault: PlantedError | None = None
    _last: str | None = None  # the last event that the engine fired itself
    _stands: Path | None = None
    _turns = 0

    # -- what a subclass may replace ---------------------------------------------------------------------------------

    def make_engine(self) -> Engine:
        """A new engine; for the same test the same one, however often it is asked for."""
        return Engine(self.loop, "trainer")

    def make_twin(self) -> Engine | None:
        """A new engine that is to fire, undisturbed, what a paused run has fired.

        None where there is no such engine: one that remembers more of its earlier runs than a new one can know.
        """
        return self.make_engine()

    def make_data(self) -> Any:
        """Batches for a run, which can be read again. Not asked for where the loop takes no data."""
        return self.draw(_numbers.map(lambda n: [*range(n)]), "data")

    @cached_property
    def loop(self) -> Loop:
        """The loop of the engine, drawn once."""
        return self.draw(st.sampled_from(LOOPS), "loop")  # type: ignore[no-any-return]

    @cached_property
    def events(self) -> Sequence[str]:
        """The events at which rules attach handlers and act: few in one test, so that what happens there meets."""
        keys = self.engine.loop.event_keys
        often = st.sampled_from([key for key in keys if key not in ENDS_A_RUN | {*BRINGS.values()}])
        some = st.lists(often | st.sampled_from(keys), min_size=1, max_size=3, unique=True)
        return self.draw(some, "events")  # type: ignore[no-any-return]

    def draw(self, strategy: st.SearchStrategy[Any], label: str) -> Any:
        """Draw from a strategy. A failure shows what was drawn, under this label."""
        return self._source.draw(strategy, label)

    # -- rules -------------------------------------------------------------------------------------------------------

    @initialize(source=st.data())
    def create(self, source: st.DataObject) -> None:
        """Make the engine."""
        self._source = source
        self._ears: list[_RecordingHandler] = []
        self._counts: dict[str, int] = {}
        self._recording = ExitStack()
        self.engine = self.make_engine()
        self._listen_anew()

    @property
    def is_idle(self) -> bool:
        """Whether no run is under way."""
        return self.engine.current_run is None

    @precondition(lambda self: self.is_idle)
    @rule(limits=_limits)
    def run(self, limits: dict[str, int]) -> None:
        """Run the engine."""
        self._begin(limits, self._run)

    @precondition(lambda self: self.is_idle)
    @rule(limits=_limits)
    def run_in_steps(self, limits: dict[str, int]) -> None:
        """Begin a run in steps, and take the first."""
        self._begin(limits, self._begin_steps)

    @precondition(lambda self: not self.is_idle)
    @rule()
    def step(self) -> None:
        """Take the next step of a run that is under way."""
        self.steps = self.steps or self.engine.steps()
        seen = len(self.trace)
        given = self._drive(partial(next, self.steps, None))
        if self._fault is None:
            fired = [key for key in map(self.trace.key_of, range(seen, len(self.trace))) if key not in self._free]
            assert fired == [event_key(given)], f"a step gave {given!r}, and fired {fired}"
            if fired[0] not in ("interrupt", "completed"):
                return
            assert next(self.steps, None) is None, "stepping did not end with the run"
        self.steps = None

    @precondition(lambda self: self.steps is not None)
    @rule()
    def leave_steps(self) -> None:
        """Let go of the steps: the run pauses."""
        self.steps = None

    @precondition(lambda self: not self.is_idle)
    @rule(same_data=st.booleans())
    def go_on(self, same_data: bool = False) -> None:
        """Run on from where the run was paused, or left between two steps."""
        self._run(self._data if same_data else None)
        self.steps = None

    @precondition(lambda self: not self.is_idle and self.engine.loop.data_loop is not None)
    @rule()
    def go_on_with_other_data(self) -> None:
        """A run that is under way refuses other data."""
        with _refused(ValueError, "other data"):
            self._run([0])
        self.steps = None

    @precondition(lambda self: self._limit is not None)
    @rule()
    def close(self) -> None:
        """Drop the run: the next one starts anew."""
        self.check()
        self.engine.close()
        self.steps = self._limit = self._last = self._stands = self._pending = None
        self._is_plain = False

    @rule(call=st.runner().flatmap(lambda machine: st.sampled_from([*machine.promised])))
    def call(self, call: str) -> None:
        """Make a control call between two steps or two runs."""
        self.check()
        self._act(call, self.promised[call], len(self.trace) - 1, LAST)

    @property
    def promised(self) -> dict[str, str]:
        """The control calls of which it is promised what comes of them now."""
        if self.steps is None:
            return IDLE if self.is_idle else PAUSED
        promises = _promises(self.engine.loop, str(self._last))
        return {call: promises[call] for call in ("interrupt", *IDLE) if call in promises}

    @rule(plan=_plans())
    def plant(self, plan: tuple[str, str, int]) -> None:
        """Have a handler make a call, or raise, at the n-th firing of an event from now on."""
        call, key, n = plan
        self._at((key, n), partial(self._act, call, _promises(self.engine.loop, key)[call]))

    @rule(target=handlers, on=_listening(), when=_whens)
    def add_handler(self, on: On, when: When = None) -> _RecordingHandler:
        """Attach a handler."""
        ear = _RecordingHandler(event(on[0], **on[1]))
        self._at(when, lambda index, turn: self._attach(ear))
        return ear

    @rule(handler=consumes(handlers), when=_whens)
    def remove_handler(self, handler: _RecordingHandler, when: When = None) -> None:
        """Remove a handler."""
        self._at(when, partial(self._detach, handler))

    # -- what the rules are made of ----------------------------------------------------------------------------------

    def _begin(self, limits: dict[str, Any], drive: Callable[..., None]) -> None:
        self.check()  # a rule of a subclass may have gone before, within the same step
        loop = self.engine.loop
        if self._limit is not None and loop.passes:
            self.close()  # what comes after the end of a loop that has passes of its own is open
        outlook = self._outlook(limits)
        data = self.make_data() if loop.data_loop is not None else None
        if outlook == "refused":
            with _refused(ValueError, f"run({limits})"):
                drive(data, **limits)
            return
        self._listen_anew()
        self._data, self._ended_early, self._is_plain = data, False, outlook == "anew"
        if outlook == "anew":
            self._limits, self._limit = limits, ("max_epochs", 1)
            self._counts = {item.name: 0 for _, item in loop.walk() if isinstance(item, Loop)}
            for ear in self._ears:
                ear.fired = 0
        self._limit = next(iter(limits.items()), self._limit)
        drive(data, **limits)

    def _outlook(self, limits: dict[str, int]) -> str:
        """Whether a run with these limits starts ``"anew"``, ``"goes on"`` with the next epoch, or is ``"refused"``."""
        loop = self.engine.loop
        unknown = {"max_epochs"} if loop.over is DATA else {"max_iters"} if loop.data_loop is None else set()
        if 0 in limits.values() or unknown & limits.keys():
            return "refused"
        if self._limit is None:
            return "anew"
        kind, limit = self._limit
        if limits and kind not in limits:
            return "refused" if self._ended_early else "anew"
        counting = loop if kind == "max_epochs" else loop.data_loop or loop
        asked, done = limits.get(kind, limit), self._counts[counting.name]
        return "refused" if asked < done else "goes on" if asked > done else "anew"

    def _begin_steps(self, *data: Any, **limits: Any) -> None:
        self.steps = self.engine.steps(*data, **limits)
        self.step()

    def _run(self, *data: Any, **limits: Any) -> None:
        self._drive(partial(self.engine.run, *data, **limits))

    def _drive(self, call: Callable[[], Any]) -> Any:
        """Let the engine run: a fault that was reached leaves it, and nothing else."""
        self._fault, given = None, None
        try:
            given = call()
        except PlantedError as error:
            assert error is self._fault, f"{error!r} left, and not {self._fault!r}"
            assert self._note in error.__notes__, f"{error.__notes__} lacks {self._note!r}"
            return None
        assert self._fault is None, f"{self._fault!r} did not leave"
        return given

    def _at(self, when: When, act: Callable[[int, Turn], None]) -> None:
        """Act at once or in a handler. What acts is told which event of the trace that is, and whose turn."""
        if when is None:
            act(len(self.trace) - 1, LAST)
            return
        turn = self._next_turn(0)
        call_at(self.engine, when[0], lambda: act(self._index(when[0]), turn), when[1])

    def _act(self, call: str, promise: str, index: int, turn: Turn) -> None:
        if promise == "refused":
            with _refused(RuntimeError, call):
                getattr(self.engine, call)()
            return
        if promise == "done":
            self._asked.append((index, call))
            self._is_plain = self._is_plain and call == "interrupt"
        if call == "fault":
            self._cuts[index] = turn
            self._fault, self._note = PlantedError("planted"), f"in {self.engine.name}: {self.engine.place}"
            raise self._fault
        getattr(self.engine, call)()

    def _attach(self, ear: _RecordingHandler) -> None:
        if ear.until is None:
            ear.turn, ear.since = self._next_turn(ear.on.priority), len(self.trace)
            ear.handle = self.engine.add_event_handler(ear.on, partial(self._hear, ear))
            self._ears.append(ear)

    def _detach(self, ear: _RecordingHandler, index: int, turn: Turn) -> None:
        ear.until = index, turn
        if ear.handle is not None:
            ear.handle.remove()

    def _hear(self, ear: _RecordingHandler, *_: Any) -> None:
        self._heard.append(ear.called_at(self._index(ear.on.key)))

    def _index(self, key: str) -> int:
        """Which event of the trace fires right now."""
        return next(index for index in reversed(range(len(self.trace))) if self.trace.key_of(index) == key)

    def _next_turn(self, priority: int) -> Turn:
        self._turns += 1
        return -priority, self._turns

    def _listen_anew(self) -> None:
        """Record the run that begins in a trace of its own."""
        self._recording.close()
        self.trace = self._recording.enter_context(record(self.engine))
        self._ears = [ear for ear in self._ears if ear.until is None]
        for ear in self._ears:
            ear.since = 0
        self._followed, self._pending = 0, None
        self._heard: list[str] = []
        self._asked: list[tuple[int, str]] = []
        self._cuts: dict[int, Turn] = {}
        self._free = {key for state in self.engine.loop.custom_states for key in state.events}

    # -- what must be true -------------------------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        """All that must be true between two rules."""
        has_new = len(self.trace) > self._followed
        self._follow()
        if has_new and (self.is_idle or self._last != "terminate"):  # COMPLETED follows, in the next step
            self.trace.assert_legal()
        self._check_place()
        if self.is_idle and self._is_plain:
            self._compare_twin()

    def _follow(self) -> None:
        """Account for each new event: what counts, what a call brought, and who heard it."""
        expected: list[str] = []
        for index in range(self._followed, len(self.trace)):
            fired = self.trace.event(index)
            if fired.event not in self._free:
                self._choose(before=index)
                self._take_effect(fired)
            expected += self._calls(index, fired)
        self._followed = len(self.trace)
        self._choose(before=self._followed)
        heard, self._heard = self._heard, []
        assert heard == expected, f"called were {heard}, and not {expected}"
        assert self._pending is None or not self.is_idle, f"{self._pending} had no effect"

    def _choose(self, before: int) -> None:
        """Of the calls made before an event, keep the one that takes effect."""
        while self._asked and self._asked[0][0] < before:
            asked = self._asked.pop(0)[1]
            self._pending = max(self._pending or asked, asked, key=[*BRINGS].index)

    def _take_effect(self, fired: TraceEvent) -> None:
        key, pending, data_loop = fired.event, self._pending, self.engine.loop.data_loop
        self._last = key
        if key == "exception_raised" or (
            key == "terminate" and (pending == "terminate" or self._outlook({}) != "anew")
        ):
            self._ended_early = True
        if key != "interrupt":
            self._stands = () if key == "started" else None
        for path, item in self.engine.loop.walk():
            if isinstance(item, (Loop, Phase)) and key in (item.started, item.completed):
                self._stands = path
            if isinstance(item, Loop) and key in (item.started, item.completed):
                self._counts[item.name] += key == item.started
                assert fired.count == self._counts[item.name], f"{fired} is pass {self._counts[item.name]}"
        if pending == "skip_iteration" and data_loop is not None and key == data_loop.started:
            return  # an iteration is entered before it is skipped
        assert pending is None or key == BRINGS[pending], f"{pending} was asked for, and {key} fired"
        self._pending = None

    def _calls(self, index: int, fired: TraceEvent) -> Iterator[str]:
        """The calls of handlers that an event makes, in their order."""
        loops = [item for _, item in self.engine.loop.walk() if isinstance(item, Loop)]
        counts_passes = {"iteration_skipped", *(key for loop in loops for key in (loop.started, loop.completed))}
        hearing = [ear for ear in self._ears if ear.on.key == fired.event and ear.since <= index]
        for ear in sorted(hearing, key=lambda ear: ear.turn):
            if ear.until is not None and (index, ear.turn) > ear.until:
                continue
            ear.fired += 1
            count = fired.count if fired.event in counts_passes else ear.fired
            if ear.turn < self._cuts.get(index, LAST) and _is_due(ear.on.filter, count):
                yield ear.called_at(index)

    def _check_place(self) -> None:
        """It is idle or under way, and stands where its last event left it."""
        engine = self.engine
        counts = {name: getattr(engine.state, name.lower()) for name in self._counts}
        assert self._limit is None or counts == self._counts, f"the state counts {counts}, and not {self._counts}"
        assert engine.parent is None
        if self.is_idle:
            assert engine.where == (), f"idle in {engine.where}"
            assert self._last in (None, *ENDS_A_RUN), f"idle after {self._last}"
            return
        assert self._last not in ("completed", "exception_raised"), f"under way after {self._last}"
        assert self._stands in (None, engine.where), f"stands in {engine.where}, and not in {self._stands}"
        words = " / ".join(f"{name} {counts[name]}" if name in counts else name for name in engine.where)
        assert not words or engine.place == words, f"stands in {engine.place}, and not in {words}"

    def _compare_twin(self) -> None:
        """A run that was at most paused fires what one does that was not."""
        self._is_plain, twin = False, self.make_twin()
        if twin is None:
            return
        with record(twin) as expected:
            twin.run(self._data, **self._limits)
        fired, wanted = ([str(one) for one in trace if one.event != "interrupt"] for trace in (self.trace, expected))
        assert fired == wanted, f"a twin fires {wanted}, and not {fired}"

    def teardown(self) -> None:
        """Close what is open."""
        if "engine" in self.__dict__:
            self.engine.close()
            self._recording.close()
