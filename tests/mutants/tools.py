"""Tools: each judges what a mutant makes of a case, against what the loop makes of it as it is."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any

import attrs

from camshaft import Engine, EventOrderError, Loop, Trace, record
from camshaft.engine.observing import ObservedRun, observers
from camshaft.events import event
from camshaft.testing import PatternError, PlantedError, Play, assert_same_run
from camshaft.testing.golden import Golden
from mutants.cases import Case
from support.reference import Reference

__all__ = ["TOOLS", "TRACE_TOOLS", "EndlessError", "Seen", "catch", "catch_in_trace", "original", "see", "spend"]

Applied = Callable[[], AbstractContextManager[None]]
"""While it is open, the engines that are made and run are mutants."""

MOST = 1000
"""How many events and passes a run may have; those of the cases have at most a fifth of that."""


class EndlessError(BaseException):
    """A run went on and on."""


@attrs.define
class _Meter:
    """Stops runs that go on and on, and looks at the state at each event."""

    spent: int = 0
    play: Play | None = None
    moments: list[tuple[Any, ...]] = attrs.field(factory=list)

    def spend(self) -> None:
        """Take note of an event or a pass."""
        self.spent += 1
        if self.spent % MOST == 0:
            raise EndlessError

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]]:
        """Hear the events of a run."""
        names = [*_counters(run.engine.loop), "epoch_length", "resumed", "output", "batch"]
        return lambda key: partial(self._look, run.engine.name, key, names)

    def _look(self, name: str, key: str, names: list[str], engine: Any) -> None:
        """One event."""
        self.spend()
        state, play = engine.state, self.play
        moment = {each: getattr(state, each, None) for each in names}
        worked = len(play.function_calls) if play is not None else 0
        self.moments.append((name, key, moment, list(state.times), worked))

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Nothing is left to do."""


_meter: ContextVar[_Meter] = ContextVar("mutants_meter", default=_Meter())


def _counters(loop: Loop) -> list[str]:
    """The attributes of the state that loops set."""
    names = [item.name.lower() for _, item in loop.walk() if isinstance(item, Loop)]
    return names + [f"{name}_item" for name in names]


def spend() -> None:
    """What mutated source calls in each pass of a loop."""
    _meter.get().spend()


@contextmanager
def ended() -> Iterator[_Meter]:
    """What makes passes in here comes to an end."""
    token = _meter.set(_Meter())
    try:
        yield _meter.get()
    finally:
        _meter.reset(token)


@contextmanager
def metered() -> Iterator[_Meter]:
    """What fires events in here comes to an end as well, and the state is looked at with each of them."""
    with ended() as meter:
        token = observers.set((*observers.get(), meter))
        try:
            yield meter
        finally:
            observers.reset(token)


# -- plays ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Seen:
    """What was seen of a play.

    Attributes:
        trace: what was recorded.
        events: the events with engines, counts and nesting; and the runs with their outcomes.
        rest: all else, by name.
        is_endless: whether it had to be stopped.
    """

    trace: Trace
    events: Any
    rest: dict[str, Any]
    is_endless: bool = False


Make = Callable[[Loop, str], Any]


def _played(case: Case, make: Make) -> Play:
    """A play of a case, to its end, whatever leaves it."""
    scenario = case.scenario
    _meter.get().play = play = Play(scenario)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        play.engine = play.build(scenario, "trainer", make)
        try:
            play.engine.run(case.new_data(), **scenario.limits)
            for _ in range(scenario.resumes):
                if play.is_paused:
                    play.engine.run()
            for limits in case.again:
                play.engine.run(case.new_data(), **limits)
        except (Exception, KeyboardInterrupt, EndlessError) as error:
            play.error = error
    play.warned = [str(warning.message) for warning in caught]
    return play


def see(case: Case) -> Seen:
    """Play a case, every event heard."""
    with metered() as meter, record() as trace:
        play = _played(case, case.engine)
    events = [(one.engine, one.event, one.count, one.depth) for one in trace]
    runs = [(one.engine, one.parent, one.outcome, one.limits) for one in trace.runs]
    rest = {"state": meter.moments, **_rest(play)}
    return Seen(trace, (events, runs, trace.segments), rest, isinstance(play.error, EndlessError))


def see_unheard(case: Case) -> dict[str, Any]:
    """Play a case, nobody listening but those who belong to it."""
    with ended():
        return _rest(_played(case, case.engine))


def _rest(play: Play) -> dict[str, Any]:
    """All that can be seen of a run from outside, besides its events."""
    state, error = play.engine.state, play.error
    names = [*_counters(play.engine.loop), "max_epochs", "max_iters", "epoch_length", "output", "batch"]
    said = [type(error), str(error), type(error.__context__), getattr(error, "__notes__", [])] if error else []
    return {
        "errors": said,
        "warnings": play.warned,
        "handlers": play.handler_calls,
        "work": play.function_calls,
        "final state": {name: getattr(state, name, None) for name in names},
        "times": list(state.times),
        "pause": play.is_paused,
    }


@cache
def original(case: Case) -> Seen:
    """What the loop does as it is."""
    return see(case)


@cache
def _original_unheard(case: Case) -> dict[str, Any]:
    return see_unheard(case)


# -- tools that read traces -------------------------------------------------------------------------------------------


