"""Layout: the position of everything in a picture.

A training loop is a tree of loops, and a run passes through it from top to bottom. So all of its states are in one
column with boxes around them. An edge from one state to the next is a straight vertical line with its label to the
right. An edge that passes other states runs in a lane at the side: skips at the left, repetitions at the right. Short
lanes are inside, longer ones around them, so lanes do not cross.

Heights are found first, from top to bottom, by :mod:`camshaft.draw.writers.rows`. This module then finds widths, from
the innermost boxes outwards, and draws the edges. All lengths are pixels, x grows to the right from the axis of the
column, y grows downwards.
"""

from __future__ import annotations

from itertools import pairwise

import attrs

from camshaft.draw.chart import Box, Chart, Edge, Element, Line, Node
from camshaft.draw.writers.measures import (
    LINE_HEIGHT,
    RADII,
    WORD_GAP,
    Rect,
    element_lines,
    line_width,
    lines_height,
    lines_width,
    node_size,
    text_width,
)
from camshaft.draw.writers.rows import MARGIN, PADDING, Row, StackedChart, split_label

__all__ = ["Drawing", "Shape", "Text", "Wire", "lay_out"]

LABEL_DISTANCE = 9.0
"""Distance from a vertical line to the label at its right."""
LANE_DISTANCE = 14.0
"""Distance between a lane and its neighbours."""

Point = tuple[float, float]


@attrs.frozen
class Text:
    """A text at its position.

    Attributes:
        x, y: the point of its baseline that ``anchor`` names.
        text: what is written.
        role: ``"event"``, ``"guard"``, ``"handler"``, ``"count"``, ``"state"``, ``"title"`` or ``"note"``.
        anchor: ``"start"``, ``"middle"`` or ``"end"``.
        owner: the element or edge that it belongs to.
    """

    x: float
    y: float
    text: str
    role: str
    anchor: str
    owner: Element | Edge


@attrs.frozen
class Shape:
    """The outline of a node or box, by its upper left corner and its size."""

    element: Element
    x: float
    y: float
    width: float
    height: float


@attrs.frozen
class Wire:
    """An edge as a line.

    Attributes:
        edge: the edge.
        points: the start, the corners and the end of the line.
        has_head: True if the line ends in an arrow.
        is_straight: True if the line leads straight down to the next row.
    """

    edge: Edge
    points: tuple[Point, ...]
    has_head: bool
    is_straight: bool


