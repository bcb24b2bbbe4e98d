"""HTML: a self-contained page with the picture and a table of all transitions."""

from __future__ import annotations

from html import escape

from camshaft.draw.chart import Chart
from camshaft.draw.writers.svg import svg
from camshaft.events import event_name
from camshaft.machine.machine import LoopMachine

__all__ = ["html", "page", "table"]

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1c2430; --muted: #5d6878; --rule: #d8dee6; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1520; --ink: #e8edf4; --muted: #9aa7b8; --rule: #2b3648; --bad: #ff8a80; }
}
body { margin: 0 auto; max-width: 1100px; padding: 24px 16px 64px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; } h2 { font-size: 17px; margin-top: 40px; }
figure { margin: 16px 0; overflow-x: auto; }
.side-by-side { display: flex; flex-wrap: wrap; gap: 0 32px; align-items: flex-start; }
figure svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { border-bottom: 1px solid var(--rule); padding: 4px 14px 4px 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre, td.code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { white-space: pre-wrap; font-size: 12px; }
p.note, td.note { color: var(--muted); }
.bad { color: var(--bad); }
td.pre { white-space: pre-wrap; }
svg.timeline { max-width: 100%; height: auto; }
svg.timeline text { font: 10px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
svg.timeline g text { fill: #101828; }
svg.timeline > text { fill: var(--muted); }
""".strip()


def page(title: str, body: str) -> str:
    """Return a whole page around a body.

    Args:
        title: plain text, which is escaped here.
        body: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def table(head: list[str], rows: list[list[str]], css: list[str]) -> str:
    """Return a table of plain texts, which are escaped here.

    Args:
        head: the headings of the columns.
        rows: the cells of each row.
        css: the CSS class of each column.
    """

    def line(cells: list[str], tag: str) -> str:
        return "".join(f'<{tag} class="{name}">{escape(cell)}</{tag}>' for cell, name in zip(cells, css, strict=True))

    lines = [f"<tr>{line(row, 'td')}</tr>\n" for row in rows]
    above = f"<thead><tr>{line(head, 'th')}</tr></thead>\n"
    return f'<div class="scroll"><table>\n{above}<tbody>\n{"".join(lines)}</tbody></table></div>\n'


def html(chart: Chart) -> str:
    """Return a chart as a page."""
    machine = LoopMachine(chart.loop.evolve(custom_states=()))
    rows = [
        [place, event_name(transition.event), " and ".join(guard.text for guard in transition.guards), transition.dest]
        for place, transitions in machine.table.items()
        for transition in transitions.values()
        if not transition.is_control
    ]
    rows += [
        [
            f"within {custom.within}",
            event_name(event),
            "",
            custom.name if event == custom.events[0] else f"after {custom.name}",
        ]
        for custom in chart.loop.custom_states
        for event in custom.events
    ]
    listed = table(["at", "event", "if", "leads to"], rows, ["code", "code", "code", "code"])
    body = f"<h1>{escape(chart.name)}</h1>\n<figure>\n{svg(chart)}</figure>\n<h2>Transitions</h2>\n{listed}"
    return page(chart.title, body)
