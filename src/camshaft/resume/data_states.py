"""States inside of data: random generators, samplers and data sets, wherever a loader holds them.

The objects that the data refers to are searched: attributes, containers, closures, partial functions, and the global
variables that functions of the user's classes name.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import GeneratorType
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler

from camshaft.resume.plain import decoded, encoded, has_only_numbers, is_equal, put_into
from camshaft.resume.search import (
    CONTAINERS,
    LEAVES,
    MAX_ITEMS,
    attributes_of,
    has_state,
    is_generator,
    is_of_user,
    parts_of,
)
from camshaft.resume.statefuls import Stateful

__all__ = ["NOTHING", "Configuration", "DataStates", "settings"]

NOTHING: dict[str, dict[str, Any]] = {"generators": {}, "objects": {}, "attributes": {}}
"""The states inside of data that has none."""

MAX_OBJECTS = 10_000
"""The maximal number of objects that are searched."""

MAX_DEPTH = 20
"""The maximal depth of containers in an attribute that is saved."""

MAX_NUMBERS = 1_000_000
"""The maximal number of numbers in an attribute that is saved."""

Configuration = dict[str, dict[str, tuple[Any, Any]]]
"""By path and name: an attribute before the data was read, and its copy in the form of a file."""


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

    def state_dict(self, configured: Configuration | None = None) -> dict[str, Any]:
        """Return the states as plain values.

        Args:
            configured: an earlier :meth:`attributes`. Attributes that have changed since are states too.
        """
        return {
            "generators": {path: one.state_dict() for path, one in self.generators.items()},
            "objects": {path: one.state_dict() for path, one in self.objects.items()},
            "attributes": {} if configured is None else self._changed(configured),
        }

    def _changed(self, configured: Configuration) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for path, attributes in self.attributes().items():
            for name, (value, copied) in attributes.items() if path in configured else ():
                before, copied_before = configured[path].get(name, (None, None))
                if not is_equal(copied, copied_before):
                    found.setdefault(path, {})[name] = {"value": copied, "in place": value is before}
        return found

    def attributes(self) -> Configuration:
        """Return the plain attributes of objects of user's classes, and of samplers, each with a copy for a file."""
        return {path: _plain_attributes(one) for path, one in self.owners.items()}

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        configured: Configuration | None = None,
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
            before = (configured or {}).get(path, {})
            wanted = {name: {"value": copied, "in place": True} for name, (_, copied) in before.items()}
            present = _plain_attributes(owner)
            for name, saved in {**wanted, **state["attributes"].get(path, {})}.items():
                if name in present and is_equal(present[name][1], saved["value"]):
                    continue
                value, original = decoded(saved["value"]), before.get(name, (None, None))[0]
                is_in_place = saved["in place"] and put_into(original, value)
                object.__setattr__(owner, name, original if is_in_place else value)

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
                waiting.extend((f"{path}{name}".removeprefix("."), inner) for name, inner in parts_of(value))

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
        elif is_of_user(type(value)) or isinstance(value, Sampler):
            self.owners[path] = value
        return False


def settings(configured: Configuration) -> dict[str, dict[str, Any]]:
    """Return the public attributes that are numbers, and checksums of those that are many numbers, by path and name."""
    found: dict[str, dict[str, Any]] = {}
    for path, attributes in configured.items():
        for name, (value, _) in attributes.items():
            is_private = any(part.startswith("_") for part in f"{path}.{name}".split("."))
            setting = None if is_private else _setting(value)
            if setting is not None:
                found.setdefault(path, {})[name] = setting
    return found


def _setting(value: Any) -> Any:
    if type(value) in (bool, int, float):
        return value
    if isinstance(value, (list, tuple)) and has_only_numbers(value):
        return f"{len(value)} numbers ({zlib.crc32(repr(list(value)).encode()):08x})"
    if isinstance(value, torch.Tensor) and not value.dtype.is_complex:
        value = value.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy()
    return f"an array ({zlib.crc32(value.tobytes()):08x})" if hasattr(value, "tobytes") else None


def _is_sampling(path: str) -> bool:
    return path.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0] in ("sampler", "batch_sampler")


def _plain_attributes(value: Any) -> dict[str, tuple[Any, Any]]:
    """Return the attributes of an object that may count, each with a copy in the form of a file."""
    found = {}
    for name, inner in attributes_of(value):
        if _is_short(inner):
            with suppress(TypeError, RecursionError):  # something else, or a container that contains itself
                found[name] = inner, encoded(decoded(encoded(inner)))
    return found


def _is_short(value: Any) -> bool:
    """Return whether a value may be copied. Larger ones are taken for samples."""
    return _size(value) <= MAX_NUMBERS


def _size(value: Any, depth: int = 0) -> float:
    """Return how many numbers and strings a value has inside of it; infinity if they are too many to count."""
    if isinstance(value, torch.Tensor):
        return value.numel()
    if hasattr(value, "dtype"):
        return int(getattr(value, "size", 1))  # an array
    if not isinstance(value, CONTAINERS) or is_of_user(type(value)):
        return 1
    if isinstance(value, (list, tuple)) and len(value) > MAX_ITEMS and has_only_numbers(value):
        return len(value)
    if len(value) > MAX_ITEMS or depth > MAX_DEPTH:
        return math.inf
    return sum(_size(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))
