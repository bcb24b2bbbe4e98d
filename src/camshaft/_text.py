"""Values formatted for people."""

from __future__ import annotations

__all__ = ["duration"]


def duration(value: float) -> str:
    """Return a duration, given in seconds, as text in s, ms or µs with three significant digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
