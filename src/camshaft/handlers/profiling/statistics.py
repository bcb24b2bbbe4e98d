"""Running statistics of durations."""

from __future__ import annotations

import math

import attrs

__all__ = []


@attrs.frozen
class _Statistics:
    """Running statistics of durations in seconds; variance by Welford's method (Technometrics 4, 1962)."""

    count: int = 0
    total: float = 0.0
    mean: float = 0.0
    squared_deviations: float = 0.0
    minimum: tuple[float, int] = (math.inf, 0)  # with its index
    maximum: tuple[float, int] = (-math.inf, 0)

    def with_next(self, seconds: float) -> _Statistics:
        """Return the statistics with one more duration."""
        count, deviation = self.count + 1, seconds - self.mean
        mean = self.mean + deviation / count
        return _Statistics(
            count,
            self.total + seconds,
            mean,
            self.squared_deviations + deviation * (seconds - mean),
            (seconds, self.count) if seconds < self.minimum[0] else self.minimum,
            (seconds, self.count) if seconds > self.maximum[0] else self.maximum,
        )

    @property
    def std(self) -> float | None:
        """The sample standard deviation, or None for fewer than two durations."""
        return math.sqrt(self.squared_deviations / (self.count - 1)) if self.count > 1 else None


class Times:
    """Durations of one kind by the number of the pass or call: statistics of all, and the latest ones themselves.

    Args:
        keep: the number of latest durations to keep.

    Attributes:
        latest: the latest durations in seconds, by the number of the pass or call.
    """

    def __init__(self, keep: int) -> None:
        self.latest: dict[int, float] = {}
        self._keep = keep
        self._earlier = _Statistics()  # without the last duration, to which add() may add more

    @property
    def statistics(self) -> _Statistics:
        """The statistics of all durations, including those no longer kept."""
        return self._earlier.with_next(self._last) if self.latest else self._earlier

    @property
    def count(self) -> int:
        """The number of durations."""
        return self._earlier.count + bool(self.latest)

    @property
    def _last(self) -> float:
        return self.latest[next(reversed(self.latest))]

    def add(self, number: int, seconds: float) -> None:
        """Add seconds to the duration with this number; a new number starts a new duration."""
        if number not in self.latest:
            self._earlier = self.statistics
            if len(self.latest) == self._keep:
                del self.latest[next(iter(self.latest))]
        self.latest[number] = self.latest.get(number, 0.0) + seconds
