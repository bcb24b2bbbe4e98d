"""Where everything stands: a chart laid out along one vertical axis.

A training loop is a tree of loops, and a run goes through it from top to bottom. So all of its states stand in one
column, boxes around them, and an edge from one to the next is a straight line with its words to the right. Whatever
passes by others takes a lane at the side: skips at the left, repetitions at the right. The short lanes lie inside,
the longer ones around them, so lanes do not cross.

Heights are found first, from top to bottom; then widths, from the inside out. Text is set in a monospaced font, so
its size is known without a browser.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import attrs
from rich.cells import cell_len

from camshaft.draw.chart import Box, Chart, Edge, Element, Line, Node, visible

__all__ = ["Drawing", "Shape", "Text", "Wire", "lay_out"]

SIZES = {"event": 11.0, "guard": 10.0, "handler": 10.0, "count": 10.0, "state": 12.0, "title": 12.0, "note": 10.0}
"""Font size by role, in pixels."""
ADVANCE = 0.61
"""The width of a character of a monospaced font, by its size; the widest of those in use have 0.602."""
LINE = 14.0
"""From one line of words to the next."""
GAP = 20.0
"""Between neighbours without words between them."""
SPACE = 6.0
"""Between two texts on one line."""
NEAR = 9.0
"""From a line to the words at its side."""
LANE = 14.0
"""Between a lane and what is beside it."""
PAD = 12.0
"""Between a box and what is in it."""
MARGIN = 10.0
"""Around the whole."""
ROUND = {
    "start": 7.0,
    "point": 3.0,
    "merge": 3.0,
    "choice": 8.0,
    "entry": 5.0,
    "exit": 5.0,
    "final": 8.0,
    "history": 12.0,
}
"""Half the size of nodes that have no words in them."""

Point = tuple[float, float]


@attrs.frozen
class Text:
    """A line of words.

    Attributes:
        x, y: where its baseline begins, ends or has its middle, by ``anchor``.
        text: the words.
        role: what they are: ``"event"``, ``"guard"``, ``"handler"``, ``"count"``, ``"state"``, ``"title"``, ``"note"``.
        anchor: ``"start"``, ``"middle"`` or ``"end"``.
        of: what they belong to.
    """

    x: float
    y: float
    text: str
    role: str
    anchor: str
    of: Node | Box | Edge


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
    """An edge as a line through points, which may end in an arrow; a straight one passes by nothing."""

    edge: Edge
    points: tuple[Point, ...]
    has_head: bool
    is_straight: bool


@attrs.frozen
class Drawing:
    """A chart with a place for everything, in pixels; boxes come before what is in them."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    wires: tuple[Wire, ...]
    texts: tuple[Text, ...]


def text_width(text: str, role: str) -> float:
    """How wide a text is set, in pixels."""
    return cell_len(text) * SIZES[role] * ADVANCE


def lay_out(chart: Chart) -> Drawing:
    """Lay a chart out."""
    return _Layout(chart).drawing()


@attrs.define
class _Rect:
    left: float
    top: float
    right: float
    bottom: float


def _height(words: list[Line]) -> float:
    return LINE * len(words)


def _long(line: Line) -> float:
    return sum(text_width(text, role) for role, text in line) + SPACE * (len(line) - 1)


def _width(words: list[Line]) -> float:
    return max(map(_long, words), default=0.0)


