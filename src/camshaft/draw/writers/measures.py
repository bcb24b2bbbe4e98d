"""Sizes of texts, nodes and heads of boxes, in pixels.

Text is set in a monospaced font, so its size is known without a browser.
"""

from __future__ import annotations

import attrs
from rich.cells import cell_len

from camshaft.draw.chart import Box, Element, Line, Node, printable

__all__ = ["FONT_SIZES", "LINE_HEIGHT", "RADII", "Rect", "element_lines", "line_width", "lines_height", "lines_width"]
__all__ += ["WORD_GAP", "node_size", "text_width"]

FONT_SIZES = {"event": 11.0, "guard": 10.0, "handler": 10.0, "count": 10.0, "state": 12.0, "title": 12.0, "note": 10.0}
"""Font size by role."""
CHARACTER_WIDTH = 0.61
"""Width of a character in units of its font size. The widest common monospaced font has 0.602."""
LINE_HEIGHT = 14.0
"""Distance between two baselines of one label."""
WORD_GAP = 6.0
"""Space between two texts on one line."""
RADII = {
    "start": 7.0,
    "point": 3.0,
    "merge": 3.0,
    "choice": 8.0,
    "entry": 5.0,
    "exit": 5.0,
    "final": 8.0,
    "history": 12.0,
}
"""Half the size of a node without text inside, by its kind."""


@attrs.define
class Rect:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


def text_width(text: str, role: str) -> float:
    """Return the width of a text.

    Args:
        text: what is written; a wide character counts twice.
        role: a key of ``FONT_SIZES``.
    """
    return cell_len(text) * FONT_SIZES[role] * CHARACTER_WIDTH


def line_width(line: Line) -> float:
    """Return the width of one line of a label."""
    return sum(text_width(text, role) for role, text in line) + WORD_GAP * (len(line) - 1)


def lines_width(lines: list[Line]) -> float:
    """Return the width of a label, which is that of its longest line."""
    return max(map(line_width, lines), default=0.0)


def lines_height(lines: list[Line]) -> float:
    """Return the height of a label."""
    return LINE_HEIGHT * len(lines)


def element_lines(element: Element) -> list[Line]:
    """Return the text inside a node, or the head of a box."""
    role = "title" if isinstance(element, Box) else "state"
    lines: list[Line] = [[(role, printable(element.label))]] if element.label else []
    if element.note and not (isinstance(element, Node) and element.kind in RADII):
        lines.append([("note", printable(element.note))])
    lines += [[("count", element.visits_text)]] * bool(element.visits_text)
    return lines + [[("handler", printable(line))] for line in (element.lines if isinstance(element, Box) else ())]


def node_size(node: Node) -> tuple[float, float]:
    """Return the width and height of a node."""
    if node.kind in RADII:
        return 2 * RADII[node.kind], 2 * RADII[node.kind]
    lines = element_lines(node)
    return max(lines_width(lines) + 28, 64.0), max(lines_height(lines) + 14, 30.0)
