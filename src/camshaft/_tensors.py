"""Operations on every tensor of a batch or an output: in containers, data classes, and objects that move themselves."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import deque
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
    Set,
)
from functools import lru_cache, partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

__all__ = ["convert_tensor", "detached", "devices_of", "without_graph"]

LEAVES = (str, bytes, bytearray, memoryview, range, int, float, complex, type(None), type, nn.Module)


class _Rebuilding:
    """The rebuilding of one nest of objects. The nest itself is not changed, and nothing is changed twice.

    Args:
        change_tensor: a function that returns the new tensor for a tensor.
        change_object: a function that returns the new object for a copy of an object that moves itself; None to look
            at the parts of such objects.
    """

    def __init__(
        self, change_tensor: Callable[[torch.Tensor], torch.Tensor], change_object: Callable[[Any], Any] | None
    ) -> None:
        self._change_tensor, self._change_object = change_tensor, change_object
        self._done: dict[int, tuple[Any, Any]] = {}  # old and new object by the id of the old one, which it keeps alive

    def of(self, value: Any) -> Any:
        """Return what replaces an object. It has the same class."""
        if isinstance(value, LEAVES):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value, self._rebuilt(value)
        return self._done[id(value)][1]

    def _begin(self, value: Any, made: Any) -> None:
        """Note what replaces an object before its parts are rebuilt, because they may contain it."""
        self._done[id(value)] = value, made

    def _rebuilt(self, value: Any) -> Any:
        kind: Any = type(value)
        if isinstance(value, torch.Tensor):
            return self._change_tensor(value)
        if kind in (dict, list):
            made = kind()
            self._begin(value, made)
            if kind is dict:
                made.update((key, self.of(inner)) for key, inner in value.items())
            else:
                made.extend(map(self.of, value))
            return made
        if self._change_object is not None and _to_parameters(kind):
            return self._change_object(_copied(value))
        if isinstance(value, tuple):
            return self._rebuilt_tuple(value)
        if kind in (set, frozenset):
            return kind(map(self.of, value))
        is_known = isinstance(value, (Mapping, Sequence, Set)) or _field_names(kind)
        return self._rebuilt_object(value) if is_known else value

    def _rebuilt_tuple(self, value: tuple[Any, ...]) -> Any:
        kind: Any = type(value)
        parts = tuple(map(self.of, value))
        if kind is tuple:
            return parts
        if hasattr(kind, "n_sequence_fields"):  # a result of torch.max() or of another function written in C
            return kind(parts)
        attributes = {name: (inner, self.of(inner)) for name, inner in _attributes(value)}
        if all(part is inner for inner, part in (*zip(value, parts, strict=True), *attributes.values())):
            return value  # a torch.Size, for example
        made = tuple.__new__(kind, parts)  # not by its class, which may take other arguments
        for name, (_, part) in attributes.items():
            object.__setattr__(made, name, part)
        return made

    def _rebuilt_object(self, value: Any) -> Any:
        """Return a copy with new attributes and new items. It is not made by its class, which may take anything."""
        try:
            made = copy.copy(value)
        except Exception:  # some classes cannot be copied, such as the read-only view of a dictionary
            return {key: self.of(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
        self._begin(value, made)
        if getattr(value, "__dict__", None) is value:  # a dictionary whose attributes are its items
            made.__dict__ = made
        for name, inner in _attributes(value):
            part = self.of(inner)
            if part is not inner:
                object.__setattr__(made, name, part)  # of frozen classes too
        if isinstance(value, dict):
            for key, inner in dict.items(value):
                dict.__setitem__(made, key, self.of(inner))
        elif isinstance(value, list):
            list.__setitem__(made, slice(None), [self.of(inner) for inner in list.__iter__(value)])
        elif isinstance(value, (deque, set)):
            parts = [self.of(inner) for inner in value]
            made.clear()
            (made.extend if isinstance(made, deque) else made.update)(parts)
        elif isinstance(value, Mapping):
            items = [(key, inner, self.of(inner)) for key, inner in value.items()]
            if any(part is not inner and made[key] is not part for key, inner, part in items):
                return {key: part for key, _, part in items}  # it makes its items when they are read
        return made


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the attributes of an object."""
    kind: Any = type(value)
    names = dict.fromkeys([*getattr(value, "__dict__", ()), *_field_names(kind), *_slots(kind)])
    for name in names:
        try:
            yield name, object.__getattribute__(value, name)
        except AttributeError:  # a slot that is not set
            continue


@lru_cache(maxsize=256)
def _field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a data class of the standard library or of attrs."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))


