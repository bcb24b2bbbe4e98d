"""Tables of a profiler's results, printed or written as CSV."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable
from typing import Any

from camshaft.events import event_name
from camshaft.handlers.console import encodable, is_terminal
from camshaft.handlers.profiling.statistics import Times
from camshaft.loop.loop import Loop

__all__ = []

WIDTH = 120
"""The width of printed tables in characters, if standard output is not a terminal."""


def columns(loop: Loop, path: tuple[str, ...]) -> list[str]:
    """Return the keys of a loop's events: of the run, of the loops of ``path``, of fetching, then all others."""
    first = ["started", "completed"]
    events_by_state = {item.name: item.own_events for _, item in loop.walk()}
    for name in path:
        first += events_by_state[name]
    first += ["get_batch_started", "get_batch_completed"]
    keys = loop.event_keys
    return [key for key in dict.fromkeys([*first, *keys]) if key in keys]


def column(key: str) -> str:
    """Return the name of an event as a part of a column name."""
    return event_name(key).replace(".", "_")


def write_csv(path: str | os.PathLike[str], header: list[str], rows: Iterable[list[Any]]) -> None:
    """Write a CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def as_mapping(times: Times) -> dict[str, Any]:
    """Return statistics as :meth:`BasicTimeProfiler.get_results` does."""
    stats = times.statistics
    if not stats.count:
        return {"total": "not yet triggered"}
    values = {"total": stats.total, "min/index": stats.minimum, "max/index": stats.maximum, "mean": stats.mean}
    return values if stats.std is None else values | {"std": stats.std}


def as_list(times: Times) -> list[Any]:
    """Return statistics as :meth:`HandlersTimeProfiler.get_results` does."""
    stats = times.statistics
    if not stats.count:
        return ["not triggered", ("None", "None"), ("None", "None"), "None", "None"]
    return [stats.total, stats.minimum, stats.maximum, stats.mean, "None" if stats.std is None else stats.std]


def cells(stats: dict[str, Any]) -> list[str]:
    """Return the cells of a row for statistics made by :func:`as_mapping`."""
    return [cell(stats.get(key, "None")) for key in ("total", "min/index", "max/index", "mean", "std")]


def cell(value: Any) -> str:
    """Return one value of :func:`as_mapping` or :func:`as_list` as text."""
    from camshaft._text import duration

    if isinstance(value, tuple):
        seconds, index = value
        return f"{cell(seconds)} #{index}" if seconds != "None" else ""
    if isinstance(value, str):
        return "" if value == "None" else "never"
    return duration(value)


def print_table(names: list[str], rows: list[list[str]], spans: list[list[str]], total: float) -> str:
    """Print a table of handlers and return its text.

    Args:
        names: the titles of the columns before the statistics.
        rows: the rows of the handlers.
        spans: the rows of what takes time outside of handlers: processing and fetching.
        total: the seconds of all handlers together.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column, name in enumerate(names):  # an event stays on one line unless its name is long
        longest = max((len(row[column]) for row in rows), default=0) if name == "Event" else 0
        table.add_column(name, overflow="fold", min_width=min(longest, 26))
    for name in ("Total", "Min #index", "Max #index", "Mean", "Std"):
        table.add_column(name, justify="right", no_wrap=True)
    for section in (rows, [["All handlers", "", cell(total), "", "", "", ""]], spans):
        for row in section:
            table.add_row(*map(Text, row))
        table.add_section()
    console = Console(record=True, width=None if is_terminal(sys.stdout) else WIDTH)
    with encodable(console):
        console.print(table)
    return console.export_text()
