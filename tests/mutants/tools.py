"""Tools: each compares the run of a case by a mutant with the run by the unchanged loop."""

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
from camshaft.engine.observing import ObservedRun, observing
from camshaft.events import event
from camshaft.testing import PatternError, PlantedError, Play, assert_same_run
from camshaft.testing.golden import Golden
from mutants.cases import Case
from support.reference import Reference

__all__ = ["TOOLS", "TRACE_TOOLS", "EndlessError", "Seen", "catch", "catch_in_trace", "original", "see", "spend"]

Applied = Callable[[], AbstractContextManager[None]]
"""Returns a context manager inside which engines are mutants."""

MOST = 1000
"""The maximum number of events and passes of a run. Runs of the unchanged cases have at most a fifth of it."""


class EndlessError(BaseException):
    """Raised to stop an endless run."""


@attrs.define(eq=False)
class _Meter:
    """An observer that stops endless runs, and records the state of the engine at each event."""

    spent: int = 0
    play: Play | None = None
    moments: list[tuple[Any, ...]] = attrs.field(factory=list)

    def spend(self) -> None:
        """Count an event or a pass."""
        self.spent += 1
        if self.spent % MOST == 0:
            raise EndlessError

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]]:
        """Return a function that makes the observer of an event."""
        names = [*_counters(run.engine.loop), "epoch_length", "resumed", "output", "batch"]
        return lambda key: partial(self._look, run.engine.name, key, names)

    def _look(self, name: str, key: str, names: list[str], engine: Any) -> None:
        """Record the state at an event."""
        self.spend()
        state, play = engine.state, self.play
        moment = {each: getattr(state, each, None) for each in names}
        worked = len(play.function_calls) if play is not None else 0
        self.moments.append((name, key, moment, list(state.times), worked))

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Do nothing."""


_meter: ContextVar[_Meter] = ContextVar("mutants_meter", default=_Meter())


def _counters(loop: Loop) -> list[str]:
    """Return the names of the state's attributes that loops set."""
    names = [item.name.lower() for _, item in loop.walk() if isinstance(item, Loop)]
    return names + [f"{name}_item" for name in names]


def spend() -> None:
    """Count a pass of a loop. Mutated source calls it."""
    _meter.get().spend()


@contextmanager
def ended() -> Iterator[_Meter]:
    """Stop loops in the block that make too many passes."""
    token = _meter.set(_Meter())
    try:
        yield _meter.get()
    finally:
        _meter.reset(token)


@contextmanager
def metered() -> Iterator[_Meter]:
    """Stop also runs in the block that fire too many events, and record the state at each event."""
    with ended() as meter, observing(meter):
        yield meter


# -- plays ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Seen:
    """The observations of one play.

    Attributes:
        trace: the recorded trace.
        events: the events with engines, counts and nesting, and the runs with their outcomes.
        rest: all other observations, by name.
        is_endless: True if the run had to be stopped.
    """

    trace: Trace
    events: Any
    rest: dict[str, Any]
    is_endless: bool = False


Make = Callable[[Loop, str], Any]


def _played(case: Case, make: Make) -> Play:
    """Play a case, and keep any exception as ``play.error``."""
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
    """Play a case with an observer at every event."""
    with metered() as meter, record() as trace:
        play = _played(case, case.engine)
    events = [(one.engine, one.event, one.count, one.depth) for one in trace]
    runs = [(one.engine, one.parent, one.outcome, one.limits) for one in trace.runs]
    rest = {"state": meter.moments, **_rest(play)}
    return Seen(trace, (events, runs, trace.segments), rest, isinstance(play.error, EndlessError))


def see_without_handlers(case: Case) -> dict[str, Any]:
    """Play a case with no handlers but its own, so that the loop skips most events."""
    with ended():
        return _rest(_played(case, case.engine))


def _rest(play: Play) -> dict[str, Any]:
    """Return everything that is visible of a run from outside, except its events."""
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
    """Return the observations of the unchanged loop."""
    return see(case)


@cache
def _original_without_handlers(case: Case) -> dict[str, Any]:
    return see_without_handlers(case)


# -- tools that read traces -------------------------------------------------------------------------------------------


def illegal(trace: Trace) -> bool:
    """Return whether ``assert_legal`` refuses a trace."""
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
    """Return whether a trace differs from the golden trace of the case."""
    path = _golden_path(case)
    try:
        Golden(path.parent, update=False, written={}).compare_or_write(path, trace)
    except AssertionError:
        return True
    return False


def mismatches(case: Case, trace: Trace) -> bool:
    """Return whether a trace does not match the pattern of the case. A case without a pattern matches."""
    if case.pattern is None:
        return False
    try:
        trace.assert_matches(case.pattern)
    except (AssertionError, PatternError):
        return True
    return False


# -- tools that run engines -------------------------------------------------------------------------------------------


def is_stopped_by_strict(case: Case, applied: Applied) -> bool:
    """Return whether a strict engine refuses an event of the mutant."""
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
    """Yield errors with their causes and contexts."""
    seen: set[int] = set()
    while errors:
        error = errors.pop()
        if id(error) not in seen:
            seen.add(id(error))
            yield error
            errors += [one for one in (error.__cause__, error.__context__) if one is not None]


def is_another_run(case: Case, applied: Applied) -> bool:
    """Return whether ``assert_same_run`` finds a difference. It does not resume runs that pause."""
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
    """Return whether two plays differ in any observation, with an observer at every event or without handlers."""
    first = original(case)
    if (seen.events, seen.rest) != (first.events, first.rest):
        return True
    with applied():
        found = see_without_handlers(case)
    return found != _original_without_handlers(case)


def disagrees_with_reference(case: Case, applied: Applied) -> bool:
    """Return whether the mutant differs from the walk through the machine."""
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
    """Return the observations of the walk through the machine."""
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
    """Return whether a tool catches a mutant in a case that was played."""
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
    """Return whether a tool catches an edited trace."""
    return {
        "assert_legal": lambda: illegal(trace),
        "two plays": lambda: trace != original(case).trace,
        "golden": lambda: differs_from_golden(case, trace),
        "pattern": lambda: mismatches(case, trace),
    }[tool]()
