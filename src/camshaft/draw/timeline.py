"""The run as a strip: time from left to right, states inside of states from top to bottom.

What is too short to be seen is put together with its neighbours, so a strip has at most as many parts as fit on it,
however long the trace is.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

import attrs

from camshaft._text import duration
from camshaft.draw.chart import visible
from camshaft.draw.writers.measures import text_width
from camshaft.loop.loop import Loop
from camshaft.trace.spans import spans

if TYPE_CHECKING:
    from camshaft.trace.trace import Trace

__all__ = ["timeline"]

WIDTH = 1060.0
GUTTER = 170.0
"""Room at the left for what stands in each row."""
ROW = 20.0
SHORTEST = 2.0
"""Parts that are narrower than this, in pixels, are put together."""


@attrs.frozen
class _Part:
    """A stretch of one row: a state, or several that are too short to be told apart."""

    name: str
    begin: float
    end: float


def timeline(trace: Trace) -> str:
    """A trace as an SVG element, for a page; times in it are seconds."""
    rows = _rows(trace)
    total = max((part.end for parts in rows.values() for part in parts), default=0.0)
    scale = (WIDTH - GUTTER) / total if total else 0.0
    names = dict.fromkeys(part.name for parts in rows.values() for part in parts)
    hues = {name: number * 137 % 360 for number, name in enumerate(names)}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 {WIDTH:.0f} {len(rows) * ROW + 18:.0f}" '
        f'width="{WIDTH:.0f}" role="img">',
        f"<title>The run as nested spans, {duration(total)}</title>",
    ]
    for number, row in enumerate(sorted(rows)):
        lines.append(f'<text x="0" y="{number * ROW + 13:.1f}">{escape(_names(rows[row]))}</text>')
        lines += _draw_row(rows[row], number * ROW, scale, hues)
    y = len(rows) * ROW + 13
    lines.append(f'<text x="{GUTTER:.0f}" y="{y:.0f}">0 s</text>')
    lines.append(f'<text x="{WIDTH:.0f}" y="{y:.0f}" text-anchor="end">{duration(total)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _names(parts: list[_Part]) -> str:
    """What stands in a row, most of the time first, as far as there is room."""
    seconds: Counter[str] = Counter()
    for part in parts:
        seconds[part.name] += part.end - part.begin  # type: ignore[assignment]  # a counter adds up any numbers
    text = visible(", ".join(name for name, _ in seconds.most_common()))
    room = int(GUTTER / text_width("M", "note")) - 1
    return text if len(text) <= room else text[: room - 1] + "…"


def _rows(trace: Trace) -> dict[tuple[int, int, int], list[_Part]]:
    """By depth of engines and of states, what took how long."""
    times = [time for _, _, _, time in trace.raw_events()]
    times = [time - times[0] for time in times]  # recording may have begun long before
    rows: dict[tuple[int, int], list[_Part]] = {}
    for run, first, past in trace.segments:
        last = min(past, len(times)) - 1
        if first <= last:
            part = _Part(trace.runs[run].engine, times[first], times[last])
            rows.setdefault((trace.depth(run), 0), []).append(part)
    depths = {id(record.loop): _depths(record.loop) for record in trace.runs}
    for span in spans(trace):
        depth = depths[id(trace.runs[span.run].loop)][span.state]
        last = span.last if span.last is not None else min(span.past, len(times)) - 1
        part = _Part(span.state, times[span.first], times[max(last, span.first)])
        rows.setdefault((trace.depth(span.run), depth), []).append(part)
    return {(*row, lane): lain for row, parts in rows.items() for lane, lain in enumerate(_beside(parts))}


def _beside(parts: list[_Part]) -> list[list[_Part]]:
    """Parts that overlap, as custom states can, in rows of their own."""
    rows: list[list[_Part]] = []
    for part in sorted(parts, key=lambda part: (part.begin, -part.end)):
        row = next((row for row in rows if row[-1].end <= part.begin), None)
        if row is None:
            rows.append(row := [])
        row.append(part)
    return rows


def _depths(loop: Loop) -> dict[str, int]:
    found = {item.name: len(path) for path, item in loop.walk()}
    data_loop = loop.data_loop
    found["GET_BATCH"] = found[data_loop.name] if data_loop is not None else 1
    return found | {custom.name: found.get(custom.within, 0) + 1 for custom in loop.custom_states}


def _draw_row(parts: list[_Part], y: float, scale: float, hues: dict[str, int]) -> list[str]:
    lines = []
    together: list[_Part] = []
    for part in parts:
        if (part.end - part.begin) * scale >= SHORTEST:
            lines += [*_draw_together(together, y, scale, hues), _draw(part, y, scale, hues[part.name])]
            together = []
            continue
        if together and (part.begin - together[0].begin) * scale >= SHORTEST:
            lines += _draw_together(together, y, scale, hues)
            together = []
        together.append(part)
    return lines + _draw_together(together, y, scale, hues)


def _draw(part: _Part, y: float, scale: float, hue: int) -> str:
    x, width = GUTTER + part.begin * scale, max((part.end - part.begin) * scale, 0.5)
    name = visible(part.name)
    label = ""
    if text_width(name, "note") + 8 < width:
        label = f'<text x="{x + 4:.1f}" y="{y + 13:.1f}">{escape(name)}</text>'
    told = escape(f"{name}, {duration(part.end - part.begin)} from {part.begin:.6f} s")
    return f"<g><title>{told}</title>{_rect(x, y, width, hue, 1)}{label}</g>"


def _draw_together(parts: list[_Part], y: float, scale: float, hues: dict[str, int]) -> list[str]:
    """Several as one, as dark as they fill it."""
    if not parts:
        return []
    begin, end = parts[0].begin, max(part.end for part in parts)
    width = max((end - begin) * scale, SHORTEST / 2)
    counts = Counter(part.name for part in parts)
    busy = sum(part.end - part.begin for part in parts) * scale / width
    names = ", ".join(f"{visible(name)} ×{count:,}" for name, count in counts.items())
    told = escape(f"{names}, {duration(end - begin)} from {begin:.6f} s")
    hue = hues[counts.most_common(1)[0][0]]
    return [f"<g><title>{told}</title>{_rect(GUTTER + begin * scale, y, width, hue, max(0.25, min(busy, 1.0)))}</g>"]


def _rect(x: float, y: float, width: float, hue: int, opacity: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW - 2:.0f}" rx="2" '
        f'fill="hsl({hue} 65% 62%)" fill-opacity="{opacity:.2f}"/>'
    )
