"""The picture as data: which nodes and boxes there are, and which edges lead from where to where.

A chart is derived from the loop by itself, as the machine and the generated source are, so that comparing them means
something. It shares with the machine the words of its conditions.

States are nodes, loops are boxes with a place to enter and a place to leave. Where the machine has several ways out of
a place, the chart has a *choice*; where ways meet, a *merge*: a way from one place to the next is a path through these,
along which one edge carries the event and each edge the conditions that it adds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import attrs

from camshaft.context import Guard
from camshaft.events import event_name
from camshaft.loop import DATA, RUN, Free, Loop, Mark, Nested, Path, Phase, Step, condition
from camshaft.table import COMPLETED, FAILED, READY, TERMINATED, Table, place_of, when

__all__ = ["LEVELS", "Box", "Chart", "Edge", "Element", "Node", "Rows", "chart_of", "fan_out", "put_engine", "visible"]

LEVELS = ("overview", "full")

MANY = 12
"""The overview folds a body with more states than this."""

DEEP = 5
"""The overview folds loops that are nested deeper than this."""


class _Visited:
    visits: int | None
    share: float | None

    @property
    def seen(self) -> str:
        """How often it was entered, and its share of the time, in words; empty where no trace tells."""
        if self.visits is None:
            return ""
        return f"×{self.visits:,}" + (f" · {self.share:.0%}" if self.share is not None and self.share >= 0.005 else "")


@attrs.define(eq=False)
class Node(_Visited):
    """What edges lead from and to.

    Attributes:
        id: unique in its chart; that of a place is the place's name.
        kind: ``"start"``, ``"state"``, ``"entry"`` and ``"exit"`` of a box, ``"point"`` on the way, ``"choice"``,
            ``"merge"``, ``"nested"`` for an engine that runs there, ``"folded"`` for states that are not shown,
            ``"history"`` for the place where an interrupted run goes on, ``"final"``.
        label: what is written in it; empty for those without text.
        note: a second line.
        is_custom: whether it came in by registration.
        is_observed: whether it is known from a trace only.
        is_current: whether the engine stands in it.
        visits: how often it was entered; None where no trace tells.
        share: its share of the time of the trace, 0 to 1.
    """

    id: str
    kind: str
    label: str = ""
    note: str = ""
    is_custom: bool = False
    is_observed: bool = False
    is_current: bool = False
    visits: int | None = None
    share: float | None = None


@attrs.define(eq=False)
class Box(_Visited):
    """A state with states inside.

    Attributes:
        id: unique in its chart.
        kind: ``"engine"``, ``"run"``, ``"loop"``, ``"step"``, or ``"region"``: custom states without a place of their
            own.
        label, note: its name, and what its passes go by.
        rows: what is inside, from top to bottom; each row has one element in line and others to the right of it.
        entry, exit: the ids of the nodes on its outline, if it has them.
        is_custom, is_observed, is_current, visits, share: as for a :class:`Node`.
    """

    id: str
    kind: str
    label: str
    note: str = ""
    rows: list[list[Element]] = attrs.field(factory=list)
    entry: str | None = None
    exit: str | None = None
    is_custom: bool = False
    is_observed: bool = False
    is_current: bool = False
    visits: int | None = None
    share: float | None = None


Element: TypeAlias = Node | Box


@attrs.define(eq=False)
class Edge:
    """A way from one element to the next.

    Attributes:
        source, target: ids of nodes or boxes.
        event: the key of the event that is fired on the way, if one is.
        guards: the conditions, as the machine writes them.
        kind: ``"flow"``, ``"back"`` for the one that repeats a loop, ``"boundary"`` for one that can be taken
            anywhere inside its source, ``"observed"`` for one that is known from a trace only.
        lane: on which side it passes what lies between: ``"left"`` or ``"right"``; None for one that is in line.
        events: all of them, where several are drawn as one edge.
        count: how often it was taken; None where no trace tells.
    """

    source: str
    target: str
    event: str | None = None
    guards: tuple[str, ...] = ()
    kind: str = "flow"
    lane: str | None = None
    events: tuple[str, ...] = ()
    count: int | None = None

    @property
    def fired(self) -> tuple[str, ...]:
        """The keys of its events."""
        return self.events or ((self.event,) if self.event is not None else ())


@attrs.define(eq=False)
class Chart:
    """The picture of a loop as data.

    Attributes:
        name: of the engine, or of the outermost loop.
        loop: what is shown.
        rows: the outermost elements, from top to bottom.
        edges: all edges.
        places: by place of the machine (without free states), the id of the node that shows it.
        handlers: by event, what is called there, in order.
    """

    name: str
    loop: Loop
    rows: list[list[Element]]
    edges: list[Edge]
    places: dict[str, str]
    handlers: dict[str, list[str]] = attrs.field(factory=dict)

    @property
    def title(self) -> str:
        """What the picture shows, in a few words."""
        return visible(f"{self.name}: the states of {self.loop.name} and the events that lead from one to the next")

    def words(self, edge: Edge) -> list[tuple[str, str]]:
        """What is written on an edge, by line.

        Each has its role: ``"event"``, ``"guard"``, ``"handler"``, ``"note"`` or ``"count"``.
        """
        events = [("event", visible(event_name(key))) for key in edge.fired]
        guards = [("guard", f"[{visible(guard)}]") for guard in edge.guards]
        handlers = [("handler", visible(line)) for key in edge.fired for line in self.handlers.get(key, ())]
        notes = [("note", "from anywhere inside")] * (edge.kind == "boundary")
        is_told = edge.count or (edge.count is not None and edge.kind != "boundary")
        counts = [("count", f"×{edge.count:,}")] if is_told else []
        return events + guards + handlers + notes + counts

    def elements(self) -> Iterator[Element]:
        """Every node and box, from the outside in and from top to bottom."""
        yield from _elements(self.rows)

    @property
    def nodes(self) -> list[Node]:
        """Every node."""
        return [element for element in self.elements() if isinstance(element, Node)]

    @property
    def boxes(self) -> list[Box]:
        """Every box."""
        return [element for element in self.elements() if isinstance(element, Box)]

    def around(self) -> dict[str, tuple[str, ...]]:
        """By id, the ids of the boxes around each element, outermost first."""
        found: dict[str, tuple[str, ...]] = {}

        def visit(rows: list[list[Element]], path: tuple[str, ...]) -> None:
            for element in (element for row in rows for element in row):
                found[element.id] = path
                if isinstance(element, Box):
                    visit(element.rows, (*path, element.id))

        visit(self.rows, ())
        return found


def visible(text: str) -> str:
    """A text with its line ends and other characters that cannot be seen written as Python would."""
    return "".join(part if part.isprintable() else repr(part)[1:-1] for part in text)


def _elements(rows: list[list[Element]]) -> Iterator[Element]:
    for element in (element for row in rows for element in row):
        yield element
        if isinstance(element, Box):
            yield from _elements(element.rows)


def chart_of(loop: Loop, name: str | None = None, level: str = "overview", control: bool = False) -> Chart:
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


Rows: TypeAlias = list[list[Element]]


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
        self.table = Table(loop.evolve(free=()))
        self.words = Table(loop) if loop.free else self.table
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
        self._edge(end, completed, "completed", self._none_open(RUN))
        inside = self._loop(self.loop, (), end)
        self._edge(started, inside[0][0])
        inside = [[started], *inside, *self._region(RUN, [], end), [end]]
        rows = self._with_control(start, inside, completed) if self.control else self._plain(start, inside, completed)
        chart = Chart(self.name, self.loop, rows, self.edges, self.places)
        _tidy(chart)
        for nested in self.loop.nested:
            _put_nested(chart, nested)
        return chart

    def _plain(self, start: Node, inside: Rows, completed: Node) -> Rows:
        frame = Box("engine", "engine", self.name, rows=[*inside, [completed]])
        stopped = Node("stopped", "final")
        ends = ("terminate", "interrupt", "exception_raised")
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
            if isinstance(item, (Step, _Folded)):
                made = [[self._passed(item, loop, inner)]]
                self._edge(made[0][0], arrival)
            elif isinstance(item, Mark):
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

    def _passed(self, item: Any, loop: Loop, path: Path) -> Element:
        """What is passed without an event of its own."""
        if isinstance(item, _Folded):
            return Node("/".join(path), "folded", item.label, item.note)
        frees = [free for free in self.loop.free if free.within == loop.name]
        name = getattr(item.run, "__name__", "") if item.run is not None else ""
        order = "declared order" if any(free.order for free in frees) else "any order"
        notes = [name] * name.isidentifier() + [f"fires these in {order}"] * bool(frees)
        step = Box("/".join(path), "step", item.name, " ".join(notes))
        step.rows = [row for free in frees for row in self._free(free)]
        return step

    def _mark(self, mark: Mark, path: Path, rest: Element) -> Rows:
        before = Node(f"before {'/'.join(path)}", "point")
        state = self._place("state", place_of(path), mark.name, is_custom=True)
        self._edge(before, state, mark.event)
        self._edge(state, rest)
        return [[before], [state]]

    def _phase(self, phase: Phase, path: Path, around: str, rest: Element) -> Rows:
        before = Node(f"before {'/'.join(path)}", "point")
        state = self._place("state", place_of(path), phase.name, is_custom=self.runs and phase.run is None)
        left = self._place("point", place_of(path, left=True))
        holds = (when(phase, around),) if phase.when is not None else ()
        self._edge(before, state, phase.started, holds)
        self._edge(state, left, phase.completed)
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
        rows = self.table.rows
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
        self._edge(fetch, rest, None, ran_out.guards[:3], lane="left")
        self._edge(fetched, begin)
        self._edge(begin, entry, loop.started)
        return [[fetch, restart], [fetched], [begin]]

    def _passes(self, loop: Loop) -> tuple[Iterable[Guard], Iterable[Guard]]:
        more, done = self.table.passes(loop if loop is not self.loop else self.table.loop)
        return (more if self.is_full else more[:1]), [done]

    def _none_open(self, scope: str) -> list[Guard]:
        guard = self.words.none_open(scope)
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
        frees = [free for free in self.loop.free if free.within == scope]
        if not frees or any(isinstance(item, Step) for item in items):
            return []
        for edge in self.edges:  # what leads to the end passes by
            if edge.target == end.id and edge.lane is None:
                edge.lane = "left"
        order = "declared order" if any(free.order for free in frees) else "any order"
        region = Box(f"free in {scope}", "region", "", f"your code fires these in {order}", is_custom=True)
        region.rows = [row for free in frees for row in self._free(free)]
        return [[region]]

    def _free(self, free: Free) -> Rows:
        outside = Node(f"outside {free.name}", "point", is_custom=True)
        state = Node(f"in {free.name}", "state", free.name, is_custom=True)
        self._edge(outside, state, free.events[0])
        if not free.is_pair:
            return [[outside], [state]]
        left = Node(f"after {free.name}", "point", is_custom=True)
        self._edge(state, left, free.events[1])
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


# -- tidying: a node without text stands only where ways part or meet ------------------------------------------------


def _tidy(chart: Chart) -> None:
    nodes = {node.id: node for node in chart.nodes if node.kind == "point" and not node.is_custom}
    moved: dict[str, str] = {}
    before, behind = defaultdict(list), defaultdict(list)
    for edge in chart.edges:
        behind[edge.source].append(edge)
        before[edge.target].append(edge)

    def is_plain(edge: Edge) -> bool:
        return edge.event is None and not edge.guards and edge.lane is None

    def drop(point: str, edge: Edge, kept: str) -> None:
        """Leave out a point and the edge to or from it; another node stands for it."""
        moved[point] = kept
        chart.edges.remove(edge)
        behind[edge.source].remove(edge)
        before[edge.target].remove(edge)
        for other in behind.pop(point, ()):
            other.source = kept
            behind[kept].append(other)
        for other in before.pop(point, ()):
            other.target = kept
            before[kept].append(other)
        del nodes[point]

    for point in [*nodes]:  # one way out, on which nothing happens: it leads to where that leads
        if len(behind[point]) == 1 and is_plain(behind[point][0]):
            drop(point, behind[point][0], behind[point][0].target)
    for point in [*nodes]:  # one way in and one way out: both are one edge
        if len(before[point]) == 1 and len(behind[point]) == 1:
            arriving, leaving = before[point][0], behind[point][0]
            if arriving.lane is None and arriving.event is None:
                leaving.guards = tuple(dict.fromkeys((*arriving.guards, *leaving.guards)))
                drop(point, arriving, arriving.source)
    splits: dict[str, Node] = {}
    for point, node in nodes.items():
        arriving_here, leaving_here = before[point], behind[point]
        node.kind = "choice" if len(leaving_here) > 1 else "merge" if len(arriving_here) > 1 else "point"
        if len(leaving_here) > 1 and len(arriving_here) > 1:
            splits[point] = Node(f"{point}, all", "merge")
            for edge in arriving_here:
                edge.target = splits[point].id
            chart.edges.append(Edge(splits[point].id, point))
    kept = {node.id for node in chart.nodes} - set(moved)
    _keep(chart.rows, kept, splits)
    for place, shown in chart.places.items():
        chart.places[place] = _resting(shown, moved)


def _resting(node: str, moved: dict[str, str]) -> str:
    while node in moved:
        node = moved[node]
    return node


def _keep(rows: Rows, kept: set[str], splits: dict[str, Node]) -> None:
    made: Rows = []
    for row in rows:
        there = [element for element in row if isinstance(element, Box) or element.id in kept]
        if there and there[0].id in splits:
            made.append([splits[there[0].id]])
        if there:
            made.append(there)
        for element in there:
            if isinstance(element, Box):
                _keep(element.rows, kept, splits)
    rows[:] = made


def fan_out(chart: Chart) -> None:
    """Let no more than one edge leave a node on its way to somewhere else: each further one leaves from a choice."""
    order = {element.id: number for number, element in enumerate(chart.elements())}
    leaving = defaultdict(list)
    for edge in chart.edges:
        if edge.kind == "observed":
            leaving[edge.source].append(edge)
    for source, edges in leaving.items():
        edges.sort(key=lambda edge: (order[edge.target] - order[source]) % len(order))
        here = source
        for number, edge in enumerate(edges[1:] if len(edges) > 1 else []):
            choice = Node(f"{source}, or {number}", "choice", is_observed=True)
            _insert_behind(chart.rows, here, choice)
            chart.edges.append(Edge(here, choice.id, kind="observed"))
            edge.source = here = choice.id
        if here != source:
            edges[0].source = here


def _insert_behind(rows: Rows, target: str, node: Node) -> bool:
    for index, row in enumerate(rows):
        if row[0].id == target:
            rows.insert(index + 1, [node])
            return True
        if any(isinstance(element, Box) and _insert_behind(element.rows, target, node) for element in row):
            return True
    return False


# -- engines that run inside ------------------------------------------------------------------------------------------


def _put_nested(chart: Chart, nested: Nested) -> None:
    """Put an engine where its event is fired, behind those that are there already."""
    inner = nested.engine
    loop = inner.loop if inner is not None else None
    states = " › ".join(item.name for _, item in loop.walk() if isinstance(item, Loop)) if loop is not None else ""
    put_engine(chart, nested.on.key, nested.name, str(nested.on.filter or ""), states)


def put_engine(chart: Chart, event: str, name: str, words: str, states: str, is_observed: bool = False) -> None:
    """Show an engine that runs at an event.

    Args:
        chart: where.
        event: its key.
        name: the engine's.
        words: the filter.
        states: the loops that it runs.
        is_observed: whether a trace tells so, not the declaration.
    """
    kinds = {node.id: node.kind for node in chart.nodes}
    fired = [edge for edge in chart.edges if edge.event == event and edge.kind != "boundary"]
    for number, goal in enumerate(dict.fromkeys(edge.target for edge in fired)):
        arrivals, target = [edge for edge in fired if edge.target == goal], goal
        while kinds.get(target) == "nested":  # behind those that run there already
            arrivals = [edge for edge in chart.edges if edge.source == target]
            target = arrivals[0].target
        suffix = f" ({number + 1})" if number else ""
        node = Node(f"{name} at {event_name(event)}{words}{suffix}", "nested", f"{name}{words}", states)
        node.is_observed = is_observed
        chart.edges.append(Edge(node.id, target))
        for edge in arrivals:
            edge.target = node.id
        _insert_before(chart.rows, target, node, {edge.source for edge in arrivals})


def _insert_before(rows: Rows, target: str, node: Node, sources: set[str]) -> bool:
    """Put a node in a row of its own; what leads to it from beside the target comes along."""
    for index, row in enumerate(rows):
        for element in row:
            if element.id == target or (isinstance(element, Box) and element.entry == target):
                beside = row[1:] if any(other.id in sources for other in row[1:]) else []
                rows.insert(index, [node, *beside])
                row[1:] = [other for other in row[1:] if other not in beside]
                return True
        if any(isinstance(inner, Box) and _insert_before(inner.rows, target, node, sources) for inner in row):
            return True
    return False
