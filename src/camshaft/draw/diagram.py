"""Diagrams: one chart, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from camshaft.draw.chart import Chart
from camshaft.draw.from_loop import chart_from_loop
from camshaft.draw.nested_engines import annotate
from camshaft.draw.run_overlay import overlay
from camshaft.draw.writers import WRITERS
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

__all__ = ["Diagram", "draw", "draw_over", "engine_diagram", "loop_diagram", "run_diagram", "trace_diagram"]


class Diagram:
    """The picture of a loop, made by ``loop.diagram()``, ``engine.diagram()`` and ``trace.diagram()``.

    A notebook shows it as a picture, ``print`` as text. The same loop always gives the same bytes.

    Args:
        chart: the picture as data.
    """

    def __init__(self, chart: Chart) -> None:
        self.chart = chart

    def svg(self) -> str:
        """Return a self-contained SVG document; it follows the light or dark theme of the reader."""
        return svg(self.chart)

    def mermaid(self) -> str:
        """Return a ``stateDiagram-v2`` of Mermaid, for a ```` ```mermaid ```` block of a code host.

        By default Mermaid refuses texts above 50,000 characters: about 500 states with ``level="full"``.
        """
        return mermaid(self.chart)

    def dot(self) -> str:
        """Return a directed graph for Graphviz' ``dot``."""
        return dot(self.chart)

    def text(self) -> str:
        """Return lines of text for a terminal."""
        return text(self.chart)

    def html(self) -> str:
        """Return a self-contained page with the picture and a table of all transitions."""
        return html(self.chart)

    def save(self, path: str | Path) -> None:
        """Write a file in the format of its suffix.

        Args:
            path: a file that ends in ``.svg``, ``.mmd``, ``.dot``, ``.txt`` or ``.html``; an old file is replaced.

        Raises:
            ValueError: no format has this suffix.
            OSError: the file cannot be written.
        """
        Path(path).write_bytes(self.rendered(Path(path).suffix).encode(errors="backslashreplace"))

    def rendered(self, suffix: str) -> str:
        """Return the diagram in the format of a file suffix.

        Args:
            suffix: a key of ``WRITERS``, such as ``".svg"``.

        Raises:
            ValueError: no format has this suffix.
        """
        if suffix not in WRITERS:
            raise ValueError(
                f"cannot write a diagram as {suffix or 'a file without a suffix'}: use {', '.join(WRITERS)}"
            )
        return WRITERS[suffix](self.chart)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Diagram of {self.chart.name}: {len(self.chart.nodes)} nodes, {len(self.chart.edges)} edges>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the picture for a notebook, and text for consoles without pictures."""
        return {"image/svg+xml": self.svg(), "text/plain": self.text()}


def draw(target: Engine | Loop, level: str = "overview", *, handlers: bool = False, control: bool = False) -> Diagram:
    """Return the diagram of an engine or a loop.

    Args:
        target: what to draw.
        level, control: see :meth:`camshaft.Loop.diagram`.
        handlers: list the handlers of an engine; a loop has none.
    """
    if isinstance(target, Engine):
        return engine_diagram(target, level, control, handlers)
    return loop_diagram(target, level, control)


def loop_diagram(loop: Loop, level: str, control: bool) -> Diagram:
    """Return the diagram of a loop: see :meth:`camshaft.Loop.diagram`."""
    return Diagram(chart_from_loop(loop, None, level, control))


def engine_diagram(engine: Engine, level: str, control: bool, handlers: bool) -> Diagram:
    """Return the diagram of an engine: see :meth:`camshaft.Engine.diagram`."""
    chart = chart_from_loop(engine.loop, engine.name, level, control)
    if handlers:
        _list_handlers(chart, engine)
    if engine.current_run is not None:
        _mark_current(chart, engine.current_run.machine_position()[0], engine.where)
    return Diagram(chart)


def _list_handlers(chart: Chart, engine: Engine) -> None:
    """List the handlers of each event on the edges that fire it.

    An event may also run nested engines, which are nodes between two edges. The handlers are then divided: each edge
    lists those called before the engine at its end.
    """
    engines = {node.id: node.engine_name for node in chart.nodes}
    leaving = {edge.source: edge for edge in chart.edges}
    nested_handlers = {f"run {nested.name}" for nested in engine.loop.nested}
    for key in engine.loop.event_keys:
        fired = [edge for edge in chart.edges if edge.event == key and edge.kind != "boundary"]
        for handler in engine.handlers(key) if not fired else ():
            if handler.name not in nested_handlers:
                annotate(chart, key, _handler_line(handler))
        for edge in fired:
            here, lines = edge, list[str]()
            for handler in engine.handlers(key):
                nested_engine = engines.get(here.target)
                if nested_engine and handler.name == f"run {nested_engine}":
                    here.handlers = lines
                    here, lines = leaving[here.target], []
                else:
                    lines.append(_handler_line(handler))
            here.handlers = lines


def _handler_line(handler: Handler) -> str:
    priority = f" priority={handler.priority}" if handler.priority else ""
    return f"› {handler.name}{handler.filter or ''}{priority}"


def _mark_current(chart: Chart, place: str, path: tuple[str, ...]) -> None:
    """Mark the current state of an engine, or the innermost state around it that the chart shows.

    Args:
        chart: of the engine.
        place: the current place in the machine.
        path: the names of the current loops and phases, outermost first; empty outside all of them.
    """
    elements = {element.id: element for element in chart.elements()}
    box_by_entry = {box.entry: box for box in chart.boxes}
    enclosing = ["/".join(path[:depth]) for depth in range(len(path), 0, -1)]
    candidates = [f"in {path[-1]}", *enclosing] if path else [chart.places.get(place, "")]
    found = next((elements[name] for name in candidates if name in elements), None)
    if found is not None:
        box_by_entry.get(found.id, found).is_current = True


def trace_diagram(trace: Trace, engine: str | None, level: str, control: bool) -> Diagram:
    """Return the diagram of a trace: see :meth:`camshaft.Trace.diagram`."""
    name = _check_recorded(trace, trace.runs[0].engine if engine is None and trace.runs else engine, "the trace")
    *_, loop = (record.loop for record in trace.runs if record.engine == name)
    return run_diagram(trace, name, loop, level, control)


def run_diagram(trace: Trace, engine: str, loop: Loop, level: str = "overview", control: bool = False) -> Diagram:
    """Return the diagram of a loop with its recorded runs drawn over it.

    Args:
        trace: the recorded events.
        engine: the name of the engine whose runs are drawn.
        loop: the loop to draw; runs of that engine with another loop are ignored.
        level, control: see :meth:`camshaft.Loop.diagram`.
    """
    chart = chart_from_loop(loop, engine, level, control)
    overlay(chart, trace, engine, loop)
    return Diagram(chart)


def draw_over(diagram: Diagram, trace: Trace, target: Engine | Loop, trace_name: str) -> None:
    """Draw the recorded runs of an engine over its diagram.

    Args:
        diagram: the diagram of the target; it is changed.
        trace: the recorded events.
        target: an engine, to draw the runs of the engine with its name; or a loop, to draw those of the engine
            recorded first.
        trace_name: the name of the trace in messages.

    Raises:
        ValueError: the engine was not recorded, or its loop has events that the diagram does not have.
    """
    wanted = target.name if isinstance(target, Engine) or not trace.runs else trace.runs[0].engine
    name = _check_recorded(trace, wanted, trace_name)
    *_, loop = (record.loop for record in trace.runs if record.engine == name)
    if unknown := [key for key in loop.event_keys if key not in diagram.chart.loop.event_keys]:
        raise ValueError(
            f"{trace_name} was recorded from another loop: {event_name(unknown[0])} of {name} is no event of this loop"
        )
    overlay(diagram.chart, trace, name, loop)


def _check_recorded(trace: Trace, engine: str | None, trace_name: str) -> str:
    """Return the name of an engine if a trace has runs of it.

    Raises:
        ValueError: it has none.
    """
    names = list(dict.fromkeys(record.engine for record in trace.runs))
    if engine is None or not names:
        raise ValueError(f"{trace_name} has no runs to draw: nothing was recorded")
    if engine not in names:
        raise ValueError(f"{trace_name} has no run of {engine}; it has runs of {', '.join(names)}")
    return engine
