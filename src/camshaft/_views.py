"""The registry of functions that a module offers but a later package implements.

``loop.diagram()``, ``engine.diagram()`` and ``trace.diagram()`` need ``camshaft.draw``. ``record()`` of another
library's engine needs ``camshaft.adapters``. A module may not import from a later package, so
``camshaft/__init__.py`` registers the full names of these functions here. Each is imported at its first call.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Picture", "provide", "view"]

_providers: dict[str, str] = {}


class Picture(Protocol):
    """The type that ``diagram()`` returns: see :class:`camshaft.draw.diagram.Diagram`."""

    def svg(self) -> str:
        """Return an SVG document."""

    def mermaid(self) -> str:
        """Return a Mermaid ``stateDiagram-v2``."""

    def dot(self) -> str:
        """Return a Graphviz digraph."""

    def text(self) -> str:
        """Return the picture drawn with characters, for a terminal."""

    def html(self) -> str:
        """Return an HTML page with the picture and a table of the transitions."""

    def save(self, path: str | Path) -> None:
        """Write a file. Its suffix selects the format."""


def provide(**functions: str) -> None:
    """Register the implementations of functions.

    Args:
        functions: for each name, the implementation as ``package.module:function``.
    """
    _providers.update(functions)


def view(name: str) -> Any:
    """Import and return the implementation registered under ``name``."""
    return pkgutil.resolve_name(_providers[name])
