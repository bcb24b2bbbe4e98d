"""SVG: a self-contained picture that follows the light or dark theme of the reader."""

from __future__ import annotations

from html import escape

from camshaft.draw.chart import Box, Chart, Edge, Node
from camshaft.draw.writers.layout import Shape, Text, Wire, lay_out
from camshaft.machine.transition import ENDS

__all__ = ["STYLE", "svg"]

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

LIGHT = {
    "page": "#ffffff",
    "ink": "#1c2430",
    "muted": "#5d6878",
    "line": "#56616f",
    "node": "#ffffff",
    "loop": "#2563eb",
    "custom": "#a21caf",
    "nested": "#0f766e",
    "now": "#fde047",
    "heat": "#f59e0b",
}
DARK = {
    "page": "#0f1520",
    "ink": "#e8edf4",
    "muted": "#9aa7b8",
    "line": "#8b98aa",
    "node": "#1a2331",
    "loop": "#7aa2ff",
    "custom": "#e879f9",
    "nested": "#4fd1c5",
    "now": "#a16207",
    "heat": "#b45309",
}


def _colours(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in values.items())


STYLE = f"""
.camshaft {{ {_colours(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ .camshaft {{ {_colours(DARK)} }} }}
.camshaft text {{ font-family: {FONT}; fill: var(--ink); white-space: pre; }}
.camshaft .page {{ fill: var(--page); }}
.camshaft .event {{ font-size: 11px; font-weight: 600; }}
.camshaft .guard, .camshaft .note, .camshaft .handler, .camshaft .count {{ font-size: 10px; fill: var(--muted); }}
.camshaft .state, .camshaft .title {{ font-size: 12px; font-weight: 700; }}
.camshaft .node, .camshaft .choice {{ fill: var(--node); stroke: var(--line); stroke-width: 1.3; }}
.camshaft .dot {{ fill: var(--line); }}
.camshaft .ring {{ fill: var(--page); stroke: var(--loop); stroke-width: 1.5; }}
.camshaft .way-out {{ fill: var(--loop); stroke: var(--page); stroke-width: 1.5; }}
.camshaft .node.end {{ stroke-width: 2.6; }}
.camshaft .box {{ fill: var(--loop); fill-opacity: 0.05; stroke: var(--loop); stroke-width: 1.3; }}
.camshaft .frame {{ fill: none; stroke: var(--muted); stroke-opacity: 0.55; stroke-width: 1; }}
.camshaft .opaque {{ fill: var(--muted); fill-opacity: 0.12; stroke: var(--muted); stroke-width: 1.2; }}
.camshaft .wire {{ fill: none; stroke: var(--line); stroke-width: 1.2; }}
.camshaft .wire.line {{ stroke-width: 1.7; }}
.camshaft .head {{ fill: var(--line); }}
.camshaft .wire.back {{ stroke: var(--loop); }}
.camshaft .head.back {{ fill: var(--loop); }}
.camshaft text.back, .camshaft .box-title {{ fill: var(--loop); }}
.camshaft .wire.boundary, .camshaft .wire.observed {{ stroke-dasharray: 4 3; }}
.camshaft .node.custom {{ stroke: var(--custom); stroke-width: 1.6; }}
.camshaft .region {{ fill: none; stroke: var(--custom); stroke-dasharray: 2 3; }}
.camshaft text.custom {{ fill: var(--custom); }}
.camshaft .wire.custom {{ stroke: var(--custom); }}
.camshaft .head.custom, .camshaft .dot.custom {{ fill: var(--custom); }}
.camshaft .node.nested {{ stroke: var(--nested); stroke-width: 1.6; }}
.camshaft text.nested {{ fill: var(--nested); }}
.camshaft .node.folded {{ stroke-dasharray: 4 3; }}
.camshaft .node.observed {{ stroke-dasharray: 4 3; }}
.camshaft .heat {{ fill: var(--heat); stroke: none; }}
.camshaft text.hot {{ fill: var(--ink); }}
.camshaft .unused {{ opacity: 0.4; }}
.camshaft .now {{ fill: none; stroke: var(--now); stroke-width: 5; }}
""".strip()


def svg(chart: Chart) -> str:
    """Return a chart as an SVG document."""
    drawing = lay_out(chart)
    width, height = _number(drawing.width), _number(drawing.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="camshaft" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f"<desc>{escape(chart.description)}</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
    ]
    lines += [line for shape in drawing.shapes if isinstance(shape.element, Box) for line in _box(shape, shape.element)]
    lines += [_wire(wire) for wire in drawing.wires]
    lines += [
        line for shape in drawing.shapes if isinstance(shape.element, Node) for line in _node(shape, shape.element)
    ]
    lines += [_text(text) for text in drawing.texts]
    return "\n".join([*lines, "</svg>", ""])


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _rect(shape: Shape, css: str, radius: float, grow: float = 0, extra: str = "") -> str:
    x, y, width, height = (
        _number(value) for value in (shape.x - grow, shape.y - grow, shape.width + 2 * grow, shape.height + 2 * grow)
    )
    return (
        f'<rect class="{css}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{_number(radius + grow)}"{extra}/>'
    )


