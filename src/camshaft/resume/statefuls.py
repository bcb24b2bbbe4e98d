"""Objects with a state: how they are found, and their states as plain values."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from camshaft.engine.engine import Engine
from camshaft.resume import storage

__all__ = []


class Stateful:
    """An object that a user names, whichever way its state is read and set."""

    def __init__(self, obj: Any, read: Any, write: Any) -> None:
        self.obj, self.state_dict, self.load_state_dict = obj, read, write

    @classmethod
    def of(cls, name: str, obj: Any) -> Stateful:
        """Of anything that has a state.

        Raises:
            TypeError: it has none.
        """
        inner = storage.unwrapped(obj)
        if hasattr(obj, "state_dict") and hasattr(obj, "load_state_dict"):
            return cls(obj, inner.state_dict, inner.load_state_dict)
        if isinstance(obj, torch.Generator):
            return cls(obj, obj.get_state, obj.set_state)
        if isinstance(obj, random.Random):
            return cls(obj, obj.getstate, obj.setstate)
        bits = getattr(obj, "bit_generator", None)
        if bits is not None:
            return cls(obj, lambda: _listed(bits.state), lambda state: setattr(bits, "state", state))
        raise TypeError(
            f"Snapshot: {name}={obj!r} has no state_dict() and load_state_dict(), and is no random generator: "
            f"leave it out, or give it both"
        )


def _listed(state: Any) -> Any:
    """NumPy's state of a generator with lists for arrays."""
    if isinstance(state, Mapping):
        return {key: _listed(value) for key, value in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state


def called_functions(engine: Engine) -> Iterator[Any]:
    """What an engine calls: handlers, then what its phases and loops run and ask."""
    for key in engine.loop.event_keys:
        yield from (handler.function for handler in engine.handlers(key))
    for _, item in engine.loop.walk():
        yield from (getattr(item, role, None) for role in ("run", "when", "over", "until"))


def stateful_owner(function: Any) -> Any:
    """The object with a state that a function is, or is a method of; None where there is none."""
    while hasattr(function, "func"):
        function = function.func
    owner = function if hasattr(function, "state_dict") else getattr(function, "__self__", None)
    has_state = hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")
    return owner if has_state and not isinstance(owner, Engine) else None


def numbered(named: Any) -> dict[str, Any]:
    """By name; what has a name that is taken gets a number."""
    found: dict[str, Any] = {}
    for name, value in named:
        number = 1 + sum(re.fullmatch(rf"{re.escape(name)}( \d+)?", other) is not None for other in found)
        found[name if number == 1 else f"{name} {number}"] = value
    return found


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that can be saved."""
    return {name: value for name, value in values.items() if isinstance(name, str) and is_plain(value)}


def is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


def gradients_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def load_gradients(module: nn.Module, gradients: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in module.named_parameters():
        gradient = gradients.get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter)
