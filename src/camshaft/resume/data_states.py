"""States inside of data: random generators, samplers and data sets, wherever a loader holds them.

The objects that the data refers to are searched: attributes, containers, closures, partial functions, and the global
variables that functions of the user's classes name.
"""

from __future__ import annotations

import copy
import inspect
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Set
from functools import partial
from types import FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from camshaft.resume.statefuls import Stateful

__all__ = ["NOTHING", "DataStates", "has_state"]

NOTHING: dict[str, dict[str, Any]] = {"generators": {}, "objects": {}, "attributes": {}}
"""The states inside of data that has none."""

MAX_OBJECTS = 10_000
"""The maximal number of objects that are searched."""

MAX_ITEMS = 1_000
"""The maximal length of a container that is searched. A longer one is taken for samples."""

LOADER_PARTS = ("generator", "sampler", "batch_sampler", "dataset", "collate_fn", "worker_init_fn")
"""What a DataLoader holds for its user. Its other attributes are its own."""

LEAVES = (str, bytes, int, float, complex, type(None), type, ModuleType, torch.Tensor, torch.dtype, torch.device)


class DataStates:
    """The states inside of some data, by the path to each object.

    Args:
        data: the data of a run.

    Attributes:
        generators: random generators of Python, NumPy and torch.
        objects: objects with ``state_dict()`` and ``load_state_dict()``.
        owners: objects of user's classes, and samplers, which may count in plain attributes.
        unsaved: why a state cannot be saved, in words that begin with the path.
    """

    def __init__(self, data: Any) -> None:
        self.generators: dict[str, Stateful] = {}
        self.objects: dict[str, Stateful] = {}
        self.owners: dict[str, Any] = {}
        self.unsaved: list[str] = []
        self._search(data)

    def state_dict(self, configured: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Return the states as plain values.

        Args:
            configured: an earlier :meth:`attributes`. Attributes that have changed since are states too.
        """
        changed = {
            path: {
                name: value
                for name, value in values.items()
                if name not in configured[path] or value != configured[path][name]
            }
            for path, values in (self.attributes() if configured is not None else {}).items()
            if configured is not None and path in configured
        }
        return {
            "generators": {path: one.state_dict() for path, one in self.generators.items()},
            "objects": {path: one.state_dict() for path, one in self.objects.items()},
            "attributes": {path: values for path, values in changed.items() if values},
        }

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return the plain attributes of objects of user's classes, and of samplers."""
        return {path: _plain_attributes(one) for path, one in self.owners.items()}

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        configured: Mapping[str, Mapping[str, Any]] | None = None,
        with_objects: bool = True,
    ) -> None:
        """Set the states. Those of objects that are not here are left out: see :meth:`differences`.

        Args:
            state: a result of :meth:`state_dict`.
            configured: an earlier :meth:`attributes`. Attributes that are not in the state get these values again.
            with_objects: also set the states of samplers with a ``state_dict()``.
        """
        for kind in ("objects", "generators"):
            here: dict[str, Stateful] = getattr(self, kind)
            for path in state[kind]:
                if path in here and (with_objects or kind == "generators" or not _is_sampling(path)):
                    here[path].load_state_dict(state[kind][path])
        for path, owner in self.owners.items():
            present = _plain_attributes(owner)
            wanted = {**(configured or {}).get(path, {}), **state["attributes"].get(path, {})}
            for name, value in wanted.items():
                if name not in present or present[name] != value:
                    object.__setattr__(owner, name, copy.deepcopy(value))

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """Return the paths that only a file has, or only the data here."""
        found = []
        for kind in ("generators", "objects"):
            here: dict[str, Stateful] = getattr(self, kind)
            found += [f"{path} is in the file, but not here" for path in state[kind] if path not in here]
            found += [f"{path} is not in the file" for path in here if path not in state[kind]]
        return found

    # -- searching ---------------------------------------------------------------------------------------------------

    def _search(self, data: Any) -> None:
        seen: dict[int, Any] = {}  # keeps each object alive, so that its id is not used again
        waiting = deque([("", data)])
        while waiting and len(seen) < MAX_OBJECTS:
            path, value = waiting.popleft()
            if isinstance(value, LEAVES) or id(value) in seen:
                continue
            seen[id(value)] = value
            if not self._note(path, value, is_data=value is data):
                waiting.extend((f"{path}{name}".removeprefix("."), inner) for name, inner in _parts(value))

    def _note(self, path: str, value: Any, is_data: bool) -> bool:
        """Note an object with a state. Returns whether nothing inside of it needs to be searched."""
        if is_generator(value):
            self.generators[path] = Stateful.of(path, value)
            return True
        if isinstance(value, GeneratorType) and not is_data:
            self.unsaved.append(f"{path or 'the data'} is a Python generator, whose position cannot be saved")
            return True
        if not is_data and not isinstance(value, nn.Module) and has_state(value):
            self.objects[path] = Stateful.of(path, value)
        elif _is_of_user(type(value)) or isinstance(value, Sampler):
            self.owners[path] = value
        return False


