"""A run drawn over the picture: how often each state was entered, each edge taken, and where the time went.

The events of a trace are followed through the chart itself: from where a run stands, the way that carries the next
event is looked for. Events that the chart does not show, as those of folded states, are passed over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from camshaft.draw.chart import Box, Chart, Edge, Node, Rows, fan_out, put_engine
from camshaft.events import event_name
from camshaft.loop import Free, Loop

if TYPE_CHECKING:
    from camshaft.trace import Trace

__all__ = ["overlay"]


def overlay(chart: Chart, trace: Trace, engine: str) -> None:
    """Draw the runs of one engine over its chart.

    Args:
        chart: of the loop of that engine.
        trace: what fired.
        engine: its name.
    """
    _put_observed_engines(chart, trace, engine)
    _put_observed_order(chart, trace, engine)
    _Follower(chart, trace, engine).follow()


def _put_observed_engines(chart: Chart, trace: Trace, engine: str) -> None:
    """Show engines that handlers ran by themselves, at the event where they did."""
    shown = {(nested.on.key, nested.name) for nested in chart.loop.nested}
    for (event, name), loop in _called(trace, engine).items():
        if (event, name) not in shown:
            states = " › ".join(item.name for _, item in loop.walk() if isinstance(item, Loop))
            put_engine(chart, event, name, "", states, is_observed=True)


def _called(trace: Trace, engine: str) -> dict[tuple[str, str], Loop]:
    """By event of an engine and name, the engines that ran there."""
    found: dict[tuple[str, str], Loop] = {}
    last: dict[int, str] = {}
    begun: set[int] = set()
    for run, key, _, _ in trace.rows():
        if run not in begun:
            begun.add(run)
            parent = trace.runs[run].parent
            if parent is not None and trace.runs[parent].engine == engine and parent in last:
                found.setdefault((last[parent], trace.runs[run].engine), trace.runs[run].loop)
        last[run] = key
    return found


# -- the order of events that code fires by itself --------------------------------------------------------------------


def _put_observed_order(chart: Chart, trace: Trace, engine: str) -> None:
    """Let custom states without a place follow each other as they did."""
    for scope in dict.fromkeys(free.within for free in chart.loop.free):
        frees = [free for free in chart.loop.free if free.within == scope]
        ways = _observed(frees, trace, engine)
        box = next((box for box in chart.boxes if any(row[0].id == f"in {frees[0].name}" for row in box.rows)), None)
        if ways and box is not None:
            _redraw(chart, box, frees, ways)


Way = tuple[str, str | None, str]


def _observed(frees: list[Free], trace: Trace, engine: str) -> list[Way]:
    """The ways between custom states that were taken: (from, event, to), in the order of their first time."""
    goals = {
        event: f"{'after' if free.is_pair and event == free.completed else 'in'} {free.name}"
        for free in frees
        for event in free.events
    }
    begin, end = f"begin {frees[0].within} order", f"end {frees[0].within} order"
    ways: dict[Way, None] = {}
    here: dict[int, str | None] = {}
    for run, key, _, _ in trace.rows():
        if trace.runs[run].engine != engine:
            continue
        goal = goals.get(key)
        if goal is not None:
            ways[here.get(run) or begin, key, goal] = None
        elif here.get(run):
            ways[here[run] or begin, None, end] = None
        here[run] = goal
    return [*ways]


def _redraw(chart: Chart, box: Box, frees: list[Free], ways: list[Way]) -> None:
    """Rows and edges of a box as they were observed."""
    seen = [goal.partition(" ")[2] for _, _, goal in ways if goal.startswith(("in ", "after "))]
    names = list(dict.fromkeys(seen))
    old = {row[0].id: row[0] for row in box.rows}
    gone = {f"outside {name}" for name in names}
    chart.edges[:] = [
        edge
        for edge in chart.edges
        if edge.source not in gone and not (edge.source in old and edge.source[3:] in names)
    ]
    reached = {goal for _, _, goal in ways} | {source for source, _, _ in ways}
    first, last = (Node(f"{part} {frees[0].within} order", "point", is_custom=True) for part in ("begin", "end"))
    rows: Rows = [[first]]
    rows += [
        [old[part]] for name in names for part in (f"in {name}", f"after {name}") if part in old and part in reached
    ]
    rows += [[last]] if last.id in reached else []
    rows += [row for row in box.rows if row[0].id.partition(" ")[2] not in names]
    for row in rows:
        for element in row:
            if isinstance(element, Node) and element.id in reached and element.kind == "state":
                element.is_observed = True
    box.rows = rows
    box.note = box.note.replace("fires these in any order", "as observed")
    chart.edges += [Edge(source, goal, event, kind="observed") for source, event, goal in ways]
    fan_out(chart)


# -- counts and times -------------------------------------------------------------------------------------------------


class _Follower:
    """Follows the runs of an engine through its chart."""

    def __init__(self, chart: Chart, trace: Trace, engine: str) -> None:
        self.chart, self.trace, self.engine = chart, trace, engine
        self.elements = {element.id: element for element in chart.elements()}
        self.around = chart.around()
        self.entries = {box.entry: box.id for box in chart.boxes}
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self.known = {event for edge in chart.edges for event in edge.fired}
        self.free = {event for free in chart.loop.free for event in free.events}
        self.routes: dict[tuple[str, str], tuple[list[Edge], str] | None] = {}
        self.visits: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def follow(self) -> None:
        """Count, and write what was counted into the chart."""
        for edge in self.chart.edges:
            edge.count = 0
        self._count()
        total = sum(self.seconds.values())
        for stood, seconds in [*self.seconds.items()]:
            outlines = [box.exit for box in self.chart.boxes]
            for box in self.around[stood][:-1] if stood in outlines else self.around[stood]:
                self.seconds[box] += seconds
        for element in self.elements.values():
            has_text = isinstance(element, Box) or element.kind in ("state", "nested", "folded")
            if has_text and not (isinstance(element, Box) and element.kind in ("engine", "run", "region")):
                element.visits = self.visits[element.id]
                element.share = self.seconds[element.id] / total if total else None

    def _count(self) -> None:
        trace = self.trace
        own = [record.engine == self.engine for record in trace.runs]
        here: dict[int, str] = {}  # by run, where it stands in the loop, and where among custom states
        aside: dict[int, str] = {}
        last: dict[int, tuple[str, float]] = {}
        inside: defaultdict[int, float] = defaultdict(float)  # seconds that engines took that ran inside
        for run, key, _, time in trace.rows():
            parent = trace.runs[run].parent
            if run in last and parent is not None:
                inside[parent] += time - last[run][1]
            if parent is not None and own[parent] and parent in last:
                self._count_nested(run, last[parent][0], time - last[run][1] if run in last else None)
            if own[run]:
                stands = here.get(run, "READY")
                if run in last:
                    self.seconds[aside.get(run) or self._busy(stands)] += time - last[run][1] - inside[run]
                inside[run] = 0.0
                self._advance(run, key, here, aside)
            last[run] = (key, time)

    def _count_nested(self, run: int, event: str, seconds: float | None) -> None:
        name = f"{self.trace.runs[run].engine} at {event_name(event)}"
        node = next(
            (node for node in self._nested() if node == name or node.startswith((f"{name}(", f"{name} ("))), None
        )
        if node is None:
            return
        if seconds is None:
            self.visits[node] += 1
        else:
            self.seconds[node] += seconds

    def _nested(self) -> list[str]:
        return [node.id for node in self.elements.values() if isinstance(node, Node) and node.kind == "nested"]

    def _advance(self, run: int, key: str, here: dict[int, str], aside: dict[int, str]) -> None:
        """Take an event of a run."""
        if key in self.free:
            self._advance_aside(run, key, aside)
            return
        if run in aside:
            self._leave_order(aside.pop(run))
        stands = here.get(run, "READY")
        found = self._route(stands, key)
        if found is None:
            if key in self.known:  # it came another way than the chart has: go on from where the event leads
                jump = next((edge for edge in self.chart.edges if key in edge.fired and edge.kind != "boundary"), None)
                if jump is not None:
                    here[run] = self._arrive([jump], jump.target)
            return
        edges, goal = found
        for edge in edges:
            edge.count = (edge.count or 0) + 1
        if self.elements[goal].id not in ("history", "stopped") or key != "interrupt":
            here[run] = self._arrive(edges, goal)

    def _arrive(self, edges: list[Edge], goal: str) -> str:
        for edge in edges:
            if isinstance(self.elements[edge.target], Box) or edge.target == goal:
                self.visits[edge.target] += 1
        box = self.entries.get(goal)
        if box is not None:
            self.visits[box] += 1
        return goal

    def _advance_aside(self, run: int, key: str, aside: dict[int, str]) -> None:
        edges = [edge for edge in self.chart.edges if edge.event == key]
        stands = aside.get(run)
        if stands is None:
            stands = next((edge.source for edge in edges if edge.source.startswith("begin ")), None)
        route = self._route(stands, key) if stands is not None else None
        taken = route[0] if route is not None else edges[:1]
        for edge in taken:
            edge.count = (edge.count or 0) + 1
        if taken:
            aside[run] = taken[-1].target
            self.visits[taken[-1].target] += 1

    def _leave_order(self, stands: str) -> None:
        """The way from a custom state back into the loop, where one was observed."""
        waiting = [(stands, list[Edge]())]
        while waiting:
            here, path = waiting.pop()
            if here.startswith("end "):
                for edge in path:
                    edge.count = (edge.count or 0) + 1
                return
            waiting += [(edge.target, [*path, edge]) for edge in self.leaving[here] if edge.event is None]

    def _busy(self, stands: str) -> str:
        """Who works while a run stands there: the step behind it, if there is one."""
        for edge in self.leaving[stands]:
            found = self.elements[edge.target]
            if edge.event is None and isinstance(found, Box) and found.kind == "step":
                return found.id
        return stands

    def _route(self, stands: str, key: str) -> tuple[list[Edge], str] | None:
        """The edges that lead from an element along an event, and where to."""
        if (stands, key) not in self.routes:
            self.routes[stands, key] = self._find(stands, key)
        return self.routes[stands, key]

    def _find(self, stands: str, key: str) -> tuple[list[Edge], str] | None:
        waiting: list[tuple[str, list[Edge]]] = [(stands, [])]
        seen = {stands}
        while waiting:
            here, path = waiting.pop(0)
            for edge in self.leaving[here]:
                if key in edge.fired and edge.kind != "boundary":
                    return self._onwards([*path, edge])
                if not edge.fired and edge.target not in seen:
                    seen.add(edge.target)
                    waiting.append((edge.target, [*path, edge]))
        boundary = [edge for edge in self.chart.edges if edge.kind == "boundary" and key in edge.fired]
        inside = [edge for edge in boundary if edge.source in self.around[stands]]
        return ([inside[-1]], inside[-1].target) if inside else None

    def _onwards(self, path: list[Edge]) -> tuple[list[Edge], str]:
        """Through the engines that run at an event, to where it leads."""
        goal = self.elements[path[-1].target]
        while isinstance(goal, Node) and goal.kind == "nested":
            path = [*path, self.leaving[goal.id][0]]
            goal = self.elements[path[-1].target]
        return path, goal.id
