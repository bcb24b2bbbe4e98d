"""The objects whose states a snapshot contains: named ones, and those found in engines."""

from __future__ import annotations

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camshaft.engine.engine import Engine
from camshaft.resume.contents import check_contents, check_states, without_numpy_scalars
from camshaft.resume.data_states import NOTHING, Configuration, DataStates
from camshaft.resume.handler_parts import Part, engines_of_handler, parts_of_handler, saved_inside
from camshaft.resume.module_states import ModuleStates
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
        modules = {name: obj for name, obj in objects.items() if isinstance(obj, nn.Module)}
        self._modules = {name: ModuleStates(module, with_attributes=True) for name, module in modules.items()}
        self._groups = {
            name: ParameterGroups(obj, modules)
            for name, obj in objects.items()
            if isinstance(obj, torch.optim.Optimizer)
        }
        self._writer = writer
        self._warned: set[str] = set()
        self._configured: dict[int, tuple[Any, Configuration]] = {}  # by the id of data, which it keeps alive
        self.engines = [trainer, *(obj for obj in objects.values() if isinstance(obj, Engine) and obj is not trainer)]
        self.look_at_nested_data()

    # -- what there is -----------------------------------------------------------------------------------------------

    def known_engines(self) -> dict[str, Engine]:
        """Return the trainer, named engines, all engines nested in them, and those that handlers refer to, by name."""
        found: dict[int, Engine] = {}
        waiting = deque(self.engines)
        while waiting:
            engine = waiting.popleft()
            if id(engine) not in found:
                found[id(engine)] = engine
                waiting += [nested.engine for nested in engine.loop.nested]
                waiting += [other for one in called_functions(engine) for other in engines_of_handler(one)]
        return numbered((engine.name, engine) for engine in found.values())

    def handlers(self) -> dict[str, Stateful]:
        """Return handlers, metrics and phases with a state, by a label, in the order of the loop.

        The labels must be the same in the process that resumes, so they are made of names and numbers only.
        """
        named = [obj.obj for obj in self._named.values()]
        found: dict[int, tuple[str, Any]] = {}
        for name, function in self._functions():
            owner = stateful_owner(function)
            if owner is not None and not any(owner is other for other in (self._writer, *named)):
                found.setdefault(id(owner), (f"{name}: {_label(owner)}", owner))
        return {label: Stateful.of(label, owner, is_new=False) for label, owner in numbered(found.values()).items()}

    def parts(self) -> dict[str, Stateful]:
        """Return objects with a state that handlers, phases and named objects refer to, by a label.

        Those whose states are saved anyway are left out.
        """
        named = {name: obj.obj for name, obj in self._named.items()}
        owners = [obj.obj for obj in self.handlers().values()]
        covered, tensors = saved_inside([*named.values(), *owners, self._writer])
        roots = [(f"{name}: {_label(function)}", function) for name, function in self._functions()] + [*named.items()]
        found: dict[int, tuple[str, Part]] = {}
        for label, root in roots:
            for part in parts_of_handler(root, covered, tensors):
                found.setdefault(id(part.obj), (f"{label}{part.path}", part))
        return {
            label: Stateful.of_metrics(part.obj) if part.metrics_only else Stateful.of(label, part.obj, is_new=False)
            for label, part in numbered(found.values()).items()
        }

    def _functions(self) -> list[tuple[str, Any]]:
        """Return the handlers and phases of all engines, with the names of the engines."""
        return [(name, one) for name, engine in self.known_engines().items() for one in called_functions(engine)]

    def _module_states(self, parts: Mapping[str, Stateful]) -> dict[str, ModuleStates]:
        """Return what state dicts of modules leave out: of named ones, and of those that handlers have."""
        return self._modules | {
            label: ModuleStates(obj.obj, with_attributes=False)
            for label, obj in parts.items()
            if isinstance(obj.obj, nn.Module)
        }

    def _nested_data(self) -> dict[str, Any]:
        """Return the data of nested engines, by a label."""
        return {
            f"{name}: nested {number}": nested.data
            for name, engine in self.known_engines().items()
            for number, nested in enumerate(engine.loop.nested)
            if nested.data is not None
        }

    def look_at_nested_data(self) -> None:
        """Note the attributes that new data of nested engines has before it is read."""
        for data in self._nested_data().values():
            if id(data) not in self._configured:
                self._configured[id(data)] = (data, DataStates(data).attributes())

    def _nested_states(self) -> dict[str, tuple[DataStates, Configuration]]:
        """Return the states inside of the data of nested engines, and the attributes before it was read, by a label."""
        self.look_at_nested_data()
        return {name: (DataStates(data), self._configured[id(data)][1]) for name, data in self._nested_data().items()}

    # -- saving and loading ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all objects."""
        handlers, parts = self.handlers(), self.parts()
        self._warn_of_unnamed_parameters([*handlers.values(), *parts.values()])
        return {
            "metrics": {name: plain_values(engine.state.metrics) for name, engine in self.known_engines().items()},
            "objects": {name: obj.state_dict() for name, obj in self._named.items()},
            "modules": {name: module.state_dict() for name, module in self._module_states(parts).items()},
            "groups": {name: groups.names() for name, groups in self._groups.items()},
            "handlers": {name: obj.state_dict() for name, obj in handlers.items()} | self._states_of(parts),
            "nested data": {
                name: states.state_dict(configured) for name, (states, configured) in self._nested_states().items()
            },
        }

    def _states_of(self, parts: Mapping[str, Stateful]) -> dict[str, Any]:
        """Return the states of what handlers refer to. Nobody has asked for it, so it must not end the run."""
        states = {}
        for name, obj in parts.items():
            try:
                state = without_numpy_scalars(obj.state_dict())
                check_contents(state, "Snapshot", name)
            except Exception as error:
                self._warn_once(name, f"the state of {name} is not in the snapshots: {error}")
                continue
            states[name] = state
        return states

    def _warn_of_unnamed_parameters(self, others: Iterable[Stateful]) -> None:
        if not self._groups:
            return
        _, tensors = saved_inside(obj.obj for obj in (*self._named.values(), *others))
        for name, groups in self._groups.items():
            number = groups.unnamed(tensors)
            if number:
                self._warn_once(
                    name,
                    f"{number} parameters of {name} are in no named module, so snapshots have neither their values nor "
                    f"their gradients: name their module too, such as Snapshot(trainer, model=model)",
                )

    def _warn_once(self, name: str, message: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(message, stacklevel=2)

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """Return what is only here, or only in a file, in words. Named objects that are not in it are refused later."""
        parts = self.parts()
        here = {"handlers": self.handlers() | parts, "objects": self._named}
        found = []
        for kind, objects in here.items():
            found += [f"{name} is in the file, but not here" for name in state[kind] if name not in objects]
            if kind != "objects":
                found += [f"{name} is not in the file" for name in objects if name not in state[kind]]
        for name, module in self._module_states(parts).items():
            if name in state["modules"]:
                found += module.differences(name, state["modules"][name])
        for name, groups in self._groups.items():
            found += [f"{name}: {words}" for words in groups.differences(state["groups"].get(name, []))]
        for name, (states, _) in self._nested_states().items():
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
        others = self.handlers() | self.parts()
        waiting = self._named | {name: obj for name, obj in others.items() if name in state["handlers"]}
        undo: list[tuple[Any, Any]] = []
        errors: dict[str, Exception] = {}
        for name, obj in waiting.items():
            saved = state["objects"] if name in self._named else state["handlers"]
            try:
                if name in self._groups and not self._groups[name].fit(state["groups"][name], add=in_run):
                    continue
                with suppress(Exception):  # some objects have a state only when a run has begun
                    undo.append((obj, copy.deepcopy(obj.state_dict())))
                obj.load_state_dict(saved[name])
            except Exception as error:
                errors[name] = error
        if errors:
            _undo(undo)
            words = "; ".join(f"the state of {name} does not fit: {error}" for name, error in errors.items())
            raise ValueError(f"{path}: {words}") from next(iter(errors.values()))
        return partial(_undo, undo)

    def load_rest(self, state: Mapping[str, Any]) -> None:
        """Load what only a run needs: values of metrics, gradients, modes, and the data of nested engines."""
        for name, engine in self.known_engines().items():
            engine.state.metrics.update(state["metrics"].get(name, {}))
            engine.state.note_metrics_of_run()  # so that its next run forgets them, as it would have without a restart
        modules = self._module_states(self.parts())
        for name in modules.keys() & state["modules"].keys():
            modules[name].load_state_dict(state["modules"][name])
        for name, (states, configured) in self._nested_states().items():
            if name in state["nested data"]:
                states.load_state_dict(state["nested data"][name], configured)


def _label(function: Any) -> str:
    """Return the name of a handler. It is the same in each process."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__).removesuffix(".compute")


def _undo(states: list[tuple[Any, Any]]) -> None:
    for obj, state in reversed(states):
        with suppress(Exception):  # an object that refuses its own state; the first error is raised
            obj.load_state_dict(state)
