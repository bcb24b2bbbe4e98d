"""Objects with a state that handlers and phases refer to, although they have no state themselves."""

from __future__ import annotations

import inspect
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
from camshaft.resume.search import LEAVES, attributes_of, is_generator, is_of_user, parts_of

__all__ = ["Part", "engines_of_handler", "parts_of_handler", "saved_inside", "tensors_of"]

MAX_OBJECTS = 2_000
"""The maximal number of objects that are searched for one handler."""

NOT_SEARCHED = (*LEAVES, BuiltinFunctionType, DataLoader, Dataset, Sampler)


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
    for found, value in _search(function):
        if isinstance(value, nn.Module):
            if id(value) not in covered:
                yield from _of_module(found, value, tensors)
        elif id(value) not in covered and _is_part(found, value):
            yield Part(found.path, value, metrics_only=False)


def engines_of_handler(function: Any) -> Iterator[Engine]:
    """Yield the engines that a handler or phase refers to."""
    yield from (value for _, value in _search(function) if isinstance(value, Engine))


def _search(function: Any) -> Iterator[tuple[_Found, Any]]:
    """Yield what a handler or phase refers to. Engines, modules and data are not searched themselves."""
    seen: dict[int, Any] = {}  # keeps each object alive, so that its id is not used again
    waiting = deque([_Found("", function, is_attribute=True, is_saved=False)])
    while waiting and len(seen) < MAX_OBJECTS:
        found = waiting.popleft()
        value = storage.unwrapped(found.value)
        if isinstance(value, NOT_SEARCHED) or id(value) in seen:
            continue
        seen[id(value)] = value
        if not isinstance(value, Engine) and _is_own(value):
            continue
        yield found, value
        if not isinstance(value, (Engine, nn.Module)):
            waiting.extend(_next(found._replace(is_saved=found.is_saved or _has_state(value))))


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


def _is_part(found: _Found, value: Any) -> bool:
    """Return whether an object that is no module has a state that nothing else saves."""
    if is_generator(value):
        return True
    if isinstance(value, Engine):
        return False
    if found.is_saved or not _has_state(value) or hasattr(type(value), "__iter__"):  # what is iterated over is data
        return False
    return found.is_attribute or not isinstance(value, torch.optim.Optimizer)


def _has_state(value: Any) -> bool:
    """Return whether the class of an object has the methods of a state. Objects of users are not asked themselves."""
    return all(inspect.isroutine(getattr(type(value), name, None)) for name in ("state_dict", "load_state_dict"))


def _is_own(value: Any) -> bool:
    """Return whether a function or an object is one of camshaft's. Its attributes and variables are not the user's."""
    name = value.__module__ if isinstance(value, FunctionType) else type(value).__module__
    return isinstance(name, str) and name.partition(".")[0] == "camshaft"


def _next(found: _Found) -> Iterator[_Found]:
    value = found.value
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, (FunctionType, MethodType, partial, dict, list, tuple, set, frozenset, deque)):
        inside = parts_of(value, _is_searched_variable)
    elif is_of_user(type(value)) or type(value).__module__ in ("types", "collections", "functools"):
        inside = ((f".{name}", inner) for name, inner in attributes_of(value))
    for name, inner in inside:
        is_variable = isinstance(value, FunctionType) or (isinstance(value, partial) and inner is not value.func)
        yield _Found(f"{found.path}{name}", inner, found.is_attribute and not is_variable, found.is_saved)


def _is_searched_variable(value: Any) -> bool:
    """Return whether a global variable that a function names is searched."""
    if isinstance(value, nn.Module):
        return contains_metrics(value)
    return is_generator(value) or _has_state(value)  # an engine has a state
