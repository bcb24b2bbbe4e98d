"""``python -m benchmarks``: measure everything, print tables, and write the figures as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from itertools import chain
from pathlib import Path

import attrs
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import iterations, rest
from benchmarks.growth import Growth, growths
from benchmarks.timing import Figure, over_runs


def main() -> None:
    """Measure everything, print the tables, and write the values."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what camshaft costs.")
    parser.add_argument("--runs", type=int, default=1, help="number of runs; the medians of the runs are reported")
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds of each measurement in a run")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="the file for all values")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [list(_measured(options.rounds, run + 1)) for run in range(options.runs)]
    figures = [over_runs(list(figure)) for figure in zip(*runs, strict=True)]
    grown = list(growths(max(3, options.rounds // 5)))
    console = Console(width=130)
    console.print(_costs(figures))
    console.print(_growth(grown))
    options.json.write_text(json.dumps(_as_json(figures, grown, options.runs, options.rounds), indent=1) + "\n")
    console.print(f"all values are in {options.json}")


def _measured(rounds: int, run: int) -> list[Figure]:
    """Measure all figures once, and print them to stderr as they are found."""
    found = []
    for figure in chain(iterations.figures(rounds), rest.figures(rounds)):
        print(f"run {run}: {figure.name}: {_number(figure.median)} {figure.unit}", file=sys.stderr)
        found.append(figure)
    return found


def _costs(figures: list[Figure]) -> Table:
    table = Table("figure", "target", "median", "spread", "", title="Costs")
    for column in table.columns[1:4]:
        column.justify = "right"
    for figure in figures:
        low, high = figure.spread
        verdict = {True: "met", False: "missed", None: ""}[figure.is_met]
        median = f"{_number(figure.median)} {figure.unit}"
        table.add_row(figure.name, figure.goal, median, f"{_number(low)} - {_number(high)}", verdict)
    return table


def _growth(grown: list[Growth]) -> Table:
    table = Table("time to", "with more", "sizes", "milliseconds", "slope", title="Growth (slope 1 is linear)")
    for one in grown:
        sizes, times = (f"{size:,}" for size in one.seconds), (_number(s * 1000) for s in one.seconds.values())
        table.add_row(one.name, one.of, "  ".join(sizes), "  ".join(times), f"{one.slope:.2f}")
    return table


def _as_json(figures: list[Figure], grown: list[Growth], runs: int, rounds: int) -> dict[str, object]:
    machine = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    costs = [attrs.asdict(one) | {"median": one.median, "met": one.is_met} for one in figures]
    growth = [attrs.asdict(one) | {"slope": one.slope} for one in grown]
    return {"on": machine, "runs": runs, "rounds": rounds, "figures": costs, "growth": growth}


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
