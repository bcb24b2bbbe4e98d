"""``python -m benchmarks``: measure everything, print a table, write the figures as JSON."""

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
from benchmarks.timing import Figure


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Measure what camshaft costs.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement")
    parser.add_argument("--json", type=Path, help="write all values of all rounds to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("figure", "target", "median", "quartiles", "", title="What it costs")
    for column in table.columns[1:4]:
        column.justify = "right"
    found: list[Figure] = []
    for figure in chain(iterations.figures(options.rounds), rest.figures(options.rounds)):
        found.append(figure)
        print(f"{figure.name}: {_number(figure.median)} {figure.unit}", file=sys.stderr)
        low, high = figure.spread
        sign = "" if figure.target is None else "≥ " if figure.at_least else "≤ "
        target = "" if figure.target is None else f"{sign}{figure.target:g} {figure.unit}"
        verdict = {True: "met", False: "missed", None: ""}[figure.is_met]
        table.add_row(
            figure.name, target, f"{_number(figure.median)} {figure.unit}", f"{_number(low)} - {_number(high)}", verdict
        )
    Console(width=130).print(table)
    if options.json is not None:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
        options.json.write_text(json.dumps({"on": machine, "figures": [attrs.asdict(one) for one in found]}, indent=1))


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
