"""Measurements: contenders take turns, and are compared within each round."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from time import perf_counter

import attrs

__all__ = ["Figure", "Rounds", "measure", "over_runs"]


@attrs.frozen
class Figure:
    """One figure of the report.

    Attributes:
        name: the thing that was measured.
        unit: the unit of the values; ``"x"`` for a ratio.
        values: one value per round, or one per run if there were several runs.
        target: the target of the median, or None.
        bound: ``"<="`` for at most, ``">="`` for at least, ``"="`` for no measurable difference: the target lies
            between the quartiles.
    """

    name: str
    unit: str
    values: list[float]
    target: float | None = None
    bound: str = "<="

    @property
    def median(self) -> float:
        """The median of the values, for the report."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the third quartile."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        quartiles = statistics.quantiles(self.values, n=4)
        return quartiles[0], quartiles[2]

    @property
    def is_met(self) -> bool | None:
        """True if the median reaches the target; None if there is no target."""
        if self.target is None:
            return None
        if self.bound == "=":
            low, high = self.spread
            return low <= self.target <= high or self.median <= self.target
        return self.median >= self.target if self.bound == ">=" else self.median <= self.target

    @property
    def goal(self) -> str:
        """The target in words; empty if there is none."""
        if self.target is None:
            return ""
        return f"{SIGNS[self.bound]} {self.target:g} {self.unit}"


SIGNS = {"<=": "≤", ">=": "≥", "=": "="}


def over_runs(figures: list[Figure]) -> Figure:
    """Return the figure of several runs: its values are the medians of the runs. A single run is returned as it is."""
    if len(figures) == 1:
        return figures[0]
    return attrs.evolve(figures[0], values=[figure.median for figure in figures])


@attrs.frozen
class Rounds:
    """The seconds per unit of work, by contender: one value for each round."""

    seconds: dict[str, list[float]]

    def ratio(self, one: str, other: str) -> list[float]:
        """Return, for each round, the time of one contender divided by that of another."""
        return [a / b for a, b in zip(self.seconds[one], self.seconds[other], strict=True)]

    def over(self, one: str, other: str, unit: float = 1e6) -> list[float]:
        """Return, for each round, the time of one contender minus that of another, in microseconds by default."""
        return [(a - b) * unit for a, b in zip(self.seconds[one], self.seconds[other], strict=True)]

    def less_over(self, one: str, without: str, other: str, other_without: str) -> list[float]:
        """Return, for each round, the time added to ``other`` divided by the time added to ``one``.

        Less than a nanosecond counts as one nanosecond.
        """
        pairs = zip(self.over(one, without, 1), self.over(other, other_without, 1), strict=True)
        return [other_added / max(added, 1e-9) for added, other_added in pairs]

    def less_overhead(self, one: str, other: str, bare: str) -> list[float]:
        """Return, for each round, the overhead of ``other`` over the bare loop divided by that of ``one``."""
        return self.less_over(one, bare, other, bare)


def measure(contenders: dict[str, tuple[Callable[[int], None], int]], rounds: int) -> Rounds:
    """Measure contenders that take turns. Each round starts with another contender.

    Args:
        contenders: by name: a function that does a number of units of work, and the number.
        rounds: the number of rounds. One more round before them warms up, and is not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            work, units = contenders[name]
            gc.collect()
            gc.disable()
            began = perf_counter()
            work(units)
            passed = perf_counter() - began
            gc.enable()
            if number:
                seconds[name].append(passed / units)
    return Rounds(seconds)
