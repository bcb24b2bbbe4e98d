"""Snapshots: all that decides how a training goes on, in one file, so that another process goes on exactly there."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camshaft._checks import check_integer
from camshaft.control import CONTROLS, Interrupt
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.progress import resume_points
from camshaft.events import Events, event
from camshaft.exceptions import StorageError
from camshaft.priorities import MARK_RESUMED, RESTORE, SNAPSHOT
from camshaft.resume import storage
from camshaft.resume.data_position import DataPosition
from camshaft.resume.rng import generators_of, load_rng_states, rng_states
from camshaft.resume.statefuls import (
    Stateful,
    called_functions,
    gradients_of,
    is_plain,
    load_gradients,
    numbered,
    plain_values,
    stateful_owner,
)

__all__ = ["Snapshot"]

VERSION = 1

FILE = re.compile(r"snapshot_(\d+)_.*\.pt")


class Snapshot:
    """Writes all that decides how a training goes on, and lets another process go on from it.

    Call it, or attach it to any event: ``trainer.add_event_handler(Events.ITERATION_COMPLETED(every=100), snapshot)``.
    The file is written when the iteration is over and all handlers have had its last event, so that nothing is done
    twice or left out, wherever it was asked for. (A loop with loops or phases before the one that takes the data
    cannot be entered in its middle: there it is written when a pass of the outermost loop is over.) Then, in another
    process, after the same program has built the same objects, ``trainer.resume("latest")`` and ``trainer.run(...)`` go
    on as if nothing had happened.

    In a file are, beside the objects named: where the run stands, counts of filters and position in the data;
    ``state.metrics`` and ``state.output``; every handler, metric and phase of the trainer, of engines nested in it and
    of engines named, that has ``state_dict()`` and ``load_state_dict()``; gradients of modules named, where there
    are any; and the states of random generators: of Python, NumPy, torch and its GPUs, of the data loaders and of their
    samplers.

    Args:
        trainer: the engine whose run it is; :meth:`camshaft.Engine.resume` finds its snapshot by itself.
        dirname: the folder; it is made when the first file is written.
        n_saved: how many files are kept, the newest ones. With two or more, a damaged one can be done without.
        objects: whatever else has a state, by name: modules, optimizers, a GradScaler, an evaluator that handlers run
            by hand, a ``torch.Generator``, ``random.Random`` or ``numpy.random.Generator``.

    Attributes:
        is_wanted: whether a file was asked for and is not written yet.

    Raises:
        TypeError: ``trainer`` is no engine, or an object has no state to save.
        ValueError: ``n_saved`` is not an integer of 1 or more, or the trainer has a snapshot already.
    """

    def __init__(self, trainer: Engine, dirname: str | Path = "snapshots", n_saved: int = 2, **objects: Any) -> None:
        if not isinstance(trainer, Engine):
            raise TypeError(f"Snapshot: {trainer!r} is no Engine: give the one whose run is to be resumed")
        if trainer.snapshot is not None:
            raise ValueError(f"Snapshot: {trainer.name} has one already: name all objects there")
        check_integer("Snapshot: n_saved", n_saved)
        self.trainer = trainer
        self.dirname = Path(dirname).expanduser()
        self.n_saved = n_saved
        # an engine that is named begins each of its runs anew: what it has are handlers and metrics
        self._objects = {name: Stateful.of(name, obj) for name, obj in objects.items() if not isinstance(obj, Engine)}
        self._modules = {name: obj for name, obj in objects.items() if isinstance(obj, nn.Module)}
        self._engines = [trainer, *(obj for obj in objects.values() if isinstance(obj, Engine) and obj is not trainer)]
        self.is_wanted = False
        self._resuming: list[RemovableEventHandle] = []
        self._data_position = DataPosition()
        trainer.snapshot = self
        trainer.open_data = self._data_position.open
        for key in resume_points(trainer.loop):
            trainer.add_event_handler(event(key, priority=SNAPSHOT), self._write_if_wanted)

    def __call__(self, engine: Engine | None = None) -> None:
        """Have a file written when the present iteration is over; at once where the trainer does not run.

        Raises:
            TypeError: it is called as a handler of EXCEPTION_RAISED, behind which nothing can go on exactly.
            StorageError: the file cannot be written; those that are there are untouched.
        """
        if engine is not None and not isinstance(engine, Engine):
            raise TypeError("Snapshot: a run that failed in mid-iteration cannot be gone on with: attach it elsewhere")
        self.is_wanted = True
        if self.trainer.current_run is None:
            self._write_if_wanted(self.trainer)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_if_wanted(self, engine: Engine) -> None:
        if self.is_wanted:
            self.is_wanted = False
            self._write(engine)

    def _write(self, engine: Engine) -> None:
        storage.make_folder(self.dirname)
        files = self._files()
        number = files[0][0] + 1 if files else 1
        counter = (engine.loop.data_loop or engine.loop).name.lower()
        name = f"snapshot_{number:06}_{counter}_{getattr(engine.state, counter)}.pt"
        storage.save(self.dirname / name, self._state())
        for _, older in files[self.n_saved - 1 :]:
            older.unlink(missing_ok=True)

    def _state(self) -> dict[str, Any]:
        trainer = self.trainer
        progress = trainer.state_dict()
        return {
            "camshaft snapshot": VERSION,
            "cursor": progress,
            "asked": _pending_ends(trainer),
            "output": trainer.state.output if is_plain(trainer.state.output) else None,
            "metrics": {name: plain_values(engine.state.metrics) for name, engine in self._known().items()},
            "objects": {name: obj.state_dict() for name, obj in self._objects.items()},
            "gradients": {name: gradients_of(module) for name, module in self._modules.items()},
            "handlers": {name: obj.state_dict() for name, obj in self._handlers().items()},
            "random": rng_states(),
            "generators": {name: one.get_state() for name, one in self._generators().items()},
            "data": self._data_position.state_dict(trainer.state.dataloader, progress["fetched"] or 0),
        }

    def _files(self) -> list[tuple[int, Path]]:
        """The files in the folder, newest first."""
        names = ((FILE.fullmatch(path.name), path) for path in self.dirname.glob("snapshot_*.pt"))
        return sorted(((int(found[1]), path) for found, path in names if found is not None), reverse=True)

    # -- what else has a state -----------------------------------------------------------------------------------------

    def _known(self) -> dict[str, Engine]:
        """The trainer and those named, with all that are nested in them."""
        found: dict[int, Engine] = {}
        waiting = [*self._engines]
        while waiting:
            engine = waiting.pop(0)
            if id(engine) not in found:
                found[id(engine)] = engine
                waiting += [nested.engine for nested in engine.loop.nested]
        return numbered((engine.name, engine) for engine in found.values())

    def _handlers(self) -> dict[str, Any]:
        """Handlers and phases with a state, in the order in which the loop has them."""
        apart = [obj.obj for obj in self._objects.values()]
        found: dict[int, tuple[str, Any]] = {}
        for name, engine in self._known().items():
            for function in called_functions(engine):
                owner = stateful_owner(function)
                if owner is not None and not any(owner is other for other in (self, *apart)):
                    label = getattr(owner, "__qualname__", type(owner).__name__).removesuffix(".compute")
                    found.setdefault(id(owner), (f"{name}: {label}", owner))
        return numbered(found.values())

    def _generators(self) -> dict[str, torch.Generator]:
        """Those of the trainer's data and of nested engines' data."""
        found = {f"data: {place}": one for place, one in generators_of(self.trainer.state.dataloader).items()}
        for name, engine in self._known().items():
            for number, nested in enumerate(engine.loop.nested):
                for place, one in generators_of(nested.data).items():
                    found[f"{name}: nested {number}: {place}"] = one
        return found

    # -- going on ------------------------------------------------------------------------------------------------------

    def resume(self, path: str | os.PathLike[str] = "latest") -> Path | None:
        """Have the next run of the trainer go on: see :meth:`camshaft.Engine.resume`."""
        if self.trainer.current_run is not None:
            raise RuntimeError(f"{self.trainer.name} has a run that is not over: resume before run(), or after close()")
        found = self._latest() if path == "latest" else (Path(path), storage.load(Path(path), map_location="cpu"))
        if found is None:
            return None
        path, state = found
        _check_kind(path, state)
        handlers = self._handlers()
        strangers = sorted(set(handlers) ^ set(state["handlers"]))
        if strangers:
            where = "is not in the file" if strangers[0] in handlers else "is in the file, and not attached"
            warnings.warn(f"{path} is of a program with other handlers: {strangers[0]} {where}", stacklevel=3)
        self._load_objects(path, copy.deepcopy(state))
        self.trainer.load_state_dict(state["cursor"])
        self._data_position.load_state_dict(state["data"])
        self._go_on_with(path, state)
        return path

    def _latest(self) -> tuple[Path, Any] | None:
        damaged: list[StorageError] = []
        for _, path in self._files():
            try:
                state = storage.load(path, map_location="cpu")
            except StorageError as error:
                damaged.append(error)
                continue
            for what in damaged:
                warnings.warn(f"{what}; going on from {path}", stacklevel=4)
            return path, state
        if damaged:
            raise damaged[0]
        return None

    def _go_on_with(self, path: Path, state: dict[str, Any]) -> None:
        """Load again what handlers of STARTED and EPOCH_STARTED may have changed, before anything else happens."""
        trainer = self.trainer
        in_epoch = state["cursor"]["position"] is not None

        def begin() -> None:
            trainer.state.resumed = True

        def go_on() -> None:
            self._forget_handlers()
            if not in_epoch:
                trainer.state.resumed = False
            self._load(path, state)
            for name in state["asked"]:
                getattr(trainer, name)()

        self._forget_handlers()  # of a file that was not gone on with
        last = trainer.loop.started if in_epoch else Events.STARTED
        self._resuming = [
            trainer.add_event_handler(event(Events.STARTED, priority=MARK_RESUMED), begin),
            trainer.add_event_handler(event(last, priority=RESTORE), go_on),
        ]

    def forget(self) -> None:
        """Let the next run not go on from a file, although it was asked to."""
        self._forget_handlers()
        self._data_position.load_state_dict(None)

    def _forget_handlers(self) -> None:
        for handle in self._resuming:
            handle.remove()
        self._resuming = []

    def _load(self, path: Path, state: dict[str, Any]) -> None:
        self._load_objects(path, state)
        self.trainer.state.output = state["output"]
        for key in self.trainer.state_dict_user_keys:
            setattr(self.trainer.state, key, state["cursor"][key])
        for name, engine in self._known().items():
            engine.state.metrics.update(state["metrics"].get(name, {}))
        for name, module in self._modules.items():
            load_gradients(module, state["gradients"][name])
        for name, generator in self._generators().items():
            if name in state["generators"]:
                generator.set_state(state["generators"][name])
        load_rng_states(state["random"])

    def _load_objects(self, path: Path, state: dict[str, Any]) -> None:
        missing = [name for name in self._objects if name not in state["objects"]]
        if missing:
            known = ", ".join(state["objects"]) or "none"
            raise ValueError(f"{path} has no state of {', '.join(missing)}: it was written with {known}")
        handlers = {name: obj for name, obj in self._handlers().items() if name in state["handlers"]}
        stateful = self._objects | handlers
        for name, obj in stateful.items():
            saved = state["objects"] if name in self._objects else state["handlers"]
            try:
                obj.load_state_dict(saved[name])
            except Exception as error:
                raise ValueError(f"{path}: the state of {name} does not fit: {error}") from error


def _check_kind(path: Path, state: Any) -> None:
    version = state.get("camshaft snapshot") if isinstance(state, Mapping) else None
    if version is None:
        raise ValueError(f"{path} is no snapshot: give a file that a Snapshot has written")
    if version != VERSION:
        raise ValueError(f"{path} is of version {version} of snapshots, and this camshaft reads {VERSION}: update it")


def _pending_ends(trainer: Engine) -> list[str]:
    """Return the control calls that wait to end the run or the epoch; a pause is over when the run is resumed."""
    return [
        control.call
        for control in CONTROLS.values()
        if control is not Interrupt and control.pending is not None and getattr(trainer, control.pending)
    ]