@attrs.frozen
class Drawing:
    """A chart with positions in pixels; a box comes before its contents."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    wires: tuple[Wire, ...]
    texts: tuple[Text, ...]


def lay_out(chart: Chart) -> Drawing:
    """Return the positions of all elements, edges and texts of a chart."""
    return _Layout(chart).drawing()


class _Layout:
    """Finds widths and draws edges, for rows whose heights are known."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.stacked = StackedChart(chart)
        self.rects = self.stacked.rects
        self.middle = self.stacked.middle
        self.leaving = self.stacked.leaving
        self.center: dict[str, float] = {}  # by element, the x of its middle
        self.wires: dict[int, tuple[Point, ...]] = {}  # by id() of an edge, its points
        self.texts: list[Text] = []

    def drawing(self) -> Drawing:
        """Find all positions, and move them so that the picture starts at x = 0."""
        extent = self._spread(self.chart.rows, "")
        dx = MARGIN - extent.left
        width, height = extent.right - extent.left + 2 * MARGIN, self.stacked.bottom + MARGIN
        shapes = tuple(
            Shape(element, rect.left + dx, rect.top, rect.right - rect.left, rect.bottom - rect.top)
            for element in self.stacked.elements.values()
            for rect in [self.rects[element.id]]
        )
        wires = tuple(
            Wire(
                edge,
                tuple((x + dx, y) for x, y in self.wires[id(edge)]),
                self._has_head(edge),
                id(edge) in self.stacked.straight,
            )
            for edge in self.chart.edges
        )
        texts = tuple(attrs.evolve(text, x=text.x + dx) for text in self.texts)
        return Drawing(width, height, shapes, wires, texts)

    def _has_head(self, edge: Edge) -> bool:
        target = self.stacked.elements[edge.target]
        is_passed = isinstance(target, Node) and target.kind in ("point", "choice", "merge") and not target.is_custom
        return not is_passed or id(edge) not in self.stacked.straight

    # -- elements ----------------------------------------------------------------------------------------------------

    def _spread(self, rows: list[Row], box: str) -> Rect:
        """Place everything in a box from left to right; return the rectangle around it."""
        taken: list[Rect] = []
        previous: Row | None = None
        for number, row in enumerate(rows):
            taken += self._place(row[0], 0.0)
            taken += self._label_sideways(row[0])
            if previous is not None:
                taken += self._draw_straight(previous, row)
            taken += self._place_beside(row, rows[number:])
            previous = row
        # short lanes first, so that longer ones are drawn around them
        lanes = sorted(self.stacked.lanes[box], key=lambda edge: (self._length(edge), self.stacked.order[edge.source]))
        for edge in lanes:
            taken += self._draw_lane(edge, taken)
        for row, following in pairwise(rows):
            taken += self._draw_from_beside(row)
            taken += self._draw_to_beside(row, following)
        return Rect(
            min((rect.left for rect in taken), default=0.0),
            min((rect.top for rect in taken), default=0.0),
            max((rect.right for rect in taken), default=0.0),
            max((rect.bottom for rect in taken), default=0.0),
        )

    def _place(self, element: Element, x: float) -> list[Rect]:
        """Place an element, with its text and its contents, around ``x``."""
        rect = self.rects[element.id]
        self.center[element.id] = x
        if isinstance(element, Node):
            width = node_size(element)[0]
            rect.left, rect.right = x - width / 2, x + width / 2
            if element.kind not in RADII:
                lines = element_lines(element)
                top = (rect.top + rect.bottom - lines_height(lines)) / 2
                self._write_lines(lines, x, top + LINE_HEIGHT - 3.5, "middle", element)
            elif element.label:
                self.texts.append(Text(x, self.middle[element.id] + 4, element.label, "state", "middle", element))
            return [rect]
        lines = element_lines(element)
        inside = self._spread(element.rows, element.id)
        self._draw_inner_boundary(element, inside)
        width = lines_width(lines)
        if element.rows:
            # the head of a box that is entered from above is to the left of the line that enters it
            is_entered = element.kind not in ("step", "region")
            rect.left = min(inside.left - PADDING, -width - 30 if is_entered else -60.0)
            rect.right = max(inside.right + PADDING, 60.0, rect.left + width + 24)
            self._write_lines(lines, rect.left + 12, rect.top + 18, "start", element)
        else:
            half = max(width / 2 + 14, 40.0)
            rect.left, rect.right = -half, half
            self._write_lines(lines, 0.0, rect.top + 18, "middle", element)
        return [rect]

    def _place_beside(self, row: Row, rows: list[Row]) -> list[Rect]:
        """Place the elements of a row to the right of its first one, and draw the edges between them.

        Args:
            row: the row.
            rows: this row and all rows below it in the same box.
        """
        taken: list[Rect] = []
        for last, element in pairwise(row):
            edges = [
                edge
                for one, other in ((last, element), (element, last))
                for edge in self.leaving[one.id]
                if edge.target == other.id
            ]
            room = max((lines_width(self.chart.label(edge)) for edge in edges), default=0.0)
            x = self.rects[last.id].right + max(room + 28, 40.0)
            x = max([x, *self._ends_of_labels_above(last)])
            assert isinstance(element, Node)
            center = max(x + node_size(element)[0] / 2, self._clear_of_labels(element, rows))
            taken += self._place(element, center)
            for edge in edges:
                taken += self._draw_across(edge, last, element)
        return taken

    def _clear_of_labels(self, element: Node, rows: list[Row]) -> float:
        """Return the smallest x at which the edge down from an element beside others clears the labels it passes."""
        right = 0.0
        for edge in (edge for edge in self.leaving[element.id] if edge.target not in {one.id for one in rows[0]}):
            own = lines_width(self.chart.label(edge)) + 20
            right = max(right, own)
            for above, below in pairwise(rows):
                between = self.stacked.between(above[0], below[0])
                passed = max((lines_width(self.chart.label(straight)) for straight in between), default=0.0)
                if isinstance(below[0], Node):
                    right = max(right, node_size(below[0])[0] / 2 + LANE_DISTANCE)
                if below[0].id == edge.target:
                    right = max(right, LABEL_DISTANCE + passed + own)
                    break
                right = max(right, LABEL_DISTANCE + passed + LANE_DISTANCE)
        return right

    def _ends_of_labels_above(self, element: Element) -> list[float]:
        """Return the x where the labels end at edges that reach an element beside others from above."""
        return [
            self.center[element.id] + LABEL_DISTANCE + lines_width(self.chart.label(edge)) + 8
            for edge in self.chart.edges
            if edge.kind == "boundary" and edge.target == element.id and element.id in self.stacked.beside
        ]

    # -- texts -------------------------------------------------------------------------------------------------------

    def _write_lines(self, lines: list[Line], x: float, y: float, anchor: str, owner: Element | Edge) -> None:
        """Write lines below each other, the first one with its baseline at ``y``."""
        for number, line in enumerate(lines):
            if len(line) == 1:
                self.texts.append(Text(x, y + number * LINE_HEIGHT, line[0][1], line[0][0], anchor, owner))
                continue
            left = {"start": x, "end": x - line_width(line), "middle": x - line_width(line) / 2}[anchor]
            for role, text in line:
                self.texts.append(Text(left, y + number * LINE_HEIGHT, text, role, "start", owner))
                left += text_width(text, role) + WORD_GAP

    def _write_label(self, edge: Edge, lines: list[Line], x: float, bottom: float, anchor: str) -> Rect:
        """Write lines of the label of an edge above ``bottom``; return their rectangle."""
        top = bottom - lines_height(lines)
        self._write_lines(lines, x, top + LINE_HEIGHT - 3, anchor, edge)
        width = lines_width(lines)
        left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
        return Rect(left, top, left + width, bottom)

    def _label_sideways(self, element: Element) -> list[Rect]:
        """Write the labels of edges that leave an element into a lane, above their lines."""
        taken = []
        half = self.rects[element.id].right
        y = self.middle[element.id]
        bottom = {"left": y - 3, "right": y - 3}
        for edge in self.leaving[element.id]:
            lines = self.chart.label(edge)
            if edge.lane is None or id(edge) in self.stacked.straight or not lines:
                continue
            x = -half - 4 if edge.lane == "left" else half + 4
            rect = self._write_label(edge, lines, x, bottom[edge.lane], "end" if edge.lane == "left" else "start")
            bottom[edge.lane] = rect.top
            taken.append(rect)
        return taken

    # -- edges -------------------------------------------------------------------------------------------------------

    def _draw(self, edge: Edge, points: list[Point]) -> None:
        self.wires[id(edge)] = tuple(points)

    def _length(self, edge: Edge) -> float:
        return abs(self.middle[edge.source] - self.stacked.arrival(edge.target))

    def _draw_straight(self, above: Row, below: Row) -> list[Rect]:
        """Draw the straight edges between two rows, with their labels to the right."""
        taken = []
        element = below[0]
        up, _ = self.stacked.label_heights_beside(below)
        _, down = self.stacked.label_heights_beside(above)
        bottom = min(self.rects[element.id].top - 9, self.middle[element.id] - up)
        bottom -= self.stacked.label_height_below(above, below)
        bottom -= sum(lines_height(self.chart.label(edge)) for edge in self.stacked.sideways(element, "right"))
        for edge in self.stacked.between(above[0], element):
            lines = self.chart.label(edge)
            self._draw(edge, [(0.0, self.rects[edge.source].bottom), (0.0, self.rects[edge.target].top)])
            top = max(self.rects[edge.source].bottom, self.middle[above[0].id] + down)
            if lines:
                # in the middle of the free room
                lowest = min(bottom, bottom - (bottom - top - 5 - lines_height(lines)) / 2)
                taken.append(self._write_label(edge, lines, LABEL_DISTANCE, lowest, "start"))
        return taken

    def _draw_lane(self, edge: Edge, taken: list[Rect]) -> list[Rect]:
        """Draw an edge in a lane of its own, outside of everything it passes."""
        y1, y2 = self.middle[edge.source], self.stacked.arrival(edge.target)
        top, bottom = min(y1, y2), max(y1, y2)
        source, target = self.rects[edge.source], self.rects[edge.target]
        passed = [rect for rect in taken if rect.bottom > top - 2 and rect.top < bottom + 2]
        if edge.lane == "left":
            x = min(min((rect.left for rect in passed), default=0.0), source.left) - LANE_DISTANCE
            ends = (source.left, target.left)
        else:
            x = max(max((rect.right for rect in passed), default=0.0), source.right) + LANE_DISTANCE
            ends = (source.right, target.right)
        self._draw(edge, [(ends[0], y1), (x, y1), (x, y2), (ends[1], y2)])
        return [Rect(x, top, x, bottom)]

    def _draw_across(self, edge: Edge, left: Element, right: Element) -> list[Rect]:
        """Draw a horizontal edge between two neighbours of one row, in either direction."""
        y = self.middle[left.id]
        x1, x2 = self.rects[left.id].right, self.rects[right.id].left
        self._draw(edge, [(x1, y), (x2, y)] if edge.source == left.id else [(x2, y), (x1, y)])
        events, others = split_label(self.chart.label(edge))
        x = (x1 + x2) / 2
        taken = [self._write_label(edge, events, x, y - 3, "middle")]
        if others:
            taken.append(self._write_label(edge, others, x, y + 4 + lines_height(others), "middle"))
        return taken

    def _draw_from_beside(self, row: Row) -> list[Rect]:
        """Draw the edges that lead from an element beside others to a row further down."""
        taken: list[Rect] = []
        for element in row[1:]:
            for edge in self.leaving[element.id]:
                if id(edge) in self.wires or edge.target in self.stacked.beside:
                    continue
                x, y = self.center[element.id], self.stacked.arrival(edge.target)
                self._draw(edge, [(x, self.rects[element.id].bottom), (x, y), (self.rects[edge.target].right, y)])
                lines = self.chart.label(edge)
                if lines:
                    taken.append(self._write_label(edge, lines, x - 8, y - 3, "end"))
        return taken

    def _draw_to_beside(self, row: Row, below: Row) -> list[Rect]:
        """Draw the edges that lead from the first element of a row to one beside others in the row below."""
        taken: list[Rect] = []
        for element in below[1:]:
            for edge in self.leaving[row[0].id]:
                if edge.target == element.id and id(edge) not in self.wires:
                    x = self.center[element.id]
                    self._draw(edge, [(x, self.rects[row[0].id].bottom), (x, self.rects[element.id].top)])
                    bottom = self.middle[element.id] - self.stacked.half_height(below) - 9
                    taken.append(self._write_label(edge, self.chart.label(edge), x + LABEL_DISTANCE, bottom, "start"))
        return taken

    def _draw_inner_boundary(self, box: Box, inside: Rect) -> None:
        """Draw the edges that lead from the outline of a box to an element beside others in it.

        Args:
            box: the box.
            inside: the rectangle around its contents; made wider where an edge needs it.
        """
        for edge in self.leaving[box.id]:
            if box.id in self.stacked.enclosing_boxes[edge.target] and edge.target in self.stacked.beside:
                lines = self.chart.label(edge)
                rect, y = self.rects[edge.target], self.middle[edge.target]
                x = max(inside.right + PADDING, rect.right + 40, rect.left + 30 + lines_width(lines))
                self._draw(edge, [(x, y), (rect.right, y)])
                # the label is above the line and the element, which takes less room than beside them
                self._write_label(edge, lines, x - 10, rect.top - 4, "end")
                inside.right = max(inside.right, x - PADDING)
