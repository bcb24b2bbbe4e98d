"""The objects whose states a snapshot contains: named ones, and those found in engines."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camshaft.engine.engine import Engine
from camshaft.resume import storage
from camshaft.resume.contents import check_states
from camshaft.resume.data_states import NOTHING, DataStates
from camshaft.resume.module_states import load_module, module_state
from camshaft.resume.parameter_groups import ParameterGroups
from camshaft.resume.plain import plain_values
from camshaft.resume.statefuls import Stateful, called_functions, numbered, stateful_owner

__all__ = ["SavedObjects"]


class SavedObjects:
    """The objects with a state that belong to a training.

    Args:
        trainer: the engine that trains.
        objects: further objects, by name.
        writer: the handler that writes snapshots. It has no state to save.

    Attributes:
        engines: the trainer and the named engines.

    Raises:
        TypeError: an object has no state to save.
        StorageError: the state of an object could not be loaded again.
    """

    def __init__(self, trainer: Engine, objects: Mapping[str, Any], writer: object) -> None:
        # A named engine starts a new run each time, so it has no progress of its own to save: only the states of its
        # handlers and metrics are saved.
        self._named = {name: Stateful.of(name, obj) for name, obj in objects.items() if not isinstance(obj, Engine)}
        check_states(self._named, "Snapshot")
        self._modules = {name: obj for name, obj in objects.items() if isinstance(obj, nn.Module)}
        self._groups = {
            name: ParameterGroups(obj, self._modules)
            for name, obj in objects.items()
            if isinstance(obj, torch.optim.Optimizer)
        }
        self._writer = writer
        self.engines = [trainer, *(obj for obj in objects.values() if isinstance(obj, Engine) and obj is not trainer)]

    # -- what there is -----------------------------------------------------------------------------------------------

    def known_engines(self) -> dict[str, Engine]:
        """Return the trainer, named engines, and all engines nested in them, by name."""
        found: dict[int, Engine] = {}
        waiting = [*self.engines]
        while waiting:
            engine = waiting.pop(0)
            if id(engine) not in found:
                found[id(engine)] = engine
                waiting += [nested.engine for nested in engine.loop.nested]
        return numbered((engine.name, engine) for engine in found.values())

    def handlers(self) -> dict[str, Any]:
        """Return handlers, metrics and phases with a state, by a label, in the order of the loop.

        The labels must be the same in the process that resumes, so they are made of names and numbers only.
        """
        named = [obj.obj for obj in self._named.values()]
        found: dict[int, tuple[str, Any]] = {}
        for name, engine in self.known_engines().items():
            for function in called_functions(engine):
                owner = stateful_owner(function)
                if owner is not None and not any(owner is other for other in (self._writer, *named)):
                    label = getattr(owner, "__qualname__", type(owner).__name__).removesuffix(".compute")
                    found.setdefault(id(owner), (f"{name}: {label}", owner))
        return {label: Stateful.of(label, owner, is_new=False) for label, owner in numbered(found.values()).items()}

    def nested_data(self) -> dict[str, DataStates]:
        """Return the states inside of the data of nested engines, by a label."""
        return {
            f"{name}: nested {number}": DataStates(nested.data)
            for name, engine in self.known_engines().items()
            for number, nested in enumerate(engine.loop.nested)
            if nested.data is not None
        }

    # -- saving and loading ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all objects."""
        return {
            "metrics": {name: plain_values(engine.state.metrics) for name, engine in self.known_engines().items()},
            "objects": {name: obj.state_dict() for name, obj in self._named.items()},
            "modules": {name: module_state(module) for name, module in self._modules.items()},
            "groups": {name: groups.names() for name, groups in self._groups.items()},
            "handlers": {name: obj.state_dict() for name, obj in self.handlers().items()},
            "nested data": {name: states.state_dict() for name, states in self.nested_data().items()},
        }

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """Return what is only here, or only in a file, in words. Named objects that are not in it are refused later."""
        here = {"handlers": self.handlers(), "objects": self._named}
        found = []
        for kind, objects in here.items():
            found += [f"{name} is in the file, but not here" for name in state[kind] if name not in objects]
            if kind != "objects":
                found += [f"{name} is not in the file" for name in objects if name not in state[kind]]
        for name, module in self._modules.items():
            saved = state["modules"].get(name, {}).get("gradients", {})
            parameters = dict(storage.unwrapped(module).named_parameters())
            found += [f"the gradient of {name}.{each} fits no parameter" for each in saved if each not in parameters]
        for name, states in self.nested_data().items():
            found += [f"{name}: {words}" for words in states.differences(state["nested data"].get(name, NOTHING))]
        return found

    def load_objects(self, path: Path, state: Mapping[str, Any], in_run: bool) -> Callable[[], None]:
        """Load the states of named objects, handlers, metrics and phases. After an error, none of them has changed.

        Args:
            path: the file, for errors.
            state: a result of :meth:`state_dict`.
            in_run: whether the run has begun. Before, its handlers may still add groups of parameters to an optimizer:
                an optimizer that has fewer groups than the saved one is then left as it is.

        Returns:
            A function that puts the states from before back.

        Raises:
            ValueError: a named object is not in the file, or its state does not fit.
        """
        missing = [name for name in self._named if name not in state["objects"]]
        if missing:
            known = ", ".join(state["objects"]) or "none"
            raise ValueError(f"{path} has no state of {', '.join(missing)}: it was written with {known}")
        waiting = self._named | {name: obj for name, obj in self.handlers().items() if name in state["handlers"]}
        undo: list[tuple[Any, Any]] = []
        for name, obj in waiting.items():
            saved = state["objects"] if name in self._named else state["handlers"]
            undo.append((obj, copy.deepcopy(obj.state_dict())))
            try:
                if name in self._groups and not self._groups[name].fit(state["groups"][name], add=in_run):
                    undo.pop()
                    continue
                obj.load_state_dict(saved[name])
            except Exception as error:
                _undo(undo)
                raise ValueError(f"{path}: the state of {name} does not fit: {error}") from error
        return partial(_undo, undo)

    def load_rest(self, state: Mapping[str, Any]) -> None:
        """Load what only a run needs: values of metrics, gradients, modes, and the data of nested engines."""
        for name, engine in self.known_engines().items():
            engine.state.metrics.update(state["metrics"].get(name, {}))
        for name, module in self._modules.items():
            load_module(module, state["modules"][name])
        nested = self.nested_data()
        for name in nested.keys() & state["nested data"].keys():
            nested[name].load_state_dict(state["nested data"][name])


def _undo(states: list[tuple[Any, Any]]) -> None:
    for obj, state in reversed(states):
        with suppress(Exception):  # an object that refuses its own state; the first error is raised
            obj.load_state_dict(state)
