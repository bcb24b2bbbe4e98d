"""Text for a terminal: states from top to bottom, boxes as bars at the left, what leads elsewhere with its goal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from camshaft.draw.chart import Box, Chart, Edge, Element, Node, visible

__all__ = ["text"]

SIGNS = {
    "start": "●",
    "point": "•",
    "merge": "•",
    "choice": "◇",
    "final": "◉",
    "history": "Ⓗ",
    "nested": "▸ ",
    "folded": "⋮ ",
}


HERE = "◀ here"
"""Marks where the engine stands."""


def text(chart: Chart) -> str:
    """A chart as lines of text.

    A line that begins with ``│`` leads to what stands below it; one with ``└→`` to what is named behind it, by its
    name or by the number of a point.
    """
    return "\n".join(_Writer(chart).rows(chart.rows, "")) + "\n"


class _Writer:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self.elements = {element.id: element for element in chart.elements()}
        self.outlines = {inner: box for box in chart.boxes for inner in (box.entry, box.exit) if inner is not None}
        self.order = [*self.elements]
        self.following = dict(zip(self.order, self.order[1:], strict=False))
        far = [edge.target for edge in chart.edges if edge.lane is not None or edge.kind == "boundary"]
        far += [edge.target for edge in chart.edges if not self._is_next(edge)]
        named = [target for target in dict.fromkeys(far) if not self._label(target)]
        self.numbers = {target: f"({number})" for number, target in enumerate(sorted(named, key=self.order.index), 1)}

    def _is_next(self, edge: Edge) -> bool:
        return edge.lane is None and edge.kind != "boundary" and self._head(edge.target) == self._after(edge.source)

    def _after(self, element: str) -> str | None:
        """What stands below an element: the next one, past the box that it may be."""
        found = self.elements[element]
        if isinstance(found, Box) and found.kind in ("step", "region"):
            inside = {inner.id for inner in self.elements.values() if element in self.chart.enclosing_boxes()[inner.id]}
            rest = self.order[self.order.index(element) + 1 :]
            return next((other for other in rest if other not in inside), None)
        return self._head(self.following.get(element))

    def _head(self, element: str | None) -> str | None:
        """The first that is in it, if it is a box that is entered by that."""
        found = self.elements.get(element or "")
        while isinstance(found, Box) and found.kind not in ("step", "region"):
            found = self.elements.get(self.following[found.id])
        return found.id if found is not None else None

    def _label(self, element: str) -> str:
        found = self.elements[element]
        if element in self.outlines:
            box = self.outlines[element]
            return visible(box.label) if box.entry == element else f"end of {visible(box.label)}"
        return visible(found.label) if found.label else ""

    def rows(self, rows: list[list[Element]], margin: str) -> Iterator[str]:
        """The lines of everything in a box."""
        for element in (element for row in rows for element in row):
            if isinstance(element, Node):
                yield from self._node(element, margin)
            else:
                yield from self._box(element, margin)

    def _box(self, box: Box, margin: str) -> Iterator[str]:
        here = HERE if box.is_current else ""
        words = "  ".join(filter(None, [visible(box.label), visible(box.note), box.seen, here]))
        yield f"{margin}╭─ {words}"
        inner = margin + "│  "
        yield from (inner + visible(line) for line in box.lines)
        rows = [[element for element in row if element.id != box.exit] for row in box.rows]
        yield from self.rows([row for row in rows if row], inner)
        yield f"{margin}╰─" + ("◎" if box.exit is not None else "")
        for element in (box.exit, box.id):
            if element is not None:
                yield from self._ways(element, margin)

    def _node(self, node: Node, margin: str) -> Iterator[str]:
        if node.kind == "entry":
            yield from self._ways(node.id, margin)
            return
        number = self.numbers.get(node.id, "")
        label = f"[{visible(node.label)}]" if node.kind == "state" else visible(node.label)
        note = visible(node.note) if node.kind not in ("final", "history") else ""
        here = HERE if node.is_current else ""
        sign = SIGNS.get(node.kind, "")
        yield margin + "  ".join(filter(None, [sign + label, number, note, node.seen, here]))
        yield from self._ways(node.id, margin)

    def _ways(self, element: str, margin: str) -> Iterator[str]:
        edges = self.leaving[element]
        for edge in sorted(edges, key=self._is_next):
            words = self.chart.lines(edge)
            if self._is_next(edge):
                yield f"{margin}│ {'  '.join(words)}".rstrip()
                continue
            goal = self._label(edge.target) or self.numbers[edge.target]
            sign = "╌" if edge.kind in ("boundary", "observed") else "─"
            yield f"{margin}├{sign} {'  '.join([*words, f'→ {goal}'])}"
