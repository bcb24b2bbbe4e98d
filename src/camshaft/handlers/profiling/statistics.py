"""Statistics of durations."""

from __future__ import annotations

import math

import attrs

__all__ = []

WIDTH = 120
"""How wide tables are where there is no terminal."""


@attrs.frozen
class _Statistics:
    """Of a series of seconds; the variance by Welford's method (Technometrics 4, 1962), one number at a time."""

    count: int = 0
    total: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    minimum: tuple[float, int] = (math.inf, 0)
    maximum: tuple[float, int] = (-math.inf, 0)

    def with_next(self, seconds: float) -> _Statistics:
        """Of one more number."""
        count, shift = self.count + 1, seconds - self.mean
        mean = self.mean + shift / count
        return _Statistics(
            count,
            self.total + seconds,
            mean,
            self.squares + shift * (seconds - mean),
            (seconds, self.count) if seconds < self.minimum[0] else self.minimum,
            (seconds, self.count) if seconds > self.maximum[0] else self.maximum,
        )

    @property
    def std(self) -> float | None:
        """The standard deviation of the sample; None of less than two numbers."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None


class Times:
    """The seconds of one thing, by the number of the pass or call: statistics of all, and the latest ones singly."""

    def __init__(self, keep: int) -> None:
        self.latest: dict[int, float] = {}
        self._keep = keep
        self._earlier = _Statistics()  # without the last one, which may still grow

    @property
    def statistics(self) -> _Statistics:
        """Of all of them, dropped ones too."""
        return self._earlier.with_next(self._last) if self.latest else self._earlier

    @property
    def count(self) -> int:
        """How many there are."""
        return self._earlier.count + bool(self.latest)

    @property
    def _last(self) -> float:
        return self.latest[next(reversed(self.latest))]

    def add(self, number: int, seconds: float) -> None:
        """Add to the seconds of a pass."""
        if number not in self.latest:
            self._earlier = self.statistics
            if len(self.latest) == self._keep:
                del self.latest[next(iter(self.latest))]
        self.latest[number] = self.latest.get(number, 0.0) + seconds
