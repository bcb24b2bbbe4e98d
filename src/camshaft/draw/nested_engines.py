"""Nested engines: nodes at the events at which they run."""

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
    """Show the engines declared at these events, in the order in which they are called."""
    declared = [nested for nested in chart.loop.nested if nested.on.key in events]
    for nested in sorted(declared, key=lambda nested: -nested.on.priority):
        loop = nested.engine.loop if nested.engine is not None else None
        _insert(chart, nested.on.key, nested.name, nested.on.filter, loop)


def remove_engines(chart: Chart, box: Box) -> None:
    """Remove the nodes of engines that run at events inside a box."""
    for node in [row[0] for row in box.rows if isinstance(row[0], Node) and row[0].engine_name]:
        onward = next(edge for edge in chart.edges if edge.source == node.id)
        chart.edges.remove(onward)
        for edge in chart.edges:
            edge.target = onward.target if edge.target == node.id else edge.target
        box.rows = [row for row in box.rows if row[0] is not node]


def add_observed_engines(chart: Chart, trace: Trace, runs: set[int]) -> None:
    """Show the undeclared engines, which handlers ran, at the events of these handlers.

    Args:
        chart: of the engine whose handlers ran them; it is changed.
        trace: the recorded events.
        runs: the numbers of the runs of that engine.
    """
    firings = Firings(chart.loop)
    last: dict[int, str] = {}
    begun: set[int] = set()
    # By run and engine, how often it was called since the last event of the run. As many calls as were due come from
    # the declaration; a call more is a handler's own.
    called: Counter[tuple[int, str]] = Counter()
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
            firings.on_event(run, key, count)
            for name in [name for one, name in called if one == run]:
                del called[run, name]
    for (event, name), loop in found.items():
        _insert(chart, event, name, None, loop, is_observed=True)


class Firings:
    """Counts of events, to tell which of the engines declared at an event were due when it last fired."""

    def __init__(self, loop: Loop) -> None:
        self.nested: dict[tuple[str, str], list[Nested]] = {}
        for nested in loop.nested:
            self.nested.setdefault((nested.on.key, nested.name), []).append(nested)
        self.counted = counter_attribute_by_event(loop)
        self.fired: Counter[tuple[int, str]] = Counter()
        self.counts: dict[tuple[int, str], int] = {}

    def on_event(self, run: int, event: str, count: int) -> None:
        """Count an event of a run.

        Args:
            run: the number of the run.
            event: the key of the event.
            count: the number of passes of the event's loop.
        """
        self.fired[run, event] += 1
        self.counts[run, event] = count if event in self.counted else self.fired[run, event]

    def is_due(self, run: int, event: str, when: Filter | None) -> bool:
        """Return whether a filter let the last firing pass. An ``event_filter`` is not in the trace: assume it did."""
        count = self.counts[run, event]
        return when is None or when.next_due(count) == count

    def due(self, run: int, event: str, name: str) -> int:
        """Return how many declared engines of a name were due when an event last fired."""
        return sum(self.is_due(run, event, nested.on.filter) for nested in self.nested.get((event, name), ()))


def _insert(
    chart: Chart, event: str, name: str, when: Filter | None, loop: Loop | None, is_observed: bool = False
) -> None:
    """Add an engine to each edge that fires an event, after the engines that are there already."""
    nodes = {node.id: node for node in chart.nodes}
    label = f"{name}{when or ''}"
    fired = [edge for edge in chart.edges if event in edge.event_keys]
    if not fired or any(edge.kind == "boundary" for edge in fired):
        annotate(chart, event, f"▸ {label}")
        return
    for first_target in dict.fromkeys(edge.target for edge in fired):
        arriving, target = [edge for edge in fired if edge.target == first_target], first_target
        while target in nodes and nodes[target].kind == "nested":
            arriving = [edge for edge in chart.edges if edge.source == target]
            target = arriving[0].target
        node = Node(_unused(f"{name} at {event_name(event)}", nodes), "nested", label, states_of(loop))
        node.is_observed, node.engine_name, node.filter = is_observed, name, when
        nodes[node.id] = node
        chart.edges.append(Edge(node.id, target))
        for edge in arriving:
            edge.target = node.id
        _insert_before(chart.rows, target, node, {edge.source for edge in arriving})


def annotate(chart: Chart, event: str, line: str) -> None:
    """Add a line of text for an event without an edge of its own.

    The line goes to the boundary edge of the event, or else to the head of the box of the event's loop.
    """
    for edge in chart.edges:
        if edge.kind == "boundary" and event in edge.event_keys:
            edge.handlers.append(f"{line} at {event_name(event)}" if edge.events else line)
            return
    loop_name = counter_loop_by_event(chart.loop)[event]
    boxes = [box for box in chart.boxes if box.label == loop_name and box.kind == "loop"] or chart.boxes[:1]
    boxes[0].lines.append(f"{line} at {event_name(event)}")


def states_of(loop: Loop | None) -> str:
    """Return the names of the loops of an engine in one line, such as ``EPOCH › ITERATION``."""
    return " › ".join(item.name for _, item in loop.walk() if isinstance(item, Loop)) if loop is not None else ""


def _unused(name: str, taken: dict[str, Node]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate


def _insert_before(rows: Rows, target: str, node: Node, sources: set[str]) -> bool:
    """Insert a node above its target, in a row of its own; return whether the target was found.

    Elements beside the target move up with the node if they have an edge to it, so that this edge stays horizontal.
    """
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
