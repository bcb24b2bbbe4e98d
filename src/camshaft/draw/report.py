"""Reports: one page on a trace, with its runs, its times, its handlers and its violations of the event order."""

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
"""Largest number of violations that a report lists; of further ones it gives the number only."""


def report(trace: Trace, name: str = "run") -> str:
    """Return a trace as a self-contained HTML page.

    Args:
        trace: the recorded events. A table of handlers needs a trace recorded with ``handler_times=True``.
        name: the title of the page.
    """
    violations = trace.violations()
    plural = "s" * (len(violations) != 1)
    verdict = "all in legal order" if not violations else f"{len(violations):,} violation{plural} of the event order"
    css = "note" if not violations else "bad"
    overall = f"{trace.summary()}, {duration(_seconds(trace))}, {verdict}"
    body = f'<h1>{escape(name)}</h1>\n<p class="{css}">{escape(overall)}</p>\n'
    body += _violations(trace, violations) if violations else ""
    body += f"<h2>The run</h2>\n<figure>\n{timeline(trace)}</figure>\n" if len(trace) else ""
    return page(f"{name}: {trace.summary()}", body + _diagrams(trace) + _handlers(trace))


LEGEND = (
    "×: number of times that a state was entered or an edge was taken. %: share of the engine's time, inner states "
    "included; darker states took a larger share. Dashed states: order as observed. Faint edges: never taken."
)


def _diagrams(trace: Trace) -> str:
    engines: list[tuple[str, Loop]] = []
    for record in trace.runs:
        if (record.engine, record.loop) not in engines:
            engines.append((record.engine, record.loop))
    figures = "".join(f"<figure>\n{run_diagram(trace, *engine).svg()}</figure>\n" for engine in engines)
    note = f'<p class="note">{LEGEND}</p>\n'
    return f'<h2>Engines</h2>\n{note}<div class="side-by-side">\n{figures}</div>\n' if engines else ""


def _violations(trace: Trace, violations: list[Violation]) -> str:
    shown = violations[:SHOWN]
    rows = [
        [
            f"{violation.number:,}" if violation.number else "end",
            violation.engine,
            event_name(violation.event) if violation.event else "",
            violation.where,
            violation.message,
        ]
        for violation in shown
    ]
    more = f'<p class="note">and {len(violations) - len(shown):,} more</p>\n' if len(violations) > len(shown) else ""
    head = ["event", "engine", "", "where", "violation"]
    return f"<h2>Violations</h2>\n{table(head, rows, ['number', 'code', 'code', 'code', 'code pre'])}{more}"


def _handlers(trace: Trace) -> str:
    if not trace.handler_times:
        return (
            '<h2>Handlers</h2>\n<p class="note">The times of handlers were not recorded: '
            "use <code>record(handler_times=True)</code>.</p>\n"
        )
    seconds = _seconds(trace)
    rows = [
        [
            times.engine,
            event_name(times.event),
            times.handler,
            f"{times.count:,}",
            f"{times.total / seconds:.1%}" if seconds else "",
            *map(duration, (times.total, times.mean, times.maximum)),
        ]
        for times in sorted(trace.handler_times, key=lambda times: -times.total)
    ]
    head = ["engine", "event", "handler", "count", "of the run", "total", "mean", "maximum"]
    return f"<h2>Handlers</h2>\n{table(head, rows, ['code'] * 3 + ['number'] * 5)}"


def _seconds(trace: Trace) -> float:
    """Return the time from the first event to the last, in seconds."""
    return trace[-1].time - trace[0].time if len(trace) else 0.0