def _circle(shape: Shape, css: str, change: float = 0) -> str:
    x, y = shape.x + shape.width / 2, shape.y + shape.height / 2
    return f'<circle class="{css}" cx="{_number(x)}" cy="{_number(y)}" r="{_number(shape.width / 2 + change)}"/>'


def _box(shape: Shape, box: Box) -> list[str]:
    css = {"engine": "frame", "run": "frame", "loop": "box", "step": "opaque", "region": "region"}[box.kind]
    radius = 8 if box.kind == "step" else 12
    now = [_rect(shape, "now", radius, 2)] if box.is_current else []
    return [*now, _rect(shape, css, radius)]


def _node(shape: Shape, node: Node) -> list[str]:
    custom = " custom" if node.is_custom else ""
    now = [_rect(shape, "now", 8 if node.label else shape.width / 2, 3)] if node.is_current else []
    if node.kind in ("start", "point", "merge"):
        return [*now, _circle(shape, f"dot{custom}")]
    if node.kind in ("entry", "exit"):
        return [*now, _circle(shape, "ring" if node.kind == "entry" else "way-out")]
    if node.kind == "choice":
        x, y, half = shape.x, shape.y, shape.width / 2
        corners = [(x + half, y), (x + 2 * half, y + half), (x + half, y + 2 * half), (x, y + half)]
        points = " ".join(f"{_number(a)},{_number(b)}" for a, b in corners)
        return [*now, f'<polygon class="choice" points="{points}"/>']
    if node.kind == "final":
        return [*now, _circle(shape, "ring"), _circle(shape, "dot", -4)]
    if node.kind == "history":
        return [*now, _circle(shape, "node")]
    css = f"node{custom}{' nested' if node.kind == 'nested' else ''}{' folded' if node.kind == 'folded' else ''}"
    css += " observed" if node.is_observed else ""
    css += " end" if node.id in ENDS else ""
    heat = []
    if _is_hot(node):
        heat = [_rect(shape, "heat", 8, 0, f' fill-opacity="{0.05 + 0.65 * (node.share or 0):.2f}"')]
    return [*now, _rect(shape, css, 8), *heat]


def _is_hot(node: Node) -> bool:
    return node.share is not None and node.share >= 0.005


def _wire(wire: Wire) -> str:
    edge = wire.edge
    kind = "" if edge.kind == "flow" else f" {edge.kind}"
    kind += " line" if wire.is_straight and edge.kind == "flow" else ""
    kind += " unused" if edge.count == 0 else ""
    path = f'<path class="wire{kind}" d="{_path(wire)}"/>'
    return path + (f'<path class="head{kind}" d="{_head(wire)}"/>' if wire.has_head else "")


def _path(wire: Wire) -> str:
    """Return the path data of a line with rounded corners."""
    points = wire.points
    parts = [f"M{_number(points[0][0])} {_number(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(corner, before), _towards(corner, after)
        parts.append(f"L{_pair(start)}Q{_pair(corner)} {_pair(end)}")
    return "".join([*parts, f"L{_pair(points[-1])}"])


def _pair(point: tuple[float, float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the point between a corner and the next point at which the rounding of the corner ends."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(dx), abs(dy))
    near = min(7.0, length / 2)
    return (corner[0] + dx / length * near, corner[1] + dy / length * near) if length else corner


def _head(wire: Wire) -> str:
    """Return the path data of the arrow at the end of a line."""
    (x1, y1), (x2, y2) = wire.points[-2:]
    dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    back = (x2 - 7 * dx, y2 - 7 * dy)
    sides = [(back[0] - 3.5 * dy, back[1] + 3.5 * dx), (back[0] + 3.5 * dy, back[1] - 3.5 * dx)]
    return f"M{_pair((x2, y2))}L{_pair(sides[0])}L{_pair(sides[1])}Z"


def _text(text: Text) -> str:
    css = text.role
    if isinstance(text.owner, Edge) and text.owner.kind == "back":
        css += " back"
    elif isinstance(text.owner, Box) and text.owner.kind == "loop" and text.role == "title":
        css += " box-title"
    elif isinstance(text.owner, Node) and _is_hot(text.owner):
        css += " hot"
    elif isinstance(text.owner, (Node, Box)) and text.owner.is_custom:
        css += " custom"
    elif isinstance(text.owner, Node) and text.owner.kind == "nested" and text.role == "state":
        css += " nested"
    anchor = f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    return f'<text class="{css}" x="{_number(text.x)}" y="{_number(text.y)}"{anchor}>{escape(text.text)}</text>'
