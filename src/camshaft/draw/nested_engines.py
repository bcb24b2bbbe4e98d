"""Engines that run inside of another: shown where their event is fired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from camshaft.draw.chart import Box, Chart, Edge, Node, Rows
from camshaft.events import Filter, event_name
from camshaft.loop.counting import counter_attribute_by_event, counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import Nested

if TYPE_CHECKING:
    from camshaft.trace.trace import Trace

__all__ = ["Firings", "annotate", "add_declared_engines", "add_observed_engines", "states_of", "remove_engines"]


def add_declared_engines(chart: Chart, events: Iterable[str]) -> None:
    """Show the engines that the loop declares at these events, in the order in which they are called."""
    here = [nested for nested in chart.loop.nested if nested.on.key in events]
    for nested in sorted(here, key=lambda nested: -nested.on.priority):
        loop = nested.engine.loop if nested.engine is not None else None
        _put(chart, nested.on.key, nested.name, nested.on.filter, loop)


def remove_engines(chart: Chart, box: Box) -> None:
    """Leave the engines out that run at the events in a box."""
    for node in [row[0] for row in box.rows if isinstance(row[0], Node) and row[0].engine_name]:
        onward = next(edge for edge in chart.edges if edge.source == node.id)
        chart.edges.remove(onward)
        for edge in chart.edges:
            edge.target = onward.target if edge.target == node.id else edge.target
        box.rows = [row for row in box.rows if row[0] is not node]


def add_observed_engines(chart: Chart, trace: Trace, runs: set[int]) -> None:
    """Show engines that handlers ran by themselves in these runs, at the event where they did."""
    firings = Firings(chart.loop)
    last: dict[int, str] = {}
    begun: set[int] = set()
    called: Counter[tuple[int, str]] = Counter()  # by run and name, since the last event of that run
    found: dict[tuple[str, str], Loop] = {}
    for run, key, count, _ in trace.raw_events():
        record = trace.runs[run]
        parent = record.parent
        if run not in begun and parent in runs and parent is not None and parent in last:
            called[parent, record.engine] += 1
            if called[parent, record.engine] > firings.due(parent, last[parent], record.engine):
                found.setdefault((last[parent], record.engine), record.loop)
        begun.add(run)
        if run in runs:
            last[run] = key
            firings.take(run, key, count)
            for name in [name for one, name in called if one == run]:
                del called[run, name]
    for (event, name), loop in found.items():
        _put(chart, event, name, None, loop, is_observed=True)


class Firings:
    """Tells which of the engines that are declared at an event were due at its last firing."""

    def __init__(self, loop: Loop) -> None:
        self.nested: dict[tuple[str, str], list[Nested]] = {}
        for nested in loop.nested:
            self.nested.setdefault((nested.on.key, nested.name), []).append(nested)
        self.counted = counter_attribute_by_event(loop)
        self.fired: Counter[tuple[int, str]] = Counter()
        self.counts: dict[tuple[int, str], int] = {}

    def take(self, run: int, event: str, count: int) -> None:
        """An event of a run, with the passes of its loop."""
        self.fired[run, event] += 1
        self.counts[run, event] = count if event in self.counted else self.fired[run, event]

    def is_due(self, run: int, event: str, when: Filter | None) -> bool:
        """Whether a filter let the last firing through; one that is a function is taken to have done so."""
        count = self.counts[run, event]
        return when is None or when.next_due(count) == count

    def due(self, run: int, event: str, name: str) -> int:
        """How many engines of a name were due at the last firing of an event."""
        return sum(self.is_due(run, event, nested.on.filter) for nested in self.nested.get((event, name), ()))


def _put(
    chart: Chart, event: str, name: str, when: Filter | None, loop: Loop | None, is_observed: bool = False
) -> None:
    """Show an engine at each place where an event is fired, behind those that are there already."""
    nodes = {node.id: node for node in chart.nodes}
    label = f"{name}{when or ''}"
    fired = [edge for edge in chart.edges if event in edge.fired]
    if not fired or any(edge.kind == "boundary" for edge in fired):
        annotate(chart, event, f"▸ {label}")
        return
    for goal in dict.fromkeys(edge.target for edge in fired):
        arrivals, target = [edge for edge in fired if edge.target == goal], goal
        while target in nodes and nodes[target].kind == "nested":
            arrivals = [edge for edge in chart.edges if edge.source == target]
            target = arrivals[0].target
        node = Node(_unused(f"{name} at {event_name(event)}", nodes), "nested", label, states_of(loop))
        node.is_observed, node.engine_name, node.filter = is_observed, name, when
        nodes[node.id] = node
        chart.edges.append(Edge(node.id, target))
        for edge in arrivals:
            edge.target = node.id
        _insert_before(chart.rows, target, node, {edge.source for edge in arrivals})


def annotate(chart: Chart, event: str, line: str) -> None:
    """Say what happens at an event that has no edge of its own: at the edge or else the box that it belongs to."""
    for edge in chart.edges:
        if edge.kind == "boundary" and event in edge.fired:
            edge.handlers.append(f"{line} at {event_name(event)}" if edge.events else line)
            return
    around = counter_loop_by_event(chart.loop)[event]
    boxes = [box for box in chart.boxes if box.label == around and box.kind == "loop"] or chart.boxes[:1]
    boxes[0].lines.append(f"{line} at {event_name(event)}")


def states_of(loop: Loop | None) -> str:
    """The loops of an engine, in a line."""
    return " › ".join(item.name for _, item in loop.walk() if isinstance(item, Loop)) if loop is not None else ""


def _unused(name: str, taken: dict[str, Node]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def _insert_before(rows: Rows, target: str, node: Node, sources: set[str]) -> bool:
    """Put a node in a row of its own; what leads to it from beside the target comes along."""
    for index, row in enumerate(rows):
        for number, element in enumerate(row):
            if number and element.id == target:
                row.insert(number, node)
                return True
            if element.id == target or (isinstance(element, Box) and element.entry == target):
                beside = row[1:] if any(other.id in sources for other in row[1:]) else []
                rows.insert(index, [node, *beside])
                row[1:] = [other for other in row[1:] if other not in beside]
                return True
        if any(isinstance(inner, Box) and _insert_before(inner.rows, target, node, sources) for inner in row):
            return True
    return False
