"""Plain values: numbers, strings, tensors, and lists, tuples and dictionaries of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["is_equal", "is_plain", "plain_values"]


def is_plain(value: Any) -> bool:
    """Return whether a value consists of numbers, strings, tensors, lists, tuples and dictionaries only."""
    if type(value) is dict:
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that can be saved."""
    return {name: value for name, value in values.items() if isinstance(name, str) and is_plain(value)}


def is_equal(first: Any, second: Any) -> bool:
    """Return whether two plain values are equal. NaN is equal to NaN."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        return bool(((first == second) | ((first != first) & (second != second))).all())  # noqa: PLR0124
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(is_equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(is_equal, first, second))
    return bool(first == second or (first != first and second != second))  # noqa: PLR0124
