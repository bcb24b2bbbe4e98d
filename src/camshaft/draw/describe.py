"""A chart in words, for those who do not see it."""

from __future__ import annotations

from camshaft.draw.chart import Chart

__all__ = ["description"]


def description(chart: Chart) -> str:
    """The states and their order, as a tree in one paragraph."""
    return "; ".join(line.strip() for line in str(chart.loop).splitlines())
