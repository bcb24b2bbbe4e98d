"""Build the chart of a loop.

The chart, the machine and the generated source are derived from a loop by separate code, so comparing them is a real
test. The chart takes only the conditions and their texts from the machine. It looks up the transitions of a fetch to
find them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from camshaft.draw.chart import Box, Chart, Edge, Element, Node, Rows
from camshaft.draw.nested_engines import add_declared_engines
from camshaft.draw.simplify import simplify
from camshaft.events import ANYWHERE, OF_THE_RUN
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, RUN, CustomState, EventPoint, OpaqueStep, Path, Phase
from camshaft.loop.text import condition
from camshaft.machine.context import Guard
from camshaft.machine.declared_transitions import DeclaredTransitions, when
from camshaft.machine.transition import COMPLETED, FAILED, READY, TERMINATED, place_of

__all__ = ["LEVELS", "chart_from_loop"]

LEVELS = ("overview", "full")

MANY = 12
"""Longest loop body, in states, that the overview shows in full."""

DEEP = 5
"""Deepest nesting of loops that the overview shows."""


def chart_from_loop(loop: Loop, name: str | None = None, level: str = "overview", control: bool = False) -> Chart:
    """Return the chart of a loop.

    Args:
        loop: the loop to show.
        name: the title of the frame; by default the name of the loop in lower case.
        level: ``"overview"``: the declared states, with long bodies folded; ``"full"``: every place and transition
            of the machine.
        control: show the effect of each control call and of failures, instead of one edge for all of them.

    Raises:
        ValueError: there is no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be {' or '.join(map(repr, LEVELS))}, got {level!r}")
    return _Builder(loop, name or loop.name.lower(), level == "full", control).chart()


class _Folded:
    """Several states shown as one node, because there are too many."""

    def __init__(self, name: str, label: str, note: str) -> None:
        self.name, self.label, self.note = name, label, note


Item = Phase | OpaqueStep | EventPoint | Loop | _Folded
"""An item of the body of a loop, as it is drawn."""


