"""Spans: the stays of a run in its states, derived from the events of a trace."""

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
        state: the name of the state.
        first: the index of the entering event.
        last: the index of the leaving event; None if the stay was cut short by a termination, a failure, a skip,
            or the end of the trace.
        past: the index after the last event inside it, however it ended.
    """

    run: int
    state: str
    first: int
    last: int | None
    past: int


def spans(trace: TraceLog) -> list[Span]:
    """Return every stay in every state of a trace, in the order of their entering events.

    The states are the loops and phases of each engine, fetching a batch (GET_BATCH), and custom states with one event
    for entering and another for leaving. The time is proportional to the length of the trace.

    Leaving a loop or phase also ends all states entered inside it. A custom state ends with its loop, given by
    ``within=`` at its registration, so it may overlap phases, other custom states, and passes of inner loops.
    """
    roles: dict[int, _StateRoles] = {}  # by loop: all runs of an evaluator share theirs
    found: list[Span] = []
    trackers = []
    for number, record in enumerate(trace.runs):
        if id(record.loop) not in roles:
            roles[id(record.loop)] = _StateRoles(record.loop)
        trackers.append(_SpanTracker(number, roles[id(record.loop)], found))
    past = [0] * len(trackers)
    for index, (run, key, _, _) in enumerate(trace.raw_events()):
        trackers[run].on_event(index, key)
        past[run] = index + 1
    # A run has a higher number than the run around it. Going backwards, each run passes the end of its events on to
    # its parent, because the events of nested runs lie inside the parent's open states too.
    for run in reversed(range(len(trackers))):
        trackers[run].close_inside((), past[run])
        parent = trace.runs[run].parent
        if parent is not None:
            past[parent] = max(past[parent], past[run])
    found.sort(key=lambda span: span.first)
    return found


def span_events(loop: Loop) -> dict[str, tuple[str, str]]:
    """Return the states of a loop that have spans, each with the keys of its entering and leaving events."""
    return {state.path[-1]: (state.started, state.completed) for state in _states(loop) if state.completed is not None}


@attrs.frozen(eq=False)
class _State:
    """A state, defined by its entering and leaving events.

    Attributes:
        path: the path to it; for a custom state, through its surrounding loop.
        number: its position in the order of the loop, from 1; 0 for a custom state, because it may come at any
            position.
        started, completed: the keys of the two events; ``completed`` is None if ``started`` enters and leaves it.
        repeats: True for a loop, because it can be entered again after it was left.
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
    """The effect of each event of a loop on the states of a run.

    Attributes:
        roles: for each event, the states entered (True) or left (False) by it. Several states may share an event.
        data_loop: the path to the data loop; None if there is none.
        cuts: for each event that ends the run or the outermost pass, a path and a flag. The event closes all open
        states inside
            the path. The flag tells whether the event itself still lies inside them.
    """

    def __init__(self, loop: Loop) -> None:
        self.roles: dict[str, list[tuple[_State, bool]]] = {}
        for state in _states(loop):
            self.roles.setdefault(state.started, []).append((state, True))
            if state.completed is not None:
                self.roles.setdefault(state.completed, []).append((state, False))
        data_loop = loop.data_loop
        self.data_loop = next((path for path, item in loop.walk() if item is data_loop), None)
        self.cuts: dict[str, tuple[Path, bool]] = {
            key: ((loop.name,) if facts.ends is Scope.OUTERMOST else (), facts.is_inside)
            for key, facts in FACTS.items()
            if facts.ends in (Scope.RUN, Scope.OUTERMOST)
        }


class _SpanTracker:
    """The open states of one run: entered and not yet left."""

    def __init__(self, run: int, state_roles: _StateRoles, found: list[Span]) -> None:
        self.run = run
        self.state_roles = state_roles
        self.found = found
        self.open: dict[Path, tuple[_State, int]] = {}
        self.next_number = 0  # the lowest position of a state that the loop may enter next

    def on_event(self, index: int, key: str) -> None:
        """Take the next event of the run."""
        roles = self.state_roles.roles.get(key)
        if roles is not None:
            state, enters = roles[0] if len(roles) == 1 else self._role_here(roles)
            if enters:
                self._enter(state, index)
            else:
                self._leave(state, index)
        elif key in self.state_roles.cuts:
            path, is_inside = self.state_roles.cuts[key]
            self.close_inside(path, index + is_inside)
        elif key in OF_SKIPPING and self.state_roles.data_loop is not None:
            # A skipped iteration ends without its completed event, and everything inside it ends as well.
            self.close_inside(self.state_roles.data_loop, index + 1)
            self._end(self.state_roles.data_loop, None, index + 1)

    def close_inside(self, path: Path, past: int) -> None:
        """Cut short all open states inside a path."""
        depth = len(path)
        for inner in [inner for inner in self.open if len(inner) > depth and inner[:depth] == path]:
            self._end(inner, None, past)

    def _enter(self, state: _State, index: int) -> None:
        if state.number:
            # GET_BATCH has the same number as its loop and precedes it: the loop is still to be entered.
            self.next_number = state.number + (state.path[-1] != "GET_BATCH")
            # A run is in one of several sibling states at a time. If another one is still open, its leaving event is
            # missing.
            siblings = [
                path for path, (other, _) in self.open.items() if other.number and state.path[:-1][: len(path)] != path
            ]
            for path in siblings:
                self.close_inside(path, index)
                self._end(path, None, index)
        self._end(state.path, None, index)
        if state.completed is not None:
            self.open[state.path] = (state, index)

    def _leave(self, state: _State, index: int) -> None:
        if state.number:
            self.next_number = state.number + (not state.repeats)
            self.close_inside(state.path, index)
        self._end(state.path, index, index + 1)

    def _end(self, path: Path, last: int | None, past: int) -> None:
        if path in self.open:
            state, first = self.open.pop(path)
            self.found.append(Span(self.run, state.path[-1], first, last, past))

    def _role_here(self, roles: list[tuple[_State, bool]]) -> tuple[_State, bool]:
        """Return the role of a shared event: enter the next state in order, else leave the innermost.

        Entering is tried first: if an event leaves one state and enters the next, entering closes the former too.
        """
        tree = [path for path, (state, _) in self.open.items() if state.number and path[-1] != "GET_BATCH"]
        innermost = max(tree, key=len, default=())
        entering = (
            role for role in roles if role[1] and role[0].path[:-1] == innermost and role[0].number >= self.next_number
        )
        leaving = (role for role in roles if not role[1] and role[0].path == innermost)
        return next(entering, None) or next(leaving, roles[0])


def inside(trace: TraceLog, state: str) -> bytearray:
    """Return for each event of a trace whether it was fired between entering and leaving a state (1) or not (0).

    Raises:
        ValueError: no recorded engine entered the state.
    """
    found = spans(trace)
    if not any(span.state == state for span in found):
        entered = ", ".join(sorted({span.state for span in found})) or "none"
        raise ValueError(f"no recorded engine entered a state {state!r}; entered states: {entered}")
    is_inside = bytearray(len(trace))
    for span in found:
        if span.state == state:
            past = span.past if span.last is None else span.last
            is_inside[span.first + 1 : past] = b"\x01" * (past - span.first - 1)
    return is_inside