def illegal(trace: Trace) -> bool:
    """``assert_legal``."""
    try:
        trace.assert_legal()
    except EventOrderError:
        return True
    return False


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="camshaft-mutants-")


@cache
def _golden_path(case: Case) -> Path:
    path = Path(_folder().name) / f"{id(case)}.txt"
    Golden(path.parent, update=True, written={}).compare_or_write(path, original(case).trace)
    return path


def differs_from_golden(case: Case, trace: Trace) -> bool:
    """A golden trace."""
    path = _golden_path(case)
    try:
        Golden(path.parent, update=False, written={}).compare_or_write(path, trace)
    except AssertionError:
        return True
    return False


def mismatches(case: Case, trace: Trace) -> bool:
    """A pattern, where the case has one."""
    if case.pattern is None:
        return False
    try:
        trace.assert_matches(case.pattern)
    except (AssertionError, PatternError):
        return True
    return False


# -- tools that run engines -------------------------------------------------------------------------------------------


def is_stopped_by_strict(case: Case, applied: Applied) -> bool:
    """A strict engine."""
    refused: list[BaseException] = []

    def make(loop: Loop, name: str) -> Engine:
        engine = case.engine(loop, name)
        engine.strict = True
        engine.add_event_handler(event("exception_raised", priority=1000), lambda engine, error: refused.append(error))
        return engine

    with applied(), metered():
        play = _played(case, make)
    errors = [*refused, *([play.error] if play.error is not None else [])]
    return any(isinstance(error, EventOrderError) for error in _chained(errors))


def _chained(errors: list[BaseException]) -> Iterator[BaseException]:
    """Errors, and those that they came from."""
    seen: set[int] = set()
    while errors:
        error = errors.pop()
        if id(error) not in seen:
            seen.add(id(error))
            yield error
            errors += [one for one in (error.__cause__, error.__context__) if one is not None]


def is_another_run(case: Case, applied: Applied) -> bool:
    """``assert_same_run``, which runs once: what comes after a pause it does not see."""
    scenario = case.scenario
    if any(call.what == "raise" and not issubclass(call.value, Exception) for call in scenario.calls):
        return False

    def build() -> Engine:
        return Play(scenario).build(scenario, "trainer", case.engine)

    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stack.enter_context(metered())

        def mutant() -> Engine:
            stack.enter_context(applied())
            return build()

        try:
            assert_same_run(build, mutant, case.new_data, **scenario.limits)
        except (AssertionError, EndlessError):
            return True
    return False


def is_another_play(case: Case, applied: Applied, seen: Seen) -> bool:
    """The comparison of two plays: all that was seen; and again with nobody listening."""
    first = original(case)
    if (seen.events, seen.rest) != (first.events, first.rest):
        return True
    with applied():
        unheard = see_unheard(case)
    return unheard != _original_unheard(case)


def disagrees_with_reference(case: Case, applied: Applied) -> bool:
    """The walk through the machine."""
    if not case.is_plain:
        return False
    found: list[Any] = []

    def make(loop: Loop, name: str) -> Engine:
        engine = case.engine(loop, name)
        names = [item.name for _, item in loop.walk() if isinstance(item, Loop)]
        for key in loop.event_keys:

            def log(engine: Engine, *error: Any, key: str = key) -> None:
                found.append((name, key, tuple((name, getattr(engine.state, name.lower())) for name in names)))

            engine.add_event_handler(key, log)
        return engine

    with applied(), metered():
        play = _played(case, make)
    return (found, _as_compared(play)) != _expected(case)


@cache
def _expected(case: Case) -> Any:
    """What the reference does."""
    log: list[Any] = []
    play = _played(case, lambda loop, name: Reference(loop, name, log))
    return log, _as_compared(play)


def _as_compared(play: Play) -> Any:
    rest = _rest(play)
    error = play.error
    planted = (str(error), type(error.__context__)) if isinstance(error, PlantedError) else None
    return (
        type(error),
        planted,
        len(rest["warnings"]),
        *(rest[name] for name in ("handlers", "work", "final state", "pause")),
    )


# -- all of them ------------------------------------------------------------------------------------------------------

TRACE_TOOLS = ("assert_legal", "two plays", "golden", "pattern")
TOOLS = ("assert_legal", "strict", "same run", "two plays", "golden", "pattern", "reference")


def catch(tool: str, case: Case, applied: Applied, seen: Seen) -> bool:
    """Whether a tool finds a mutant out that was played."""
    return {
        "assert_legal": lambda: illegal(seen.trace),
        "strict": lambda: is_stopped_by_strict(case, applied),
        "same run": lambda: is_another_run(case, applied),
        "two plays": lambda: is_another_play(case, applied, seen),
        "golden": lambda: differs_from_golden(case, seen.trace),
        "pattern": lambda: mismatches(case, seen.trace),
        "reference": lambda: disagrees_with_reference(case, applied),
    }[tool]()


def catch_in_trace(tool: str, case: Case, trace: Trace) -> bool:
    """Whether a tool finds an edited trace out."""
    return {
        "assert_legal": lambda: illegal(trace),
        "two plays": lambda: trace != original(case).trace,
        "golden": lambda: differs_from_golden(case, trace),
        "pattern": lambda: mismatches(case, trace),
    }[tool]()
