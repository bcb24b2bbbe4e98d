"""The report of a trace: one page with what ran, where the time went, who was called, and what was out of order."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from camshaft._text import duration
from camshaft.draw.diagram import run_diagram
from camshaft.draw.timeline import timeline
from camshaft.draw.writers.html import page, table
from camshaft.events import event_name

if TYPE_CHECKING:
    from camshaft.loop.loop import Loop
    from camshaft.trace.trace import Trace
    from camshaft.trace.violations import Violation

__all__ = ["report"]

SHOWN = 1000
"""More violations than these are counted, not shown."""


def report(trace: Trace, name: str = "run") -> str:
    """A trace as a page that needs nothing from elsewhere.

    Args:
        trace: what fired; recorded with ``handler_times=True``, it has a table of handlers.
        name: what to call it.
    """
    violations = trace.violations()
    verdict = "all in legal order" if not violations else f"{len(violations):,} out of order"
    css = "note" if not violations else "bad"
    told = f"{trace.summary()}, {duration(_length(trace))}, {verdict}"
    body = f'<h1>{escape(name)}</h1>\n<p class="{css}">{escape(told)}</p>\n'
    body += _violations(trace, violations) if violations else ""
    body += f"<h2>The run</h2>\n<figure>\n{timeline(trace)}</figure>\n" if len(trace) else ""
    return page(f"{name}: {trace.summary()}", body + _diagrams(trace) + _handlers(trace))


LEGEND = (
    "× how often a state was entered or a line taken; % share of the time of that engine, states inside included, "
    "the darker the more. Dashed: as observed. Faint: never taken."
)


def _diagrams(trace: Trace) -> str:
    ran: list[tuple[str, Loop]] = []
    for record in trace.runs:
        if (record.engine, record.loop) not in ran:
            ran.append((record.engine, record.loop))
    figures = "".join(f"<figure>\n{run_diagram(trace, *one).svg()}</figure>\n" for one in ran)
    note = f'<p class="note">{LEGEND}</p>\n'
    return f'<h2>Engines</h2>\n{note}<div class="side-by-side">\n{figures}</div>\n' if ran else ""


def _violations(trace: Trace, violations: list[Violation]) -> str:
    shown = violations[:SHOWN]
    rows = [
        [
            f"{one.number:,}" if one.number else "end",
            one.engine,
            event_name(one.event) if one.event else "",
            one.where,
            one.message,
        ]
        for one in shown
    ]
    more = f'<p class="note">and {len(violations) - len(shown):,} more</p>\n' if len(violations) > len(shown) else ""
    head = ["event", "engine", "", "where", "what is wrong"]
    return f"<h2>Out of order</h2>\n{table(head, rows, ['number', 'code', 'code', 'code', 'code pre'])}{more}"


def _handlers(trace: Trace) -> str:
    if not trace.handler_times:
        return (
            '<h2>Handlers</h2>\n<p class="note">Their times were not recorded: '
            "<code>record(handler_times=True)</code> does.</p>\n"
        )
    seconds = _length(trace)
    rows = [
        [
            time.engine,
            event_name(time.event),
            time.handler,
            f"{time.count:,}",
            f"{time.total / seconds:.1%}" if seconds else "",
            *map(duration, (time.total, time.mean, time.maximum)),
        ]
        for time in sorted(trace.handler_times, key=lambda time: -time.total)
    ]
    head = ["engine", "event", "handler", "count", "of the run", "total", "mean", "maximum"]
    return f"<h2>Handlers</h2>\n{table(head, rows, ['code'] * 3 + ['number'] * 5)}"


def _length(trace: Trace) -> float:
    """The seconds from the first event to the last."""
    return trace[-1].time - trace[0].time if len(trace) else 0.0
