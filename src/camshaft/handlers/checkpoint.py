"""Checkpoints: the best or the latest state dicts in files. An interrupted save never leaves a damaged file."""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from camshaft._checks import check_integer
from camshaft.engine.attachment import AttachmentHost, StatefulHandler, attached_to
from camshaft.engine.engine import Engine
from camshaft.engine.state import lacks_value
from camshaft.events import EventHandle, FilteredEvent, HandlerEvents
from camshaft.exceptions import StorageError
from camshaft.handlers.stopping import ScoreFunction, check_callable, score_of
from camshaft.resume import storage
from camshaft.resume.contents import check_states

__all__ = ["Checkpoint", "CheckpointEvents", "ModelCheckpoint"]

EXTENSION = ".pt"

StepTransform = Callable[[Engine, EventHandle | None], int]
"""``global_step_transform(engine, event) -> step``, the number in the name of a file."""


class CheckpointEvents(HandlerEvents):
    """The event that :class:`Checkpoint` and :class:`ModelCheckpoint` fire when they have written a file."""

    SAVED_CHECKPOINT = "saved_checkpoint"


class _Saved(NamedTuple):
    """A file in the ranking. Without a score function, files are numbered, so that later ones rank higher."""

    score: int | float
    filename: str


class _Owners:
    """Which handler of this process ranks which file. A handler neither overwrites nor removes a file of another one.

    A file belongs to the handler that saved it, or loaded it with a ranking, last. So after a restart in the same
    process, files belong to the new handlers. Files of a handler that no longer exists belong to nobody.
    """

    def __init__(self) -> None:
        self._owners: weakref.WeakValueDictionary[tuple[str, str], _Saver] = weakref.WeakValueDictionary()
        self.lock = threading.RLock()  # engines in several threads may save to one folder

    def of(self, path: Path) -> _Saver | None:
        """Return the handler that a file belongs to."""
        return self._owners.get(self._key(path))

    def add(self, path: Path, owner: _Saver) -> None:
        """Let a file belong to a handler."""
        self._owners[self._key(path)] = owner

    def drop(self, path: Path) -> None:
        """Let a file belong to nobody."""
        self._owners.pop(self._key(path), None)

    @staticmethod
    def _key(path: Path) -> tuple[str, str]:
        """Return a key that is equal for all spellings of a path. Some file systems ignore the case of names."""
        return os.path.realpath(path.parent), path.name.casefold()


_OWNERS = _Owners()


