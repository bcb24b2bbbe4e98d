"""Objects with a state: find them in an engine, and read and set their states as plain values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from torch import nn

from camshaft.engine.engine import Engine
from camshaft.resume import storage
from camshaft.resume.generator_states import generator_state, load_generator
from camshaft.resume.metric_states import MetricStates, contains_metrics
from camshaft.resume.search import is_generator

__all__ = []

T = TypeVar("T")


class Stateful:
    """An object with a state, under the uniform interface ``state_dict()`` and ``load_state_dict()``.

    Args:
        obj: the object.
        read: a function that returns its state.
        write: a function that sets its state.
    """

    def __init__(self, obj: Any, read: Callable[[], Any], write: Callable[[Any], Any]) -> None:
        self.obj, self.state_dict, self.load_state_dict = obj, read, write

    @classmethod
    def of(cls, name: str, obj: Any, is_new: bool = True) -> Stateful:
        """Wrap an object: a module, an optimizer, a random generator, or anything with ``state_dict()``.

        Args:
            name: the name that the user gave it, for the error.
            obj: the object.
            is_new: whether a metric had no update so far.

        Raises:
            TypeError: the object has no state that can be read and set.
        """
        inner = storage.unwrapped(obj)
        if contains_metrics(inner):
            return cls(obj, *_with_metrics(inner, is_new))
        if hasattr(obj, "state_dict") and hasattr(obj, "load_state_dict"):
            return cls(obj, inner.state_dict, inner.load_state_dict)
        if is_generator(obj):
            return cls(obj, partial(generator_state, obj), partial(load_generator, obj))
        raise TypeError(
            f"Snapshot: {name}={obj!r} has no state_dict() and load_state_dict(), and is not a random generator: "
            f"leave it out, or give it both methods"
        )

    @classmethod
    def of_metrics(cls, module: nn.Module) -> Stateful:
        """Wrap the metrics inside of a module. Other states of the module do not count."""
        metrics = MetricStates(storage.unwrapped(module), is_new=False)
        return cls(module, metrics.state_dict, metrics.load_state_dict)


def _with_metrics(module: nn.Module, is_new: bool) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Return functions that read and set the state of a module and the states of the metrics in it."""
    metrics = MetricStates(module, is_new)

    def read() -> dict[str, Any]:
        return {"module": module.state_dict(), "metrics": metrics.state_dict()}

    def write(state: Mapping[str, Any]) -> None:
        metrics.fit(state["metrics"])
        module.load_state_dict(state["module"])
        metrics.load_state_dict(state["metrics"])

    return read, write


def called_functions(engine: Engine) -> Iterator[Any]:
    """Yield the functions that an engine calls: handlers, then those of its phases and loops."""
    for key in engine.loop.event_keys:
        yield from (handler.function for handler in engine.handlers(key))
    for _, item in engine.loop.walk():
        yield from (getattr(item, role, None) for role in ("run", "when", "over", "until"))


def stateful_owner(function: Any) -> Any:
    """Return the object with a state that ``function`` is, or is a method of; None without such an object.

    ``functools.partial`` is unwrapped first. An object that has the methods only because it answers every attribute, as
    a ``MagicMock`` does, has no state.
    """
    while isinstance(function, partial):
        function = function.func
    owner = function if hasattr(function, "state_dict") else getattr(function, "__self__", None)
    has_state = all(inspect.isroutine(getattr(owner, name, None)) for name in ("state_dict", "load_state_dict"))
    return owner if has_state and not isinstance(owner, Engine) else None


def numbered(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return a dictionary of (name, value) pairs. A repeated name gets a number: ``"name 2"``."""
    found: dict[str, T] = {}
    for name, value in named:
        number = 1 + sum(re.fullmatch(rf"{re.escape(name)}( \d+)?", other) is not None for other in found)
        found[name if number == 1 else f"{name} {number}"] = value
    return found
