"""States inside of data: random generators, samplers and data sets, wherever a loader holds them.

The objects that the data refers to are searched: attributes, containers, closures, partial functions, and the global
variables that functions of the user's classes name.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

from torch import nn
from torch.utils.data import Sampler

from camshaft.resume.search import LEAVES, MAX_ITEMS, attributes_of, has_state, is_generator, is_of_user, parts_of
from camshaft.resume.statefuls import Stateful

__all__ = ["NOTHING", "DataStates"]

NOTHING: dict[str, dict[str, Any]] = {"generators": {}, "objects": {}, "attributes": {}}
"""The states inside of data that has none."""

MAX_OBJECTS = 10_000
"""The maximal number of objects that are searched."""


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


def _is_sampling(path: str) -> bool:
    return path.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0] in ("sampler", "batch_sampler")


def _plain_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that may count: numbers, strings, and short lists of them."""
    found = {}
    for name, inner in attributes_of(value):
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
