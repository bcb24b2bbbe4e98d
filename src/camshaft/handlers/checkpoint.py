"""Checkpoints: state dicts in files, the best or the last few, each whole whatever happens while it is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine
from camshaft.events import EventHandle
from camshaft.exceptions import StorageError
from camshaft.handlers.stopping import ScoreFunction, check_callable, score_of
from camshaft.resume import storage

__all__ = ["Checkpoint", "ModelCheckpoint"]

EXTENSION = ".pt"

StepTransform = Callable[[Engine, EventHandle | None], int]


class _Saved(NamedTuple):
    """A file in the ranking. Without a score function its score is its number, so that later ones are better."""

    score: int | float
    filename: str


class _Saver:
    """Writes state dicts to a folder and keeps the best or the last of the files: see :class:`Checkpoint`."""

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
        self._saved: list[_Saved] = []  # in the order in which they were saved
        if score_name is not None and score_function is None:
            self.score_function = self._score_from_metrics
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
                    f"{self._name}: the folder {self.dirname} cannot be made: {error.strerror}; choose another"
                ) from error
        if not self.dirname.is_dir():
            raise StorageError(f"{self._name}: there is no folder {self.dirname}: make it, or give create_dir=True")
        if require_empty:
            self._refuse_older_files()

    def _refuse_older_files(self) -> None:
        start = f"{self.filename_prefix}_" if self.filename_prefix else ""
        older = sorted(path.name for path in self.dirname.glob(f"*{EXTENSION}") if path.name.startswith(start))
        if older:
            raise ValueError(
                f"{self._name}: {self.dirname} has {older[0]}{' and others' * (len(older) > 1)} already: "
                f"give another folder or prefix, or require_empty=False to save beside them"
            )

    def _score_from_metrics(self, engine: Engine) -> float:
        metrics = engine.state.metrics
        if self.score_name not in metrics:
            raise ValueError(
                f"{self._name}: score_name={self.score_name!r} is no metric of {engine.name}, which has "
                f"{', '.join(metrics) or 'none'}; give score_function= to score otherwise"
            )
        return metrics[self.score_name]  # type: ignore[no-any-return]

    # -- saving ------------------------------------------------------------------------------------------------------

    def _save(self, engine: Engine, to_save: Mapping[str, Any]) -> None:
        score = self._score(engine)
        if math.isnan(score):
            engine.logger.warning("%s: the score is NaN, nothing is saved", self._name)
            return
        if self.n_saved is not None and sum(item.score >= score for item in self._saved) >= self.n_saved:
            return
        name = next(iter(to_save)) if len(to_save) == 1 else "checkpoint"
        filename = self._filename(name, score, self._step(engine))
        before = self._saved
        # taken on now, so that a handler that is among what it saves finds the new file in its ranking
        self._saved = [*(item for item in before if item.filename != filename), _Saved(score, filename)]
        try:
            if _writes_here():
                self._write(filename, to_save)
        except BaseException:
            self._saved = before
            raise
        self._remove_superseded()

    def _score(self, engine: Engine) -> int | float:
        if self.score_function is not None:
            return score_of(self.score_function, engine, self)
        return max((item.score for item in self._saved), default=0) + 1

    def _write(self, filename: str, to_save: Mapping[str, Any]) -> None:
        states = {name: storage.unwrapped(obj).state_dict() for name, obj in to_save.items()}
        storage.save(self.dirname / filename, states if len(states) > 1 else next(iter(states.values())))

    def _remove_superseded(self) -> None:
        while self.n_saved is not None and len(self._saved) > self.n_saved:
            worst = min(self._saved, key=_by_score)
            if _writes_here():
                (self.dirname / worst.filename).unlink(missing_ok=True)
            self._saved.remove(worst)

    def _step(self, engine: Engine) -> int | None:
        """The step that the name of the file has; None where the score says enough."""
        if self.global_step_transform is not None:
            step = self.global_step_transform(engine, engine.last_event_name)
            if not isinstance(step, int):
                raise TypeError(f"{self._name}: global_step_transform must return an integer, got {step!r}")
            return step
        if self.score_function is not None:
            return None
        return int(getattr(engine.state, (engine.loop.data_loop or engine.loop).name.lower()))

    def _filename(self, name: str, score: int | float, step: int | None) -> str:
        if self.score_function is None:
            filename = self._joined(name, step, None)
        else:
            filename = self._joined(name, step, f"{score:.4f}" if isinstance(score, float) else str(score))
            if any(item.filename == filename and item.score != score for item in self._saved):
                filename = self._joined(name, step, repr(score))  # four digits do not tell the two apart
        if Path(filename).name != filename:
            raise ValueError(
                f"{self._name}: {filename!r} is no name of a file: leave slashes out of the prefix, the name of the "
                f"score and the names of objects"
            )
        return filename

    def _joined(self, name: str, step: int | None, score: str | None) -> str:
        scored = f"{self.score_name}={score}" if self.score_name is not None else score
        parts = (self.filename_prefix or None, name, step, scored)
        return "_".join(str(part) for part in parts if part is not None) + EXTENSION

    # -- what was saved ----------------------------------------------------------------------------------------------

    @property
    def last_checkpoint(self) -> Path | None:
        """The file that was saved last; None before there is one."""
        return self.dirname / self._saved[-1].filename if self._saved else None

    @property
    def best_checkpoint(self) -> Path | None:
        """The file with the highest score, without a score function the last one; None before there is one."""
        return self.dirname / max(self._saved, key=_by_score).filename if self._saved else None

    @staticmethod
    def load_objects(to_load: Mapping[str, Any], checkpoint: str | Path | Mapping[str, Any]) -> None:
        """Give objects the states that a checkpoint has for them.

        Args:
            to_load: objects with ``load_state_dict``, by the names they were saved under. A single one may be called
                anything, where the checkpoint is its state dict.
            checkpoint: the file, which is read to the CPU, or what was loaded from it.

        Raises:
            TypeError: an object has no ``load_state_dict``. Nothing is loaded then.
            StorageError: the file cannot be read safely. Nothing is loaded then.
            ValueError: names are missing in the checkpoint, and nothing is loaded; or the state of an object does not
                fit, and those before it are loaded.
        """
        _check_objects(to_load, "load_state_dict", "load_objects")
        where = "the checkpoint" if isinstance(checkpoint, Mapping) else str(checkpoint)
        states = checkpoint if isinstance(checkpoint, Mapping) else storage.load(checkpoint, map_location="cpu")
        if not isinstance(states, Mapping):
            raise ValueError(f"load_objects: {where} holds a {type(states).__name__}, no state dicts by name")
        if len(to_load) == 1 and not set(to_load) <= set(states):
            states = dict.fromkeys(to_load, states)
        missing = [name for name in to_load if name not in states]
        if missing:
            raise ValueError(
                f"load_objects: {where} has no {', '.join(missing)}; it has {', '.join(map(str, states)) or 'no_op'}"
            )
        for name, obj in to_load.items():
            try:
                storage.unwrapped(obj).load_state_dict(states[name])
            except Exception as error:
                raise ValueError(f"load_objects: the state in {where} does not fit {name!r}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """The ranking: scores and names of files, in the order in which they were saved."""
        return {"saved": [tuple(item) for item in self._saved]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with a ranking that :meth:`state_dict` gave; files that are gone meanwhile drop out of it.

        Raises:
            ValueError: it is not of this handler.
        """
        try:
            saved = [_Saved(score, filename) for score, filename in state_dict["saved"]]
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{self._name}: {state_dict!r} is no state of it; give what state_dict() returned"
            ) from None
        self._saved = [item for item in saved if (self.dirname / item.filename).is_file()]


