"""The position of a run in its data, saved so that another process continues with the same batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from camshaft.engine.data import length_of
from camshaft.engine.data_fetcher import can_begin_anew, open_data
from camshaft.resume.data_states import Configuration, DataStates, settings
from camshaft.resume.plain import is_equal
from camshaft.resume.rng import load_rng_states, rng_states
from camshaft.resume.search import has_state

__all__ = ["DataPosition"]


class DataPosition:
    """The position in the data of a run.

    A loader with its own ``state_dict()``, such as ``StatefulDataLoader`` of torchdata, saves its position itself. For
    any other data, the random states are recorded when the data is opened. To resume, these states are restored, so
    that the same batches come in the same order. Then the batches already used are skipped. They are not loaded if
    skipping does not change the random states.
    """

    def __init__(self) -> None:
        self._opened_with: dict[str, Any] | None = None  # random states when the present iterator was opened
        self._saved: dict[str, Any] | None = None  # a loaded state that is not applied yet
        self._known: Any = None  # the data whose inside was looked at
        self._configured: Configuration = {}
        self._settings: dict[str, dict[str, Any]] = {}

    @property
    def is_loaded(self) -> bool:
        """True if a saved position was loaded, at which no data has been opened yet."""
        return self._saved is not None

    def open(self, data: Any, number: int) -> tuple[Iterator[Any], int]:
        """Open data and skip its first ``number`` batches: a :data:`camshaft.engine.data_fetcher.OpenData`."""
        self.look_at(data)
        saved, self._saved = self._saved, None
        if saved is None or not number:
            self._opened_with = self._states(data)
            return open_data(data, number)
        self._opened_with = saved["began"]
        if "loader" not in saved and _is_used_up(data, number):
            return iter(()), number
        # The states of the process are those of the moment of saving, restored by the snapshot. Opening the data needs
        # the older ones, and must leave no trace in the present ones.
        now = self._states(data)
        try:
            if has_state(data) and "loader" in saved:
                data.load_state_dict(saved["loader"])
                return iter(data), number
            self._load_states(data, self._opened_with)
            return _open_after(data, number)
        finally:
            # samplers with a state_dict() have come to the present position by themselves
            self._load_states(data, now, with_samplers=False)

    def state_dict(self, data: Any, fetched: int) -> dict[str, Any] | None:
        """Return the position as plain values; None if no batch was read since the data was opened.

        Args:
            data: the data of the run.
            fetched: the number of batches read since the data was opened.
        """
        if self._saved is not None:  # a resumed run that has not opened its data yet
            return self._saved
        if self._opened_with is None or not fetched:
            return None
        state = {"began": self._opened_with}
        return state | {"loader": data.state_dict()} if has_state(data) else state

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Open the data at this position the next time."""
        self._saved = state

    def look_at(self, data: Any) -> None:
        """Look at new data: note the attributes that it has before it is read, and warn if it cannot be exact."""
        if data is self._known:
            return
        self._known = data
        states = DataStates(data)
        self._configured = states.attributes()
        self._settings = settings(self._configured)
        reasons = [why for why in (_why_inexact(data), *states.unsaved) if why is not None]
        if reasons:
            warnings.warn(
                f"a run resumed in the middle of its data may get other batches: {'; '.join(reasons)}", stacklevel=2
            )

    def present_states(self, data: Any) -> dict[str, Any]:
        """Return the present states inside of the data, and a description of it."""
        self.look_at(data)
        return {
            "inside": DataStates(data).state_dict(self._configured),
            "described": _described(data),
            "settings": self._settings,
        }

    def load_present_states(self, data: Any, state: Mapping[str, Any]) -> list[str]:
        """Set the states inside of the data.

        Args:
            data: the data of the run.
            state: a result of :meth:`present_states`.

        Returns:
            What differs between the data and that of the file, in words.
        """
        self.look_at(data)
        states, described = DataStates(data), _described(data)
        states.load_state_dict(state["inside"], self._configured)
        saved = state["described"]
        if described.get("batches") != saved.get("batches"):
            return states.differences(state["inside"])  # the engine warns of the number of batches
        changed = [
            f"the {name} is {described[name]}, and was {saved[name]}"
            for name in described.keys() & saved.keys()
            if described[name] != saved[name]
        ]
        return sorted(changed) + self._changed_settings(state) + states.differences(state["inside"])

    def _changed_settings(self, state: Mapping[str, Any]) -> list[str]:
        """Return which attributes differ from those of the file, though no batch has changed them there."""
        found = []
        for path in sorted(self._settings.keys() & state["settings"].keys()):
            here, saved = self._settings[path], state["settings"][path]
            states = state["inside"]["attributes"].get(path, {})
            found += [
                f"{path}.{name}".lstrip(".") + f" is {here[name]}, and was {saved[name]}"
                for name in here
                if name in saved and name not in states and not is_equal(here[name], saved[name])
            ]
        return found

    def _states(self, data: Any) -> dict[str, Any]:
        states = rng_states()
        states.pop("cuda", None)  # loaders do not draw on GPUs, and these states are large
        return {"process": states, "data": DataStates(data).state_dict(self._configured)}

    def _load_states(self, data: Any, states: Mapping[str, Any], with_samplers: bool = True) -> None:
        load_rng_states(states["process"])
        DataStates(data).load_state_dict(states["data"], self._configured, with_samplers)


