"""From a loop to its chart.

A chart is derived from the loop by itself, as the machine and the generated source are, so that comparing them means
something. It shares with the machine the words of its conditions.
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
from camshaft.machine.transition_table import COMPLETED, FAILED, READY, TERMINATED, TransitionTable, place_of, when

__all__ = ["LEVELS", "chart_from_loop"]

LEVELS = ("overview", "full")

MANY = 12
"""The overview folds a body with more states than this."""

DEEP = 5
"""The overview folds loops that are nested deeper than this."""


def chart_from_loop(loop: Loop, name: str | None = None, level: str = "overview", control: bool = False) -> Chart:
    """The chart of a loop.

    Args:
        loop: what to show.
        name: what to call it; the name of the loop unless given.
        level: ``"overview"``: the states that were declared, long bodies folded; ``"full"``: every place and
            transition of the machine.
        control: show what control calls and failures bring, instead of one edge for all of it.

    Raises:
        ValueError: there is no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"level={level!r}: there are {' and '.join(map(repr, LEVELS))}")
    return _Builder(loop, name or loop.name.lower(), level == "full", control).chart()


class _Folded:
    """States that the overview does not show."""

    def __init__(self, name: str, label: str, note: str) -> None:
        self.name, self.label, self.note = name, label, note


class _Builder:
    """Walks a loop from the end of each body to its start: what comes next is known where it is needed."""

    def __init__(self, loop: Loop, name: str, is_full: bool, control: bool) -> None:
        self.loop = loop
        self.name = name
        self.is_full = is_full
        self.control = control
        self.table = TransitionTable(loop.evolve(custom_states=()))
        self.words = TransitionTable(loop) if loop.custom_states else self.table
        # a phase that runs nothing came in by registration; where none runs anything, all are somebody else's
        self.runs = any(getattr(item, "run", None) is not None for _, item in loop.walk())
        self.edges: list[Edge] = []
        self.places: dict[str, str] = {}

    # -- the whole ---------------------------------------------------------------------------------------------------

    def chart(self) -> Chart:
        """Everything, tidied."""
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
        history = Node("history", "history", "H*", "goes on where it was")
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

    def _body(self, items: list[Any], loop: Loop, path: Path, end: Node) -> Rows:
        rows: Rows = []
        arrival: Element = end
        for item in reversed(items):
            inner = (*path, item.name)
            made: Rows
            if isinstance(item, (OpaqueStep, _Folded)):
                made = [[self._passed(item, loop, inner)]]
                self._edge(made[0][0], arrival)
            elif isinstance(item, EventPoint):
                made = self._mark(item, inner, arrival)
            elif isinstance(item, Phase):
                made = self._phase(item, inner, loop.name, arrival)
            else:
                made = self._loop(item, path, arrival)
            rows = [*made, *rows]
            arrival = made[0][0]
        return rows

    def _folded(self, loop: Loop, path: Path) -> list[Any]:
        """The body, the middle of a long one as one."""
        body = list(loop.body)
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

    def _passed(self, item: OpaqueStep | Phase | _Folded, loop: Loop, path: Path) -> Element:
        """What is passed without an event of its own."""
        if isinstance(item, _Folded):
            return Node("/".join(path), "folded", item.label, item.note)
        return self._step(
            item, "/".join(path), [custom for custom in self.loop.custom_states if custom.within == loop.name]
        )

    def _step(self, item: OpaqueStep | Phase, id: str, customs: list[CustomState]) -> Box:
        """What runs code of the user that fires events by itself."""
        name = getattr(item.run, "__name__", "") if item.run is not None else ""
        caller = name if name.isidentifier() else "your code" if customs else ""
        note = f"{caller} {_order(customs)}" if customs else caller
        step = Box(id, "step", item.name, note, caller=caller)
        step.rows = [row for custom in customs for row in self._custom(custom)]
        return step

    def _mark(self, mark: EventPoint, path: Path, rest: Element) -> Rows:
        before = Node(f"before {'/'.join(path)}", "point")
        state = self._place("state", place_of(path), mark.name, is_custom=True)
        self._edge(before, state, mark.event)
        self._edge(state, rest)
        return [[before], [state]]

    def _phase(self, phase: Phase, path: Path, around: str, rest: Element) -> Rows:
        before = Node(f"before {'/'.join(path)}", "point")
        customs = [custom for custom in self.loop.custom_states if custom.within == phase.name]
        state: Element
        if customs:
            state = self._step(phase, place_of(path), customs)
            state.lines.append("as often as it likes")
            self.places[state.id] = state.id
        else:
            state = self._place("state", place_of(path), phase.name, is_custom=self.runs and phase.run is None)
        left = self._place("point", place_of(path, left=True))
        holds = (when(phase, around),) if phase.when is not None else ()
        self._edge(before, state, phase.started, holds)
        self._edge(state, left, phase.completed, self._none_open(phase.name))
        self._edge(left, rest)
        if holds:
            self._edge(before, rest, None, [holds[0].negated(f"not {holds[0].text}")], lane="left")
        return [[before], [state], [left]]

    def _loop(self, loop: Loop, around: Path, rest: Element) -> Rows:
        path = (*around, loop.name)
        box = Box("/".join(path) + " box", "loop", loop.name, condition(loop))
        entry, left = self._place("entry", place_of(path)), self._place("exit", place_of(path, left=True))
        box.entry, box.exit = entry.id, left.id
        end = Node(f"before {left.id}", "point")
        self._edge(end, left, loop.completed, self._none_open(loop.name))
        items = self._folded(loop, path)
        body = self._body(items, loop, path, end)
        if self.control and loop.over is DATA:
            body = [[Node(f"skip {loop.name}?", "point")], *body]
            self._edge(body[0][0], body[1][0] if body[1:] else end)
        self._edge(entry, body[0][0] if body else end)
        box.rows = [[entry], *body, *self._region(loop.name, items, end), [end], [left]]
        self._terminated_pass(box, loop, end)
        # what follows a pass is decided behind it, and asked before the first one too
        more, done = self._passes(loop)
        again, decide = Node(f"next {loop.name}", "point"), Node(f"done {loop.name}?", "point")
        self._edge(left, decide)
        self._edge(decide, again, None, more, kind="back", lane="right")
        self._edge(decide, rest, None, done)
        fetch = self._fetch(loop, around, again, entry, rest)
        first = Node(f"first {loop.name}?", "point")
        if self.is_full:
            self._edge(first, again, None, more)
            self._edge(first, rest, None, done, lane="left")
        else:
            self._edge(first, again)
        behind: Rows = [[self._reroute(left, decide, loop, body)]] if self.control else []
        return [[first], [again], *fetch, [box], *behind, [decide]]

    def _fetch(self, loop: Loop, around: Path, again: Node, entry: Node, rest: Element) -> Rows:
        """The way into a pass; with data through the fetching of a batch."""
        if loop.over is not DATA or not self.is_full:
            self._edge(again, entry, loop.started)
            return []
        fetching, restarting = (*around, "GET_BATCH"), (*around, "GET_BATCH", "RESTART")
        fetch, restart = (self._place("state", place_of(path), path[-1]) for path in (fetching, restarting))
        fetched, begin = self._place("merge", place_of(fetching, left=True)), Node(f"begin {loop.name}", "point")
        rows = self.table.transitions
        learned, known = (
            next(row for row in rows if row.source == fetch.id and row.event == event)
            for event in ("get_batch_completed", "dataloader_stop_iteration")
        )
        ran_out = next(row for row in rows if row.source == fetch.id and row.event not in (known.event, learned.event))
        self._edge(again, fetch, "get_batch_started", ["data"])
        self._edge(again, begin, None, ["no data"], lane="right")
        self._edge(fetch, fetched, "get_batch_completed", learned.guards)
        self._edge(fetch, restart, "dataloader_stop_iteration", known.guards)
        self._edge(restart, fetched, "get_batch_completed", learned.guards)
        self._edge(fetch, rest, None, _learned(ran_out.guards), lane="left")
        self._edge(fetched, begin)
        self._edge(begin, entry, loop.started)
        return [[fetch, restart], [fetched], [begin]]

    def _passes(self, loop: Loop) -> tuple[Iterable[Guard], Iterable[Guard]]:
        more, done = self.table.pass_guards(loop if loop is not self.loop else self.table.loop)
        return (more if self.is_full else more[:1]), [done]

    def _none_open(self, scope: str) -> list[Guard]:
        guard = self.words.all_left_guard(scope)
        return [guard] if guard.text and self.is_full else []

    # -- what control calls bring ------------------------------------------------------------------------------------

    def _terminated_pass(self, box: Box, loop: Loop, end: Node) -> None:
        """Of the outermost loop: where a terminated pass goes on."""
        if not self.control or loop is not self.loop or loop.over is DATA:
            return
        place = place_of((loop.name, TERMINATED))
        ended = self._place("state", place, TERMINATED)
        box.rows[-2].append(ended)
        self.edges.append(Edge(box.id, ended.id, "terminate_single_epoch", kind="boundary"))
        self._edge(ended, end, None, ["not skip_epoch_completed"])

    def _reroute(self, left: Node, decide: Node, loop: Loop, body: Rows) -> Node:
        """Where ways around the completion of a pass join behind it."""
        behind = Node(f"ended {loop.name}", "point")
        leaving = next(edge for edge in self.edges if edge.source == left.id and edge.target == decide.id)
        leaving.target = behind.id
        self._edge(behind, decide)
        if loop.over is DATA:
            skipped = self._none_open(loop.name)
            self._edge(body[0][0], behind, "iteration_skipped", skipped, lane="left")
        elif loop is self.loop:
            ended = place_of((loop.name, TERMINATED))
            self.edges.append(Edge(ended, behind.id, None, ("skip_epoch_completed",)))
        return behind

    # -- custom states without a place -------------------------------------------------------------------------------

    def _region(self, scope: str, items: list[Any], end: Node) -> Rows:
        """The states that code of the user enters and leaves, where no step shows that it runs."""
        customs = [custom for custom in self.loop.custom_states if custom.within == scope]
        if not customs or any(isinstance(item, OpaqueStep) for item in items):
            return []
        for edge in self.edges:  # what leads to the end passes by
            if edge.target == end.id and edge.lane is None:
                edge.lane = "left"
        caller = "your code"
        region = Box(f"free in {scope}", "region", "", f"{caller} {_order(customs)}", caller=caller, is_custom=True)
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


def _order(customs: list[CustomState]) -> str:
    return f"fires these in {'declared order' if any(custom.order for custom in customs) else 'any order'}"


def _learned(guards: Iterable[Guard]) -> list[Guard]:
    """The conditions under which data that ran out has told the length of an epoch; what follows has its own."""
    found: list[Guard] = []
    for guard in guards:
        found.append(guard)
        if guard.text == "epoch_length unknown":
            break
    return found
