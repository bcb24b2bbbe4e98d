"""Results of profilers as tables: printed, and written as CSV."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable
from typing import Any

from camshaft.events import event_name
from camshaft.handlers.profiling.statistics import WIDTH, Times
from camshaft.loop.loop import Loop

__all__ = []


def columns(loop: Loop, path: tuple[str, ...]) -> list[str]:
    """The events of a loop: of the run, of its loops from the outermost, of the fetch, and all others."""
    first = ["started", "completed"]
    around = {item.name: item.own_events for _, item in loop.walk()}
    for name in path:
        first += around[name]
    first += ["get_batch_started", "get_batch_completed"]
    keys = loop.event_keys
    return [key for key in dict.fromkeys([*first, *keys]) if key in keys]


def column(key: str) -> str:
    return event_name(key).replace(".", "_")


def write_csv(path: str | os.PathLike[str], header: list[str], rows: Iterable[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def as_mapping(times: Times) -> dict[str, Any]:
    found = times.statistics
    if not found.count:
        return {"total": "not yet triggered"}
    shown = {"total": found.total, "min/index": found.minimum, "max/index": found.maximum, "mean": found.mean}
    return shown if found.std is None else shown | {"std": found.std}


def as_list(times: Times) -> list[Any]:
    found = times.statistics
    if not found.count:
        return ["not triggered", ("None", "None"), ("None", "None"), "None", "None"]
    return [found.total, found.minimum, found.maximum, found.mean, "None" if found.std is None else found.std]


def cells(stats: dict[str, Any]) -> list[str]:
    return [cell(stats.get(key, "None")) for key in ("total", "min/index", "max/index", "mean", "std")]


def cell(value: Any) -> str:
    from camshaft._text import duration

    if isinstance(value, tuple):
        seconds, index = value
        return f"{cell(seconds)} #{index}" if seconds != "None" else ""
    if isinstance(value, str):
        return "" if value == "None" else "never"
    return duration(value)


def print_table(names: list[str], rows: list[list[str]], spans: list[list[str]], total: float) -> str:
    """Print a table of handlers and one line each for what else takes time. Returns the text."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column, name in enumerate(names):  # events keep to one line, unless they are long
        longest = max((len(row[column]) for row in rows), default=0) if name == "Event" else 0
        table.add_column(name, overflow="fold", min_width=min(longest, 26))
    for name in ("Total", "Min #index", "Max #index", "Mean", "Std"):
        table.add_column(name, justify="right", no_wrap=True)
    for section in (rows, [["All handlers", "", cell(total), "", "", "", ""]], spans):
        for row in section:
            table.add_row(*map(Text, row))
        table.add_section()
    console = Console(record=True, width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    return console.export_text()
