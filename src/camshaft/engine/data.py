"""The checks of data: whether it can give batches, and how many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["check_data", "has_certain_length", "length_of"]


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


def has_certain_length(data: Any) -> bool:
    """Return whether ``data`` gives exactly as many batches as its ``len()`` says.

    This is known of sequences, and of loaders whose data set and sampler are not iterators of unknown code.
    """
    if type(data) is not DataLoader:
        return isinstance(data, (Sequence, Tensor)) or hasattr(data, "__array__")
    if isinstance(data.dataset, IterableDataset):
        return False
    batches: Any = data.batch_sampler
    samplers = [data.sampler] if batches is None else [batches, getattr(batches, "sampler", None)]
    return all(type(sampler).__module__.startswith("torch.utils.data") for sampler in samplers)
