"""``python -m mutants``: print how many mutants the tools find. Exits with 1 if a condition is not met."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes run at once, and would compete for the cores

from rich.console import Console
from rich.table import Table

from mutants.measure import Verdict, all_mutants, control_run, faults, measured, stale_reasons
from mutants.tools import TOOLS

__all__ = ["main", "report"]


def main() -> int:
    """Judge all mutants, and print the verdicts."""
    began = perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False, soft_wrap=True)
    wrong = [*stale_reasons(), *control_run()]
    verdicts = [*measured(range(len(all_mutants())))]
    wrong += faults(verdicts)
    report(console, verdicts)
    for line in wrong:
        console.print(f"WRONG: {line}", markup=False)
    console.print(f"{len(verdicts):,} mutants in {perf_counter() - began:.0f} s; {len(wrong)} things are wrong")
    return 1 if wrong else 0


def report(console: Console, verdicts: list[Verdict]) -> None:
    """Print the table of verdicts, the mutants that assert_legal accepts, and those without an effect."""
    console.print(table(verdicts))
    passed = [one for one in verdicts if one.compiles and "assert_legal" not in one.caught and one.caught]
    passed.sort(key=lambda one: one.why_legal[0])
    console.print(f"\nNot caught by assert_legal: {len(passed)}")
    for why, some in groupby(passed, key=lambda one: one.why_legal[0]):
        ones = list(some)
        console.print(f"\n{why}: {len(ones)}")
        for one in ones:
            console.print(f"  {one.name}: {one.why_legal[1]}", markup=False)
    harmless = [one for one in verdicts if one.compiles and not one.caught]
    console.print(f"\nNothing observable changes: {len(harmless)}")
    for one in harmless:
        console.print(f"  {one.name}: {one.harmless}", markup=False)
    console.print()


def table(verdicts: list[Verdict]) -> Table:
    """Return a table: by kind, the number of mutants, and the share of those with an effect that each tool catches."""
    found = Table("mutants", *(str(name) for name in ("all", "broken", "endless", "no effect")), *TOOLS)
    for column in found.columns[1:]:
        column.justify = "right"
    for group, some in _grouped(verdicts, lambda kind: kind.partition(":")[0]):
        kinds = list(_grouped(some, lambda kind: kind))
        for kind, ones in kinds:
            found.add_row(kind, *_cells(ones))
        if len(kinds) > 1:
            found.add_row(f"{group}, all", *_cells(some), style="bold")
        found.add_section()
    found.add_row("all", *_cells(verdicts), style="bold")
    return found


def _grouped(verdicts: Iterable[Verdict], key: object) -> Iterator[tuple[str, list[Verdict]]]:
    """Return the verdicts grouped by a key of their kind, in order of first appearance."""
    groups: dict[str, list[Verdict]] = {}
    for one in verdicts:
        groups.setdefault(key(one.kind), []).append(one)
    return iter(groups.items())


def _cells(verdicts: list[Verdict]) -> list[str]:
    judged = [one for one in verdicts if one.compiles]
    visible = [one for one in judged if one.caught]
    counts = (
        len(verdicts),
        len(verdicts) - len(judged),
        sum(one.is_endless for one in judged),
        len(judged) - len(visible),
    )
    return [*(f"{count:,}" if count else "" for count in counts), *(_share(visible, tool) for tool in TOOLS)]


def _share(verdicts: list[Verdict], tool: str) -> str:
    """Return the percentage that a tool catches of the mutants that it applies to, rounded down."""
    own = [one for one in verdicts if tool in one.tools]
    if not own:
        return "-"
    caught = sum(tool in one.caught for one in own)
    return f"{100 * caught // len(own)} %"


if __name__ == "__main__":
    sys.exit(main())
