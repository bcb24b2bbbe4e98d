"""Tensors in nests of mappings, lists and tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["convert_tensor", "detached"]


def _each_tensor(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same nest of mappings, lists, tuples and named tuples with its tensors changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_tensor(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_each_tensor(inner, change) for inner in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def convert_tensor(value: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> Any:
    """Move every tensor in a nest of mappings, lists and tuples to a device.

    Args:
        value: a tensor, or mappings, lists, tuples and named tuples of such; anything else is left as it is.
        device: where to; None leaves tensors where they are.
        non_blocking: copy from pinned memory without waiting, as for ``torch.Tensor.to``.
    """
    return _each_tensor(
        value, lambda tensor: tensor if device is None else tensor.to(device=device, non_blocking=non_blocking)
    )


def detached(value: Any) -> Any:
    """The same nest with its tensors cut off from their graphs, so that keeping it keeps no graph alive."""
    return _each_tensor(value, torch.Tensor.detach)
