"""Writers: one module for each format of a diagram, and the layout of pictures.

``measures`` has the sizes of texts and elements, ``rows`` finds heights, ``layout`` finds widths and draws edges.
"""

from __future__ import annotations

from collections.abc import Callable

from camshaft.draw.chart import Chart
from camshaft.draw.writers.dot import dot as write_dot
from camshaft.draw.writers.html import html as write_html
from camshaft.draw.writers.mermaid import mermaid as write_mermaid
from camshaft.draw.writers.svg import svg as write_svg
from camshaft.draw.writers.text import text as write_text

__all__ = ["WRITERS"]

WRITERS: dict[str, Callable[[Chart], str]] = {
    ".svg": write_svg,
    ".mmd": write_mermaid,
    ".dot": write_dot,
    ".txt": write_text,
    ".html": write_html,
}
"""The function that writes a chart, by file suffix."""
