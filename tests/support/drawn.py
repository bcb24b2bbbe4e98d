"""A drawn picture, read by positions only, as a person reads it.

Classes and ids of elements are ignored. An outline with others inside is a box. A line connects the outlines at its
ends. A block of text belongs to the nearest line.
"""

from __future__ import annotations

from math import hypot

import attrs

from browser import Box, Edge, Geometry, Node, Page, Point, Text, crossed, outside, overlaps
from support.picture import Seen

TOUCH = 2.5
"""Largest distance between an outline and the end of a line that touches it."""


def check_readable(page: Page) -> Geometry:
    """Assert that no text is covered, crossed by a line or cut off; return the geometry of the page."""
    geometry = page.geometry()
    assert not page.errors
    assert not overlaps(geometry.texts)
    assert not crossed(geometry.texts, geometry.edges)
    assert not outside([*geometry.texts, *geometry.nodes], geometry.view_box)
    return geometry


def seen_in(geometry: Geometry) -> Seen:
    """Return the nodes, boxes and edges of a drawn picture."""
    return _Reader(geometry).seen()


@attrs.define
class _Block:
    """Lines of text directly below each other."""

    texts: list[Text]

    @property
    def box(self) -> Box:
        boxes = [text.box for text in self.texts]
        return Box(
            min(box.left for box in boxes),
            min(box.top for box in boxes),
            max(box.right for box in boxes),
            max(box.bottom for box in boxes),
        )


class _Reader:
    def __init__(self, geometry: Geometry) -> None:
        page = geometry.view_box
        heads = [node for node in geometry.nodes if node.tag == "path"]
        self.nodes = {
            f"n{number}": node
            for number, node in enumerate(geometry.nodes)
            if node not in heads and abs(_area(node.box) - _area(page)) > 1
        }
        self._drop_inner_dots()
        self.edges = geometry.edges
        self.boxes = {
            name
            for name, node in self.nodes.items()
            if node.tag == "rect" and any(_is_around(node.box, other.box) for other in self.nodes.values())
        }
        self.texts = geometry.texts

    def _drop_inner_dots(self) -> None:
        """Remove dots inside rings: both together are one node."""
        for name, node in list(self.nodes.items()):
            if any(
                other is not node and _is_around(other.box, node.box) and other.tag == "circle"
                for other in self.nodes.values()
            ):
                del self.nodes[name]

    def seen(self) -> Seen:
        labels, titles, blocks = self._sort_texts()
        around = {name: self._around(node.box) for name, node in self.nodes.items()}
        ends = [(self._at(edge.start), self._at(edge.end)) for edge in self.edges]
        labels_of_edges: list[list[str]] = [[] for _ in self.edges]
        for block in blocks:
            nearest = min(range(len(self.edges)), key=lambda number: _distance(block.box, self.edges[number]))
            labels_of_edges[nearest] += [text.string for text in block.texts]
        edges, boundary = [], []
        for edge, (source, target), lines in zip(self.edges, ends, labels_of_edges, strict=True):
            guards = frozenset(line[1:-1] for line in lines if line.startswith("["))
            events = [line for line in lines if not line.startswith("[") and line != "from anywhere inside"]
            assert len(events) <= 1, f"one line has several events: {events}"
            is_boundary = edge.dashed and source in self.boxes
            (boundary if is_boundary else edges).append((source, target, "".join(events), guards))
        starts = [name for name, node in self.nodes.items() if node.tag == "circle" and not around[name]]
        starts = [name for name in starts if name not in {target for _, target in ends}]
        exits = {
            box: name
            for box in self.boxes
            for name, node in self.nodes.items()
            if node.tag == "circle"
            and abs(_middle(node.box).y - self.nodes[box].box.bottom) < 1
            and self.nodes[box].box.left < _middle(node.box).x < self.nodes[box].box.right
        }
        history = [name for name, label in labels.items() if label == "H*"]
        labels = {name: label for name, label in labels.items() if label != "H*" and self.nodes[name].tag == "rect"}
        titles = {box: titles.get(box, "") for box in self.boxes}
        assert len(starts) == 1
        return Seen(labels, around, titles, edges, boundary, starts[0], history[0] if history else "", exits)

    def _sort_texts(self) -> tuple[dict[str, str], dict[str, str], list[_Block]]:
        labels: dict[str, str] = {}
        titles: dict[str, str] = {}
        rest = []
        largest = max(text.size for text in self.texts)
        for text in sorted(self.texts, key=lambda text: (text.box.top, text.box.left)):
            inside = [name for name, node in self.nodes.items() if _is_around(node.box, text.box)]
            smallest = min(inside, key=lambda name: _area(self.nodes[name].box), default=None)
            if smallest is not None and smallest not in self.boxes:
                labels.setdefault(smallest, text.string)
            elif smallest is not None and self._is_head(text, self.nodes[smallest]):
                if text.size == largest:
                    titles[smallest] = text.string
            else:
                rest.append(text)
        return labels, titles, _blocks(rest)

    @staticmethod
    def _is_head(text: Text, node: Node) -> bool:
        """Return whether a text is at the upper left of a box, or in the middle of its top."""
        if text.string.startswith("[") or text.size == 11:  # labels of lines
            return False
        is_left = abs(text.box.left - node.box.left - 12) < 2
        is_centered = abs(_middle(text.box).x - _middle(node.box).x) < 60 and text.box.top - node.box.top < 20
        return (text.box.top - node.box.top < 48 and is_left) or (is_centered and _is_plain(text.string))

    def _around(self, box: Box) -> tuple[str, ...]:
        middle = _middle(box)
        found = [
            name for name in self.boxes if self.nodes[name].box.contains(middle, -1) and self.nodes[name].box is not box
        ]
        return tuple(sorted(found, key=lambda name: -_area(self.nodes[name].box)))

    def _at(self, point: Point) -> str:
        """Return the smallest outline touched by a line at this point."""
        found = [name for name, node in self.nodes.items() if _touches(node.box, point, name in self.boxes)]
        assert found, f"a line ends at nothing, {point}"
        return min(found, key=lambda name: _area(self.nodes[name].box))


def _is_plain(text: str) -> bool:
    return not text.startswith("[") and (text == "STEP" or " " in text)


def _middle(box: Box) -> Point:
    return Point((box.left + box.right) / 2, (box.top + box.bottom) / 2)


def _area(box: Box) -> float:
    return box.width * box.height


def _is_around(outer: Box, inner: Box) -> bool:
    return outer is not inner and inner.within(outer) and _area(inner) < _area(outer)


def _touches(box: Box, point: Point, is_box: bool) -> bool:
    inside = box.contains(point, -TOUCH)
    return inside and not (is_box and box.contains(point, TOUCH))  # lines end at the outline of a box, not inside it


def _distance(box: Box, edge: Edge) -> float:
    return min(
        hypot(max(box.left - point.x, 0, point.x - box.right), max(box.top - point.y, 0, point.y - box.bottom))
        for point in edge.points
    )


def _blocks(texts: list[Text]) -> list[_Block]:
    blocks: list[_Block] = []
    for text in texts:
        for block in blocks:
            last = block.texts[-1].box
            if -6 < text.box.top - last.bottom < 4.5 and min(last.right, text.box.right) > max(
                last.left, text.box.left
            ):
                block.texts.append(text)
                break
        else:
            blocks.append(_Block([text]))
    return blocks