class Checkpoint(_Saver):
    """Saves the states of objects at an event, the best or the last few, in files that are always whole.

    ``trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)``. A file is named by the prefix, the object
    (``checkpoint`` for several), the step and the score, as ``best_model_3_accuracy=0.9750.pt``. It holds the state
    dict of a single object, or those of several by name; of modules wrapped for parallel training or by
    ``torch.compile`` that of the inner one. At any moment every file of such a name is whole, and a superseded one is
    removed when the new one is there. In distributed training rank 0 writes.

    Attached to an evaluator, give ``global_step_transform=global_step_from_engine(trainer)``: its own count begins anew
    at each evaluation. Attached to EXCEPTION_RAISED, mind that the counts of a trainer take a batch that failed for
    done: a run that goes on from there begins with the batch after it.

    Among the objects can be engines, other handlers, and this handler itself, whose ranking then goes on after a
    restart.

    Args:
        to_save: objects with ``state_dict``, by name.
        dirname: the folder.
        filename_prefix: what names of files begin with.
        score_function: ``score_function(engine) -> float``: keep the files with the highest scores, not the last
            ones. Of equal scores the first counts as the better, and with a score of NaN nothing is saved.
        score_name: put before the score in names of files. Without a score function, the metric that is the score.
        n_saved: how many files to keep; None for all.
        global_step_transform: ``global_step_transform(engine, event) -> int``, the step in names of files. Unless
            given, it is the count of the engine's iterations, or nothing where there is a score.
        create_dir: make the folder if it is not there.
        require_empty: refuse a folder with files of this prefix.

    Raises:
        TypeError, ValueError: an argument that cannot work, or files are there already.
        StorageError: the folder is not there or cannot be made.
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

    def __call__(self, engine: Engine, error: BaseException | None = None) -> None:
        """Save, if the score is good enough; at EXCEPTION_RAISED too.

        Raises:
            StorageError: the file cannot be written; what was saved before is untouched.
            TypeError: the score is no number, or the step no whole one.
        """
        self._save(engine, self.to_save)


class ModelCheckpoint(_Saver):
    """A :class:`Checkpoint` that is told what to save where it is attached.

    ``evaluator.add_event_handler(Events.COMPLETED, handler, {"mymodel": model})``. Its arguments are those of
    :class:`Checkpoint` without ``to_save``.
    """

    def __call__(self, engine: Engine, to_save: Mapping[str, Any]) -> None:
        """Save these objects, if the score is good enough: see :class:`Checkpoint`."""
        if not isinstance(engine, Engine):
            raise TypeError("ModelCheckpoint cannot be called at EXCEPTION_RAISED: use Checkpoint(to_save, ...) there")
        _check_objects(to_save, "state_dict", self._name)
        self._save(engine, to_save)


def _by_score(item: _Saved) -> int | float:
    return item.score


def _check_objects(objects: Any, method: str, asked_by: str) -> None:
    if not isinstance(objects, Mapping) or not objects:
        raise TypeError(f"{asked_by}: {objects!r} is no mapping of names to objects: give {{'model': model}}")
    for name, obj in objects.items():
        if not isinstance(name, str):
            raise TypeError(f"{asked_by}: {name!r} is no name for a {type(obj).__name__}: give a string")
        if not hasattr(obj, method):
            raise TypeError(f"{asked_by}: {name!r} is a {type(obj).__name__}, without {method}(); leave it out")


def _writes_here() -> bool:
    """Whether this process is the one of a distributed training that writes."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
