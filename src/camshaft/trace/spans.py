"""Spans: from which event to which a state was entered, read off a trace."""

from __future__ import annotations

import attrs

from camshaft.events import FACTS, OF_SKIPPING, Scope
from camshaft.loop.loop import Loop
from camshaft.loop.states import RUN, EventPoint, Path, Phase
from camshaft.trace.log import TraceLog

__all__ = ["Span", "inside", "span_events", "spans"]


@attrs.frozen
class Span:
    """A stay in a state. The event at an index of the trace is inside it if ``first <= index < past``.

    Attributes:
        run: the number of the run, in ``trace.runs``.
        state: its name.
        first: the index of the event that entered it.
        last: the index of the event that left it; None where it was cut short by a termination, a failure, a skip,
            or the end of the trace.
        past: the index just past the last event that fell in it, however it ended.
    """

    run: int
    state: str
    first: int
    last: int | None
    past: int


def spans(trace: TraceLog) -> list[Span]:
    """Every stay in every state of a trace, in the order in which they were entered.

    The states are the loops and phases of each engine, fetching a batch (GET_BATCH), and those custom states that are
    entered by one event and left by another. Takes time in proportion to the length of the trace.

    A loop or phase that is left takes along what was entered in it. A custom state ends with the loop that it was
    registered in, so it may overlap phases, other custom states, and passes of loops further in.
    """
    plans: dict[int, _StateRoles] = {}
    found: list[Span] = []
    runs = []
    for number, record in enumerate(trace.runs):
        if id(record.loop) not in plans:
            plans[id(record.loop)] = _StateRoles(record.loop)
        runs.append(_SpanTracker(number, plans[id(record.loop)], found))
    past = [0] * len(runs)
    for index, (run, key, _, _) in enumerate(trace.raw_events()):
        runs[run].on_event(index, key)
        past[run] = index + 1
    for run in reversed(range(len(runs))):  # a run comes after the one around it
        runs[run].close_inside((), past[run])
        parent = trace.runs[run].parent
        if parent is not None:
            past[parent] = max(past[parent], past[run])
    found.sort(key=lambda span: span.first)
    return found


def span_events(loop: Loop) -> dict[str, tuple[str, str]]:
    """The states of a loop that span events, each with the keys of the two that enter and leave it."""
    return {state.path[-1]: (state.started, state.completed) for state in _states(loop) if state.completed is not None}


@attrs.frozen(eq=False)
class _State:
    """A state by the events that enter and leave it.

    Attributes:
        path: the path to it; for a custom state, through the loop with which it ends.
        number: its place in the order in which the loop goes through them; 0 for a custom state.
        started, completed: the keys of the two events; ``completed`` is None where ``started`` does both.
        repeats: whether it can be entered again where it was left: a loop.
    """

    path: Path
    number: int
    started: str
    completed: str | None
    repeats: bool = False


def _states(loop: Loop) -> list[_State]:
    found = []
    paths: dict[str, Path] = {RUN: ()}
    data_loop = loop.data_loop
    for number, (path, item) in enumerate(loop.walk(), start=1):
        paths[item.name] = path
        if item is data_loop:
            found.append(_State((*path[:-1], "GET_BATCH"), number, "get_batch_started", "get_batch_completed", True))
        if isinstance(item, (Loop, Phase)):
            found.append(_State(path, number, item.started, item.completed, isinstance(item, Loop)))
        elif isinstance(item, EventPoint):
            found.append(_State(path, number, item.event, None))
    for custom in loop.custom_states:
        if custom.started is not None and custom.completed is not None:
            found.append(_State((*paths[custom.within], custom.name), 0, custom.started, custom.completed))
    return found