class _Saver(StatefulHandler):
    """Base of both handlers: writes state dicts, and keeps the best or the latest files. See :class:`Checkpoint`."""

    SAVED_CHECKPOINT = CheckpointEvents.SAVED_CHECKPOINT

    to_save: Mapping[str, Any] = {}  # unknown until the handler is attached, except for a Checkpoint

    def __init__(
        self,
        dirname: str | Path,
        filename_prefix: str = "",
        score_function: ScoreFunction | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        global_step_transform: StepTransform | None = None,
        *,
        create_dir: bool = True,
        require_empty: bool = True,
    ) -> None:
        if score_function is not None:
            check_callable(score_function, "score_function", self)
        if global_step_transform is not None:
            check_callable(global_step_transform, "global_step_transform", self)
        if n_saved is not None:
            check_integer(f"{self._name}: n_saved", n_saved, hint="give None to keep all files")
        self.dirname = Path(dirname).expanduser()
        self.filename_prefix = filename_prefix
        self.score_function = score_function
        self.score_name = score_name
        self.n_saved = n_saved
        self.global_step_transform = global_step_transform
        self._saved: list[_Saved] = []  # oldest first
        if score_name is not None and score_function is None:
            self.score_function = self._score_from_metrics
        for text, argument in ((filename_prefix, "filename_prefix"), (score_name, "score_name")):
            if not isinstance(text, str) and not (text is None and argument == "score_name"):
                raise TypeError(f"{self._name}: {argument} must be a string, got {text!r}")
        self._check_name(_name_of(self.to_save))
        if _writes_here():
            self._prepare_folder(create_dir, require_empty)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _prepare_folder(self, create_dir: bool, require_empty: bool) -> None:
        if create_dir:
            try:
                self.dirname.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"{self._name}: cannot create the folder {self.dirname}: {error.strerror}; choose another"
                ) from error
        if not self.dirname.is_dir():
            raise StorageError(
                f"{self._name}: the folder {self.dirname} does not exist: create it, or give create_dir=True"
            )
        if require_empty:
            self._refuse_older_files()

    def _refuse_older_files(self) -> None:
        start = f"{self.filename_prefix}_" if self.filename_prefix else ""
        older = sorted(path.name for path in self.dirname.glob(f"*{EXTENSION}") if path.name.startswith(start))
        if older:
            raise ValueError(
                f"{self._name}: {self.dirname} already contains {older[0]}{' and others' * (len(older) > 1)}: "
                f"give another folder or prefix, or require_empty=False to keep these files and save more"
            )

    def _score_from_metrics(self, engine: Engine) -> float:
        metrics = engine.state.metrics
        if self.score_name not in metrics and not lacks_value(self.score_name, engine.state):
            raise ValueError(
                f"{self._name}: score_name={self.score_name!r} must be a metric of {engine.name}, which has "
                f"{', '.join(metrics) or 'none'}; give score_function= to score otherwise"
            )
        return metrics[self.score_name]  # type: ignore[index, no-any-return]

    # -- saving ------------------------------------------------------------------------------------------------------

    def _save(self, engine: Engine, to_save: Mapping[str, Any]) -> None:
        __tracebackhide__ = True
        score = self._score(engine)
        if score is None:
            return
        if math.isnan(score):
            engine.logger.warning("%s: the score is NaN, so nothing is saved", self._name)
            return
        if self.n_saved is not None and sum(item.score >= score for item in self._saved) >= self.n_saved:
            return
        name = _name_of(to_save)
        self._check_name(name)  # the mapping may have changed
        step = self._step(engine)
        before = self._saved
        with _OWNERS.lock:
            filename = self._filename(name, score, step)
            _OWNERS.add(self.dirname / filename, self)
        # ranked before it is written: if this handler is itself in to_save, its saved ranking must include the new file
        self._saved = [*(item for item in before if item.filename != filename), _Saved(score, filename)]
        try:
            if _writes_here():
                self._write(filename, to_save)
        except BaseException:
            self._saved = before
            if all(item.filename != filename for item in before):
                _OWNERS.drop(self.dirname / filename)
            raise
        self._remove_superseded()
        if engine.has_registered_events(self.SAVED_CHECKPOINT):  # somebody has attached a handler to it
            engine.fire_event(self.SAVED_CHECKPOINT)

    def _score(self, engine: Engine) -> int | float | None:
        __tracebackhide__ = True
        if self.score_function is not None:
            return score_of(self.score_function, engine, self)
        return max((item.score for item in self._saved), default=0) + 1

    def _write(self, filename: str, to_save: Mapping[str, Any]) -> None:
        states = {name: storage.unwrapped(obj).state_dict() for name, obj in to_save.items()}
        if len(states) > 1:
            storage.save(self.dirname / filename, states)
        else:
            name, state = next(iter(states.items()))
            storage.save(self.dirname / filename, state, name)

    def _remove_superseded(self) -> None:
        while self.n_saved is not None and len(self._saved) > self.n_saved:
            # of equal scores, the first is the best, so the last one is removed
            worst = min(reversed(self._saved), key=_by_score)
            path = self.dirname / worst.filename
            with _OWNERS.lock:
                if _OWNERS.of(path) in (None, self):
                    if _writes_here():
                        path.unlink(missing_ok=True)
                    _OWNERS.drop(path)
            self._saved.remove(worst)

    def _step(self, engine: Engine) -> int | None:
        """Return the step for the name of the file, or None if the score alone identifies it."""
        __tracebackhide__ = True
        if self.global_step_transform is not None:
            step = self.global_step_transform(engine, engine.last_event_name)
            if not isinstance(step, int):
                raise TypeError(f"{self._name}: global_step_transform must return an integer, got {step!r}")
            return step
        if self.score_function is not None:
            return None
        return int(getattr(engine.state, (engine.loop.data_loop or engine.loop).name.lower()))

    def _filename(self, name: str, score: int | float, step: int | None) -> str:
        """Return a name that no other file of a ranking has.

        Without a score, a step that was saved before is saved again to the same file.
        """
        if self.score_function is None:
            text, kept = None, set()
        else:
            text, kept = f"{score:.4f}" if isinstance(score, float) else str(score), set(self._saved)
            if any(item.filename == self._join_name(name, step, text) and item.score != score for item in kept):
                text = repr(score)  # both scores have the same four decimals
        for number in itertools.count(1):
            filename = self._join_name(name, step, text, number)
            owner = _OWNERS.of(self.dirname / filename)
            if owner in (None, self) and all(item.filename != filename for item in kept):
                break
        return filename

    def _check_name(self, name: str) -> None:
        """Refuse a name of an object, a prefix or a name of a score that cannot be in the name of a file."""
        changed = "change filename_prefix, score_name or the name of the object"
        storage.check_file_name(name, self._name, changed)
        # the longest name: that of a late step, with all digits of the score
        score = repr(-sys.float_info.max) if self.score_function is not None else None
        storage.check_file_name(self._join_name(name, 10**12, score), self._name, changed)

    def _check_objects(self, to_save: Any) -> None:
        """Refuse objects that cannot be saved."""
        _check_objects(to_save, "state_dict", self._name)
        self._check_name(_name_of(to_save))

    def _check_states(self, to_save: Mapping[str, Any]) -> None:
        """Refuse states that could not be loaded again, before a run begins."""
        if _writes_here():
            check_states({name: storage.unwrapped(obj) for name, obj in to_save.items()}, self._name)

    def _join_name(self, name: str, step: int | None, score: str | None, number: int = 1) -> str:
        scored = f"{self.score_name}={score}" if self.score_name is not None else score
        parts = (self.filename_prefix or None, name, step, scored, number if number > 1 else None)
        return "_".join(str(part) for part in parts if part is not None) + EXTENSION

    # -- what was saved ----------------------------------------------------------------------------------------------

    @property
    def last_checkpoint(self) -> Path | None:
        """The file that was saved last; None before the first save."""
        return self.dirname / self._saved[-1].filename if self._saved else None

    @property
    def best_checkpoint(self) -> Path | None:
        """The file with the highest score, or the last one without a score function; None before the first save."""
        return self.dirname / max(self._saved, key=_by_score).filename if self._saved else None

    @staticmethod
    def load_objects(to_load: Mapping[str, Any], checkpoint: str | Path | Mapping[str, Any]) -> None:
        """Load the states in a checkpoint into objects.

        Args:
            to_load: objects with ``load_state_dict``, by the names they were saved under. A single object may have any
                name if the checkpoint is its state dict.
            checkpoint: a file, whose tensors are loaded to the CPU, or the content of one.

        Raises:
            TypeError: an object has no ``load_state_dict``. Nothing is loaded.
            StorageError: the file cannot be read safely. Nothing is loaded.
            ValueError: the checkpoint lacks a name, and nothing is loaded; or the state of an object does not fit, and
                only the objects before it are loaded.
        """
        _check_objects(to_load, "load_state_dict", "load_objects")
        where = "the checkpoint" if isinstance(checkpoint, Mapping) else str(checkpoint)
        states = checkpoint if isinstance(checkpoint, Mapping) else storage.load(checkpoint, map_location="cpu")
        if not isinstance(states, Mapping):
            raise ValueError(f"load_objects: {where} must contain state dicts by name, got a {type(states).__name__}")
        if len(to_load) == 1 and not set(to_load) <= set(states):
            states = dict.fromkeys(to_load, states)
        missing = [name for name in to_load if name not in states]
        if missing:
            raise ValueError(
                f"load_objects: {where} has no {', '.join(missing)}; it has {', '.join(map(str, states)) or 'nothing'}"
            )
        for name, obj in to_load.items():
            try:
                storage.unwrapped(obj).load_state_dict(states[name])
            except Exception as error:
                raise ValueError(f"load_objects: the state in {where} does not fit {name!r}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Return the ranking: scores and names of files, oldest first."""
        return {"saved": [tuple(item) for item in self._saved]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a ranking returned by :meth:`state_dict`, without files that no longer exist.

        Raises:
            ValueError: ``state_dict`` does not come from this handler.
        """
        try:
            saved = [_Saved(score, filename) for score, filename in state_dict["saved"]]
            if any(Path(item.filename).name != item.filename for item in saved):  # it could remove files elsewhere
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{self._name}: state_dict must be one of this handler, got {state_dict!r}: "
                f"give the result of state_dict()"
            ) from None
        with _OWNERS.lock:
            for item in self._saved:
                if _OWNERS.of(self.dirname / item.filename) is self:
                    _OWNERS.drop(self.dirname / item.filename)
            self._saved = [item for item in saved if (self.dirname / item.filename).is_file()]
            for item in self._saved:
                _OWNERS.add(self.dirname / item.filename, self)


class Checkpoint(_Saver):
    """Handler that saves the states of objects at an event, and keeps the best or the latest files.

    Attach it with ``trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)``. The name of a file consists of the
    prefix, the name of the object (``checkpoint`` for several objects), the step and the score:
    ``best_model_3_accuracy=0.9750.pt``. A file contains the state dict of a single object, or a mapping of names to the
    state dicts of several. For a module wrapped for parallel training or by ``torch.compile``, it contains the state
    dict of the inner module. No file is ever half-written under its final name, and an old file is removed only after
    the new one is complete. In distributed training only rank 0 writes.

    Several handlers may save to one folder: none removes or overwrites a file that another one ranks. A name that is
    taken gets a number, as in ``model_3_2.pt``. Give each handler a ``filename_prefix``, so that people can tell the
    files apart. After a restart in the same process, files belong to the handler that loaded the ranking.

    When a file is written, the handler fires the event ``Checkpoint.SAVED_CHECKPOINT``, to which functions can be
    attached as to any other.

    With an evaluator, give ``global_step_transform=global_step_from_engine(trainer)``, because the evaluator's own
    counts restart with each evaluation. At EXCEPTION_RAISED, the counts of a trainer include the batch that failed: a
    run that continues from such a checkpoint starts with the batch after it.

    The objects may include engines, other handlers, and this handler itself. Its ranking then survives a restart.

    Args:
        to_save: objects with ``state_dict``, by name.
        dirname: the folder.
        filename_prefix: the start of each file name.
        score_function: ``score_function(engine) -> float``. Keep the files with the highest scores instead of the
            latest ones. Of two equal scores the earlier one ranks higher, and each has its own file. Nothing is saved
            if the score is NaN, or if it is a metric without samples.
        score_name: the name written before the score in file names. Without a score function, the metric to use as
            the score.
        n_saved: the number of files to keep, or None for all.
        global_step_transform: ``global_step_transform(engine, event) -> int``, the step in file names. By default, the
            engine's count of iterations, or no step if there is a score.
        create_dir: create the folder if it does not exist.
        require_empty: refuse a folder that contains files with this prefix.

    Raises:
        TypeError, ValueError: an argument is invalid, or the folder already contains such files. When the handler is
            attached: it is attached to another engine, or to this event already.
        StorageError: the folder does not exist or cannot be created. When the handler is attached: a state contains a
            value that could not be loaded again.
    """

    def __init__(
        self,
        to_save: Mapping[str, Any],
        dirname: str | Path,
        filename_prefix: str = "",
        score_function: ScoreFunction | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        global_step_transform: StepTransform | None = None,
        *,
        create_dir: bool = True,
        require_empty: bool = True,
    ) -> None:
        _check_objects(to_save, "state_dict", self._name)
        self.to_save = to_save
        super().__init__(
            dirname,
            filename_prefix,
            score_function,
            score_name,
            n_saved,
            global_step_transform,
            create_dir=create_dir,
            require_empty=require_empty,
        )

    def check_attachment(
        self, engine: AttachmentHost, events: Sequence[FilteredEvent], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse a second engine, and objects whose states could not be loaded again."""
        super().check_attachment(engine, events, args, kwargs)
        self._check_states(self.to_save)

    def __call__(self, engine: Engine, error: BaseException | None = None) -> None:
        """Save the objects if the score is good enough. This also works at EXCEPTION_RAISED.

        Raises:
            StorageError: the file cannot be written. Earlier files are unchanged.
            TypeError: the score is not a number, or the step is not an integer.
        """
        __tracebackhide__ = True
        self._save(engine, self.to_save)


class ModelCheckpoint(_Saver):
    """:class:`Checkpoint` that receives the objects to save when it is attached.

    Attach it with ``evaluator.add_event_handler(Events.COMPLETED, handler, {"mymodel": model})``. The arguments are
    those of :class:`Checkpoint` without ``to_save``.
    """

    _names: frozenset[str] = frozenset()  # of the objects that it is attached with

    def __call__(self, engine: Engine, to_save: Mapping[str, Any]) -> None:
        """Save these objects if the score is good enough: see :class:`Checkpoint`."""
        __tracebackhide__ = True
        if not isinstance(engine, Engine):
            raise TypeError("ModelCheckpoint cannot be called at EXCEPTION_RAISED: use Checkpoint(to_save, ...) there")
        self._check_objects(to_save)
        self._save(engine, to_save)

    def check_attachment(
        self, engine: AttachmentHost, events: Sequence[FilteredEvent], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse a second engine, other objects, and objects that cannot be saved."""
        given = (*args, *kwargs.values())
        if len(given) != 1:
            raise TypeError(f"{self._name}: attach it with one mapping, such as {{'model': model}}, got {given!r}")
        (to_save,) = given
        self._check_objects(to_save)
        if attached_to(self, self) is not None and set(to_save) != self._names:
            raise ValueError(
                f"{self._name} is attached already, to save {', '.join(sorted(self._names))}: "
                f"make another {self._name} to save {', '.join(to_save)}"
            )
        super().check_attachment(engine, events, args, kwargs)
        self._check_states(to_save)
        self._names = frozenset(to_save)


def _name_of(to_save: Mapping[str, Any]) -> str:
    """Return the name of the objects in the name of a file."""
    return next(iter(to_save)) if len(to_save) == 1 else "checkpoint"


def _by_score(item: _Saved) -> int | float:
    return item.score


def _check_objects(objects: Any, method: str, caller: str) -> None:
    if not isinstance(objects, Mapping) or not objects:
        raise TypeError(
            f"{caller}: objects must be a mapping of names to objects, got {objects!r}: give {{'model': model}}"
        )
    for name, obj in objects.items():
        if not isinstance(name, str):
            raise TypeError(f"{caller}: the name of a {type(obj).__name__} must be a string, got {name!r}")
        if not hasattr(obj, method):
            raise TypeError(f"{caller}: {name!r} must have {method}(), got a {type(obj).__name__}: leave it out")


def _writes_here() -> bool:
    """Return whether this process writes files: rank 0, or any process without distributed training."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
