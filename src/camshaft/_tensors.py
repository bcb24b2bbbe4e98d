"""Operations on every tensor in nested mappings, lists and tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["convert_tensor", "detached"]


def _each_tensor(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a copy of nested mappings, lists, tuples and named tuples with ``change`` applied to every tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_tensor(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_each_tensor(inner, change) for inner in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def convert_tensor(value: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> Any:
    """Move every tensor in nested mappings, lists and tuples to a device.

    Args:
        value: a tensor, or mappings, lists, tuples and named tuples of tensors. Other values are returned unchanged.
        device: the target device. None leaves every tensor on its device.
        non_blocking: copy from pinned memory without waiting, as in ``torch.Tensor.to``.

    Returns:
        The same structure with the moved tensors. A mapping becomes a ``dict``.
    """
    return _each_tensor(
        value, lambda tensor: tensor if device is None else tensor.to(device=device, non_blocking=non_blocking)
    )


def detached(value: Any) -> Any:
    """Return the same structure with every tensor detached, so that storing it keeps no autograd graph alive."""
    return _each_tensor(value, torch.Tensor.detach)
