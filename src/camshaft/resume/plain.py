"""Plain values: numbers, strings, tensors, and containers of them."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["decoded", "encoded", "has_only_numbers", "is_equal", "is_plain", "plain_values", "put_into"]

KEYS = (bool, int, float, str, type(None))
LEAVES = (*KEYS, complex, bytes, torch.dtype, torch.Size)
SEQUENCES: dict[str, Any] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, deque)}
MAPPINGS: dict[str, Any] = {kind.__name__: kind for kind in (dict, OrderedDict, Counter, defaultdict)}
FACTORIES: dict[str, Any] = SEQUENCES | MAPPINGS | {kind.__name__: kind for kind in (bool, int, float, str)}


def is_plain(value: Any) -> bool:
    """Return whether a value consists of numbers, strings, tensors, lists, tuples and dictionaries only."""
    if type(value) is dict:
        return all(type(key) in KEYS and is_plain(inner) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that can be saved."""
    return {name: value for name, value in values.items() if isinstance(name, str) and is_plain(value)}


def encoded(value: Any) -> Any:
    """Return a value in a form that a file can contain: :func:`decoded` is the inverse.

    Args:
        value: numbers, strings, tensors, arrays, and the containers of Python's standard library.

    Raises:
        TypeError: the value contains something else.
    """
    kind = type(value)
    if kind in LEAVES:
        return value
    if kind is torch.Tensor and value.layout is torch.strided and not (value.is_meta or value.is_quantized):
        return value.detach()
    if kind in (list, tuple) and has_only_numbers(value):  # fast, as it may be long
        return [kind.__name__, list(value), None]
    if kind in SEQUENCES.values():
        return [kind.__name__, list(map(encoded, value)), value.maxlen if kind is deque else None]
    if kind in MAPPINGS.values():
        factory = value.default_factory if kind is defaultdict else None
        if factory is not None and factory not in FACTORIES.values():
            raise TypeError(f"a file cannot contain {factory!r}")
        items = [[encoded(key), encoded(inner)] for key, inner in value.items()]
        return [kind.__name__, items, None if factory is None else factory.__name__]
    numpy = sys.modules.get("numpy")
    if numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.generic)):
        name = "array" if kind is numpy.ndarray else "scalar"
        return [name, torch.from_numpy(numpy.array(value)), None]  # a TypeError for objects and dates
    raise TypeError(f"a file cannot contain a {kind.__name__}")


def decoded(value: Any) -> Any:
    """Return the value of a result of :func:`encoded`. Tensors and arrays share no memory with it."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if type(value) is not list:
        return value
    name, inner, extra = value
    if name in ("array", "scalar"):
        array = inner.numpy().copy()
        return array if name == "array" else array[()]
    if name in SEQUENCES:
        parts = inner if has_only_numbers(inner) else map(decoded, inner)
        return deque(parts, extra) if name == "deque" else SEQUENCES[name](parts)
    items: dict[Any, Any] = {decoded(key): decoded(part) for key, part in inner}
    return defaultdict(FACTORIES.get(extra), items) if name == "defaultdict" else MAPPINGS[name](items)


def has_only_numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list or tuple has numbers only."""
    return set(map(type, values)) <= {bool, int, float}


def put_into(present: Any, value: Any) -> bool:
    """Make a container, tensor or array equal to another one, so that all that refer to it see it.

    Returns:
        False if that is not possible. Nothing is changed then.
    """
    if type(present) is not type(value):
        return False
    if isinstance(present, list):
        present[:] = [
            present[index] if index < len(present) and put_into(present[index], new) else new
            for index, new in enumerate(value)
        ]
    elif isinstance(present, dict):
        before = dict(present)
        present.clear()
        for key, new in value.items():
            present[key] = before[key] if key in before and put_into(before[key], new) else new
    elif isinstance(present, (set, deque)):
        present.clear()
        (present.update if isinstance(present, set) else present.extend)(value)
    elif hasattr(present, "__setitem__") and present.shape == value.shape and present.dtype == value.dtype:
        with torch.no_grad():
            present[...] = value  # a tensor or an array
    else:
        return False
    return True


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
        are_same = has_only_numbers(first) and has_only_numbers(second) and first == second  # fast for long ones
        return are_same or (len(first) == len(second) and all(map(is_equal, first, second)))
    return bool(first == second or (first != first and second != second))  # noqa: PLR0124