def _described(data: Any) -> dict[str, Any]:
    """Return what distinguishes the data from others, as far as it is known: numbers and names of classes."""
    found = {"batches": length_of(data), "class of the data": type(data).__qualname__}
    if isinstance(data, DataLoader):
        batch_sampler: Any = data.batch_sampler
        found |= {
            "batch size": data.batch_size
            if data.batch_size is not None
            else getattr(batch_sampler, "batch_size", None),
            "number of samples": length_of(data.dataset),
            "class of the data set": type(data.dataset).__qualname__,
            "class of the sampler": type(getattr(batch_sampler, "sampler", data.sampler)).__qualname__,
        }
        if not _loads_without_randomness(data):
            found["number of workers"] = data.num_workers
    return found


def _is_used_up(data: Any, number: int) -> bool:
    """Return whether data has no batch after the first ``number``, and asking for one would change no state.

    A sampler and data of a user's class may draw or count after their last batch. Where workers load, a sampler has
    already done so when the last batch is there.
    """
    is_passive = type(data) in (list, tuple, range) or (isinstance(data, DataLoader) and data.num_workers > 0)
    if not is_passive or isinstance(getattr(data, "dataset", None), IterableDataset):  # its length is an estimate
        return False
    return number >= len(data)


def _open_after(data: Any, number: int) -> tuple[Iterator[Any], int]:
    """Open data after its first batches. They are not loaded, unless loading them changes the following batches."""
    # a subclass may do anything in __iter__
    if type(data) is DataLoader and _can_skip_unloaded(data):
        return iter(_rest_of(data, number)), number
    return open_data(data, number)


def _can_skip_unloaded(loader: DataLoader[Any]) -> bool:
    """Return whether batches can be skipped without loading them.

    Loading may draw random numbers. The random states of this process are restored afterwards. Those of workers cannot
    be saved: if loading is random, workers must load the skipped batches to reach the same states.
    """
    if isinstance(loader.dataset, IterableDataset):
        return False
    return loader.num_workers == 0 or _loads_without_randomness(loader)


def _loads_without_randomness(loader: DataLoader[Any]) -> bool:
    return loader.worker_init_fn is None and _is_fixed(loader.dataset)


def _is_fixed(dataset: Any) -> bool:
    """Return whether a dataset is of a type whose items are not random."""
    if type(dataset) is Subset:
        return _is_fixed(dataset.dataset)
    if type(dataset) is ConcatDataset:
        return all(map(_is_fixed, dataset.datasets))
    return type(dataset) in (TensorDataset, list, tuple)


def _rest_of(loader: DataLoader[Any], number: int) -> DataLoader[Any]:
    """Return a loader of the batches after the first ``number``.

    It draws from the random states in the same order as the whole loader.
    """
    # Every loader first draws a seed for its workers, before its sampler draws. The new loader below draws another
    # one, but only workers use it, and they load nothing random here.
    iter(DataLoader(loader.dataset, generator=loader.generator))
    sampler = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    indices = iter(sampler)
    for _ in islice(indices, number):
        pass
    sampling: dict[str, Any] = {"sampler": _Rest(indices), "batch_size": None}
    if loader.batch_sampler is not None:
        sampling = {"batch_sampler": _Rest(indices)}
    return DataLoader(
        loader.dataset,
        **sampling,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


class _Rest(torch.utils.data.Sampler[Any]):
    """A sampler that continues with the rest of an iterator of indices."""

    def __init__(self, indices: Iterator[Any]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[Any]:
        return self.indices


def _why_inexact(data: Any) -> str | None:
    """Return why other batches might come when ``data`` is read again; None if the same ones come."""
    if isinstance(data, Iterator) and not can_begin_anew(data):
        return f"{data!r} can be read only once; give data that can be iterated again"
    if not isinstance(data, DataLoader) or not data.num_workers or has_state(data):
        return None
    if not getattr(data, "in_order", True):
        return (
            "its DataLoader has in_order=False, so the order of batches depends on the speed of workers; leave that out"
        )
    if data.persistent_workers:
        return (
            "its DataLoader has persistent_workers=True, whose random states carry over epochs and cannot be saved; "
            "leave that out, or use torchdata's StatefulDataLoader"
        )
    return None
