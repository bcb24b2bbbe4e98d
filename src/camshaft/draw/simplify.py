"""Tidying a chart: a node without text stands only where ways part or meet."""

from __future__ import annotations

from collections import defaultdict

from camshaft.draw.chart import Box, Chart, Edge, Node, Rows

__all__ = ["simplify"]


def simplify(chart: Chart) -> None:
    """Leave out points that only lead on, and tell choices from merges."""
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