class _Builder:
    """Builds the rows and edges of a chart.

    A body is built from its last item to its first. So the element after an item exists already when the edge to it is
    added; the methods get it as ``following``.
    """

    def __init__(self, loop: Loop, name: str, is_full: bool, control: bool) -> None:
        self.loop = loop
        self.name = name
        self.is_full = is_full
        self.control = control
        self.table = DeclaredTransitions(loop.evolve(custom_states=()))
        self.full_table = DeclaredTransitions(loop) if loop.custom_states else self.table
        # A phase without a function was added by register_events(). But if no item has a function, the loop describes
        # the engine of another library, and such phases are nothing special.
        self.has_functions = any(getattr(item, "run", None) is not None for _, item in loop.walk())
        self.edges: list[Edge] = []
        self.places: dict[str, str] = {}

    # -- the whole ---------------------------------------------------------------------------------------------------

    def chart(self) -> Chart:
        """Return the whole chart, simplified and with the declared engines."""
        start, started = self._place("start", READY), self._place("state", "STARTED", "STARTED")
        completed = self._place("state", COMPLETED, COMPLETED)
        end = Node("before COMPLETED", "point")
        self._edge(start, started, "started")
        self._edge(end, completed, "completed")
        inside = self._loop(self.loop, (), end)
        self._edge(started, inside[0][0])
        inside = [[started], *inside, *self._region(RUN, [], end), [end]]
        rows = self._with_control(start, inside, completed) if self.control else self._plain(start, inside, completed)
        chart = Chart(self.name, self.loop, rows, self.edges, self.places)
        simplify(chart)
        add_declared_engines(chart, self.loop.event_keys)
        return chart

    def _plain(self, start: Node, inside: Rows, completed: Node) -> Rows:
        frame = Box("engine", "engine", self.name, rows=[*inside, [completed]])
        stopped = Node("stopped", "final")
        ends = tuple(key for key in OF_THE_RUN if key in ANYWHERE)
        self.edges.append(Edge("engine", "stopped", kind="boundary", events=ends))
        return [[start], [frame], [stopped]]

    def _with_control(self, start: Node, inside: Rows, completed: Node) -> Rows:
        terminated = self._place("state", TERMINATED, TERMINATED)
        failed = self._place("state", FAILED, FAILED)
        history = Node("history", "history", "H*", "resumes here")
        run = Box("run", "run", RUN, rows=inside)
        frame = Box("engine", "engine", self.name, rows=[[run], [completed, terminated, history]])
        self._edge(terminated, completed, "completed")
        self.edges += [
            Edge("run", terminated.id, "terminate", kind="boundary"),
            Edge("run", history.id, "interrupt", kind="boundary"),
            Edge("engine", failed.id, "exception_raised", kind="boundary"),
        ]
        return [[start], [frame], [failed]]

    # -- states ------------------------------------------------------------------------------------------------------

    def _body(self, items: list[Item], loop: Loop, path: Path, end: Node) -> Rows:
        rows: Rows = []
        following: Element = end
        for item in reversed(items):
            inner = (*path, item.name)
            item_rows: Rows
            if isinstance(item, (OpaqueStep, _Folded)):
                item_rows = [[self._eventless(item, loop, inner)]]
                self._edge(item_rows[0][0], following)
            elif isinstance(item, EventPoint):
                item_rows = self._event_point(item, inner, following)
            elif isinstance(item, Phase):
                item_rows = self._phase(item, inner, loop.name, following)
            else:
                item_rows = self._loop(item, path, following)
            rows = [*item_rows, *rows]
            following = item_rows[0][0]
        return rows

    def _folded(self, loop: Loop, path: Path) -> list[Item]:
        """Return the items of a body; in the overview, the middle of a long body is one item."""
        body: list[Any] = list(loop.body)
        if self.is_full:
            return body
        if len(path) > DEEP:
            names = [item.name for _, item in loop.walk()][1:]
            return [_Folded(f"in {loop.name}", f"{len(names)} states", f"{names[0]} … {names[-1]}")] if names else []
        if len(body) <= MANY:
            return body
        first, last = MANY * 2 // 3, MANY // 3 - 1
        between = body[first:-last]
        note = f"{between[0].name} … {between[-1].name}"
        return [*body[:first], _Folded(f"in {loop.name}", f"{len(between)} more", note), *body[-last:]]

    def _eventless(self, item: OpaqueStep | _Folded, loop: Loop, path: Path) -> Element:
        """Return the element of an item that fires no event when it is entered or left."""
        if isinstance(item, _Folded):
            return Node("/".join(path), "folded", item.label, item.note)
        return self._step(
            item, "/".join(path), [custom for custom in self.loop.custom_states if custom.within == loop.name]
        )

    def _step(self, item: OpaqueStep | Phase, id: str, customs: list[CustomState]) -> Box:
        """Return the box of a user's function, with the custom states that it enters and leaves by firing events."""
        name = getattr(item.run, "__name__", "") if item.run is not None else ""
        caller = name if name.isidentifier() else "your code" if customs else ""
        note = _caller_note(caller, customs) if customs else caller
        step = Box(id, "step", item.name, note, caller=caller)
        step.rows = [row for custom in customs for row in self._custom(custom)]
        return step

    def _event_point(self, point: EventPoint, path: Path, following: Element) -> Rows:
        before = Node(f"before {'/'.join(path)}", "point")
        state = self._place("state", place_of(path), point.name, is_custom=True)
        self._edge(before, state, point.event)
        self._edge(state, following)
        return [[before], [state]]

    def _phase(self, phase: Phase, path: Path, loop_name: str, following: Element) -> Rows:
        before = Node(f"before {'/'.join(path)}", "point")
        customs = [custom for custom in self.loop.custom_states if custom.within == phase.name]
        state: Element
        if customs:
            state = self._step(phase, place_of(path), customs)
            state.lines.append("any number of times")
            self.places[state.id] = state.id
        else:
            is_custom = self.has_functions and phase.run is None
            state = self._place("state", place_of(path), phase.name, is_custom=is_custom)
        left = self._place("point", place_of(path, left=True))
        conditions = (when(phase, loop_name),) if phase.when is not None else ()
        self._edge(before, state, phase.started, conditions)
        self._edge(state, left, phase.completed, self._all_left(phase.name))
        self._edge(left, following)
        if conditions:
            skip = conditions[0].negated(f"not {conditions[0].text}")
            self._edge(before, following, None, [skip], lane="left")
        return [[before], [state], [left]]

    def _loop(self, loop: Loop, outer: Path, following: Element) -> Rows:
        path = (*outer, loop.name)
        box = Box("/".join(path) + " box", "loop", loop.name, condition(loop))
        entry, left = self._place("entry", place_of(path)), self._place("exit", place_of(path, left=True))
        box.entry, box.exit = entry.id, left.id
        end = Node(f"before {left.id}", "point")
        self._edge(end, left, loop.completed, self._all_left(loop.name))
        items = self._folded(loop, path)
        body = self._body(items, loop, path, end)
        if self.control and loop.over is DATA:
            body = [[Node(f"skip {loop.name}?", "point")], *body]
            self._edge(body[0][0], body[1][0] if body[1:] else end)
        self._edge(entry, body[0][0] if body else end)
        box.rows = [[entry], *body, *self._region(loop.name, items, end), [end], [left]]
        self._terminated_pass(box, loop, end)
        # Whether another pass follows is decided after each pass, and also before the first.
        more, done = self._pass_guards(loop)
        again, decide = Node(f"next {loop.name}", "point"), Node(f"done {loop.name}?", "point")
        self._edge(left, decide)
        self._edge(decide, again, None, more, kind="back", lane="right")
        self._edge(decide, following, None, done)
        fetch = self._fetch(loop, outer, again, entry, following)
        first = Node(f"first {loop.name}?", "point")
        if self.is_full:
            self._edge(first, again, None, more)
            self._edge(first, following, None, done, lane="left")
        else:
            self._edge(first, again)
        joined: Rows = [[self._join_after_pass(left, decide, loop, body)]] if self.control else []
        return [[first], [again], *fetch, [box], *joined, [decide]]

    def _fetch(self, loop: Loop, outer: Path, again: Node, entry: Node, following: Element) -> Rows:
        """Add the edges that enter a pass; return the rows in which a loop over data fetches a batch first."""
        if loop.over is not DATA or not self.is_full:
            self._edge(again, entry, loop.started)
            return []
        fetching, restarting = (*outer, "GET_BATCH"), (*outer, "GET_BATCH", "RESTART")
        fetch, restart = (self._place("state", place_of(path), path[-1]) for path in (fetching, restarting))
        fetched, begin = self._place("merge", place_of(fetching, left=True)), Node(f"begin {loop.name}", "point")
        # The machine has three transitions from here: a batch arrived, the data starts again, the data ran out.
        from_fetch = [transition for transition in self.table.transitions if transition.source == fetch.id]
        arrived, restarted = (
            next(transition for transition in from_fetch if transition.event == event)
            for event in ("get_batch_completed", "dataloader_stop_iteration")
        )
        ran_out = next(
            transition for transition in from_fetch if transition.event not in (restarted.event, arrived.event)
        )
        self._edge(again, fetch, "get_batch_started", ["data"])
        self._edge(again, begin, None, ["no data"], lane="right")
        self._edge(fetch, fetched, "get_batch_completed", arrived.guards)
        self._edge(fetch, restart, "dataloader_stop_iteration", restarted.guards)
        self._edge(restart, fetched, "get_batch_completed", arrived.guards)
        self._edge(fetch, following, None, _exhaustion_guards(ran_out.guards), lane="left")
        self._edge(fetched, begin)
        self._edge(begin, entry, loop.started)
        return [[fetch, restart], [fetched], [begin]]

    def _pass_guards(self, loop: Loop) -> tuple[Iterable[Guard], Iterable[Guard]]:
        """Return the conditions for another pass, and those for the end of the loop."""
        more, done = self.table.pass_guards(loop if loop is not self.loop else self.table.loop)
        return (more if self.is_full else more[:1]), [done]

    def _all_left(self, scope: str) -> list[Guard]:
        """Return the condition that no custom state in ``scope`` is still entered; none in the overview."""
        guard = self.full_table.all_left_guard(scope)
        return [guard] if guard.text and self.is_full else []

    # -- control calls -----------------------------------------------------------------------------------------------

    def _terminated_pass(self, box: Box, loop: Loop, end: Node) -> None:
        """Add the state of a terminated pass, if ``loop`` is the outermost one, and the edges to and from it."""
        if not self.control or loop is not self.loop or loop.over is DATA:
            return
        place = place_of((loop.name, TERMINATED))
        ended = self._place("state", place, TERMINATED)
        box.rows[-2].append(ended)
        self.edges.append(Edge(box.id, ended.id, "terminate_single_epoch", kind="boundary"))
        self._edge(ended, end, None, ["not skip_epoch_completed"])

    def _join_after_pass(self, left: Node, decide: Node, loop: Loop, body: Rows) -> Node:
        """Return a node after a pass, at which skipped and terminated passes join those that were completed."""
        joined = Node(f"ended {loop.name}", "point")
        leaving = next(edge for edge in self.edges if edge.source == left.id and edge.target == decide.id)
        leaving.target = joined.id
        self._edge(joined, decide)
        if loop.over is DATA:
            self._edge(body[0][0], joined, "iteration_skipped", self._all_left(loop.name), lane="left")
        elif loop is self.loop:
            ended = place_of((loop.name, TERMINATED))
            self.edges.append(Edge(ended, joined.id, None, ("skip_epoch_completed",)))
        return joined

    # -- custom states without a fixed place -------------------------------------------------------------------------

    def _region(self, scope: str, items: list[Item], end: Node) -> Rows:
        """Return a box with the custom states of a loop; no rows if an opaque step shows them."""
        customs = [custom for custom in self.loop.custom_states if custom.within == scope]
        if not customs or any(isinstance(item, OpaqueStep) for item in items):
            return []
        # The box is between the last state and the end of the pass, but no run passes through it: handlers fire its
        # events. So the edges to the end lead around it.
        for edge in self.edges:
            if edge.target == end.id and edge.lane is None:
                edge.lane = "left"
        caller = "your code"
        region = Box(f"custom states in {scope}", "region", "", _caller_note(caller, customs), caller=caller)
        region.is_custom = True
        region.rows = [row for custom in customs for row in self._custom(custom)]
        return [[region]]

    def _custom(self, custom: CustomState) -> Rows:
        outside = Node(f"outside {custom.name}", "point", is_custom=True, role="outside", custom_state=custom.name)
        state = Node(f"in {custom.name}", "state", custom.name, is_custom=True, role="in", custom_state=custom.name)
        left = Node(f"after {custom.name}", "point", is_custom=True, role="after", custom_state=custom.name)
        self._edge(outside, state, custom.events[0])
        self._edge(state, left, custom.events[1] if custom.is_pair else None)
        return [[outside], [state], [left]]

    # -- parts -------------------------------------------------------------------------------------------------------

    def _place(self, kind: str, place: str, label: str = "", is_custom: bool = False) -> Node:
        self.places[place] = place
        return Node(place, kind, label, is_custom=is_custom)

    def _edge(
        self,
        source: Element,
        target: Element,
        event: str | None = None,
        guards: Iterable[Guard | str] = (),
        kind: str = "flow",
        lane: str | None = None,
    ) -> None:
        texts = tuple(guard if isinstance(guard, str) else guard.text for guard in guards)
        self.edges.append(Edge(source.id, target.id, event, texts, kind, lane))


def _caller_note(caller: str, customs: list[CustomState]) -> str:
    is_declared = any(custom.order for custom in customs)
    return f"{caller} fires events{' in declared order' if is_declared else ', order not fixed'}"


def _exhaustion_guards(guards: Iterable[Guard]) -> list[Guard]:
    """Return the conditions under which the data ran out and so set the length of the epoch.

    The transition of the machine also has the conditions of the next edges. They are on those edges in the chart.
    """
    found: list[Guard] = []
    for guard in guards:
        found.append(guard)
        if guard.text == "epoch_length unknown":
            break
    return found
