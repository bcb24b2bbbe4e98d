"""A run drawn over the picture: how often each state was entered, each edge taken, and where the time went.

The events of a trace are followed through the chart itself: from where a run stands, the way that carries the next
event is looked for. An event that the chart does not show, as those of folded states, is passed over; one that comes
another way than the chart has, as after a control call, is counted where it is fired.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import attrs

from camshaft.draw.chart import Box, Chart, Edge, Node
from camshaft.draw.nested_engines import Firings, add_observed_engines, states_of
from camshaft.draw.observed_order import add_observed_order
from camshaft.events import FACTS, Scope
from camshaft.loop.loop import Loop
from camshaft.loop.states import RUN, CustomState, Phase

if TYPE_CHECKING:
    from camshaft.trace.trace import Trace

__all__ = ["overlay"]


def overlay(chart: Chart, trace: Trace, engine: str, loop: Loop) -> None:
    """Draw the runs of one engine over its chart.

    The time between two events belongs to the innermost state in which the run stood after the first of them, without
    what engines took that ran there. What passed while a run was paused belongs to nothing.

    Args:
        chart: of that engine.
        trace: what fired.
        engine: its name.
        loop: what it ran; runs of other loops under that name are left out.
    """
    runs = {number for number, record in enumerate(trace.runs) if record.engine == engine and record.loop == loop}
    add_observed_order(chart, trace, runs)
    add_observed_engines(chart, trace, runs)
    _Follower(chart, trace, runs).follow()


@attrs.define
class _Run:
    """Where one run stands.

    Attributes:
        here: the element of the chart.
        event, time: what fired last, and when.
        open: the custom states that were entered and not left.
        order: the node of the observed order at which the last event left it.
        idle: the loops in whose present pass no custom state of theirs was entered.
        passing: the engines that run at the last event and did not yet.
        inside: the node of the engine that runs there right now.
        seconds: what engines took that ran inside, since the last event.
    """

    here: str
    event: str = ""
    time: float | None = None
    open: list[str] = attrs.field(factory=list)
    order: str | None = None
    idle: set[str] = attrs.field(factory=set)
    passing: list[Node] = attrs.field(factory=list)
    inside: dict[int, str] = attrs.field(factory=dict)
    seconds: float = 0.0


class _Follower:
    """Follows the runs of an engine through its chart."""

    def __init__(self, chart: Chart, trace: Trace, runs: set[int]) -> None:
        self.chart, self.trace = chart, trace
        self.elements = {element.id: element for element in chart.elements()}
        self.enclosing_boxes = chart.enclosing_boxes()
        self.exits = {box.exit for box in chart.boxes}
        self.entries = {box.entry: box.id for box in chart.boxes}
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        self.firing: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
            for event in edge.fired:
                self.firing[event].append(edge)
        self.custom_states = {event: custom for custom in chart.loop.custom_states for event in custom.events}
        self.parts = {(node.role, node.custom_state): node.id for node in chart.nodes if node.role in ("in", "after")}
        self.begins = {node.custom_state: node.id for node in chart.nodes if node.role == "begin"}
        self.scopes = {item.name: item for _, item in chart.loop.walk() if item.name in self.begins}
        self.ends = {node.id for node in chart.nodes if node.role == "end"}
        self.within = {custom.name: custom.within for custom in chart.loop.custom_states}
        self.ending = {  # by event, the states of which a pass ends
            item.completed: {item.name} for _, item in chart.loop.walk() if isinstance(item, (Loop, Phase))
        }
        names = {name for ended in self.ending.values() for name in ended}
        for key, facts in FACTS.items():
            if facts.ends in (Scope.OUTERMOST, Scope.RUN):
                self.ending[key] = names if facts.ends is Scope.OUTERMOST else names | {RUN}
        self.firings = Firings(chart.loop)
        self.routes: dict[tuple[str, str], list[Edge]] = {}
        self.visits: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.runs = {number: _Run(self._start(trace.runs[number].place)) for number in runs}

    def _start(self, place: str) -> str:
        """Where a run began to be recorded; around it, where the chart does not show the place."""
        while place and self.chart.places.get(place) not in self.elements:
            place = place.rpartition("/")[0]
        return self.chart.places.get(place, "READY")

    def follow(self) -> None:
        """Count, and write what was counted into the chart."""
        for edge in self.chart.edges:
            edge.count = 0
        self._count()
        total = sum(self.seconds.values())
        for stood, seconds in [*self.seconds.items()]:
            for box in self.enclosing_boxes[stood][:-1] if stood in self.exits else self.enclosing_boxes[stood]:
                self.seconds[box] += seconds
        for element in self.elements.values():
            if _tells(element):
                element.visits = self.visits[element.id]
                element.share = self.seconds[element.id] / total if total else None

    def _count(self) -> None:
        trace = self.trace
        resumed = {first: run for run, first, _ in trace.segments}
        times: dict[int, float] = {}
        for index, (run, key, count, time) in enumerate(trace.raw_events()):
            record = trace.runs[run]
            outer = self.runs.get(record.parent) if record.parent is not None else None
            goes_on = run in times and resumed.get(index) != run  # else it was paused until now
            if outer is not None:
                self._count_inner(outer, run, time - times[run] if goes_on else 0.0)
            times[run] = time
            state = self.runs.get(run)
            if state is None:
                continue
            if goes_on and state.time is not None:
                self.seconds[self._busy(state)] += time - state.time - state.seconds
            state.time, state.seconds, state.inside = time, 0.0, {}
            self.firings.take(run, key, count)
            self._advance(run, state, key)
            state.event = key

    def _count_inner(self, outer: _Run, run: int, seconds: float) -> None:
        """An engine that runs inside of another: the time since its last event is its own."""
        record = self.trace.runs[run]
        outer.seconds += seconds
        if run not in outer.inside and record.parent is not None and outer.event:
            due = (
                node
                for node in outer.passing
                if node.engine_name == record.engine and self.firings.is_due(record.parent, outer.event, node.filter)
            )
            node = next(due, None)
            if node is None:
                return
            outer.passing.remove(node)
            outer.inside[run] = node.id
            node.note = node.note or states_of(record.loop)
            self.visits[node.id] += 1
        if run in outer.inside:
            self.seconds[outer.inside[run]] += seconds

    # -- one event ---------------------------------------------------------------------------------------------------

    def _advance(self, run: int, state: _Run, key: str) -> None:
        state.passing = []
        if key in self.custom_states:
            self._advance_aside(state, key, self.custom_states[key])
            return
        if state.order is not None:
            self._take(self._to_end(state.order))
            state.order = None
        for name, loop in self.scopes.items():
            if key == loop.own_events[0]:
                state.idle.add(name)
            elif key == loop.own_events[-1] and name in state.idle:
                self._take(self._to_end(self.begins[name]))
        path = self._route(state.here, key) or self.firing[key][:1]
        if not path:
            return
        path = self._onwards(path)
        state.passing = self._engines_on(path)
        self._take(path, key)
        if key == "interrupt":
            return  # it goes on where it was
        state.here = path[-1].target
        self.visits[state.here] += 1
        for edge in path[:-1]:
            if isinstance(self.elements[edge.target], Box):
                self.visits[edge.target] += 1
        if state.here in self.entries:
            self.visits[self.entries[state.here]] += 1
        self._close(state, key)

    def _advance_aside(self, state: _Run, key: str, custom: CustomState) -> None:
        enters = key == custom.events[0]
        start = state.order or self.begins.get(custom.within)
        path = (self._route(start, key) if start is not None else []) or self.firing[key][:1]
        state.idle.discard(custom.within)
        if not path:
            return
        path = self._onwards(path)
        self._take(path, key)
        state.passing = self._engines_on(path)
        if enters:
            self.visits[path[-1].target] += 1
        if custom.is_pair and enters:
            state.open.append(custom.name)
        elif custom.name in state.open:
            state.open.remove(custom.name)
        state.order = path[-1].target if any(edge.kind == "observed" for edge in path) else None

    def _close(self, state: _Run, key: str) -> None:
        """A pass that ends takes along what was entered in it."""
        if state.open and key in self.ending:
            ended = self.ending[key]
            state.open = [name for name in state.open if self.within[name] not in ended]

    def _take(self, path: list[Edge], key: str = "") -> None:
        for edge in path:
            edge.count = (edge.count or 0) + 1
            if edge.events:
                edge.counts[key] = edge.counts.get(key, 0) + 1

    def _busy(self, state: _Run) -> str:
        """Who works where a run stands: the custom state entered last, else the step behind that place, if there is."""
        if state.open and ("in", state.open[-1]) in self.parts:
            return self.parts["in", state.open[-1]]
        for edge in self.leaving[state.here]:
            found = self.elements[edge.target]
            if edge.event is None and isinstance(found, Box) and found.kind == "step":
                return found.id
        return state.here

    # -- ways through the chart --------------------------------------------------------------------------------------

    def _route(self, start: str, key: str) -> list[Edge]:
        """The edges that lead from an element along an event; none where there is no way."""
        if (start, key) not in self.routes:
            self.routes[start, key] = self._find(start, key)
        return self.routes[start, key]

    def _find(self, start: str, key: str) -> list[Edge]:
        waiting: list[tuple[str, list[Edge]]] = [(start, [])]
        seen = {start}
        while waiting:
            here, path = waiting.pop(0)
            for edge in self.leaving[here]:
                if key in edge.fired and edge.kind != "boundary":
                    return [*path, edge]
                if not edge.fired and edge.target not in seen:
                    seen.add(edge.target)
                    waiting.append((edge.target, [*path, edge]))
        around = self.enclosing_boxes[start]
        return [edge for edge in self.firing[key] if edge.kind == "boundary" and edge.source in around][-1:]

    def _onwards(self, path: list[Edge]) -> list[Edge]:
        """Through the engines that run at an event, to where it leads."""
        goal = self.elements[path[-1].target]
        while isinstance(goal, Node) and goal.engine_name:
            path = [*path, self.leaving[goal.id][0]]
            goal = self.elements[path[-1].target]
        return path

    def _engines_on(self, path: list[Edge]) -> list[Node]:
        return [node for edge in path if isinstance(node := self.elements[edge.target], Node) and node.engine_name]

    def _to_end(self, start: str) -> list[Edge]:
        """From a custom state back into the loop, where that was observed."""
        waiting: list[tuple[str, list[Edge]]] = [(start, [])]
        while waiting:
            here, path = waiting.pop(0)
            if here in self.ends:
                return path
            waiting += [(edge.target, [*path, edge]) for edge in self.leaving[here] if edge.event is None]
        return []


def _tells(element: Node | Box) -> bool:
    """Whether a count is written in it."""
    if isinstance(element, Box):
        return element.kind in ("loop", "step")
    return element.kind in ("state", "nested", "folded")
