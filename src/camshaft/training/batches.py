"""Preparation of batches: the default for ``prepare_batch``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from camshaft._tensors import convert_tensor

__all__ = ["PrepareBatch", "prepare_pair"]

PrepareBatch = Callable[..., tuple[Any, Any]]
"""``prepare_batch(batch, device=, non_blocking=) -> (x, y)``, with x and y on the device."""


def prepare_pair(batch: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Move a batch ``(x, y)`` to a device. This is the default for ``prepare_batch``.

    Args:
        batch: a pair (x, y) of tensors, or of anything that :func:`camshaft.training.convert_tensor` moves.
        device: the device, or None to leave the tensors where they are.
        non_blocking: copy asynchronously if possible.

    Returns:
        x and y on the device.

    Raises:
        ValueError: the batch is not a pair.
    """
    try:
        if isinstance(batch, (Mapping, str, bytes)) or hasattr(
            batch, "shape"
        ):  # two keys, letters or rows are not (x, y)
            raise TypeError
        x, y = batch
    except (TypeError, ValueError):
        raise ValueError(
            f"a batch must be a pair (x, y), got a {type(batch).__name__}: give a prepare_batch= that returns one"
        ) from None
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)
