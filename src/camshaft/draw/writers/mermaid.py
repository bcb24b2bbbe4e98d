"""Mermaid: a chart as a ``stateDiagram-v2``, which code hosts render in Markdown.

Mermaid has no nodes on the outline of a box, and no transition may cross an outline. So a transition into a box ends
at the box, and one that leaves it ends at the ``[*]`` inside. Mermaid has no points and merges either: a path through
them becomes one transition with the labels of all its edges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from camshaft.draw.chart import Box, Chart, Edge, Element, Node, printable

__all__ = ["mermaid"]

PASSED = ("point", "merge")
"""Kinds of nodes without a counterpart in Mermaid."""

HERE = "here"
"""Text that marks the current box of an engine; Mermaid does not style boxes by class."""

CLASSES = {
    "custom": "stroke:#a21caf,stroke-width:2px",
    "nested": "stroke:#0f766e,stroke-width:2px",
    "current": "stroke:#ca8a04,stroke-width:4px",
}


def mermaid(chart: Chart) -> str:
    """Return a chart in Mermaid's language (https://mermaid.js.org/syntax/stateDiagram.html)."""
    return "\n".join(_Writer(chart).lines()) + "\n"


class _Writer:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.enclosing_boxes = chart.enclosing_boxes()
        self.elements = {element.id: element for element in chart.elements()}
        self.names = {element: f"s{number}" for number, element in enumerate(self.elements)}
        self.box_of = {inner: box.id for box in chart.boxes for inner in (box.entry, box.exit) if inner is not None}
        self.leaving: dict[str, list[Edge]] = defaultdict(list)
        for edge in chart.edges:
            self.leaving[edge.source].append(edge)
        self.after_exit = {box.id: self._after_exit(box.exit) for box in chart.boxes if box.exit is not None}
        self.transitions: dict[str, list[str]] = defaultdict(list)  # by the box in which they are written
        self.states_by_class: dict[str, list[str]] = defaultdict(list)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the whole text."""
        for element in self.elements.values():
            if not (isinstance(element, Node) and element.kind in PASSED and not self._is_source(element)):
                self._write_transitions(element)
        yield "---"
        yield f"title: {_front_matter(self.chart.title)}"
        yield "---"
        yield "stateDiagram-v2"
        yield from self._inside(self.chart.rows, "", 1)
        for name, states in self.states_by_class.items():
            yield f"  classDef {name} {CLASSES[name]}"
            yield f"  class {','.join(states)} {name}"

    def _is_source(self, node: Node) -> bool:
        """Return whether no edge leads to a node: it is the start of a custom state."""
        return not any(edge.target == node.id for edge in self.chart.edges)

    def _inside(self, rows: list[list[Element]], box: str, depth: int) -> Iterator[str]:
        margin = "  " * depth
        for element in (element for row in rows for element in row):
            yield from (margin + line if line else line for line in self._declaration(element))
            if isinstance(element, Box) and element.rows:
                yield f"{margin}state {self.names[element.id]} {{"
                yield from self._inside(element.rows, element.id, depth + 1)
                yield f"{margin}}}"
        yield from (margin + line for line in self.transitions[box])

    def _declaration(self, element: Element) -> Iterator[str]:
        name = self.names[element.id]
        lines = [element.label, element.note, *(element.lines if isinstance(element, Box) else ())]
        lines += [element.visits_text, HERE if isinstance(element, Box) and element.is_current else ""]
        if isinstance(element, Node):
            if element.kind == "choice":
                yield f"state {name} <<choice>>"
            if element.kind not in ("state", "nested", "folded", "history"):
                return
            if element.is_custom:
                self.states_by_class["custom"].append(name)
            if element.is_current:
                self.states_by_class["current"].append(name)
            if element.kind == "nested":
                self.states_by_class["nested"].append(name)
        # Mermaid rejects an empty name: &#8203; is a space without width
        yield f'state "{"<br>".join(_escaped(line) for line in lines if line) or "#8203;"}" as {name}'

    # -- transitions -------------------------------------------------------------------------------------------------

    def _write_transitions(self, element: Element) -> None:
        for edge in self.leaving[element.id]:
            if edge.kind == "boundary":
                self._write_boundary(edge)
                continue
            label = self._label(edge)
            target = edge.target
            exit = self._exit_taken(edge)
            if exit is not None:
                self._write(element.id, exit, label)
                continue
            while self._is_passed(target):
                onward = self.leaving[target][0]
                label += self._label(onward)
                target = onward.target
            self._write(element.id, target, label)

    def _is_passed(self, target: str) -> bool:
        found = self.elements[target]
        return isinstance(found, Node) and found.kind in PASSED and bool(self.leaving[target])

    def _after_exit(self, exit: str) -> set[str]:
        """Return the nodes that every path from an exit passes, up to the first label or choice."""
        found: set[str] = set()
        while len(self.leaving[exit]) == 1 and not self.chart.label_texts(self.leaving[exit][0]):
            exit = self.leaving[exit][0].target
            found.add(exit)
        return found

    def _exit_taken(self, edge: Edge) -> str | None:
        """Return the exit of a box if an edge crosses the outline of the box and joins the paths from that exit.

        Mermaid cannot draw such an edge, but one to the exit has the same meaning.
        """
        path = self.enclosing_boxes[edge.source]
        box = path[-1] if path else ""
        is_across = edge.source not in self.box_of and box not in self.enclosing_boxes[edge.target]
        if not is_across or edge.target not in self.after_exit.get(box, ()):
            return None
        outline = self.elements[box]
        assert isinstance(outline, Box)
        return outline.exit

    def _write(self, source: str, target: str, lines: list[str]) -> None:
        box, start = self._start_of(source)
        end = self._end_of(target)
        label = f" : {'<br>'.join(lines)}" if lines else ""
        self.transitions[box].append(f"{start} --> {end}{label}")

    def _start_of(self, source: str) -> tuple[str, str]:
        """Return the box in which the transitions from a node are written, and the name of their source there."""
        path = self.enclosing_boxes[source]
        box = path[-1] if path else ""
        element = self.elements[source]
        if source in self.box_of:
            outline = self.elements[self.box_of[source]]
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

    def _end_of(self, target: str) -> str:
        """Return the name of the target of a transition."""
        if target in self.box_of:
            outline = self.elements[self.box_of[target]]
            assert isinstance(outline, Box)
            return self.names[outline.id] if outline.entry == target else "[*]"
        element = self.elements[target]
        is_end = isinstance(element, Node) and element.kind in (*PASSED, "final")
        return "[*]" if is_end else self.names[target]

    def _write_boundary(self, edge: Edge) -> None:
        lines = self._label(edge)
        path = self.enclosing_boxes[edge.source]
        box = path[-1] if path else ""
        if edge.source in self.enclosing_boxes[edge.target]:
            # the source is the box around the target, so a note takes the place of a transition
            name = self.names[edge.target]
            self.transitions[edge.source] += [f"note right of {name}", *(f"  {line}" for line in lines), "end note"]
            return
        source, target = self.names[edge.source], self._end_of(edge.target)
        self.transitions[box].append(f"{source} --> {target} : {'<br>'.join(lines)}")

    def _label(self, edge: Edge) -> list[str]:
        return [_escaped(line) for line in self.chart.label_texts(edge)]


def _escaped(text: str) -> str:
    """Return a text without special characters of Mermaid; it writes an entity as ``#35;``."""
    return "".join(
        part if part.isalnum() or part in " _.,()[]=%/*+›…×·" else f"#{ord(part)};" for part in printable(text)
    )


def _front_matter(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
