"""``python -m chaos``: kill trainings and print the results. Exits with 1 after a difference or a missing kill."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes run at once, and would compete for the cores

from rich.console import Console
from rich.table import Table

from chaos.harness import Report, chaos
from chaos.training import PLACES

__all__ = ["main", "report"]


def main() -> int:
    """Kill trainings, and print the results."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description="Kill trainings, and compare their results with an uninterrupted one."
    )
    parser.add_argument("--kills", type=int, default=100, help="the number of kills, at all places in turn")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="repeats the run that printed this seed"
    )
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=True)
    console.print(f"{options.kills} kills, seed {options.seed}")
    began = perf_counter()
    with TemporaryDirectory() as folder:
        found = chaos(options.kills, options.seed, Path(folder))
    report(console, found)
    console.print(f"{perf_counter() - began:.0f} s")
    return 0 if found.is_good else 1


def report(console: Console, found: Report) -> None:
    """Print the results as a table, with the differences."""
    table = Table("killed in", "planned", "kills")
    for column in table.columns[1:]:
        column.justify = "right"
    for place in found.planned:
        table.add_row(PLACES[place], str(found.planned[place]), str(found.kills[place]))
    table.add_section()
    table.add_row("all", str(found.planned.total()), str(found.kills.total()))
    console.print(table)
    console.print(f"{found.trainings} trainings, resumed {found.resumes} times")
    console.print(f"snapshots after kills: {len(found.unfinished)} unfinished, {found.damaged} damaged")
    console.print(f"differences from an uninterrupted training: {len(found.differences)}")
    for line in found.differences:
        console.print(f"  {line}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
