"""What a file may contain: tensors and plain values, which are loaded without executing code."""

from __future__ import annotations

import copy
import io
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from camshaft.exceptions import StorageError

__all__ = ["SAVE_ONLY", "Refused", "check_contents", "check_states", "find_refused", "without_numpy_scalars"]

SAVE_ONLY = "loading that could run code: save tensors, plain values and state dicts only"

NUMBERS = (bool, int, float, complex, str, bytes)
LEAVES = frozenset({*NUMBERS, type(None), torch.dtype, torch.device, torch.Size})
MAPPINGS = (dict, OrderedDict, Counter)
SEQUENCES = (list, tuple, set)


class Refused(NamedTuple):
    """A value that cannot be loaded again, and its place, such as ``optimizer.param_groups[0].lr``."""

    place: str
    value: Any

    def __str__(self) -> str:
        named = self.value if hasattr(self.value, "__qualname__") else type(self.value)  # a class or a function
        what = f"{named.__module__}.{named.__qualname__}"
        return f"{what} at {self.place}" if self.place else what


def check_contents(obj: Any, caller: str, place: str = "") -> None:
    """Refuse an object that could not be loaded again, before it has to be saved.

    Args:
        obj: the object: states by name, or the state of one object.
        caller: the name of the handler for the error.
        place: the name of the object, if it is the state of one.

    Raises:
        StorageError: a value could not be loaded. The message names its place.
    """
    refused = find_refused(without_numpy_scalars(obj), place, test=_may_be_loaded)
    if refused is not None:
        raise StorageError(f"{caller}: the state contains {refused}, and {SAVE_ONLY}")


def check_states(objects: Mapping[str, Any], caller: str) -> None:
    """Refuse objects whose present state could not be loaded again: see :func:`check_contents`.

    Args:
        objects: objects with ``state_dict``, by name.
        caller: the name of the handler for the error.

    Raises:
        StorageError: a value could not be loaded. The message names the object and the place in its state.
    """
    for name, obj in objects.items():
        try:
            state = obj.state_dict()
        except Exception:  # some objects have a state only when a run has begun
            continue
        check_contents(state, caller, name)


def without_numpy_scalars(value: Any, _around: tuple[int, ...] = ()) -> Any:
    """Return a value with its NumPy scalars replaced by equal Python numbers and strings.

    What contains none is returned itself, not copied.
    """
    kind = type(value)
    if id(value) in _around:  # it contains itself
        return value
    around = (*_around, id(value))
    if kind in MAPPINGS:
        changed = {without_numpy_scalars(key): without_numpy_scalars(inner, around) for key, inner in value.items()}
        if all(map(_is_same, changed, value)) and all(map(_is_same, changed.values(), value.values())):
            return value
        made = copy.copy(value)  # it may have attributes too, like the state dict of a module
        made.clear()
        for key, inner in changed.items():
            made[key] = inner
        return made
    if kind in SEQUENCES:
        parts = [without_numpy_scalars(inner, around) for inner in value]
        return value if all(map(_is_same, parts, value)) else kind(parts)
    return _as_python(value)


def _is_same(first: Any, second: Any) -> bool:
    return first is second


def _as_python(value: Any) -> Any:
    """Return a NumPy scalar as an equal Python value, if there is one of a plain type."""
    numpy = sys.modules.get("numpy")  # without it, there are no scalars of it
    if numpy is None or not isinstance(value, (numpy.number, numpy.bool_, numpy.str_, numpy.bytes_)):
        return value
    plain = value.item()
    return plain if type(plain) in NUMBERS and not isinstance(value, numpy.timedelta64) else value


def can_be_loaded(value: Any) -> bool:
    """Return whether torch saves a value and loads it again without executing code."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # objects may raise anything when they are pickled
        return False
    return True


def _may_be_loaded(value: Any) -> bool:
    """Return whether torch may load a value, without a call of methods for pickling that a user has written."""
    if isinstance(value, torch.Tensor):  # a lazy parameter may have a shape when it is saved
        return True
    methods = (getattr(type(value), name, None) for name in ("__reduce__", "__reduce_ex__", "__getstate__"))
    modules = {method.__module__.partition(".")[0] for method in methods if hasattr(method, "__code__")}
    if not modules <= sys.stdlib_module_names | {"torch"}:
        return True
    return can_be_loaded(value)


def find_refused(
    value: Any, place: str = "", test: Callable[[Any], bool] = can_be_loaded, _around: tuple[int, ...] = ()
) -> Refused | None:
    """Return the first value that could not be loaded again, or None. Tensors are not looked at.

    Args:
        value: the object to search: mappings, lists, tuples and sets, nested to any depth.
        place: the place of ``value`` itself.
        test: a function that tells whether a value of another kind can be loaded.
    """
    kind = type(value)
    if kind in LEAVES or id(value) in _around:
        return None
    if isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value):
        return None
    around = (*_around, id(value))
    if kind in MAPPINGS:
        for key, inner in value.items():
            refused = find_refused(key, f"a key of {place}" if place else "a key", test) or find_refused(
                inner, _join(place, key), test, around
            )
            if refused is not None:
                return refused
        return None
    if kind in SEQUENCES:
        found = (find_refused(inner, f"{place}[{index}]", test, around) for index, inner in enumerate(value))
        return next((refused for refused in found if refused is not None), None)
    return None if test(value) else Refused(place, value)


def _join(place: str, key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f"{place}.{key}" if place else key
    return f"{place}[{key!r}]"
