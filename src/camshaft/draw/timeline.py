"""Timelines: the states of a trace as bars, time from left to right, inner states below outer ones.

Bars that are too short to be seen are joined with their neighbours. So the size of a timeline has a limit, however
long the trace is.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

import attrs

from camshaft._text import duration
from camshaft.draw.chart import printable
from camshaft.draw.writers.measures import text_width
from camshaft.loop.loop import Loop
from camshaft.trace.spans import spans

if TYPE_CHECKING:
    from camshaft.trace.trace import Trace

__all__ = ["timeline"]

WIDTH = 1060.0
GUTTER = 170.0
"""Width of the column at the left with the names of the states, in pixels."""
ROW = 20.0
"""Height of a row, in pixels."""
SHORTEST = 2.0
"""Width of the shortest separate bar, in pixels; shorter ones are joined."""

RowKey = tuple[int, int, int]
"""A row as (depth of engines, depth of states, number among the rows of the same depths)."""


@attrs.frozen
class _Bar:
    """A state or a run, from ``begin`` to ``end`` in seconds."""

    name: str
    begin: float
    end: float


def timeline(trace: Trace) -> str:
    """Return a trace as an ``<svg>`` element for a page."""
    rows = _rows(trace)
    total = max((bar.end for bars in rows.values() for bar in bars), default=0.0)
    scale = (WIDTH - GUTTER) / total if total else 0.0
    names = dict.fromkeys(bar.name for bars in rows.values() for bar in bars)
    # 137 degrees is close to the golden angle: hues of neighbours differ, however many names there are
    hues = {name: number * 137 % 360 for number, name in enumerate(names)}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" '
        f'viewBox="0 0 {WIDTH:.0f} {len(rows) * ROW + 18:.0f}" width="{WIDTH:.0f}" role="img">',
        f"<title>The run as nested spans, {duration(total)}</title>",
    ]
    for number, key in enumerate(sorted(rows)):
        lines.append(f'<text x="0" y="{number * ROW + 13:.1f}">{escape(_row_name(rows[key]))}</text>')
        lines += _draw_row(rows[key], number * ROW, scale, hues)
    y = len(rows) * ROW + 13
    lines.append(f'<text x="{GUTTER:.0f}" y="{y:.0f}">0 s</text>')
    lines.append(f'<text x="{WIDTH:.0f}" y="{y:.0f}" text-anchor="end">{duration(total)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _row_name(bars: list[_Bar]) -> str:
    """Return the names of the bars of a row, the longest total time first, cut to the width of the column."""
    seconds: Counter[str] = Counter()
    for bar in bars:
        seconds[bar.name] += bar.end - bar.begin  # type: ignore[assignment]  # a counter adds up any numbers
    text = printable(", ".join(name for name, _ in seconds.most_common()))
    room = int(GUTTER / text_width("M", "note")) - 1
    return text if len(text) <= room else text[: room - 1] + "…"


def _rows(trace: Trace) -> dict[RowKey, list[_Bar]]:
    """Return the bars of each row; times start at 0 with the first event."""
    times = [time for _, _, _, time in trace.raw_events()]
    times = [time - times[0] for time in times]
    rows: dict[tuple[int, int], list[_Bar]] = {}
    for run, first, past in trace.segments:
        last = min(past, len(times)) - 1
        if first <= last:
            bar = _Bar(trace.runs[run].engine, times[first], times[last])
            rows.setdefault((trace.depth(run), 0), []).append(bar)
    depths = {id(record.loop): _depths(record.loop) for record in trace.runs}
    for span in spans(trace):
        depth = depths[id(trace.runs[span.run].loop)][span.state]
        last = span.last if span.last is not None else min(span.past, len(times)) - 1
        bar = _Bar(span.state, times[span.first], times[max(last, span.first)])
        rows.setdefault((trace.depth(span.run), depth), []).append(bar)
    return {(*depths, number): row for depths, bars in rows.items() for number, row in enumerate(_disjoint(bars))}


def _disjoint(bars: list[_Bar]) -> list[list[_Bar]]:
    """Divide bars into rows in which none overlap; custom states can be entered at the same time."""
    rows: list[list[_Bar]] = []
    for bar in sorted(bars, key=lambda bar: (bar.begin, -bar.end)):
        row = next((row for row in rows if row[-1].end <= bar.begin), None)
        if row is None:
            rows.append(row := [])
        row.append(bar)
    return rows


def _depths(loop: Loop) -> dict[str, int]:
    found = {item.name: len(path) for path, item in loop.walk()}
    data_loop = loop.data_loop
    found["GET_BATCH"] = found[data_loop.name] if data_loop is not None else 1
    return found | {custom.name: found.get(custom.within, 0) + 1 for custom in loop.custom_states}


def _draw_row(bars: list[_Bar], y: float, scale: float, hues: dict[str, int]) -> list[str]:
    lines = []
    short: list[_Bar] = []
    for bar in bars:
        if (bar.end - bar.begin) * scale >= SHORTEST:
            lines += [*_draw_joined(short, y, scale, hues), _draw(bar, y, scale, hues[bar.name])]
            short = []
            continue
        if short and (bar.begin - short[0].begin) * scale >= SHORTEST:
            lines += _draw_joined(short, y, scale, hues)
            short = []
        short.append(bar)
    return lines + _draw_joined(short, y, scale, hues)


def _draw(bar: _Bar, y: float, scale: float, hue: int) -> str:
    x, width = GUTTER + bar.begin * scale, max((bar.end - bar.begin) * scale, 0.5)
    name = printable(bar.name)
    label = ""
    if text_width(name, "note") + 8 < width:
        label = f'<text x="{x + 4:.1f}" y="{y + 13:.1f}">{escape(name)}</text>'
    title = escape(f"{name}, {duration(bar.end - bar.begin)}, starts at {bar.begin:.6f} s")
    return f"<g><title>{title}</title>{_rect(x, y, width, hue, 1)}{label}</g>"


def _draw_joined(bars: list[_Bar], y: float, scale: float, hues: dict[str, int]) -> list[str]:
    """Draw several bars as one. Its opacity is the part of its width that they cover."""
    if not bars:
        return []
    begin, end = bars[0].begin, max(bar.end for bar in bars)
    width = max((end - begin) * scale, SHORTEST / 2)
    counts = Counter(bar.name for bar in bars)
    covered = sum(bar.end - bar.begin for bar in bars) * scale / width
    names = ", ".join(f"{printable(name)} ×{count:,}" for name, count in counts.items())
    title = escape(f"{names}, {duration(end - begin)}, starts at {begin:.6f} s")
    hue = hues[counts.most_common(1)[0][0]]
    opacity = max(0.25, min(covered, 1.0))
    return [f"<g><title>{title}</title>{_rect(GUTTER + begin * scale, y, width, hue, opacity)}</g>"]


def _rect(x: float, y: float, width: float, hue: int, opacity: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW - 2:.0f}" rx="2" '
        f'fill="hsl({hue} 65% 62%)" fill-opacity="{opacity:.2f}"/>'
    )