class _StateRoles:
    """What the events of a loop do to the states of a run."""

    def __init__(self, loop: Loop) -> None:
        self.roles: dict[str, list[tuple[_State, bool]]] = {}
        for state in _states(loop):
            self.roles.setdefault(state.started, []).append((state, True))
            if state.completed is not None:
                self.roles.setdefault(state.completed, []).append((state, False))
        data_loop = loop.data_loop
        self.data_loop = next((path for path, item in loop.walk() if item is data_loop), None)
        # for each event: the path whose open states it closes, and whether the event itself still belongs to those
        self.cuts: dict[str, tuple[Path, bool]] = {
            key: ((loop.name,) if facts.ends is Scope.OUTERMOST else (), facts.is_inside)
            for key, facts in FACTS.items()
            if facts.ends in (Scope.RUN, Scope.OUTERMOST)
        }


class _SpanTracker:
    """The states of one run that are entered and not left."""

    def __init__(self, run: int, plan: _StateRoles, found: list[Span]) -> None:
        self.run = run
        self.plan = plan
        self.found = found
        self.open: dict[Path, tuple[_State, int]] = {}
        self.passed = 0  # the state at which the loop stands

    def on_event(self, index: int, key: str) -> None:
        """Take the next event of the run."""
        roles = self.plan.roles.get(key)
        if roles is not None:
            state, enters = roles[0] if len(roles) == 1 else self._choose(roles)
            if enters:
                self._enter(state, index)
            else:
                self._leave(state, index)
        elif key in self.plan.cuts:
            path, falls_in = self.plan.cuts[key]
            self.close_inside(path, index + falls_in)
        elif key in OF_SKIPPING and self.plan.data_loop is not None:
            self.close_inside(self.plan.data_loop, index + 1)
            self._end(self.plan.data_loop, None, index + 1)

    def close_inside(self, path: Path, past: int) -> None:
        """Cut short all that is open inside of a path."""
        depth = len(path)
        for inner in [inner for inner in self.open if len(inner) > depth and inner[:depth] == path]:
            self._end(inner, None, past)

    def _enter(self, state: _State, index: int) -> None:
        if state.number:
            self.passed = state.number + (state.path[-1] != "GET_BATCH")
            beside = [
                path for path, (other, _) in self.open.items() if other.number and state.path[:-1][: len(path)] != path
            ]
            for path in beside:  # one is in a state or in the one beside it, never in both
                self.close_inside(path, index)
                self._end(path, None, index)
        self._end(state.path, None, index)
        if state.completed is not None:
            self.open[state.path] = (state, index)

    def _leave(self, state: _State, index: int) -> None:
        if state.number:
            self.passed = state.number + (not state.repeats)
            self.close_inside(state.path, index)
        self._end(state.path, index, index + 1)

    def _end(self, path: Path, last: int | None, past: int) -> None:
        if path in self.open:
            state, first = self.open.pop(path)
            self.found.append(Span(self.run, state.path[-1], first, last, past))

    def _choose(self, roles: list[tuple[_State, bool]]) -> tuple[_State, bool]:
        """What an event does that several states share: enter the next one in order, else leave the innermost."""
        tree = [path for path, (state, _) in self.open.items() if state.number and path[-1] != "GET_BATCH"]
        inmost = max(tree, key=len, default=())
        ahead = (role for role in roles if role[1] and role[0].path[:-1] == inmost and role[0].number >= self.passed)
        left = (role for role in roles if not role[1] and role[0].path == inmost)
        return next(ahead, None) or next(left, roles[0])


def inside(trace: TraceLog, state: str) -> bytearray:
    """For each event, whether it fell between entering and leaving a state.

    Raises:
        ValueError: no recorded engine has that state.
    """
    found = spans(trace)
    if not any(span.state == state for span in found):
        known = {span.state for span in found}
        raise ValueError(f"no engine entered a state {state!r}; entered were {', '.join(sorted(known)) or 'none'}")
    within = bytearray(len(trace))
    for span in found:
        if span.state == state:
            past = span.past if span.last is None else span.last
            within[span.first + 1 : past] = b"\x01" * (past - span.first - 1)
    return within
