"""Values as people read them."""

from __future__ import annotations

__all__ = ["duration"]


def duration(value: float) -> str:
    """Seconds, as people read them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
