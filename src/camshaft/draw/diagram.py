"""The diagram: one chart, in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from camshaft.draw.chart import Chart
from camshaft.draw.dot import dot
from camshaft.draw.html import html
from camshaft.draw.mermaid import mermaid
from camshaft.draw.svg import svg
from camshaft.draw.text import text

__all__ = ["WRITERS", "Diagram"]

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
        """A ``stateDiagram-v2`` of Mermaid, as code hosts render it in a ```` ```mermaid ```` block."""
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
            raise ValueError(f"no diagram is written as {ending or 'a file without an ending'}: use {', '.join(WRITERS)}")
        return WRITERS[ending](self.chart)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Diagram of {self.chart.name}: {len(self.chart.nodes)} nodes, {len(self.chart.edges)} edges>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How a notebook shows it."""
        return {"image/svg+xml": self.svg(), "text/plain": self.text()}
