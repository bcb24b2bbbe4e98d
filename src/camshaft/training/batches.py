"""Batches: what moves them to a device, and what cuts tensors off from their graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from camshaft._tensors import convert_tensor

__all__ = ["PrepareBatch", "prepare_pair"]

PrepareBatch = Callable[..., tuple[Any, Any]]
"""``prepare_batch(batch, device=, non_blocking=) -> (x, y)``."""


def prepare_pair(batch: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """A batch ``(x, y)`` on a device: the default for ``prepare_batch``.

    Raises:
        ValueError: the batch is no pair.
    """
    try:
        if isinstance(batch, (Mapping, str, bytes)) or hasattr(batch, "shape"):  # two keys, letters or rows
            raise TypeError
        x, y = batch
    except (TypeError, ValueError):
        raise ValueError(
            f"a batch of type {type(batch).__name__} is no pair (x, y): give prepare_batch=, which makes one of it"
        ) from None
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)
