"""Custom states without a fixed place, in the order observed in a trace."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from camshaft.draw.chart import Box, Chart, Edge, Node, Rows
from camshaft.draw.nested_engines import add_declared_engines, remove_engines
from camshaft.loop.states import CustomState, LoopItem

if TYPE_CHECKING:
    from camshaft.trace.trace import Trace

__all__ = ["add_observed_order"]

Part = tuple[str, str]
"""A part of a custom state, as (role, name); see :class:`camshaft.draw.chart.Node`."""

Step = tuple[Part, str | None, Part]
"""An observed step from one part to the next, as (source, event, target); None for a return to the loop."""

BEGIN, END = ("begin", ""), ("end", "")


def add_observed_order(chart: Chart, trace: Trace, runs: set[int]) -> None:
    """Connect custom states without a fixed place in the order in which these runs entered and left them.

    Args:
        chart: the chart of the engine; it is changed.
        trace: the recorded events.
        runs: the numbers of the runs of that engine.
    """
    for scope in dict.fromkeys(custom.within for custom in chart.loop.custom_states):
        customs = [custom for custom in chart.loop.custom_states if custom.within == scope]
        names = {custom.name for custom in customs}
        steps = _observed_steps(customs, chart.loop.find(scope), trace, runs)
        for box in chart.boxes:
            if steps and any(isinstance(row[0], Node) and row[0].custom_state in names for row in box.rows):
                _redraw(chart, box, scope, steps)
                add_declared_engines(chart, [event for custom in customs for event in custom.events])


def _observed_steps(customs: list[CustomState], scope: LoopItem | None, trace: Trace, runs: set[int]) -> list[Step]:
    """Return the different steps in the order of their first occurrence.

    A pass of the scope that entered no custom state is the step from BEGIN to END. Without any event of a custom state
    the result is empty.

    Args:
        customs: the custom states of one scope.
        scope: the loop or phase that contains them; None if it is the whole run.
        trace: the recorded events.
        runs: the numbers of the runs to look at.
    """
    parts = {
        event: ("after" if custom.is_pair and event == custom.completed else "in", custom.name)
        for custom in customs
        for event in custom.events
    }
    steps: dict[Step, None] = {}  # a dict as an ordered set
    current: dict[int, Part] = {}
    is_unused: dict[int, bool] = {}  # by run, whether its current pass has entered no custom state
    for run, key, _, _ in trace.raw_events():
        if run not in runs:
            continue
        part = parts.get(key)
        if scope is not None and key in scope.own_events:
            if key == scope.own_events[-1] and is_unused.get(run):
                steps[BEGIN, None, END] = None
            is_unused[run] = key == scope.own_events[0]
        if part is not None:
            is_unused[run] = False
            steps[current.get(run, BEGIN), key, part] = None
            current[run] = part
        elif run in current:
            steps[current.pop(run), None, END] = None
    return [*steps] if any(event is not None for _, event, _ in steps) else []


def _redraw(chart: Chart, box: Box, scope: str, steps: list[Step]) -> None:
    """Replace the rows and edges of a box by the observed ones; states that were never entered stay below."""
    remove_engines(chart, box)
    names = list(dict.fromkeys(target[1] for _, _, target in steps if target != END))
    reached = {part for source, _, target in steps for part in (source, target)}
    old = {(row[0].role, row[0].custom_state): row[0] for row in box.rows if isinstance(row[0], Node)}
    replaced = {node.id for node in old.values() if node.custom_state in names}
    chart.edges[:] = [edge for edge in chart.edges if edge.source not in replaced]
    nodes = {part: node for part, node in old.items() if part in reached}
    for role, state in (BEGIN, END):
        name = f"{role} of custom states in {scope}"
        nodes[role, state] = Node(name, "point", is_custom=True, role=role, custom_state=scope)
    order = [BEGIN, *((role, name) for name in names for role in ("in", "after")), END]
    rows: Rows = [[nodes[part]] for part in order if part in nodes and part in reached | {BEGIN}]
    box.rows = rows + [row for row in box.rows if isinstance(row[0], Node) and row[0].custom_state not in names]
    for part in reached:
        nodes[part].is_observed = nodes[part].kind == "state"
    box.note = f"{box.caller} fires events, order as observed"
    chart.edges += [Edge(nodes[source].id, nodes[target].id, event, kind="observed") for source, event, target in steps]
    _add_choices(chart, box)


def _add_choices(chart: Chart, box: Box) -> None:
    """Insert a choice for each further edge that leaves a node, so that a node has one edge to the next row."""
    order = {row[0].id: number for number, row in enumerate(box.rows)}
    leaving = defaultdict(list)
    for edge in chart.edges:
        if edge.kind == "observed" and edge.source in order:
            leaving[edge.source].append(edge)
    for source, edges in leaving.items():
        # the nearest target below comes first; its edge stays in the column
        edges.sort(key=lambda edge: (order[edge.target] - order[source]) % len(order))
        nearest, *others = edges
        for number, edge in enumerate(others, start=1):
            choice = Node(f"{source}, choice {number}", "choice", is_observed=True)
            at = next(index for index, row in enumerate(box.rows) if row[0].id == nearest.source)
            box.rows.insert(at + 1, [choice])
            chart.edges.append(Edge(nearest.source, choice.id, kind="observed"))
            edge.source = nearest.source = choice.id
