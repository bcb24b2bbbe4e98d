"""The checks of data: whether it can give batches, and how many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["check_data", "length_of"]


def check_data(data: Any) -> None:
    """Refuse data that cannot give a batch.

    Raises:
        TypeError: ``data`` is not iterable.
        ValueError: ``data`` is empty.
    """
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise TypeError(f"data is not iterable: {data!r}; give a DataLoader, a list of batches, or any iterable")
    if length_of(data) == 0:
        raise ValueError("data is empty: there is no batch to run on")


def length_of(data: Any) -> int | None:
    """Return the number of batches in ``data``, or None if it is unknown."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):  # an IterableDataset's loader has __len__ and raises
        return None
