"""Operations on every tensor in nested mappings, lists and tuples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch

__all__ = ["convert_tensor", "detached", "without_graph"]


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


def without_graph(value: Any) -> Any:
    """Return a value that keeps no autograd graph alive.

    Returns:
        The value itself if no tensor in it has a graph; otherwise the same structure with detached tensors. None if a
        tensor with a graph is where it cannot be detached, such as in an object of a class of its own.
    """
    for candidate in (value, detached(value)):
        if not _holds_graph(candidate, set()):
            return candidate
    return None


def _holds_graph(value: Any, seen: set[int]) -> bool:
    if isinstance(value, torch.Tensor):
        return value.grad_fn is not None
    if id(value) in seen:
        return False
    seen.add(id(value))
    return any(_holds_graph(inner, seen) for inner in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    """Return the objects that a value refers to, as far as they may belong to the result of a computation."""
    if isinstance(value, (type, ModuleType, torch.nn.Module, torch.optim.Optimizer)):
        return ()
    if isinstance(value, (Mapping, list, tuple, Set)):
        return value.values() if isinstance(value, Mapping) else value
    if isinstance(value, FunctionType):
        return _closure_values(value)
    if isinstance(value, (partial, MethodType)):
        return [getattr(value, name, None) for name in ("func", "args", "keywords", "__self__")]
    slots = (name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()))
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]


def _closure_values(function: FunctionType) -> list[Any]:
    values = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # the variable has no value yet, or none any more
            continue
    return values
