"""Draw runs over a chart: how often each state was entered and each edge taken, and where the time went.

The events of a trace are followed through the chart: from the current element of a run, the next event is searched
along the edges. An event that the chart does not show, such as that of a folded state, is skipped. If no path leads
from the current element to the event, as after some control calls, it is counted on the first edge that fires it.
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

    The time between two events is attributed to the innermost state entered by the first one, minus the time of nested
    engines that ran there. The time during a pause is attributed to nothing.

    Args:
        chart: the chart of the engine; it is changed.
        trace: the recorded events.
        engine: the name of the engine.
        loop: the loop of the chart; runs of that engine with another loop are ignored.
    """
    runs = {number for number, record in enumerate(trace.runs) if record.engine == engine and record.loop == loop}
    add_observed_order(chart, trace, runs)
    add_observed_engines(chart, trace, runs)
    _Follower(chart, trace, runs).follow()


@attrs.define
class _Position:
    """The position of one run in the chart.

    Attributes:
        element: the id of the current element.
        event, time: the key and the time of the last event.
        entered: the custom states that were entered and not left, in this order.
        observed_node: the current node of an observed order; None outside of it.
        unused: the loops whose current pass has entered none of their custom states yet.
        due_engines: the nodes of nested engines that the last event runs and that have not run yet.
        inner_runs: by number of a nested run, the node of its engine.
        inner_seconds: the time of nested runs since the last event.
    """

    element: str
    event: str = ""
    time: float | None = None
    entered: list[str] = attrs.field(factory=list)
    observed_node: str | None = None
    unused: set[str] = attrs.field(factory=set)
    due_engines: list[Node] = attrs.field(factory=list)
    inner_runs: dict[int, str] = attrs.field(factory=dict)
    inner_seconds: float = 0.0