@lru_cache(maxsize=256)
def _slots(kind: Any) -> tuple[str, ...]:
    found = []
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                is_private = name.startswith("__") and not name.endswith("__")
                found.append(f"_{owner.__name__.lstrip('_')}{name}" if is_private else name)
    return tuple(found)


@lru_cache(maxsize=256)
def _to_parameters(kind: Any) -> frozenset[str]:
    """Return the parameters of the method ``to(device)`` of a class; empty if it has none.

    Other methods of this name exist, for example of physical quantities. Their first parameter is not a device.
    """
    try:
        signature = inspect.signature(getattr(kind, "to", None))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return frozenset()
    _, *parameters = [*signature.parameters.values(), None]
    first = parameters[0]
    if first is None or not (first.kind is first.VAR_POSITIONAL or "device" in first.name):
        return frozenset()
    takes_any = any(one is not None and one.kind is one.VAR_KEYWORD for one in parameters)
    return frozenset({one.name for one in parameters if one is not None} | ({"non_blocking"} if takes_any else set()))


def _copied(value: Any) -> Any:
    """Return a copy that shares no containers with the object, as far as its own attributes are containers."""
    try:
        made = copy.copy(value)
    except Exception:  # it cannot be copied, so it is moved itself
        return value
    for name, inner in _attributes(value):
        if isinstance(inner, (MutableMapping, MutableSequence, MutableSet)):
            object.__setattr__(made, name, copy.copy(inner))
    return made


def convert_tensor(value: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> Any:
    """Move every tensor of a batch to a device: in containers, data classes, and objects with a method ``to(device)``.

    Args:
        value: a tensor, or mappings, sequences, sets, data classes (of the standard library or of attrs) and objects
            with a method ``to(device)``, nested in one another. Other values are returned unchanged, modules as well.
        device: the target device. None leaves every tensor on its device.
        non_blocking: copy from pinned memory without waiting, as in ``torch.Tensor.to``.

    Returns:
        The same structure with the moved tensors. Each object keeps its class and its other attributes. ``value``
        itself is not changed: of an object with ``to()``, a copy is moved.
    """
    if isinstance(value, torch.Tensor):
        return value if device is None else value.to(device=device, non_blocking=non_blocking)

    def move_object(obj: Any) -> Any:
        if device is None:
            return obj
        kind: Any = type(obj)
        takes_it = "non_blocking" in _to_parameters(kind)
        moved = obj.to(device, non_blocking=non_blocking) if takes_it else obj.to(device)
        return obj if moved is None else moved

    return _Rebuilding(lambda tensor: convert_tensor(tensor, device, non_blocking), move_object).of(value)


def devices_of(value: Any) -> set[torch.device]:
    """Return the devices of all tensors in a value. The same values are looked into as by :func:`convert_tensor`."""
    found = set()

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.add(tensor.device)
        return tensor

    _Rebuilding(note, None).of(value)
    return found


def detached(value: Any) -> Any:
    """Return the same structure with every tensor detached, so that storing it keeps no autograd graph alive.

    The same values are looked into as by :func:`convert_tensor`.
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    return _Rebuilding(torch.Tensor.detach, None).of(value)


def without_graph(value: Any) -> Any:
    """Return a value that keeps no autograd graph alive.

    Returns:
        The value itself if no tensor in it has a graph; otherwise the same structure with detached tensors. None if a
        tensor with a graph is where it cannot be detached, such as in an object of a class of its own.
    """
    for candidate in (value, detached(value)):
        if not _holds_graph(candidate, set()):
            return candidate
    return None


def _holds_graph(value: Any, seen: set[int]) -> bool:
    if isinstance(value, torch.Tensor):
        return value.grad_fn is not None
    if id(value) in seen:
        return False
    seen.add(id(value))
    return any(_holds_graph(inner, seen) for inner in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    """Return the objects that a value refers to, as far as they may belong to the result of a computation."""
    if isinstance(value, (type, ModuleType, torch.nn.Module, torch.optim.Optimizer)):
        return ()
    if isinstance(value, (Mapping, list, tuple, Set)):
        return value.values() if isinstance(value, Mapping) else value
    if isinstance(value, FunctionType):
        return _closure_values(value)
    if isinstance(value, (partial, MethodType)):
        return [getattr(value, name, None) for name in ("func", "args", "keywords", "__self__")]
    slots = (name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()))
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]


def _closure_values(function: FunctionType) -> list[Any]:
    values = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # the variable has no value yet, or none any more
            continue
    return values