class _Layout:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.middle: dict[str, float] = {}  # by element, the height of its middle, for a node or of a box's outline
        self.center: dict[str, float] = {}  # how far right of the axis it stands
        self.rects: dict[str, _Rect] = {}
        self.elements = {element.id: element for element in chart.elements()}
        self.enclosing_boxes = chart.enclosing_boxes()
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self.beside = {element.id for rows in self._all_rows() for row in rows for element in row[1:]}
        self.owner = {inner: box.id for box in chart.boxes for inner in (box.entry, box.exit) if inner is not None}
        self.straight: set[int] = set()
        self.lanes: dict[str, list[Edge]] = defaultdict(list)  # by side and the box that they lie in
        self.wires: dict[int, tuple[Point, ...]] = {}
        self.texts: list[Text] = []
        self.order: dict[str, int] = {element: number for number, element in enumerate(self.elements)}

    def _all_rows(self) -> list[list[list[Element]]]:
        return [self.chart.rows, *(box.rows for box in self.chart.boxes)]

    def drawing(self) -> Drawing:
        """Heights, then widths, then everything moved to where it is seen."""
        self._sort_edges()
        bottom = self._stack(self.chart.rows, MARGIN)
        extent = self._spread(self.chart.rows, "")
        dx = MARGIN - extent.left
        width, height = extent.right - extent.left + 2 * MARGIN, bottom + MARGIN
        shapes = tuple(
            Shape(element, rect.left + dx, rect.top, rect.right - rect.left, rect.bottom - rect.top)
            for element in self.elements.values()
            for rect in [self.rects[element.id]]
        )
        wires = tuple(
            Wire(
                edge,
                tuple((x + dx, y) for x, y in self.wires[id(edge)]),
                self._has_head(edge),
                id(edge) in self.straight,
            )
            for edge in self.chart.edges
        )
        texts = tuple(attrs.evolve(text, x=text.x + dx) for text in self.texts)
        return Drawing(width, height, shapes, wires, texts)

    def _has_head(self, edge: Edge) -> bool:
        target = self.elements[edge.target]
        is_passed = isinstance(target, Node) and target.kind in ("point", "choice", "merge") and not target.is_custom
        return not is_passed or id(edge) not in self.straight

    # -- sizes -------------------------------------------------------------------------------------------------------

    def _words_in(self, element: Element) -> list[Line]:
        """What is written in a node or as the head of a box."""
        role = "title" if isinstance(element, Box) else "state"
        words: list[Line] = [[(role, visible(element.label))]] if element.label else []
        if element.note and not (isinstance(element, Node) and element.kind in ROUND):
            words.append([("note", visible(element.note))])
        words += [[("count", element.seen)]] * bool(element.seen)
        return words + [[("handler", visible(line))] for line in (element.lines if isinstance(element, Box) else ())]

    def _size(self, node: Node) -> tuple[float, float]:
        if node.kind in ROUND:
            return 2 * ROUND[node.kind], 2 * ROUND[node.kind]
        words = self._words_in(node)
        return max(_width(words) + 28, 64.0), max(_height(words) + 14, 30.0)

    # -- heights -----------------------------------------------------------------------------------------------------

    def _stack(self, rows: list[list[Element]], top: float) -> float:
        """Give every row its height, from ``top`` on; returns where the last one ends."""
        previous: list[Element] | None = None
        for row in rows:
            if previous is not None:
                top += self._row_gap(previous, row)
            top = self._stand(row, top)
            previous = row
        return top

    def _stand(self, row: list[Element], top: float) -> float:
        heights = [self._size(element)[1] if isinstance(element, Node) else 0.0 for element in row]
        bottom = top + max(heights)
        for element, height in zip(row, heights, strict=True):
            if isinstance(element, Node):
                middle = (top + top + max(heights)) / 2
                self.middle[element.id] = middle
                self.rects[element.id] = _Rect(0, middle - height / 2, 0, middle + height / 2)
            else:
                bottom = max(bottom, self._stand_box(element, top))
        return bottom

    def _stand_box(self, box: Box, top: float) -> float:
        words = self._words_in(box)
        rows = box.rows
        if box.entry is not None:  # entry and exit stand on the outline
            self._on_outline(box.entry, top)
            inner = rows[1:-1]
            head = _height(words) + 10  # words at the left of the first row stand below those of the head
            left = sum(_height(self.chart.words(edge)) for edge in self._sideways(rows[1][0], "left"))
            head = max(head + left + 8 * (left > 0), self._row_gap(rows[0], rows[1]))
            bottom = self._stack(inner, top + head) if inner else top + head - GAP
            bottom += self._row_gap(inner[-1] if inner else rows[0], rows[-1])
            assert box.exit is not None
            self._on_outline(box.exit, bottom)
        else:
            bottom = top + _height(words) + (10 if words else 0)
            if rows:
                bottom = self._stack(rows, bottom + (6 if words else PAD)) + PAD
            bottom = max(bottom + 4 * (not rows), top + 30)
        self.rects[box.id] = _Rect(0, top, 0, bottom)
        self.middle[box.id] = (top + bottom) / 2
        return bottom

    def _on_outline(self, node: str, y: float) -> None:
        half = ROUND["entry"]
        self.middle[node] = y
        self.rects[node] = _Rect(-half, y - half, half, y + half)
        self.center[node] = 0.0

    def _row_gap(self, above: list[Element], below: list[Element]) -> float:
        """The height between two rows: room for the words at the edges there, and for those beside either row."""
        up, _ = self._label_heights_beside(below)
        _, down = self._label_heights_beside(above)
        return (
            self._label_gap(above, below)
            + max(0.0, up - self._half_height(below))
            + max(0.0, down - self._half_height(above))
        )

    def _half_height(self, row: list[Element]) -> float:
        """Half the height of a row of nodes."""
        return max(self._size(element)[1] / 2 if isinstance(element, Node) else 0.0 for element in row)

    def _size_of(self, element: str) -> float:
        """The height of a node."""
        found = self.elements[element]
        return self._size(found)[1] if isinstance(found, Node) else 0.0

    def _sideways(self, element: Element, lane: str) -> list[Edge]:
        return [edge for edge in self.leaving[element.id] if edge.lane == lane and id(edge) not in self.straight]

    def _label_gap(self, above: list[Element], below: list[Element]) -> float:
        right = left = 0.0
        for edge in self._between(above[0], below[0]):
            right += _height(self.chart.words(edge))
        for element in below[1:]:
            for edge in self._between(above[0], element):
                right = max(right, _height(self.chart.words(edge)))
        right += self._label_height_below(above, below)
        left += sum(_height(self.chart.words(edge)) for edge in self._sideways(below[0], "left"))
        right += sum(_height(self.chart.words(edge)) for edge in self._sideways(below[0], "right"))
        return max(right + 22, left + 12) if right or left else GAP

    def _label_height_below(self, above: list[Element], below: list[Element]) -> float:
        """The height of the words of what comes down from beside a row to the next one."""
        edges = [
            edge for element in above[1:] for edge in self.leaving[element.id] if edge.target in self._heads(below[0])
        ]
        return max((_height(self.chart.words(edge)) for edge in edges), default=0.0)

    def _between(self, above: Element, below: Element) -> list[Edge]:
        """The edges that lead straight from one to the next."""
        ends, heads = self._ends(above), self._heads(below)
        return [edge for end in ends for edge in self.leaving[end] if edge.lane is None and edge.target in heads]

    def _ends(self, element: Element) -> list[str]:
        if isinstance(element, Node):
            return [element.id]
        inside = self._ends(element.rows[-1][0]) if element.kind in ("engine", "run") and element.rows else []
        return [element.id, *([element.exit] if element.exit is not None else []), *inside]

    def _heads(self, element: Element) -> list[str]:
        if isinstance(element, Node):
            return [element.id]
        inside = self._heads(element.rows[0][0]) if element.kind in ("engine", "run") and element.rows else []
        return [element.id, *([element.entry] if element.entry is not None else []), *inside]

    def _label_heights_beside(self, row: list[Element]) -> tuple[float, float]:
        """How far the words between the elements of a row reach above and below its middle."""
        up = down = 0.0
        ids = {element.id for element in row}
        for edge in (edge for element in row for edge in self.leaving[element.id] if edge.target in ids):
            events, others = self._parted(edge)
            up, down = max(up, _height(events) + 12), max(down, _height(others) + 8)
        for edge in self.chart.edges:  # from the outline of the box around it
            if (
                edge.kind == "boundary"
                and edge.target in ids & self.beside
                and edge.source in self.enclosing_boxes[edge.target]
            ):
                up = max(up, _height(self.chart.words(edge)) + self._size_of(edge.target) / 2 + 12)
        return up, down

    def _parted(self, edge: Edge) -> tuple[list[Line], list[Line]]:
        """The words of a level edge: events above it, the others below; all above where there is no event."""
        words = self.chart.words(edge)
        events = [line for line in words if line[0][0] == "event"] or words
        return events, [line for line in words if line not in events]

    # -- lanes -------------------------------------------------------------------------------------------------------

    def _sort_edges(self) -> None:
        """Which edges are straight; each other one lies in the innermost box around both of its ends."""
        for rows in self._all_rows():
            for above, below in pairwise(rows):
                for element in below:
                    self.straight |= {id(edge) for edge in self._between(above[0], element)}
        for edge in self.chart.edges:
            if id(edge) in self.straight or edge.source in self.beside or edge.target in self.beside:
                continue
            if edge.lane is None:
                edge.lane = "left" if self.order[edge.target] > self.order[edge.source] else "right"
            paths = [self._path(edge.source), self._path(edge.target)]
            shared = [one for one, other in zip(*paths, strict=False) if one == other]
            self.lanes[shared[-1] if shared else ""].append(edge)

    def _path(self, element: str) -> tuple[str, ...]:
        """The boxes around an element; one on an outline stands outside of that box."""
        path = self.enclosing_boxes[element]
        return path[:-1] if element in self.owner else path

    # -- widths ------------------------------------------------------------------------------------------------------

    def _spread(self, rows: list[list[Element]], box: str) -> _Rect:
        """Give everything in a box its place to the left and right; returns what it takes up."""
        taken: list[_Rect] = []
        previous: list[Element] | None = None
        for number, row in enumerate(rows):
            taken += self._place(row[0], 0.0)
            taken += self._write_leaving(row[0])
            if previous is not None:
                taken += self._write_straight(previous, row)
            taken += self._spread_beside(row, rows[number:])
            previous = row
        lanes = sorted(self.lanes[box], key=lambda edge: (self._span(edge), self.order[edge.source]))
        for edge in lanes:
            taken += self._lay_lane(edge, taken)
        for row, following in pairwise(rows):
            taken += self._lead_down(row, following)
        return _Rect(
            min((rect.left for rect in taken), default=0.0),
            min((rect.top for rect in taken), default=0.0),
            max((rect.right for rect in taken), default=0.0),
            max((rect.bottom for rect in taken), default=0.0),
        )

    def _place(self, element: Element, x: float) -> list[_Rect]:
        rect = self.rects[element.id]
        self.center[element.id] = x
        if isinstance(element, Node):
            width = self._size(element)[0]
            rect.left, rect.right = x - width / 2, x + width / 2
            if element.kind not in ROUND:
                self._write_in(element, x, rect)
            elif element.label:
                self.texts.append(Text(x, self.middle[element.id] + 4, element.label, "state", "middle", element))
            return [rect]
        words = self._words_in(element)
        inside = self._spread(element.rows, element.id)
        self._lay_inner_boundary(element, inside)
        width = _width(words)
        if element.rows:
            is_entered = element.kind not in ("step", "region")  # then its head stands to the left of what comes in
            rect.left = min(inside.left - PAD, -width - 30 if is_entered else -60.0)
            rect.right = max(inside.right + PAD, 60.0, rect.left + width + 24)
            self._write_lines(words, rect.left + 12, rect.top + 18, "start", element)
        else:
            half = max(width / 2 + 14, 40.0)
            rect.left, rect.right = -half, half
            self._write_lines(words, 0.0, rect.top + 18, "middle", element)
        return [rect]

    def _write_in(self, node: Node, x: float, rect: _Rect) -> None:
        words = self._words_in(node)
        top = (rect.top + rect.bottom - _height(words)) / 2
        self._write_lines(words, x, top + LINE - 3.5, "middle", node)

    def _write_lines(self, words: list[Line], x: float, y: float, anchor: str, of: Element | Edge) -> None:
        for number, line in enumerate(words):
            if len(line) == 1:
                self.texts.append(Text(x, y + number * LINE, line[0][1], line[0][0], anchor, of))
                continue
            left = {"start": x, "end": x - _long(line), "middle": x - _long(line) / 2}[anchor]
            for role, text in line:
                self.texts.append(Text(left, y + number * LINE, text, role, "start", of))
                left += text_width(text, role) + SPACE

    def _write(self, edge: Edge, words: list[Line], x: float, bottom: float, anchor: str) -> _Rect:
        """Write the words of an edge above a height; returns what they take up."""
        top = bottom - _height(words)
        self._write_lines(words, x, top + LINE - 3, anchor, edge)
        width = _width(words)
        left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
        return _Rect(left, top, left + width, bottom)

    def _write_straight(self, above: list[Element], below: list[Element]) -> list[_Rect]:
        """The straight edges between two rows, with their words to the right."""
        taken = []
        element = below[0]
        bottom = min(self.rects[element.id].top - 9, self.middle[element.id] - self._label_heights_beside(below)[0])
        bottom -= self._label_height_below(above, below)
        bottom -= sum(_height(self.chart.words(edge)) for edge in self._sideways(element, "right"))
        for edge in self._between(above[0], element):
            words = self.chart.words(edge)
            self._draw(edge, [(0.0, self.rects[edge.source].bottom), (0.0, self.rects[edge.target].top)])
            top = max(self.rects[edge.source].bottom, self.middle[above[0].id] + self._label_heights_beside(above)[1])
            if words:  # in the middle of the room that is there
                lowest = min(bottom, bottom - (bottom - top - 5 - _height(words)) / 2)
                taken.append(self._write(edge, words, NEAR, lowest, "start"))
        return taken

    def _write_leaving(self, element: Element) -> list[_Rect]:
        """The words of what leaves to the side: above the line."""
        taken = []
        half = self.rects[element.id].right
        y = self.middle[element.id]
        bottom = {"left": y - 3, "right": y - 3}
        for edge in self.leaving[element.id]:
            words = self.chart.words(edge)
            if edge.lane is None or id(edge) in self.straight or not words:
                continue
            x = -half - 4 if edge.lane == "left" else half + 4
            rect = self._write(edge, words, x, bottom[edge.lane], "end" if edge.lane == "left" else "start")
            bottom[edge.lane] = rect.top
            taken.append(rect)
        return taken

    def _lay_lane(self, edge: Edge, taken: list[_Rect]) -> list[_Rect]:
        y1, y2 = self.middle[edge.source], self._side_of(edge.target)
        top, bottom = min(y1, y2), max(y1, y2)
        beside = [rect for rect in taken if rect.bottom > top - 2 and rect.top < bottom + 2]
        if edge.lane == "left":
            x = min(min((rect.left for rect in beside), default=0.0), self._left(edge.source)) - LANE
            ends = (self._left(edge.source), self._left(edge.target))
        else:
            x = max(max((rect.right for rect in beside), default=0.0), self._right(edge.source)) + LANE
            ends = (self._right(edge.source), self._right(edge.target))
        self._draw(edge, [(ends[0], y1), (x, y1), (x, y2), (ends[1], y2)])
        return [_Rect(x, top, x, bottom)]

    # -- what stands beside others -----------------------------------------------------------------------------------

    def _spread_beside(self, row: list[Element], rows: list[list[Element]]) -> list[_Rect]:
        """Those of a row that stand to the right of the first, with the edges between them."""
        found: list[_Rect] = []
        for last, element in pairwise(row):
            edges = [
                edge
                for one, other in ((last, element), (element, last))
                for edge in self.leaving[one.id]
                if edge.target == other.id
            ]
            room = max((_width(self.chart.words(edge)) for edge in edges), default=0.0)
            x = self.rects[last.id].right + max(room + 28, 40.0)
            x = max([x, *self._words_from_above(last)])
            assert isinstance(element, Node)
            center = max(x + self._size(element)[0] / 2, self._clear_of(element, rows))
            found += self._place(element, center)
            for edge in edges:
                found += self._draw_across(edge, last, element)
        return found

    def _clear_of(self, element: Node, rows: list[list[Element]]) -> float:
        """How far right something beside others must stand, so that its way down passes by what is written there."""
        right = 0.0
        for edge in (edge for edge in self.leaving[element.id] if edge.target not in {one.id for one in rows[0]}):
            own = _width(self.chart.words(edge)) + 20
            right = max(right, own)
            for above, below in pairwise(rows):
                words = max(
                    (_width(self.chart.words(straight)) for straight in self._between(above[0], below[0])), default=0.0
                )
                if isinstance(below[0], Node):
                    right = max(right, self._size(below[0])[0] / 2 + LANE)
                if below[0].id == edge.target:
                    right = max(right, NEAR + words + own)
                    break
                right = max(right, NEAR + words + LANE)
        return right

    def _words_from_above(self, last: Element) -> list[float]:
        """Where words end that stand at the edges from above into the one before."""
        return [
            self.center[last.id] + NEAR + _width(self.chart.words(edge)) + 8
            for edge in self.chart.edges
            if edge.kind == "boundary" and edge.target == last.id and last.id in self.beside
        ]

    def _draw_across(self, edge: Edge, left: Element, right: Element) -> list[_Rect]:
        y = self.middle[left.id]
        x1, x2 = self.rects[left.id].right, self.rects[right.id].left
        self._draw(edge, [(x1, y), (x2, y)] if edge.source == left.id else [(x2, y), (x1, y)])
        events, others = self._parted(edge)
        x = (x1 + x2) / 2
        found = [self._write(edge, events, x, y - 3, "middle")]
        if others:
            found.append(self._write(edge, others, x, y + 4 + _height(others), "middle"))
        return found

    def _lead_down(self, row: list[Element], below: list[Element]) -> list[_Rect]:
        """Edges between something beside others and a row further down, and from the box above it."""
        found: list[_Rect] = []
        for element in row[1:]:
            for edge in self.leaving[element.id]:
                if id(edge) in self.wires or edge.target in self.beside:
                    continue
                x, y = self.center[element.id], self._side_of(edge.target)
                self._draw(edge, [(x, self.rects[element.id].bottom), (x, y), (self._right(edge.target), y)])
                words = self.chart.words(edge)
                if words:
                    found.append(self._write(edge, words, x - 8, y - 3, "end"))
        for element in below[1:]:
            for edge in self.leaving[row[0].id]:
                if edge.target == element.id and id(edge) not in self.wires:
                    x = self.center[element.id]
                    self._draw(edge, [(x, self.rects[row[0].id].bottom), (x, self.rects[element.id].top)])
                    level = self.middle[element.id] - self._half_height(below) - 9
                    found.append(self._write(edge, self.chart.words(edge), x + NEAR, level, "start"))
        return found

    def _lay_inner_boundary(self, box: Box, inside: _Rect) -> None:
        """Edges that lead from the outline of a box into something beside others in it."""
        for edge in self.leaving[box.id]:
            if box.id in self.enclosing_boxes[edge.target] and edge.target in self.beside:
                words = self.chart.words(edge)
                rect, y = self.rects[edge.target], self.middle[edge.target]
                x = max(inside.right + PAD, rect.right + 40, rect.left + 30 + _width(words))
                self._draw(edge, [(x, y), (rect.right, y)])
                self._write(edge, words, x - 10, rect.top - 4, "end")  # above both, which takes less room
                inside.right = max(inside.right, x - PAD)

    # -- ends of lines -----------------------------------------------------------------------------------------------

    def _draw(self, edge: Edge, points: list[Point]) -> None:
        self.wires[id(edge)] = tuple(points)

    def _side_of(self, element: str) -> float:
        """The height at which a lane arrives."""
        found = self.elements[element]
        return self.rects[element].top + 15 if isinstance(found, Box) else self.middle[element]

    def _left(self, element: str) -> float:
        return self.rects[element].left

    def _right(self, element: str) -> float:
        return self.rects[element].right

    def _span(self, edge: Edge) -> float:
        return abs(self.middle[edge.source] - self._side_of(edge.target))
