"""The seam for what looks upwards: a low module offers a convenience that a high module provides.

``loop.diagram()``, ``engine.diagram()`` and ``trace.diagram()`` need the package that draws, and ``record()`` of
another library's engine needs the one that knows that library. Both stand above. Imports run downwards only, so
``camshaft/__init__.py`` fills this seam with the names of the functions. They are imported when they are first called.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Picture", "provide", "view"]

_providers: dict[str, str] = {}


class Picture(Protocol):
    """What ``diagram()`` returns: see :class:`camshaft.draw.diagram.Diagram`."""

    def svg(self) -> str:
        """Return an SVG document."""

    def mermaid(self) -> str:
        """Return a ``stateDiagram-v2`` of Mermaid."""

    def dot(self) -> str:
        """Return a directed graph for Graphviz."""

    def text(self) -> str:
        """Return lines of text for a terminal."""

    def html(self) -> str:
        """Return a page with the picture and a table of the transitions."""

    def save(self, path: str | Path) -> None:
        """Write a file in the format of its ending."""


def provide(**functions: str) -> None:
    """Say where functions are found.

    Args:
        functions: by name, ``package.module:function``.
    """
    _providers.update(functions)


def view(name: str) -> Any:
    """Import and return the function of that name."""
    return pkgutil.resolve_name(_providers[name])
