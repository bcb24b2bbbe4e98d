"""Diagrams as readers see them: drawn by a real browser, and parsed by Mermaid and Graphviz.

Tests are skipped, with a reason, if a program is missing; ``.ci/run`` installs all. Each pytest worker has one browser.
"""

import shutil

import pytest

from browser.driving import Browser, Page, chromium
from browser.geometry import Box, Edge, Geometry, Node, Point, Text, crossed, outside, overlaps
from browser.reading import MERMAID, Mermaid, dot

__all__ = ["Box", "Browser", "Edge", "Geometry", "Mermaid", "Node", "Page", "Point", "Text"]
__all__ += ["browser", "crossed", "dot", "graphviz", "mermaid", "outside", "overlaps", "page"]


@pytest.fixture(scope="session")
def browser():
    """Start the browser process; ``browser.page()`` opens a separate page."""
    pytest.importorskip("playwright", reason="needs a browser: the Python package playwright is not installed")
    executable = chromium()
    if executable is None:
        pytest.skip("needs a browser: chromium is not installed")
    running = Browser(executable)
    yield running
    running.close()


@pytest.fixture(scope="session")
def page(browser):
    """Open a page shared by all tests; ``show`` replaces its content and clears its errors."""
    return browser.page()


@pytest.fixture(scope="session")
def mermaid(browser):
    """Load Mermaid in a page of its own."""
    if not MERMAID.exists():
        pytest.skip("needs Mermaid: it is not installed, run `make browser`")
    return Mermaid(browser.page())


@pytest.fixture(scope="session")
def graphviz():
    """Return the function ``dot``, if Graphviz is installed."""
    if shutil.which("dot") is None:
        pytest.skip("needs Graphviz: dot is not installed")
    return dot