def has_state(obj: Any) -> bool:
    """Return whether an object has the methods ``state_dict`` and ``load_state_dict``."""
    return all(inspect.isroutine(getattr(obj, name, None)) for name in ("state_dict", "load_state_dict"))


def is_generator(value: Any) -> bool:
    """Return whether a value is a random generator of Python, NumPy or torch."""
    numpy = sys.modules.get("numpy")
    kinds = (numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator) if numpy is not None else ()
    return isinstance(value, (torch.Generator, random.Random, *kinds)) and not isinstance(value, random.SystemRandom)


def _is_sampling(path: str) -> bool:
    return path.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0] in ("sampler", "batch_sampler")


def _is_of_user(kind: type) -> bool:
    """Return whether a class is neither built in nor one of torch's."""
    package = kind.__module__.partition(".")[0]
    return package not in ("builtins", "torch", "torchdata", "collections", "functools", "numpy", "types", "itertools")


def _plain_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that may count: numbers, strings, and short lists of them."""
    found = {}
    for name, inner in _attributes(value):
        is_short = not isinstance(inner, (list, tuple, dict)) or len(inner) <= MAX_ITEMS
        if is_short and _is_number_or_text(inner):
            found[name] = copy.deepcopy(inner)
    return found


def _is_number_or_text(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_number_or_text, value))
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and _is_number_or_text(inner) for key, inner in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for owner in type(value).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object refers to, with the end of the path to it."""
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, MethodType):
        yield from (("", value.__self__), ("", value.__func__))
    elif isinstance(value, partial):
        yield from (("", value.func), ("", value.args), ("", value.keywords))
    elif isinstance(value, Mapping):
        if len(value) <= MAX_ITEMS:
            yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, (list, tuple, deque, Set)):
        if len(value) <= MAX_ITEMS:
            yield from ((f"[{index}]", inner) for index, inner in enumerate(value))
    elif type(value) is DataLoader:
        yield from ((f".{name}", getattr(value, name)) for name in LOADER_PARTS)
    else:
        own = vars(nn.Module()) if isinstance(value, nn.Module) else {}
        if isinstance(value, DataLoader):
            yield from ((f".{name}", getattr(value, name, None)) for name in LOADER_PARTS)
            own = dict.fromkeys(
                ["_iterator", "_dataset_kind", "__multiprocessing_context", "_IterableDataset_len_called"]
            )
        yield from ((f".{name}", inner) for name, inner in _attributes(value) if name not in own)
        if isinstance(value, nn.Module):
            yield from ((f".{name}", inner) for name, inner in value.named_children())
        if _is_of_user(type(value)):
            yield from _of_class(type(value))


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function refers to: its closure, its defaults, and generators among its global variables."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # the variable has no value yet
            continue
    yield from (("", function.__defaults__), ("", function.__kwdefaults__))
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if is_generator(value):
            yield f".{name}", value


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the generators that belong to a class or that its functions name."""
    for owner in kind.__mro__:
        if not _is_of_user(owner):
            continue
        for name, value in list(vars(owner).items()):
            if is_generator(value):
                yield f".{name}", value
            elif isinstance(value, FunctionType):
                yield from ((found, one) for found, one in _of_function(value) if is_generator(one))
