"""The search for objects that another object refers to: attributes, containers, closures and partial functions."""

from __future__ import annotations

import inspect
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

__all__ = ["CONTAINERS", "LEAVES", "MAX_ITEMS", "attributes_of", "has_state", "is_generator", "is_of_user", "parts_of"]

MAX_ITEMS = 1_000
"""The maximal length of a container that is searched. A longer one is taken for samples."""

LOADER_PARTS = ("generator", "sampler", "batch_sampler", "dataset", "collate_fn", "worker_init_fn")
"""What a DataLoader holds for its user. Its other attributes are its own."""

CONTAINERS = (dict, list, tuple, deque, set, frozenset)

LEAVES = (str, bytes, int, float, complex, type(None), type, ModuleType, torch.Tensor, torch.dtype, torch.device)
"""What is not searched."""


def has_state(obj: Any) -> bool:
    """Return whether an object has the methods ``state_dict`` and ``load_state_dict``."""
    return all(inspect.isroutine(getattr(obj, name, None)) for name in ("state_dict", "load_state_dict"))


def is_generator(value: Any) -> bool:
    """Return whether a value is a random generator of Python, NumPy or torch."""
    numpy = sys.modules.get("numpy")
    kinds = (numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator) if numpy is not None else ()
    return isinstance(value, (torch.Generator, random.Random, *kinds)) and not isinstance(value, random.SystemRandom)


def is_of_user(kind: type) -> bool:
    """Return whether a class is neither built in nor one of torch's."""
    package = kind.__module__.partition(".")[0]
    return package not in ("builtins", "torch", "torchdata", "collections", "functools", "numpy", "types", "itertools")


def attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the attributes of an object, also those in slots."""
    yield from list(getattr(value, "__dict__", {}).items())
    for owner in type(value).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def parts_of(value: Any, is_wanted: Callable[[Any], bool] = is_generator) -> Iterator[tuple[str, Any]]:
    """Yield what an object refers to, with the end of the path to it.

    Args:
        value: the object.
        is_wanted: a function that tells whether a global variable that a function names belongs to it.
    """
    if isinstance(value, FunctionType):
        yield from _of_function(value, is_wanted)
        yield from ((f".{name}", inner) for name, inner in attributes_of(value))
    elif isinstance(value, (MethodType, BuiltinMethodType)):
        yield from (("", getattr(value, name, None)) for name in ("__self__", "__func__"))
    elif isinstance(value, partial):
        yield from (("", value.func), ("", value.args), ("", value.keywords))
    elif type(value) is DataLoader:
        yield from ((f".{name}", getattr(value, name)) for name in LOADER_PARTS)
    else:
        yield from _of_container(value)
        yield from _of_object(value)


def _of_container(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the items of a container, without running code of its own class."""
    base: Any = next((base for base in CONTAINERS if isinstance(value, base)), None)
    if base is None or base.__len__(value) > MAX_ITEMS:
        return
    if base is dict:
        yield from ((f"[{key!r}]", inner) for key, inner in dict.items(value))
    else:
        yield from ((f"[{index}]", inner) for index, inner in enumerate(base.__iter__(value)))


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    own = vars(nn.Module()) if isinstance(value, nn.Module) else {}
    if isinstance(value, DataLoader):
        yield from ((f".{name}", getattr(value, name, None)) for name in LOADER_PARTS)
        own = dict.fromkeys(["_iterator", "_dataset_kind", "__multiprocessing_context", "_IterableDataset_len_called"])
    yield from ((f".{name}", inner) for name, inner in attributes_of(value) if name not in own)
    if isinstance(value, nn.Module):
        yield from ((f".{name}", inner) for name, inner in value.named_children())
    if is_of_user(type(value)):
        yield from _of_class(type(value))


def _of_function(function: FunctionType, is_wanted: Callable[[Any], bool] = is_generator) -> Iterator[tuple[str, Any]]:
    """Yield what a function refers to: its closure, its defaults, and some of its global variables."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # the variable has no value yet
            continue
    yield from (("", function.__defaults__), ("", function.__kwdefaults__))
    for name in _names_in(function.__code__):
        value = function.__globals__.get(name)
        if is_wanted(value):
            yield f".{name}", value


def _names_in(code: CodeType) -> dict[str, None]:
    """Return the names that a function uses, also in lambdas and comprehensions inside of it."""
    found = dict.fromkeys(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= _names_in(inner)
    return found


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the generators that belong to a class or that its functions name."""
    for owner in kind.__mro__:
        if not is_of_user(owner):
            continue
        for name, value in list(vars(owner).items()):
            if is_generator(value):
                yield f".{name}", value
            elif isinstance(value, FunctionType):
                yield from ((found, one) for found, one in _of_function(value) if is_generator(one))
