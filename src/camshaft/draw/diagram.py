"""The diagram: one chart, in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camshaft.draw.chart import Chart
from camshaft.draw.from_loop import chart_from_loop
from camshaft.draw.nested_engines import annotate
from camshaft.draw.run_overlay import overlay
from camshaft.draw.writers.dot import dot
from camshaft.draw.writers.html import html
from camshaft.draw.writers.mermaid import mermaid
from camshaft.draw.writers.svg import svg
from camshaft.draw.writers.text import text
from camshaft.engine.engine import Engine
from camshaft.events import event_name

if TYPE_CHECKING:
    from camshaft.engine.handler import Handler
    from camshaft.loop.loop import Loop
    from camshaft.trace.trace import Trace

__all__ = ["WRITERS", "Diagram", "draw", "draw_over", "engine_diagram", "loop_diagram", "run_diagram", "trace_diagram"]

WRITERS: dict[str, Callable[[Chart], str]] = {
    ".svg": svg,
    ".mmd": mermaid,
    ".dot": dot,
    ".txt": text,
    ".html": html,
}
"""What writes a file, by its ending."""


class Diagram:
    """The picture of a loop. Made by ``loop.diagram()``, ``engine.diagram()`` and ``trace.diagram()``.

    A notebook shows it by itself, ``print`` shows it as text. The same loop gives the same bytes.

    Args:
        chart: what it shows.
    """

    def __init__(self, chart: Chart) -> None:
        self.chart = chart

    def svg(self) -> str:
        """An SVG document that needs nothing else, and follows the light or dark theme of its reader."""
        return svg(self.chart)

    def mermaid(self) -> str:
        """A ``stateDiagram-v2`` of Mermaid, as code hosts render it in a ```` ```mermaid ```` block.

        Mermaid itself refuses texts above 50,000 characters unless it is told otherwise: some 500 states in full.
        """
        return mermaid(self.chart)

    def dot(self) -> str:
        """A directed graph for Graphviz' ``dot``."""
        return dot(self.chart)

    def text(self) -> str:
        """Lines of text for a terminal."""
        return text(self.chart)

    def html(self) -> str:
        """A page with the picture, and every transition in a table; it needs nothing else."""
        return html(self.chart)

    def save(self, path: str | Path) -> None:
        """Write a file in the format of its ending: ``.svg``, ``.mmd``, ``.dot``, ``.txt`` or ``.html``.

        Raises:
            ValueError: no format has this ending.
            OSError: the file cannot be written.
        """
        Path(path).write_bytes(self.rendered(Path(path).suffix).encode())

    def rendered(self, ending: str) -> str:
        """The diagram in the format of an ending of files.

        Raises:
            ValueError: no format has this ending.
        """
        if ending not in WRITERS:
            raise ValueError(
                f"no diagram is written as {ending or 'a file without an ending'}: use {', '.join(WRITERS)}"
            )
        return WRITERS[ending](self.chart)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Diagram of {self.chart.name}: {len(self.chart.nodes)} nodes, {len(self.chart.edges)} edges>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How a notebook shows it."""
        return {"image/svg+xml": self.svg(), "text/plain": self.text()}


def draw(target: Engine | Loop, level: str = "overview", *, handlers: bool = False, control: bool = False) -> Diagram:
    """The diagram of an engine or of a loop, which has no handlers."""
    if isinstance(target, Engine):
        return engine_diagram(target, level, control, handlers)
    return loop_diagram(target, level, control)


def loop_diagram(loop: Loop, level: str, control: bool) -> Diagram:
    """See :meth:`camshaft.Loop.diagram`."""
    return Diagram(chart_from_loop(loop, None, level, control))


def engine_diagram(engine: Engine, level: str, control: bool, handlers: bool) -> Diagram:
    """See :meth:`camshaft.Engine.diagram`."""
    chart = chart_from_loop(engine.loop, engine.name, level, control)
    if handlers:
        _list_handlers(chart, engine)
    if engine.current_run is not None:
        _mark_current(chart, engine.current_run.machine_position()[0], engine.where)
    return Diagram(chart)


def _list_handlers(chart: Chart, engine: Engine) -> None:
    """Write what is called at each event at the edges that fire it, and between the engines that run there."""
    engines = {node.id: node.engine_name for node in chart.nodes}
    leaving = {edge.source: edge for edge in chart.edges}
    nests = {f"run {nested.name}" for nested in engine.loop.nested}
    for key in engine.loop.event_keys:
        fired = [edge for edge in chart.edges if edge.event == key and edge.kind != "boundary"]
        for handler in engine.handlers(key) if not fired else ():
            if handler.name not in nests:
                annotate(chart, key, _line(handler))
        for edge in fired:
            here, lines = edge, list[str]()
            for handler in engine.handlers(key):
                runs = engines.get(here.target)
                if runs and handler.name == f"run {runs}":
                    here.handlers = lines
                    here, lines = leaving[here.target], []
                else:
                    lines.append(_line(handler))
            here.handlers = lines


def _line(handler: Handler) -> str:
    priority = f" priority={handler.priority}" if handler.priority else ""
    return f"› {handler.name}{handler.filter or ''}{priority}"


def _mark_current(chart: Chart, place: str, path: tuple[str, ...]) -> None:
    """Mark the state where an engine stands; the innermost one around it where the chart does not show that."""
    elements = {element.id: element for element in chart.elements()}
    entered = {box.entry: box for box in chart.boxes}
    around = ["/".join(path[:depth]) for depth in range(len(path), 0, -1)]
    names = [f"in {path[-1]}", *around] if path else [chart.places.get(place, "")]
    found = next((elements[name] for name in names if name in elements), None)
    if found is not None:
        entered.get(found.id, found).is_current = True


def trace_diagram(trace: Trace, engine: str | None, level: str, control: bool) -> Diagram:
    """See :meth:`camshaft.Trace.diagram`."""
    name = _recorded(trace, trace.runs[0].engine if engine is None and trace.runs else engine, "the trace")
    *_, loop = (record.loop for record in trace.runs if record.engine == name)
    return run_diagram(trace, name, loop, level, control)


def run_diagram(trace: Trace, engine: str, loop: Loop, level: str = "overview", control: bool = False) -> Diagram:
    """The runs of an engine, those of one loop, drawn over that."""
    chart = chart_from_loop(loop, engine, level, control)
    overlay(chart, trace, engine, loop)
    return Diagram(chart)


def draw_over(diagram: Diagram, trace: Trace, target: Engine | Loop, said: str) -> None:
    """Draw the runs of an engine over its diagram.

    Args:
        diagram: of the target.
        trace: what fired.
        target: an engine, whose runs are found by its name; or a loop, over which the first engine's runs are drawn.
        said: what to call the trace in messages.

    Raises:
        ValueError: no such engine was recorded.
    """
    name = _recorded(trace, target.name if isinstance(target, Engine) or not trace.runs else trace.runs[0].engine, said)
    *_, loop = (record.loop for record in trace.runs if record.engine == name)
    if strange := [key for key in loop.event_keys if key not in diagram.chart.loop.event_keys]:
        raise ValueError(
            f"{said} was recorded of another loop: {name} fired {event_name(strange[0])} there, which this one has not"
        )
    overlay(diagram.chart, trace, name, loop)


def _recorded(trace: Trace, engine: str | None, said: str) -> str:
    """An engine of a trace.

    Raises:
        ValueError: it was not recorded.
    """
    names = list(dict.fromkeys(record.engine for record in trace.runs))
    if engine is None or not names:
        raise ValueError(f"{said} has no runs: nothing was recorded, so there is nothing to draw")
    if engine not in names:
        raise ValueError(f"{said} has no run of {engine}; recorded are {', '.join(names)}")
    return engine
