"""Snapshots: everything that another process needs to resume a training exactly, in one file."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from camshaft._checks import check_integer
from camshaft.control import Terminate, TerminateEpoch
from camshaft.engine.attachment import EventHandler
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.progress import resume_event, resume_points
from camshaft.events import Events, event, event_name
from camshaft.exceptions import StorageError
from camshaft.priorities import MARK_RESUMED, RESTORE, SNAPSHOT
from camshaft.resume import storage
from camshaft.resume.data_position import DataPosition
from camshaft.resume.objects import SavedObjects
from camshaft.resume.plain import is_plain
from camshaft.resume.rng import load_rng_states, rng_states

__all__ = ["Snapshot"]

VERSION = 1

FILE = re.compile(r"snapshot_(\d+)_.*\.pt")
"""The name of a file, with its running number. The highest number is the newest file."""


class Snapshot(EventHandler):
    """A writer of snapshots: files from which another process resumes a training exactly.

    Attach it to any event, such as ``trainer.add_event_handler(Events.ITERATION_COMPLETED(every=100), snapshot)``, or
    call it. The file is always written at the end of the iteration, or where a pass of a loop around the data starts or
    ends, after every handler of that event has run. So no handler runs twice or not at all, wherever the snapshot was
    requested. A loop without data cannot be resumed in the middle of a pass: its files are written at the end of a pass
    of the outermost loop, and a line in the log says so when the snapshot is made.

    To resume in another process, build the same objects with the same program. Then call ``trainer.resume("latest")``
    and ``trainer.run(...)``.

    A file contains the named objects, and:

    - the progress of the run, the counts of filters, and the position in the data;
    - ``state.metrics`` and ``state.output``, as far as they are plain values;
    - every handler, metric and phase with ``state_dict()`` and ``load_state_dict()``, of the trainer, of engines nested
      in it, of engines that handlers refer to, and of named engines;
    - objects with a state that these handlers and phases refer to: metrics, random generators, and objects with
      ``state_dict()``, in attributes, containers and variables of functions; modules and optimizers in attributes only;
    - of named modules also the gradients, which parameters require gradients, and which parts are in training mode;
      attributes that have changed since this was made; and buffers that are not persistent; all independent of wrappers
      for parallel training and of ``torch.compile``;
    - of named optimizers also the names of the parameters, so that groups that were added later are added again;
    - of metrics every state, and those of metrics inside of them;
    - the states of random generators: those of Python, NumPy, torch and its GPUs, and those inside of the data;
    - of the data also objects with ``state_dict()``, and plain attributes of samplers and data sets that have changed.
      The data is searched: samplers and data sets in others, containers, functions and their closures. What cannot be
      saved is named in a warning, and so is data that differs from that of the file.

    It has the state of one process. With several processes, give each rank a folder of its own.

    Args:
        trainer: the engine whose runs are saved. Its ``snapshot`` attribute is set to this object.
        dirname: the folder. It is created when the first file is written.
        n_saved: how many files to keep, the newest ones. With two or more, a damaged file can be replaced by the
            previous one.
        overwrite: True to delete the files of earlier runs in the folder when the run has written its first file. By
            default, a run that starts from the beginning is refused if there are any.
        objects: further objects with a state, by name: modules, optimizers, a GradScaler, an evaluator that handlers
            run themselves, a ``torch.Generator``, ``random.Random`` or ``numpy.random.Generator``.

    Attributes:
        trainer, n_saved, overwrite: see above.
        dirname: the folder as a path.
        is_wanted: True if a file was requested and is not written yet.

    Raises:
        TypeError: ``trainer`` is not an Engine, or an object has no state to save.
        ValueError: ``n_saved`` is not an integer of 1 or more, or the trainer already has a snapshot.
        StorageError: the state of an object contains a value that could not be loaded again.
    """

    def __init__(
        self,
        trainer: Engine,
        dirname: str | Path = "snapshots",
        n_saved: int = 2,
        *,
        overwrite: bool = False,
        **objects: Any,
    ) -> None:
        if not isinstance(trainer, Engine):
            raise TypeError(
                f"Snapshot: trainer must be an Engine, got {trainer!r}: give the one whose run is to be resumed"
            )
        if trainer.snapshot is not None:
            raise ValueError(f"Snapshot: {trainer.name} already has a snapshot: name all objects in that one")
        check_integer("Snapshot: n_saved", n_saved, hint="give objects by name, such as model=model")
        self.trainer = trainer
        self.dirname = Path(dirname).expanduser()
        self.n_saved = n_saved
        self.overwrite = overwrite
        self._own: set[str] = set()  # the names of the files that belong to the run: those that it wrote or continues
        self._to_continue: set[str] = set()  # the same, of a resume() without a run so far
        self._objects = SavedObjects(trainer, objects, writer=self)
        self.is_wanted = False
        self._has_warned = False
        self._resuming: list[RemovableEventHandle] = []
        self._data_position = DataPosition()
        trainer.snapshot = self
        trainer.open_data = self._open_data
        loop = trainer.loop
        if loop.data_loop is None and len(loop.counters) > 1:
            trainer.logger.info(
                "the loop %s takes no data, so its runs are not resumed in the middle of a pass: snapshots are written "
                "at %s",
                loop.name,
                event_name(loop.completed),
            )
        for key in resume_points(loop):
            trainer.add_event_handler(event(key, priority=SNAPSHOT), self._write_if_wanted)

    def __call__(self, engine: Engine | None = None) -> None:
        """Request a file. It is written at the end of the present iteration, or at once if the trainer is not running.

        Args:
            engine: the engine, if this is called as a handler.

        Raises:
            TypeError: called as a handler of EXCEPTION_RAISED: a failed run cannot be resumed exactly.
            StorageError: the file cannot be written, or the trainer is not running and the folder has files of an
                earlier run. Existing files are unchanged.
        """
        # A handler of EXCEPTION_RAISED with one parameter gets the exception instead of the engine.
        if engine is not None and not isinstance(engine, Engine):
            raise TypeError(
                "Snapshot: a run that failed in mid-iteration cannot be resumed: attach the snapshot to another event"
            )
        if self.trainer.current_run is None:
            self.check_folder()
        self.is_wanted = True
        if self.trainer.current_run is None:
            self._write_if_wanted(self.trainer)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_if_wanted(self, engine: Engine) -> None:
        """Write a file, if one was requested. Runs last at every event after which a run can be resumed."""
        if self.is_wanted:
            self.is_wanted = False
            self._write(engine)

    def _write(self, engine: Engine) -> None:
        self._warn_of_other_processes()
        storage.make_folder(self.dirname)
        files = self._files()
        number = files[0][0] + 1 if files else 1
        counter = (engine.loop.data_loop or engine.loop).name.lower()
        name = f"snapshot_{number:06}_{counter}_{getattr(engine.state, counter)}.pt"
        storage.save(self.dirname / name, self._state())
        own = [path for _, path in files if path.name in self._own]
        others = [path for _, path in files if path.name not in self._own]
        self._own.add(name)
        for older in own[self.n_saved - 1 :] + (others if self.overwrite else []):
            older.unlink(missing_ok=True)
        if others and not self.overwrite:
            warnings.warn(
                f"{self.dirname} has snapshots of another run ({others[0].name}): they are kept, and resume() may find "
                f"them; give each Snapshot a folder of its own",
                stacklevel=2,
            )

    def _warn_of_other_processes(self) -> None:
        distributed = torch.distributed
        if self._has_warned or not distributed.is_available() or not distributed.is_initialized():
            return
        if distributed.get_world_size() > 1:
            self._has_warned = True
            warnings.warn(
                f"a Snapshot has the batches and random states of one process, and there are "
                f"{distributed.get_world_size()}: give each rank a folder of its own, such as "
                f"{self.dirname / f'rank_{distributed.get_rank()}'}",
                stacklevel=2,
            )

    def check_folder(self) -> None:
        """Refuse a new run in a folder with files of an earlier one: its files would replace those.

        Raises:
            StorageError: the folder has files of an earlier run, and ``overwrite`` is False.
        """
        others = [path for _, path in self._files() if path.name not in self._own | self._to_continue]
        if others and not self.overwrite:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise StorageError(
                f"{self.dirname} has snapshots of an earlier run ({others[0].name}{more}), and a new run would replace "
                f'them: continue that run with run(..., resume="latest"), give Snapshot another folder, or '
                f"overwrite=True"
            )

    def _state(self) -> dict[str, Any]:
        """Return everything that a file contains. :meth:`_load` is the inverse."""
        trainer = self.trainer
        progress = trainer.state_dict()
        return {
            "camshaft snapshot": VERSION,
            "progress": progress,
            "asked": _pending_ends(trainer),
            "output": trainer.state.output if is_plain(trainer.state.output) else None,
            "random": rng_states(),
            "in data": self._data_position.present_states(trainer.state.dataloader),
            "data": self._data_position.state_dict(trainer.state.dataloader, progress["fetched"] or 0),
        } | self._objects.state_dict()

    def _files(self) -> list[tuple[int, Path]]:
        """Return the numbers and paths of the files in the folder, the newest first."""
        names = ((FILE.fullmatch(path.name), path) for path in self.dirname.glob("snapshot_*.pt"))
        return sorted(((int(found[1]), path) for found, path in names if found is not None), reverse=True)

    # -- resuming ------------------------------------------------------------------------------------------------------

    def resume(self, path: str | os.PathLike[str] = "latest") -> Path | None:
        """Make the next run of the trainer continue from a file: see :meth:`camshaft.Engine.resume`.

        Args:
            path: the file, or ``"latest"``.

        Returns:
            The file, or None if there is none yet.

        Raises:
            RuntimeError: a run is executing or paused.
            StorageError: the file is missing, is damaged, or could run code.
            ValueError: the file is not a snapshot, or belongs to another version or to other objects.
        """
        if self.trainer.current_run is not None:
            raise RuntimeError(f"{self.trainer.name} has a run that is not over: resume before run(), or after close()")
        found = self._latest() if path == "latest" else (Path(path), storage.load(Path(path), map_location="cpu"))
        if found is None:
            self.trainer.logger.info("no snapshot in %s: the run starts from the beginning", self.dirname)
            return None
        self._warn_of_other_processes()
        path, state = found
        _check_kind(path, state)
        differences = self._objects.differences(state)
        # The states are loaded twice: now, so that errors are raised here and users see the loaded objects, and again
        # in the run. Some objects keep the loaded tensors and change them, so the first time they get a copy.
        undo = self._objects.load_objects(path, copy.deepcopy(state), in_run=False)
        try:
            if differences:
                warnings.warn(f"{path} was written with other objects: {'; '.join(differences)}", stacklevel=3)
            self.trainer.load_state_dict(state["progress"])
        except Exception:
            undo()
            raise
        self._data_position.load_state_dict(state["data"])
        self._load_again_in_run(path, state)
        if path.resolve().parent == self.dirname.resolve():
            self._to_continue = {file.name for _, file in self._files()}
        return path

    def _latest(self) -> tuple[Path, Any] | None:
        """Return the newest undamaged file and its content; None if there is no file.

        Raises:
            StorageError: all files are damaged.
        """
        damaged: list[StorageError] = []
        for _, path in self._files():
            try:
                state = storage.load(path, map_location="cpu")
            except StorageError as error:
                damaged.append(error)
                continue
            for skipped in damaged:
                warnings.warn(f"{skipped}; resuming from {path}", stacklevel=4)
            return path, state
        if damaged:
            raise damaged[0]
        return None

    def _load_again_in_run(self, path: Path, state: dict[str, Any]) -> None:
        """Load the state again after the handlers of STARTED and EPOCH_STARTED, which may have overwritten it.

        A run saved between two epochs counts a new epoch at its EPOCH_STARTED. Handlers of that event belong to the new
        epoch, so the state is loaded after STARTED then.
        """
        trainer = self.trainer
        is_inside = trainer.state.resumed

        def mark_resumed() -> None:
            trainer.state.resumed = True

        def restore() -> None:
            self._forget_handlers()
            self._own |= self._to_continue
            if not is_inside:  # inside a loop, the data fetcher needs it, and resets it when it has reached the place
                trainer.state.resumed = False
            self._load(path, state)
            for name in state["asked"]:
                getattr(trainer, name)()

        self._forget_handlers()  # of an earlier resume() without a run
        last = resume_event(trainer.loop, state["progress"])
        self._resuming = [
            trainer.add_event_handler(event(Events.STARTED, priority=MARK_RESUMED), mark_resumed),
            trainer.add_event_handler(event(last, priority=RESTORE), restore),
        ]

    def _open_data(self, data: Any, number: int) -> tuple[Iterator[Any], int]:
        self._objects.look_at_nested_data()
        return self._data_position.open(data, number)

    @property
    def opens_data(self) -> bool:
        """True if the next data is opened at the position of a file, and in its random states."""
        return self._data_position.is_loaded

    def forget(self) -> None:
        """Cancel a pending :meth:`resume`: the next run starts from the beginning."""
        self._forget_handlers()
        self._to_continue = set()
        self._data_position.load_state_dict(None)

    def _forget_handlers(self) -> None:
        for handle in self._resuming:
            handle.remove()
        self._resuming = []

    def _load(self, path: Path, state: dict[str, Any]) -> None:
        """Set all states to those of a file, except for the progress of the run, which is loaded by the engine."""
        self._objects.load_objects(path, state, in_run=True)
        self.trainer.state.output = state["output"]
        for key in self.trainer.state_dict_user_keys:
            setattr(self.trainer.state, key, state["progress"][key])
        self._objects.load_rest(state)
        differences = self._data_position.load_present_states(self.trainer.state.dataloader, state["in data"])
        if differences:
            warnings.warn(f"{path} was written with other data: {'; '.join(differences)}", stacklevel=2)
        load_rng_states(state["random"])


def _check_kind(path: Path, state: Any) -> None:
    """Refuse a file that is not a snapshot of this version."""
    version = state.get("camshaft snapshot") if isinstance(state, Mapping) else None
    if version is None:
        raise ValueError(f"{path} is not a snapshot: give a file that a Snapshot has written")
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version} of snapshots, and this camshaft reads {VERSION}: update camshaft"
        )


def _pending_ends(trainer: Engine) -> list[str]:
    """Return the names of pending control calls that end the run or the epoch. A resumed run must make them again."""
    pending = trainer.current_run.control if trainer.current_run is not None else None
    return [pending.call] if isinstance(pending, (Terminate, TerminateEpoch)) else []
