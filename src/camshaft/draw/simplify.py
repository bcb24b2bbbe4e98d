"""Simplify a chart: nodes without text remain only where edges split or join."""

from __future__ import annotations

from collections import defaultdict

from camshaft.draw.chart import Box, Chart, Edge, Node, Rows

__all__ = ["simplify"]


def simplify(chart: Chart) -> None:
    """Remove points that only connect two edges, and make the others choices or merges.

    The chart is changed, its places included.
    """
    nodes = {node.id: node for node in chart.nodes if node.kind == "point" and not node.is_custom}
    replaced_by: dict[str, str] = {}
    arriving, leaving = defaultdict(list), defaultdict(list)
    for edge in chart.edges:
        leaving[edge.source].append(edge)
        arriving[edge.target].append(edge)

    def is_plain(edge: Edge) -> bool:
        return edge.event is None and not edge.guards and edge.lane is None

    def drop(point: str, edge: Edge, kept: str) -> None:
        """Remove a point and one of its edges; the node at the other end of that edge replaces the point."""
        replaced_by[point] = kept
        chart.edges.remove(edge)
        leaving[edge.source].remove(edge)
        arriving[edge.target].remove(edge)
        for other in leaving.pop(point, ()):
            other.source = kept
            leaving[kept].append(other)
        for other in arriving.pop(point, ()):
            other.target = kept
            arriving[kept].append(other)
        del nodes[point]

    # A point with one edge out and nothing on that edge: edges to the point may lead to the target.
    for point in [*nodes]:
        if len(leaving[point]) == 1 and is_plain(leaving[point][0]):
            drop(point, leaving[point][0], leaving[point][0].target)
    # A point with one edge in and one edge out: both become one edge.
    for point in [*nodes]:
        if len(arriving[point]) == 1 and len(leaving[point]) == 1:
            first, second = arriving[point][0], leaving[point][0]
            if first.lane is None and first.event is None:
                second.guards = tuple(dict.fromkeys((*first.guards, *second.guards)))
                drop(point, first, first.source)
    # A point at which edges both join and split becomes a merge and a choice below it.
    merges: dict[str, Node] = {}
    for point, node in nodes.items():
        node.kind = "choice" if len(leaving[point]) > 1 else "merge" if len(arriving[point]) > 1 else "point"
        if len(leaving[point]) > 1 and len(arriving[point]) > 1:
            merges[point] = Node(f"{point}, all", "merge")
            for edge in arriving[point]:
                edge.target = merges[point].id
            chart.edges.append(Edge(merges[point].id, point))
    kept = {node.id for node in chart.nodes} - set(replaced_by)
    _update_rows(chart.rows, kept, merges)
    for place, shown in chart.places.items():
        chart.places[place] = _final_replacement(shown, replaced_by)


def _final_replacement(node: str, replaced_by: dict[str, str]) -> str:
    while node in replaced_by:
        node = replaced_by[node]
    return node


def _update_rows(rows: Rows, kept: set[str], merges: dict[str, Node]) -> None:
    """Remove the nodes that are not kept, and insert each merge above its choice."""
    updated: Rows = []
    for row in rows:
        remaining = [element for element in row if isinstance(element, Box) or element.id in kept]
        if remaining and remaining[0].id in merges:
            updated.append([merges[remaining[0].id]])
        if remaining:
            updated.append(remaining)
        for element in remaining:
            if isinstance(element, Box):
                _update_rows(element.rows, kept, merges)
    rows[:] = updated
