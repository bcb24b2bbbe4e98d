"""DOT: a chart for Graphviz, which does its own layout."""

from __future__ import annotations

from collections.abc import Iterator

from camshaft.draw.chart import Box, Chart, Edge, Element, Node, printable

__all__ = ["dot"]

SHAPES = {
    "start": "shape=circle, style=filled, fillcolor=black, width=0.18, fixedsize=true",
    "point": "shape=point, width=0.07",
    "merge": "shape=point, width=0.07",
    "choice": "shape=diamond, width=0.22, height=0.22, fixedsize=true",
    "entry": "shape=circle, width=0.14, fixedsize=true",
    "exit": "shape=doublecircle, width=0.1, fixedsize=true",
    "final": "shape=doublecircle, style=filled, fillcolor=black, width=0.12, fixedsize=true",
    "history": "shape=circle",
    "state": 'shape=box, style="rounded,filled", fillcolor=white',
    "nested": 'shape=box, style="rounded,filled", fillcolor=white, color="#0f766e", peripheries=2',
    "folded": 'shape=box, style="rounded,dashed"',
}
CLUSTERS = {
    "engine": "color=gray60",
    "run": "color=gray60",
    "loop": 'color="#2563eb", fontcolor="#2563eb"',
    "step": 'color=gray50, bgcolor="#eeeeee"',
    "region": 'color="#a21caf", style=dotted',
}
EDGES = {
    "flow": "",
    "back": 'color="#2563eb", fontcolor="#2563eb"',
    "boundary": "style=dashed",
    "observed": "style=dashed",
}
CUSTOM = 'color="#a21caf", fontcolor="#a21caf"'
HEAD = '[fontname="monospace", fontsize=10'


def dot(chart: Chart) -> str:
    """Return a chart as a graph in the DOT language (https://graphviz.org/doc/info/lang.html)."""
    return "\n".join(_lines(chart)) + "\n"


def _lines(chart: Chart) -> Iterator[str]:
    yield f"digraph {_quoted(chart.name)} {{"
    yield f"  graph {HEAD}, rankdir=TB, label={_quoted(chart.title)}];"
    yield f"  node {HEAD}];"
    yield f"  edge {HEAD}, arrowsize=0.7];"
    boundary = {edge.source for edge in chart.edges if edge.kind == "boundary"}
    for row in chart.rows:
        for element in row:
            yield from _element(element, boundary, 1)
    for edge in chart.edges:
        yield _edge(edge, chart)
    yield "}"


def _element(element: Element, boundary: set[str], depth: int) -> Iterator[str]:
    margin = "  " * depth
    lines = [element.label, *([element.note] if element.note and not _is_round(element) else [])]
    lines += element.lines if isinstance(element, Box) else []
    label = _quoted_lines([printable(line) for line in (*lines, element.visits_text) if line])
    if isinstance(element, Node):
        style = SHAPES[element.kind] + (f", {CUSTOM}" if element.is_custom else "")
        style += ", penwidth=3" if element.is_current else ""
        yield f"{margin}{_quoted(element.id)} [label={label}, {style}];"
        return
    yield f"{margin}subgraph {_quoted(f'cluster {element.id}')} {{"
    yield f"{margin}  graph [label={label}, {CLUSTERS[element.kind]}];"
    # An edge of DOT cannot start or end at a cluster. So a box with edges of its own has a node for them inside.
    if element.kind in ("step", "region"):
        yield f"{margin}  {_quoted(element.id)} [label={_quoted('')}, shape=point, style=invis];"
    if element.id in boundary:
        anywhere = printable(f"anywhere in {element.label}")
        yield f"{margin}  {_quoted(_anywhere(element.id))} [label={_quoted(anywhere)}, shape=plaintext];"
    for row in element.rows:
        for inner in row:
            yield from _element(inner, boundary, depth + 1)
    yield f"{margin}}}"


def _is_round(element: Element) -> bool:
    return isinstance(element, Node) and element.kind in ("final", "history")


def _anywhere(box: str) -> str:
    return f"anywhere in {box}"


def _edge(edge: Edge, chart: Chart) -> str:
    source = _anywhere(edge.source) if edge.kind == "boundary" else edge.source
    style = EDGES[edge.kind] + (", constraint=false" if edge.kind == "back" else "")
    attributes = ", ".join(filter(None, [f"label={_quoted_lines(chart.label_texts(edge))}", style]))
    return f"  {_quoted(source)} -> {_quoted(edge.target)} [{attributes}];"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    return f'"{_escaped(printable(text))}"'


def _quoted_lines(lines: list[str]) -> str:
    return '"' + "\\n".join(map(_escaped, lines)) + '"'
