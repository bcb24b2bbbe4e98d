"""Positions of the parts of a picture, measured by a browser; overlaps, crossings and cut-off parts among them."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple, Self

import attrs

SLACK = 0.5  # an overlap below this is invisible, and ignored


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
        """Return whether a point is inside and more than ``slack`` away from the border."""
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
    """An element of a picture: ``classes`` is its class attribute, ``data`` its data-* attributes."""

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
    """All visible parts of an <svg>, in its user units and in the order of painting."""

    view_box: Box
    texts: list[Text]
    nodes: list[Node]
    edges: list[Edge]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """Convert the result of geometry.js."""
        return cls(
            Box(*found["view_box"]),
            [Text(**{**text, "box": Box(*text["box"])}) for text in found["texts"]],
            [Node(**{**node, "box": Box(*node["box"])}) for node in found["nodes"]],
            [Edge(**{**edge, "points": tuple(Point(*at) for at in edge["points"])}) for edge in found["edges"]],
        )


def overlaps(texts: Iterable[Text]) -> list[tuple[Text, Text]]:
    """Return the pairs of texts that overlap."""
    return [(one, other) for one, other in combinations(texts, 2) if one.box.overlaps(other.box)]


def crossed(texts: Iterable[Text], edges: Iterable[Edge]) -> list[tuple[Text, Edge]]:
    """Return the texts crossed by a line, each with that line."""
    edges = list(edges)
    return [
        (text, edge)
        for text in texts
        for edge in edges
        if any(text.box.contains(point, SLACK) for point in edge.points)
    ]


def outside(parts: Iterable[Text | Node], view_box: Box) -> list[Text | Node]:
    """Return the parts cut off at the border of the picture."""
    return [part for part in parts if not part.box.within(view_box)]