class _Follower:
    """Follows the runs of an engine through its chart, and counts visits, edges and seconds."""

    def __init__(self, chart: Chart, trace: Trace, runs: set[int]) -> None:
        self.chart, self.trace = chart, trace
        self.elements = {element.id: element for element in chart.elements()}
        self.enclosing_boxes = chart.enclosing_boxes()
        self.exits = {box.exit for box in chart.boxes}
        self.entries = {box.entry: box.id for box in chart.boxes}
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        self.firing: dict[str, list[Edge]] = defaultdict(list)  # by event
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
            for event in edge.event_keys:
                self.firing[event].append(edge)
        self.custom_states = {event: custom for custom in chart.loop.custom_states for event in custom.events}
        self.parts = {(node.role, node.custom_state): node.id for node in chart.nodes if node.role in ("in", "after")}
        # nodes at which an observed order begins, by loop, and those at which it ends
        self.begins = {node.custom_state: node.id for node in chart.nodes if node.role == "begin"}
        self.scopes = {item.name: item for _, item in chart.loop.walk() if item.name in self.begins}
        self.ends = {node.id for node in chart.nodes if node.role == "end"}
        self.within = {custom.name: custom.within for custom in chart.loop.custom_states}
        self.ended_by = {  # by event, the states whose pass it ends
            item.completed: {item.name} for _, item in chart.loop.walk() if isinstance(item, (Loop, Phase))
        }
        names = {name for ended in self.ended_by.values() for name in ended}
        for key, facts in FACTS.items():
            if facts.ends in (Scope.OUTERMOST, Scope.RUN):
                self.ended_by[key] = names if facts.ends is Scope.OUTERMOST else names | {RUN}
        self.firings = Firings(chart.loop)
        self.known_paths: dict[tuple[str, str], list[Edge]] = {}
        self.visits: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.positions = {number: _Position(self._first_element(trace.runs[number].place)) for number in runs}

    def _first_element(self, place: str) -> str:
        """Return the element at which the record of a run begins, or the innermost shown element around it."""
        while place and self.chart.places.get(place) not in self.elements:
            place = place.rpartition("/")[0]
        return self.chart.places.get(place, "READY")

    def follow(self) -> None:
        """Count all events, and write the counts and shares into the chart."""
        for edge in self.chart.edges:
            edge.count = 0
        self._count()
        total = sum(self.seconds.values())
        # The time of a box includes that of its contents. At its exit, the pass of the box is over.
        for element_id, seconds in [*self.seconds.items()]:
            boxes = self.enclosing_boxes[element_id]
            for box in boxes[:-1] if element_id in self.exits else boxes:
                self.seconds[box] += seconds
        for element in self.elements.values():
            if _shows_visits(element):
                element.visits = self.visits[element.id]
                element.share = self.seconds[element.id] / total if total else None

    def _count(self) -> None:
        trace = self.trace
        resumed = {first: run for run, first, _ in trace.segments}
        times: dict[int, float] = {}
        for index, (run, key, count, time) in enumerate(trace.raw_events()):
            record = trace.runs[run]
            outer = self.positions.get(record.parent) if record.parent is not None else None
            was_running = run in times and resumed.get(index) != run  # otherwise it was paused since its last event
            if outer is not None:
                self._count_inner(outer, run, time - times[run] if was_running else 0.0)
            times[run] = time
            position = self.positions.get(run)
            if position is None:
                continue
            if was_running and position.time is not None:
                self.seconds[self._active_element(position)] += time - position.time - position.inner_seconds
            position.time, position.inner_seconds, position.inner_runs = time, 0.0, {}
            self.firings.on_event(run, key, count)
            self._advance(position, key)
            position.event = key

    def _count_inner(self, outer: _Position, run: int, seconds: float) -> None:
        """Attribute time to a nested run.

        Args:
            outer: the position of the run that called it.
            run: the number of the nested run.
            seconds: the time since its last event.
        """
        record = self.trace.runs[run]
        outer.inner_seconds += seconds
        if run not in outer.inner_runs and record.parent is not None and outer.event:
            due = (
                node
                for node in outer.due_engines
                if node.engine_name == record.engine and self.firings.is_due(record.parent, outer.event, node.filter)
            )
            node = next(due, None)
            if node is None:
                return
            outer.due_engines.remove(node)
            outer.inner_runs[run] = node.id
            node.note = node.note or states_of(record.loop)
            self.visits[node.id] += 1
        if run in outer.inner_runs:
            self.seconds[outer.inner_runs[run]] += seconds

    # -- one event ---------------------------------------------------------------------------------------------------

    def _advance(self, position: _Position, key: str) -> None:
        """Follow one event of a run, and count the elements that it enters."""
        position.due_engines = []
        if key in self.custom_states:
            self._advance_custom(position, key, self.custom_states[key])
            return
        if position.observed_node is not None:
            self._count_edges(self._path_to_end(position.observed_node))
            position.observed_node = None
        for name, loop in self.scopes.items():
            if key == loop.own_events[0]:
                position.unused.add(name)
            elif key == loop.own_events[-1] and name in position.unused:
                self._count_edges(self._path_to_end(self.begins[name]))
        path = self._path(position.element, key) or self.firing[key][:1]
        if not path:
            return
        path = self._through_engines(path)
        position.due_engines = self._engines_on(path)
        self._count_edges(path, key)
        if key == "interrupt":
            return  # the run resumes at the current element
        position.element = path[-1].target
        self.visits[position.element] += 1
        for edge in path[:-1]:
            if isinstance(self.elements[edge.target], Box):
                self.visits[edge.target] += 1
        if position.element in self.entries:
            self.visits[self.entries[position.element]] += 1
        self._leave_custom_states(position, key)

    def _advance_custom(self, position: _Position, key: str, custom: CustomState) -> None:
        """Follow an event of a custom state. The current element stays: the code of that element fired the event."""
        enters = key == custom.events[0]
        start = position.observed_node or self.begins.get(custom.within)
        path = (self._path(start, key) if start is not None else []) or self.firing[key][:1]
        position.unused.discard(custom.within)
        if not path:
            return
        path = self._through_engines(path)
        self._count_edges(path, key)
        position.due_engines = self._engines_on(path)
        if enters:
            self.visits[path[-1].target] += 1
        if custom.is_pair and enters:
            position.entered.append(custom.name)
        elif custom.name in position.entered:
            position.entered.remove(custom.name)
        position.observed_node = path[-1].target if any(edge.kind == "observed" for edge in path) else None

    def _leave_custom_states(self, position: _Position, key: str) -> None:
        """Leave the custom states of a loop or phase whose pass an event ends."""
        if position.entered and key in self.ended_by:
            ended = self.ended_by[key]
            position.entered = [name for name in position.entered if self.within[name] not in ended]

    def _count_edges(self, path: list[Edge], key: str = "") -> None:
        for edge in path:
            edge.count = (edge.count or 0) + 1
            if edge.events:
                edge.counts[key] = edge.counts.get(key, 0) + 1

    def _active_element(self, position: _Position) -> str:
        """Return the element to which time is attributed.

        It is the custom state entered last, or else the opaque step after the current element, or else this element.
        """
        if position.entered and ("in", position.entered[-1]) in self.parts:
            return self.parts["in", position.entered[-1]]
        for edge in self.leaving[position.element]:
            following = self.elements[edge.target]
            if edge.event is None and isinstance(following, Box) and following.kind == "step":
                return following.id
        return position.element

    # -- paths through the chart -------------------------------------------------------------------------------------

    def _path(self, start: str, key: str) -> list[Edge]:
        """Return the edges from an element up to the first one that fires an event; empty without such a path."""
        if (start, key) not in self.known_paths:
            self.known_paths[start, key] = self._find_path(start, key)
        return self.known_paths[start, key]

    def _find_path(self, start: str, key: str) -> list[Edge]:
        # breadth first, over edges that fire nothing
        waiting: list[tuple[str, list[Edge]]] = [(start, [])]
        reached = {start}
        while waiting:
            element, path = waiting.pop(0)
            for edge in self.leaving[element]:
                if key in edge.event_keys and edge.kind != "boundary":
                    return [*path, edge]
                if not edge.event_keys and edge.target not in reached:
                    reached.add(edge.target)
                    waiting.append((edge.target, [*path, edge]))
        enclosing = self.enclosing_boxes[start]
        return [edge for edge in self.firing[key] if edge.kind == "boundary" and edge.source in enclosing][-1:]

    def _through_engines(self, path: list[Edge]) -> list[Edge]:
        """Extend a path through the nested engines at its end."""
        target = self.elements[path[-1].target]
        while isinstance(target, Node) and target.engine_name:
            path = [*path, self.leaving[target.id][0]]
            target = self.elements[path[-1].target]
        return path

    def _engines_on(self, path: list[Edge]) -> list[Node]:
        return [node for edge in path if isinstance(node := self.elements[edge.target], Node) and node.engine_name]

    def _path_to_end(self, start: str) -> list[Edge]:
        """Return the edges from a node of an observed order back to the loop; empty if no run took them."""
        waiting: list[tuple[str, list[Edge]]] = [(start, [])]
        while waiting:
            element, path = waiting.pop(0)
            if element in self.ends:
                return path
            waiting += [(edge.target, [*path, edge]) for edge in self.leaving[element] if edge.event is None]
        return []


def _shows_visits(element: Node | Box) -> bool:
    """Return whether the picture shows how often an element was entered."""
    if isinstance(element, Box):
        return element.kind in ("loop", "step")
    return element.kind in ("state", "nested", "folded")
