"""Text for a terminal: states from top to bottom, boxes as bars at the left, and edges with the names of targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from camshaft.draw.chart import Box, Chart, Edge, Element, Node, printable

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
"""Text that marks the current state of an engine."""


def text(chart: Chart) -> str:
    """Return a chart as lines of text.

    A line with ``│`` leads to the element below it. A line with ``├─`` or ``├╌`` leads to the element named after
    ``→``: by its name, or by the number of a point.
    """
    return "\n".join(_Writer(chart).rows(chart.rows, "")) + "\n"


class _Writer:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self.elements = {element.id: element for element in chart.elements()}
        self.box_of = {inner: box for box in chart.boxes for inner in (box.entry, box.exit) if inner is not None}
        self.order = [*self.elements]
        self.following = dict(zip(self.order, self.order[1:], strict=False))
        named = [edge.target for edge in chart.edges if not self._leads_down(edge)]
        unlabelled = {target for target in named if not self._label(target)}
        numbered = sorted(unlabelled, key=self.order.index)
        self.numbers = {target: f"({number})" for number, target in enumerate(numbered, 1)}

    def _leads_down(self, edge: Edge) -> bool:
        """Return whether an edge leads to the element printed below its source."""
        is_in_column = edge.lane is None and edge.kind != "boundary"
        return is_in_column and self._first_inside(edge.target) == self._below(edge.source)

    def _below(self, element: str) -> str | None:
        """Return the element printed below another one; the contents of a step or region are passed over."""
        found = self.elements[element]
        if isinstance(found, Box) and found.kind in ("step", "region"):
            inside = {inner.id for inner in self.elements.values() if element in self.chart.enclosing_boxes()[inner.id]}
            rest = self.order[self.order.index(element) + 1 :]
            return next((other for other in rest if other not in inside), None)
        return self._first_inside(self.following.get(element))

    def _first_inside(self, element: str | None) -> str | None:
        """Return the first element inside a box; a step, a region or a node is returned itself."""
        found = self.elements.get(element or "")
        while isinstance(found, Box) and found.kind not in ("step", "region"):
            found = self.elements.get(self.following[found.id])
        return found.id if found is not None else None

    def _label(self, element: str) -> str:
        found = self.elements[element]
        if element in self.box_of:
            box = self.box_of[element]
            return printable(box.label) if box.entry == element else f"end of {printable(box.label)}"
        return printable(found.label) if found.label else ""

    def rows(self, rows: list[list[Element]], margin: str) -> Iterator[str]:
        """Yield the lines of all elements of some rows, each line after ``margin``."""
        for element in (element for row in rows for element in row):
            if isinstance(element, Node):
                yield from self._node(element, margin)
            else:
                yield from self._box(element, margin)

    def _box(self, box: Box, margin: str) -> Iterator[str]:
        here = HERE if box.is_current else ""
        head = "  ".join(filter(None, [printable(box.label), printable(box.note), box.visits_text, here]))
        yield f"{margin}╭─ {head}"
        inner = margin + "│  "
        yield from (inner + printable(line) for line in box.lines)
        rows = [[element for element in row if element.id != box.exit] for row in box.rows]
        yield from self.rows([row for row in rows if row], inner)
        yield f"{margin}╰─" + ("◎" if box.exit is not None else "")
        for element in (box.exit, box.id):
            if element is not None:
                yield from self._edges(element, margin)

    def _node(self, node: Node, margin: str) -> Iterator[str]:
        if node.kind == "entry":
            yield from self._edges(node.id, margin)
            return
        number = self.numbers.get(node.id, "")
        label = f"[{printable(node.label)}]" if node.kind == "state" else printable(node.label)
        note = printable(node.note) if node.kind not in ("final", "history") else ""
        here = HERE if node.is_current else ""
        sign = SIGNS.get(node.kind, "")
        yield margin + "  ".join(filter(None, [sign + label, number, note, node.visits_text, here]))
        yield from self._edges(node.id, margin)

    def _edges(self, element: str, margin: str) -> Iterator[str]:
        # the edge that leads down comes last, next to the element below
        for edge in sorted(self.leaving[element], key=self._leads_down):
            label = self.chart.label_texts(edge)
            if self._leads_down(edge):
                yield f"{margin}│ {'  '.join(label)}".rstrip()
                continue
            target = self._label(edge.target) or self.numbers[edge.target]
            sign = "╌" if edge.kind in ("boundary", "observed") else "─"
            yield f"{margin}├{sign} {'  '.join([*label, f'→ {target}'])}"
