"""Where the parts of a drawn picture are, as a browser says, and what of it is in the way of what."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple, Self

import attrs

SLACK = 0.5  # boxes that touch, or share less than can be seen, are apart


class Point(NamedTuple):
    x: float
    y: float


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def contains(self, point: Point, slack: float = 0) -> bool:
        """Whether the point is inside, and by more than ``slack``."""
        across = self.left + slack < point.x < self.right - slack
        return across and self.top + slack < point.y < self.bottom - slack

    def overlaps(self, other: "Box") -> bool:
        across = min(self.right, other.right) - max(self.left, other.left)
        return across > SLACK and min(self.bottom, other.bottom) - max(self.top, other.top) > SLACK

    def within(self, other: "Box") -> bool:
        across = self.left >= other.left - SLACK and self.right <= other.right + SLACK
        return across and self.top >= other.top - SLACK and self.bottom <= other.bottom + SLACK


@attrs.frozen(kw_only=True)
class Part:
    """What is known of each element: ``classes`` is its class attribute, ``data`` its data-* attributes."""

    id: str
    classes: str
    data: dict[str, str] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Text(Part):
    """One line of text: a <text>, one <tspan> of it, or a piece of HTML in a <foreignObject>."""

    string: str
    box: Box
    size: float
    fill: str


@attrs.frozen(kw_only=True)
class Node(Part):
    """An outline: a rect, circle, ellipse, polygon, or a path with an area."""

    tag: str
    box: Box
    fill: str
    stroke: str


@attrs.frozen(kw_only=True)
class Edge(Part):
    """A line without an area; ``points`` are about 2 units apart."""

    tag: str
    points: tuple[Point, ...] = attrs.field(repr=False)
    stroke: str
    dashed: bool
    marker_start: bool
    marker_end: bool

    @property
    def start(self) -> Point:
        return self.points[0]

    @property
    def end(self) -> Point:
        return self.points[-1]


@attrs.frozen
class Geometry:
    """All that an <svg> shows, in its user units and in the order in which it is painted."""

    view_box: Box
    texts: list[Text]
    nodes: list[Node]
    edges: list[Edge]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """Reads what geometry.js gives."""
        return cls(
            Box(*found["view_box"]),
            [Text(**{**text, "box": Box(*text["box"])}) for text in found["texts"]],
            [Node(**{**node, "box": Box(*node["box"])}) for node in found["nodes"]],
            [Edge(**{**edge, "points": tuple(Point(*at) for at in edge["points"])}) for edge in found["edges"]],
        )


def overlaps(texts: Iterable[Text]) -> list[tuple[Text, Text]]:
    """The pairs of texts that are written over each other."""
    return [(one, other) for one, other in combinations(texts, 2) if one.box.overlaps(other.box)]


def crossed(texts: Iterable[Text], edges: Iterable[Edge]) -> list[tuple[Text, Edge]]:
    """The texts that a line goes through, each with that line."""
    edges = list(edges)
    return [
        (text, edge)
        for text in texts
        for edge in edges
        if any(text.box.contains(point, SLACK) for point in edge.points)
    ]


def outside(parts: Iterable[Text | Node], view_box: Box) -> list[Text | Node]:
    """What is cut off at the border of the picture."""
    return [part for part in parts if not part.box.within(view_box)]
