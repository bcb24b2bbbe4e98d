"""Diagrams as their readers see them: drawn by a real browser, and read by Mermaid and by Graphviz.

What is not on this machine is skipped, and said; ``.ci/run`` installs it. Each worker of pytest has one browser.
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
    """The browser process; ``browser.page()`` is a page of one's own."""
    pytest.importorskip("playwright", reason="needs a browser: the Python package playwright is not installed")
    executable = chromium()
    if executable is None:
        pytest.skip("needs a browser: chromium is not installed")
    running = Browser(executable)
    yield running
    running.close()


@pytest.fixture(scope="session")
def page(browser):
    """A page, for all tests: ``show`` starts afresh."""
    return browser.page()


@pytest.fixture(scope="session")
def mermaid(browser):
    """Mermaid, in that browser."""
    if not MERMAID.exists():
        pytest.skip("needs Mermaid: it is not installed, run `make browser`")
    return Mermaid(browser.page())


@pytest.fixture(scope="session")
def graphviz():
    """The function ``dot``, where there is Graphviz."""
    if shutil.which("dot") is None:
        pytest.skip("needs Graphviz: dot is not installed")
    return dot
