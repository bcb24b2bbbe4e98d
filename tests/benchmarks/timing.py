"""Measuring: contenders take turns, and each round compares them with each other."""

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
        name: what was measured.
        unit: of its value: ``"x"`` for a ratio.
        values: one for each round; one for each run, where it was measured in several.
        target: what it should be.
        bound: how: ``"<="`` at most, ``">="`` at least, ``"="`` so that no difference can be measured, which is when
            the quartiles lie around the target.
    """

    name: str
    unit: str
    values: list[float]
    target: float | None = None
    bound: str = "<="

    @property
    def median(self) -> float:
        """The value that is reported."""
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
        """Whether the median reaches the target; None where there is none."""
        if self.target is None:
            return None
        if self.bound == "=":
            low, high = self.spread
            return low <= self.target <= high or self.median <= self.target
        return self.median >= self.target if self.bound == ">=" else self.median <= self.target

    @property
    def goal(self) -> str:
        """The target, in words."""
        if self.target is None:
            return ""
        return f"{SIGNS[self.bound]} {self.target:g} {self.unit}"


SIGNS = {"<=": "≤", ">=": "≥", "=": "="}


def over_runs(figures: list[Figure]) -> Figure:
    """A figure of several runs: their medians. That of a single run is as it was."""
    if len(figures) == 1:
        return figures[0]
    return attrs.evolve(figures[0], values=[figure.median for figure in figures])


@attrs.frozen
class Rounds:
    """Seconds a unit of work, by contender: one for each round."""

    seconds: dict[str, list[float]]

    def ratio(self, one: str, other: str) -> list[float]:
        """How many times as long one takes as another."""
        return [a / b for a, b in zip(self.seconds[one], self.seconds[other], strict=True)]

    def over(self, one: str, other: str, unit: float = 1e6) -> list[float]:
        """How much longer one takes than another, in microseconds unless another unit is given."""
        return [(a - b) * unit for a, b in zip(self.seconds[one], self.seconds[other], strict=True)]

    def less_over(self, one: str, without: str, other: str, other_without: str) -> list[float]:
        """How many times less something adds to one than to another; less than a nanosecond counts as one."""
        added = zip(self.over(one, without, 1), self.over(other, other_without, 1), strict=True)
        return [there / max(here, 1e-9) for here, there in added]

    def less_overhead(self, one: str, other: str, bare: str) -> list[float]:
        """How many times less one adds to the bare loop than another does; less than a nanosecond counts as one."""
        return self.less_over(one, bare, other, bare)


def measure(contenders: dict[str, tuple[Callable[[int], None], int]], rounds: int) -> Rounds:
    """Let contenders take turns, each round with another one first.

    Args:
        contenders: by name, what does a number of units of work, and that number.
        rounds: how often; one more is thrown away first.
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
