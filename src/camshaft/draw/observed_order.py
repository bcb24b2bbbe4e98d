"""Custom states without a place, in the order in which a trace has seen them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from camshaft.draw.chart import Box, Chart, Edge, Node, Rows
from camshaft.draw.nested_engines import add_declared_engines, remove_engines
from camshaft.loop.states import CustomState, LoopItem

if TYPE_CHECKING:
    from camshaft.trace.trace import Trace

__all__ = ["add_observed_order"]

Way = tuple[tuple[str, str], str | None, tuple[str, str]]
"""From a part of a state to the next: ((part, state), event, (part, state))."""

BEGIN, END = ("begin", ""), ("end", "")


def add_observed_order(chart: Chart, trace: Trace, runs: set[int]) -> None:
    """Let custom states without a place follow each other as they did in these runs."""
    for scope in dict.fromkeys(custom.within for custom in chart.loop.custom_states):
        customs = [custom for custom in chart.loop.custom_states if custom.within == scope]
        names = {custom.name for custom in customs}
        ways = _observed(customs, chart.loop.find(scope), trace, runs)
        for box in chart.boxes:
            if ways and any(isinstance(row[0], Node) and row[0].custom_state in names for row in box.rows):
                _redraw(chart, box, scope, ways)
                add_declared_engines(chart, [event for custom in customs for event in custom.events])


def _observed(customs: list[CustomState], around: LoopItem | None, trace: Trace, runs: set[int]) -> list[Way]:
    """The ways that were taken, in the order of their first time; through a pass without any of them, too."""
    goals = {
        event: ("after" if custom.is_pair and event == custom.completed else "in", custom.name)
        for custom in customs
        for event in custom.events
    }
    ways: dict[Way, None] = {}
    here: dict[int, tuple[str, str]] = {}
    idle: dict[int, bool] = {}
    for run, key, _, _ in trace.raw_events():
        if run not in runs:
            continue
        goal = goals.get(key)
        if around is not None and key in around.own_events:
            if key == around.own_events[-1] and idle.get(run):
                ways[BEGIN, None, END] = None
            idle[run] = key == around.own_events[0]
        if goal is not None:
            idle[run] = False
        if goal is not None:
            ways[here.get(run, BEGIN), key, goal] = None
            here[run] = goal
        elif run in here:
            ways[here.pop(run), None, END] = None
    return [*ways] if any(event is not None for _, event, _ in ways) else []


def _redraw(chart: Chart, box: Box, scope: str, ways: list[Way]) -> None:
    """Rows and edges of a box as they were observed; states that were not seen stay below."""
    remove_engines(chart, box)
    names = list(dict.fromkeys(goal[1] for _, _, goal in ways if goal != END))
    reached = {part for way in ways for part in (way[0], way[2])}
    old = {(row[0].role, row[0].custom_state): row[0] for row in box.rows if isinstance(row[0], Node)}
    gone = {node.id for node in old.values() if node.custom_state in names}
    chart.edges[:] = [edge for edge in chart.edges if edge.source not in gone]
    parts = {key: node for key, node in old.items() if key in reached}
    for part, state in (BEGIN, END):
        name = f"{part} of custom states in {scope}"
        parts[part, state] = Node(name, "point", is_custom=True, role=part, custom_state=scope)
    order = [BEGIN, *((part, name) for name in names for part in ("in", "after")), END]
    rows: Rows = [[parts[key]] for key in order if key in parts and key in reached | {BEGIN}]
    box.rows = rows + [row for row in box.rows if isinstance(row[0], Node) and row[0].custom_state not in names]
    for key in reached:
        parts[key].is_observed = parts[key].kind == "state"
    box.note = f"{box.caller} fires these, as observed"
    chart.edges += [Edge(parts[source].id, parts[goal].id, event, kind="observed") for source, event, goal in ways]
    _fan_out(chart, box)


def _fan_out(chart: Chart, box: Box) -> None:
    """Where several ways lead on, let each of them leave from a choice of its own."""
    order = {row[0].id: number for number, row in enumerate(box.rows)}
    leaving = defaultdict(list)
    for edge in chart.edges:
        if edge.kind == "observed" and edge.source in order:
            leaving[edge.source].append(edge)
    for source, edges in leaving.items():
        edges.sort(key=lambda edge: (order[edge.target] - order[source]) % len(order))
        nearest, *others = edges
        for number, edge in enumerate(others, start=1):
            choice = Node(f"{source}, choice {number}", "choice", is_observed=True)
            at = next(index for index, row in enumerate(box.rows) if row[0].id == nearest.source)
            box.rows.insert(at + 1, [choice])
            chart.edges.append(Edge(nearest.source, choice.id, kind="observed"))
            edge.source = nearest.source = choice.id
