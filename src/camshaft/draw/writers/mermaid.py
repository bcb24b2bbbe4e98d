"""Mermaid: the chart as a ``stateDiagram-v2``, as code hosts render it in Markdown.

Mermaid has no nodes on the outline of a box and lets no transition cross one. So what enters a box leads to the box,
and what leaves it leads to its inner end; where nothing but words stands between two states, one transition carries
the words of both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from camshaft.draw.chart import Box, Chart, Edge, Element, Node, visible

__all__ = ["mermaid"]

PASSED = ("point", "merge")
"""Kinds of nodes that have no counterpart here."""

HERE = "here"
"""Marks the box in which the engine stands: boxes take no class."""

CLASSES = {
    "custom": "stroke:#a21caf,stroke-width:2px",
    "nested": "stroke:#0f766e,stroke-width:2px",
    "current": "stroke:#ca8a04,stroke-width:4px",
}


def mermaid(chart: Chart) -> str:
    """A chart in Mermaid's language (https://mermaid.js.org/syntax/stateDiagram.html)."""
    return "\n".join(_Writer(chart).lines()) + "\n"


class _Writer:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.enclosing_boxes = chart.enclosing_boxes()
        self.elements = {element.id: element for element in chart.elements()}
        self.names = {element: f"s{number}" for number, element in enumerate(self.elements)}
        self.boxes = {inner: box.id for box in chart.boxes for inner in (box.entry, box.exit) if inner is not None}
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self.behind = {box.id: self._behind(box.exit) for box in chart.boxes if box.exit is not None}
        self.ways: dict[str, list[str]] = defaultdict(list)  # transitions, by the box that they stand in
        self.marked: dict[str, list[str]] = defaultdict(list)

    def lines(self) -> Iterator[str]:
        """The whole text."""
        for element in self.elements.values():
            if not (isinstance(element, Node) and element.kind in PASSED and not self._begins(element)):
                self._write_ways(element)
        yield "---"
        yield f"title: {_front_matter(self.chart.title)}"
        yield "---"
        yield "stateDiagram-v2"
        yield from self._inside(self.chart.rows, "", 1)
        for name, states in self.marked.items():
            yield f"  classDef {name} {CLASSES[name]}"
            yield f"  class {','.join(states)} {name}"

    def _begins(self, node: Node) -> bool:
        """Whether it is where a custom state is entered from; nothing leads there."""
        return not any(edge.target == node.id for edge in self.chart.edges)

    def _inside(self, rows: list[list[Element]], box: str, depth: int) -> Iterator[str]:
        margin = "  " * depth
        for element in (element for row in rows for element in row):
            yield from (margin + line if line else line for line in self._declared(element))
            if isinstance(element, Box) and element.rows:
                yield f"{margin}state {self.names[element.id]} {{"
                yield from self._inside(element.rows, element.id, depth + 1)
                yield f"{margin}}}"
        yield from (margin + line for line in self.ways[box])

    def _declared(self, element: Element) -> Iterator[str]:
        name = self.names[element.id]
        words = [element.label, element.note, *(element.lines if isinstance(element, Box) else ())]
        words += [element.seen, HERE if isinstance(element, Box) and element.is_current else ""]
        if isinstance(element, Node):
            if element.kind == "choice":
                yield f"state {name} <<choice>>"
            if element.kind not in ("state", "nested", "folded", "history"):
                return
            for mark in ("custom", "current"):
                if getattr(element, f"is_{mark}"):
                    self.marked[mark].append(name)
            if element.kind == "nested":
                self.marked["nested"].append(name)
        yield f'state "{"<br>".join(_escaped(word) for word in words if word) or "#8203;"}" as {name}'

    # -- transitions -------------------------------------------------------------------------------------------------

    def _write_ways(self, element: Element) -> None:
        for edge in self.leaving[element.id]:
            if edge.kind == "boundary":
                self._write_boundary(edge)
                continue
            words = self._words(edge)
            target = edge.target
            box = self._left_by(edge)
            if box is not None:
                self._write(element.id, box, words)
                continue
            while self._is_passed(target):
                onward = self.leaving[target][0]
                words += self._words(onward)
                target = onward.target
            self._write(element.id, target, words)

    def _is_passed(self, target: str) -> bool:
        found = self.elements[target]
        return isinstance(found, Node) and found.kind in PASSED and bool(self.leaving[target])

    def _behind(self, exit: str) -> set[str]:
        """The nodes through which all goes that leaves a box at its exit."""
        found: set[str] = set()
        while len(self.leaving[exit]) == 1 and not self.chart.lines(self.leaving[exit][0]):
            exit = self.leaving[exit][0].target
            found.add(exit)
        return found

    def _left_by(self, edge: Edge) -> str | None:
        """The exit of the box that an edge leaves across its outline, joining what leaves it there."""
        path = self.enclosing_boxes[edge.source]
        box = path[-1] if path else ""
        is_across = edge.source not in self.boxes and box not in self.enclosing_boxes[edge.target]
        if not is_across or edge.target not in self.behind.get(box, ()):
            return None
        outline = self.elements[box]
        assert isinstance(outline, Box)
        return outline.exit

    def _write(self, source: str, target: str, words: list[str]) -> None:
        box, start = self._out_of(source)
        end = self._into(target)
        label = f" : {'<br>'.join(words)}" if words else ""
        self.ways[box].append(f"{start} --> {end}{label}")

    def _out_of(self, source: str) -> tuple[str, str]:
        """The box in which a transition from here stands, and what it begins with."""
        path = self.enclosing_boxes[source]
        box = path[-1] if path else ""
        element = self.elements[source]
        if source in self.boxes:
            outline = self.elements[self.boxes[source]]
            assert isinstance(outline, Box)
            outer = self.enclosing_boxes[outline.id]
            return (box, "[*]") if outline.entry == source else (outer[-1] if outer else "", self.names[outline.id])
        if isinstance(element, Node) and element.kind == "start":
            inside = next(found.id for found in self.chart.boxes if found.kind == "engine")
            run = [found.id for found in self.chart.boxes if found.kind == "run"]
            return (run or [inside])[0], "[*]"
        if isinstance(element, Node) and element.kind in PASSED:
            return box, "[*]"
        return box, self.names[source]

    def _into(self, target: str) -> str:
        """What a transition ends with."""
        if target in self.boxes:
            outline = self.elements[self.boxes[target]]
            assert isinstance(outline, Box)
            return self.names[outline.id] if outline.entry == target else "[*]"
        element = self.elements[target]
        is_end = isinstance(element, Node) and element.kind in (*PASSED, "final")
        return "[*]" if is_end else self.names[target]

    def _write_boundary(self, edge: Edge) -> None:
        words = self._words(edge)
        path = self.enclosing_boxes[edge.source]
        box = path[-1] if path else ""
        if edge.source in self.enclosing_boxes[edge.target]:
            name = self.names[edge.target]
            self.ways[edge.source] += [f"note right of {name}", *(f"  {word}" for word in words), "end note"]
            return
        self.ways[box].append(f"{self.names[edge.source]} --> {self._into(edge.target)} : {'<br>'.join(words)}")

    def _words(self, edge: Edge) -> list[str]:
        return [_escaped(line) for line in self.chart.lines(edge)]


def _escaped(text: str) -> str:
    """A text in which nothing means anything to Mermaid: entities, written as it wants them."""
    return "".join(
        part if part.isalnum() or part in " _.,()[]=%/*+›…×·" else f"#{ord(part)};" for part in visible(text)
    )


def _front_matter(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
