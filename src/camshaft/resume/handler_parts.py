"""Objects with a state that handlers and phases refer to, although they have no state themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Set
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from camshaft.engine.engine import Engine
from camshaft.resume import storage
from camshaft.resume.metric_states import contains_metrics, metrics_in
from camshaft.resume.search import LEAVES, attributes_of, has_state, is_generator, is_of_user, parts_of

__all__ = ["Part", "parts_of_handler", "saved_inside", "tensors_of"]

MAX_OBJECTS = 2_000
"""The maximal number of objects that are searched for one handler."""

NOT_SEARCHED = (*LEAVES, BuiltinFunctionType, Engine, DataLoader, Dataset, Sampler)


class Part(NamedTuple):
    """An object with a state that a handler refers to.

    Attributes:
        path: the path to it from the handler.
        obj: the object.
        metrics_only: whether only the metrics in it belong to the handler.
    """

    path: str
    obj: Any
    metrics_only: bool


class _Found(NamedTuple):
    path: str
    value: Any
    is_attribute: bool  # reached through attributes of an object of the user only, not through variables of functions
    is_saved: bool  # by the state_dict() of an object that refers to it


def parts_of_handler(function: Any, covered: Set[int], tensors: Set[int]) -> Iterator[Part]:
    """Yield the objects with a state that a handler or phase refers to.

    These are metrics, random generators and objects with ``state_dict()`` in attributes, containers, variables of
    functions, and arguments of partial functions. Modules and optimizers are found in attributes only: a function may
    just read those that it names, and they may be large.

    Args:
        function: the handler or phase.
        covered: the ids of objects whose state is saved otherwise. Of these, modules are not searched. Other objects
            may leave out states of the metrics and generators that they have.
        tensors: the ids of parameters and buffers that are saved otherwise. A module that has no others is left out.
    """
    seen: dict[int, Any] = {}  # keeps each object alive, so that its id is not used again
    waiting = deque([_Found("", function, is_attribute=True, is_saved=False)])
    while waiting and len(seen) < MAX_OBJECTS:
        found = waiting.popleft()
        value = storage.unwrapped(found.value)
        if isinstance(value, NOT_SEARCHED) or id(value) in seen or _is_own(value):
            continue
        seen[id(value)] = value
        if isinstance(value, nn.Module):
            if id(value) not in covered:
                yield from _of_module(found, value, tensors)
            continue
        if is_generator(value) or has_state(value):
            is_new = id(value) not in covered and not found.is_saved and not _is_unasked(found)
            if is_new or (is_generator(value) and id(value) not in covered):
                yield Part(found.path, value, metrics_only=False)
            found = found._replace(is_saved=True)
        waiting.extend(_next(found))


def saved_inside(objects: Iterable[Any]) -> tuple[set[int], set[int]]:
    """Return the ids of objects whose states are saved with others, and those of their parameters and buffers."""
    covered: set[int] = set()
    tensors: set[int] = set()
    for obj in objects:
        covered.add(id(obj))
        # the handler of a metric saves all that is in the metric
        module = getattr(obj, "metric", None) if _is_own(obj) else storage.unwrapped(obj)
        if isinstance(module, nn.Module):
            covered.update(map(id, (*module.modules(), *(one for _, one in metrics_in(module)))))
            tensors |= tensors_of(module)
    return covered, tensors


def tensors_of(module: nn.Module) -> set[int]:
    """Return the ids of the parameters and buffers of a module."""
    inner = storage.unwrapped(module)
    return {id(one) for one in (*inner.parameters(), *inner.buffers())}


def _of_module(found: _Found, module: nn.Module, tensors: Set[int]) -> Iterator[Part]:
    if found.is_attribute and not found.is_saved and tensors_of(module) - tensors:
        yield Part(found.path, found.value, metrics_only=False)
    elif contains_metrics(module):
        yield Part(found.path, found.value, metrics_only=True)


def _is_unasked(found: _Found) -> bool:
    """Return whether an object is one that a function may just read: an optimizer, or data."""
    is_data = hasattr(found.value, "__iter__")
    return is_data or (isinstance(found.value, torch.optim.Optimizer) and not found.is_attribute)


def _is_own(value: Any) -> bool:
    """Return whether a function or an object is one of camshaft's. Its attributes and variables are not the user's."""
    name = value.__module__ if isinstance(value, FunctionType) else type(value).__module__
    return isinstance(name, str) and name.partition(".")[0] == "camshaft"


def _next(found: _Found) -> Iterator[_Found]:
    value = found.value
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, (FunctionType, MethodType, partial, dict, list, tuple, set, frozenset, deque)):
        inside = parts_of(value, _is_searched_variable)
    elif is_of_user(type(value)):
        inside = ((f".{name}", inner) for name, inner in attributes_of(value))
    for name, inner in inside:
        is_variable = isinstance(value, FunctionType) or (isinstance(value, partial) and inner is not value.func)
        yield _Found(f"{found.path}{name}", inner, found.is_attribute and not is_variable, found.is_saved)


def _is_searched_variable(value: Any) -> bool:
    """Return whether a global variable that a function names is searched."""
    return is_generator(value) or contains_metrics(value) or (has_state(value) and not isinstance(value, nn.Module))
