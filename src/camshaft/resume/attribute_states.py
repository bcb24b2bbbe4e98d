"""Attributes of modules that may be states although no state dict has them: numbers, containers, random generators."""

from __future__ import annotations

import pickle
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from camshaft._tensors import convert_tensor
from camshaft.resume.generator_states import generator_state, load_generator
from camshaft.resume.plain import decoded, encoded, is_equal
from camshaft.resume.search import is_generator

__all__ = ["AttributeStates", "base_attributes"]

CONTAINERS = (dict, list, tuple, set, frozenset, deque)

Values = dict[str, dict[str, Any]]


class AttributeStates:
    """The attributes of some modules that have changed since this was made, and the states of their generators.

    Attributes that keep their value are taken as configuration, and not saved.

    Args:
        modules: a function that returns the modules, by the path to each.
        skipped: a function that returns the names of the attributes of a module that are saved elsewhere.
        is_new: whether the modules have their first values now. Otherwise all attributes are taken as changed.
    """

    def __init__(
        self,
        modules: Callable[[], Iterable[tuple[str, nn.Module]]],
        skipped: Callable[[nn.Module], Set[str]],
        is_new: bool = True,
    ) -> None:
        self._modules, self._skipped = modules, skipped
        self._has_warned = False
        self._before: Values = {}
        self._pickled: dict[str, dict[str, bytes | None]] = {}
        for path, module in modules() if is_new else ():
            values, others = self._read(module)
            self._before[path] = {name: encoded(decoded(value)) for name, value in values.items()}
            self._pickled[path] = {name: _pickled(value) for name, value in others.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the states. A warning names attributes that have changed and cannot be saved."""
        changed: Values = {}
        generators: Values = {}
        unsaved = []
        for path, module in self._modules():
            values, others = self._read(module)
            before, pickled = self._before.get(path, {}), self._pickled.get(path, {})
            new = {name: one for name, one in values.items() if name not in before or not is_equal(one, before[name])}
            if new:
                changed[path] = new
            found = {name: generator_state(one) for name, one in self._attributes(module) if is_generator(one)}
            if found:
                generators[path] = found
            unsaved += [
                f"{path}.{name}".lstrip(".") + f" ({type(value).__name__})"
                for name, value in others.items()
                if name in pickled and pickled[name] is not None and _pickled(value) != pickled[name]
            ]
        if unsaved and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"a Snapshot cannot save attributes of modules that have changed: {', '.join(sorted(unsaved))}; a "
                f"resumed run will differ unless they are tensors, numbers, or containers of them",
                stacklevel=2,
            )
        return {"changed": changed, "generators": generators}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | None = None) -> None:
        """Set the states. Attributes that are not in it get their first value again.

        Args:
            state: a result of :meth:`state_dict`.
            device: the device for tensors; None for the device of the tensor that is replaced.
        """
        for path, module in self._modules():
            for name, saved in (self._before.get(path, {}) | state["changed"].get(path, {})).items():
                present = getattr(module, name, None)
                to = present.device if device is None and isinstance(present, torch.Tensor) else device
                setattr(module, name, convert_tensor(decoded(saved), to))
            for name, saved in state["generators"].get(path, {}).items():
                if is_generator(getattr(module, name, None)):
                    load_generator(getattr(module, name), saved)

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """Return the attributes in a file whose modules or generators are not here."""
        modules = dict(self._modules())
        found = [f"{path}.{name}" for path, each in state["changed"].items() if path not in modules for name in each]
        return found + [
            f"{path}.{name}".lstrip(".")
            for path, each in state["generators"].items()
            for name in each
            if not is_generator(getattr(modules.get(path), name, None))
        ]

    def _attributes(self, module: nn.Module) -> Iterator[tuple[str, Any]]:
        skipped = self._skipped(module)
        yield from ((name, value) for name, value in vars(module).items() if name not in skipped)
        yield from ((name, value) for name, value in module._buffers.items() if name not in skipped)

    def _read(self, module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the encoded values of attributes, and containers that have none."""
        values, others = {}, {}
        for name, value in self._attributes(module):
            try:
                values[name] = encoded(value)
            except (TypeError, RecursionError):
                if isinstance(value, CONTAINERS) and not _holds_parts(value):
                    others[name] = value
        return values, others


@lru_cache(maxsize=1)
def base_attributes() -> frozenset[str]:
    """Return the names of the attributes that every module has."""
    return frozenset(vars(nn.Module()))


def _holds_parts(value: Any) -> bool:
    """Return whether a container holds what is no state of its owner, such as parameters, modules and functions."""
    if isinstance(value, CONTAINERS):
        return any(map(_holds_parts, value.values() if isinstance(value, Mapping) else value))
    return callable(value) or isinstance(value, torch.Tensor) or is_generator(value)


def _pickled(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value)
    except Exception:  # objects may raise anything when they are pickled
        return None
