"""Heights: the vertical position of every row, with room for the labels of the edges between two rows.

An edge is *straight* if it leads from the first element of a row to the next row. Every other edge runs in a *lane* at
the side, or leads to or from an element *beside* the first one of its row.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from camshaft.draw.chart import Box, Chart, Edge, Element, Line, Node
from camshaft.draw.writers.measures import RADII, Rect, element_lines, lines_height, node_size

__all__ = ["MARGIN", "PADDING", "Row", "StackedChart", "split_label"]

ROW_GAP = 20.0
"""Distance between two rows without labels between them."""
PADDING = 12.0
"""Distance between the outline of a box and its contents."""
MARGIN = 10.0
"""Empty border around the picture."""

Row = list[Element]


class StackedChart:
    """A chart whose rows have their heights.

    Args:
        chart: the chart; every edge that needs a lane and has none gets one.

    Attributes:
        elements: every element, by id.
        enclosing_boxes: by element, the ids of the boxes around it, outermost first.
        leaving: by element, the edges that leave it.
        beside: the ids of the elements that are not the first of their row.
        order: by element, its number in the chart, from top to bottom.
        straight: ``id()`` of each straight edge.
        lanes: by box, the edges whose lanes lie in it; ``""`` for those outside every box.
        middle: by element, the y of its middle; for nodes on the outline of a box, the y of that outline.
        rects: by element, its rectangle; left and right are set later, see :mod:`camshaft.draw.writers.layout`.
        bottom: the y at which the last row ends.
    """

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.elements = {element.id: element for element in chart.elements()}
        self.enclosing_boxes = chart.enclosing_boxes()
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self._all_rows = [chart.rows, *(box.rows for box in chart.boxes)]
        self.beside = {element.id for rows in self._all_rows for row in rows for element in row[1:]}
        self.order = {element: number for number, element in enumerate(self.elements)}
        self._on_outlines = {node for box in chart.boxes for node in (box.entry, box.exit) if node is not None}
        self.straight: set[int] = set()
        self.lanes: dict[str, list[Edge]] = defaultdict(list)
        self._sort_edges()
        self.middle: dict[str, float] = {}
        self.rects: dict[str, Rect] = {}
        self.bottom = self._stack(chart.rows, MARGIN)

    # -- edges -------------------------------------------------------------------------------------------------------

    def _sort_edges(self) -> None:
        """Find the straight edges, and the box in which the lane of each other edge lies."""
        for rows in self._all_rows:
            for above, below in pairwise(rows):
                for element in below:
                    self.straight |= {id(edge) for edge in self.between(above[0], element)}
        for edge in self.chart.edges:
            if id(edge) in self.straight or edge.source in self.beside or edge.target in self.beside:
                continue
            if edge.lane is None:
                edge.lane = "left" if self.order[edge.target] > self.order[edge.source] else "right"
            # a lane lies in the innermost box around both of its ends
            paths = [self._outer_boxes(edge.source), self._outer_boxes(edge.target)]
            shared = [one for one, other in zip(*paths, strict=False) if one == other]
            self.lanes[shared[-1] if shared else ""].append(edge)

    def _outer_boxes(self, element: str) -> tuple[str, ...]:
        """Return the boxes around an element. A node on the outline of a box counts as outside that box."""
        path = self.enclosing_boxes[element]
        return path[:-1] if element in self._on_outlines else path

    def between(self, above: Element, below: Element) -> list[Edge]:
        """Return the straight edges from one element to the one below it."""
        sources, targets = self._sources_in(above), self._targets_in(below)
        return [
            edge for source in sources for edge in self.leaving[source] if edge.lane is None and edge.target in targets
        ]

    def _sources_in(self, element: Element) -> list[str]:
        """Return the ids at which a straight edge may start: the element itself, its exit, its last inner row."""
        if isinstance(element, Node):
            return [element.id]
        inside = self._sources_in(element.rows[-1][0]) if element.kind in ("engine", "run") and element.rows else []
        return [element.id, *([element.exit] if element.exit is not None else []), *inside]

    def _targets_in(self, element: Element) -> list[str]:
        """Return the ids at which a straight edge may end: the element itself, its entry, its first inner row."""
        if isinstance(element, Node):
            return [element.id]
        inside = self._targets_in(element.rows[0][0]) if element.kind in ("engine", "run") and element.rows else []
        return [element.id, *([element.entry] if element.entry is not None else []), *inside]

    def sideways(self, element: Element, lane: str) -> list[Edge]:
        """Return the edges that leave an element into its left or right lane."""
        return [edge for edge in self.leaving[element.id] if edge.lane == lane and id(edge) not in self.straight]

    def arrival(self, element: str) -> float:
        """Return the y at which a lane reaches an element."""
        found = self.elements[element]
        return self.rects[element].top + 15 if isinstance(found, Box) else self.middle[element]

    # -- rows --------------------------------------------------------------------------------------------------------

    def _stack(self, rows: list[Row], top: float) -> float:
        """Set the heights of all rows, the first one at ``top``; return where the last one ends."""
        previous: Row | None = None
        for row in rows:
            if previous is not None:
                top += self._row_gap(previous, row)
            top = self._stack_row(row, top)
            previous = row
        return top

    def _stack_row(self, row: Row, top: float) -> float:
        heights = [node_size(element)[1] if isinstance(element, Node) else 0.0 for element in row]
        bottom = top + max(heights)
        for element, height in zip(row, heights, strict=True):
            if isinstance(element, Node):
                middle = (top + top + max(heights)) / 2
                self.middle[element.id] = middle
                self.rects[element.id] = Rect(0, middle - height / 2, 0, middle + height / 2)
            else:
                bottom = max(bottom, self._stack_box(element, top))
        return bottom

    def _stack_box(self, box: Box, top: float) -> float:
        head_lines = element_lines(box)
        rows = box.rows
        if box.entry is not None:
            self._place_on_outline(box.entry, top)
            inner = rows[1:-1]
            head = lines_height(head_lines) + 10
            # labels at the left of the first row must be below the head, which is at the left, too
            left = sum(lines_height(self.chart.label(edge)) for edge in self.sideways(rows[1][0], "left"))
            head = max(head + left + 8 * (left > 0), self._row_gap(rows[0], rows[1]))
            bottom = self._stack(inner, top + head) if inner else top + head - ROW_GAP
            bottom += self._row_gap(inner[-1] if inner else rows[0], rows[-1])
            assert box.exit is not None
            self._place_on_outline(box.exit, bottom)
        else:
            bottom = top + lines_height(head_lines) + (10 if head_lines else 0)
            if rows:
                bottom = self._stack(rows, bottom + (6 if head_lines else PADDING)) + PADDING
            bottom = max(bottom + 4 * (not rows), top + 30)
        self.rects[box.id] = Rect(0, top, 0, bottom)
        self.middle[box.id] = (top + bottom) / 2
        return bottom

    def _place_on_outline(self, node: str, y: float) -> None:
        radius = RADII["entry"]
        self.middle[node] = y
        self.rects[node] = Rect(-radius, y - radius, radius, y + radius)

    # -- room for labels ---------------------------------------------------------------------------------------------

    def _row_gap(self, above: Row, below: Row) -> float:
        """Return the distance of two rows: room for the labels between them, and for those beside either row."""
        up, _ = self.label_heights_beside(below)
        _, down = self.label_heights_beside(above)
        return (
            self._label_gap(above, below)
            + max(0.0, up - self.half_height(below))
            + max(0.0, down - self.half_height(above))
        )

    def half_height(self, row: Row) -> float:
        """Return half the height of a row of nodes; 0 for a box."""
        return max(node_size(element)[1] / 2 if isinstance(element, Node) else 0.0 for element in row)

    def _label_gap(self, above: Row, below: Row) -> float:
        """Return the room for the labels of the edges between two rows."""
        right = left = 0.0
        for edge in self.between(above[0], below[0]):
            right += lines_height(self.chart.label(edge))
        for element in below[1:]:
            for edge in self.between(above[0], element):
                right = max(right, lines_height(self.chart.label(edge)))
        right += self.label_height_below(above, below)
        left += sum(lines_height(self.chart.label(edge)) for edge in self.sideways(below[0], "left"))
        right += sum(lines_height(self.chart.label(edge)) for edge in self.sideways(below[0], "right"))
        return max(right + 22, left + 12) if right or left else ROW_GAP

    def label_height_below(self, above: Row, below: Row) -> float:
        """Return the height of the labels of edges that come down from beside ``above`` to ``below``."""
        targets = self._targets_in(below[0])
        edges = [edge for element in above[1:] for edge in self.leaving[element.id] if edge.target in targets]
        return max((lines_height(self.chart.label(edge)) for edge in edges), default=0.0)

    def label_heights_beside(self, row: Row) -> tuple[float, float]:
        """Return how far the labels between the elements of a row reach above and below its middle."""
        up = down = 0.0
        ids = {element.id for element in row}
        for edge in (edge for element in row for edge in self.leaving[element.id] if edge.target in ids):
            events, others = split_label(self.chart.label(edge))
            up, down = max(up, lines_height(events) + 12), max(down, lines_height(others) + 8)
        for edge in self.chart.edges:
            # an edge from the outline of the box around the row arrives with its label above it
            if (
                edge.kind == "boundary"
                and edge.target in ids & self.beside
                and edge.source in self.enclosing_boxes[edge.target]
            ):
                target = self.elements[edge.target]
                height = node_size(target)[1] if isinstance(target, Node) else 0.0
                up = max(up, lines_height(self.chart.label(edge)) + height / 2 + 12)
        return up, down


def split_label(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines above a horizontal edge, its events, and those below it; without events, all are above."""
    events = [line for line in lines if line[0][0] == "event"] or lines
    return events, [line for line in lines if line not in events]
