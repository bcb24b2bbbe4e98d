"""Reading: where in its data a run stands, in a way that another process can go on from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sized
from itertools import islice
from typing import Any

import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from camshaft.engine.data_fetcher import open_data
from camshaft.resume.rng import generators_of, load_rng_states, rng_states

__all__ = ["DataPosition"]


class DataPosition:
    """Begins to read data, remembers what was random then, and begins again behind the batches that were read.

    A loader that saves its own position (``torchdata``'s ``StatefulDataLoader``) does so. Otherwise the random states
    are those of the moment when reading began, so that the same batches come in the same order, and those that a run
    has had are passed over: without loading them where they are loaded by this process, or hold nothing random.
    """

    def __init__(self) -> None:
        self._opened_with: dict[str, Any] | None = None
        self._saved: dict[str, Any] | None = None
        self._warned_of: Any = None

    def open(self, data: Any, number: int) -> tuple[Iterator[Any], int]:
        """Begin to read behind so many batches: a :data:`camshaft.engine.data_fetcher.OpenData`."""
        self._warn(data)
        saved, self._saved = self._saved, None
        if saved is None or not number:
            self._opened_with = _states(data)
            return open_data(data, number)
        self._opened_with = saved["began"]
        now = _states(data)
        try:
            if _is_stateful(data) and "loader" in saved:
                data.load_state_dict(saved["loader"])
                return iter(data), number
            _load_states(data, self._opened_with)
            return _behind(data, number)
        finally:
            _load_states(data, now)

    def state_dict(self, data: Any, fetched: int) -> dict[str, Any] | None:
        """Where reading stands; None where none has begun.

        Args:
            data: what is read.
            fetched: batches that came of it since reading began.
        """
        if self._saved is not None:  # this run has not read yet
            return self._saved
        if self._opened_with is None or not fetched:
            return None
        state = {"began": self._opened_with}
        return state | {"loader": data.state_dict()} if _is_stateful(data) else state

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Begin the next time where this was saved."""
        self._saved = state

    def _warn(self, data: Any) -> None:
        why = _why_inexact(data)
        if why is not None and self._warned_of is not data:
            self._warned_of = data
            warnings.warn(f"a run that is resumed in the middle of its data may go on with others: {why}", stacklevel=2)


def _states(data: Any) -> dict[str, Any]:
    states = rng_states()
    states.pop("cuda", None)  # no batch is made there
    return {"process": states, "data": {name: one.get_state() for name, one in generators_of(data).items()}}


def _load_states(data: Any, states: Mapping[str, Any]) -> None:
    load_rng_states(states["process"])
    for name, generator in generators_of(data).items():
        if name in states["data"]:
            generator.set_state(states["data"][name])


def _is_stateful(data: Any) -> bool:
    return hasattr(data, "state_dict") and hasattr(data, "load_state_dict")


def _had_all(data: Any, number: int) -> bool:
    try:
        return isinstance(data, Sized) and number >= len(data)
    except TypeError:  # an IterableDataset's loader has __len__ and raises
        return False


def _behind(data: Any, number: int) -> tuple[Iterator[Any], int]:
    is_loader = type(data) is DataLoader
    if _had_all(data, number) and not (is_loader and data.num_workers == 0):  # whose sampler may draw at its very end
        return iter(()), number
    if is_loader and _can_pass_over(data):
        return iter(_rest_of(data, number)), number
    return open_data(data, number)


def _can_pass_over(loader: DataLoader[Any]) -> bool:
    """Whether batches can be left out unloaded: what is random in loading is in this process's states, or nothing."""
    if isinstance(loader.dataset, IterableDataset):
        return False
    return loader.num_workers == 0 or _holds_nothing_random(loader)


def _holds_nothing_random(loader: DataLoader[Any]) -> bool:
    return loader.worker_init_fn is None and _is_fixed(loader.dataset)


def _is_fixed(dataset: Any) -> bool:
    if type(dataset) is Subset:
        return _is_fixed(dataset.dataset)
    if type(dataset) is ConcatDataset:
        return all(map(_is_fixed, dataset.datasets))
    return type(dataset) in (TensorDataset, list, tuple)


def _rest_of(loader: DataLoader[Any], number: int) -> DataLoader[Any]:
    """A loader of the batches behind the first ones, drawn in the order in which the whole loader would draw."""
    iter(DataLoader(loader.dataset, generator=loader.generator))  # draws a seed for workers, as every loader does first
    sampler = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    indices = iter(sampler)
    for _ in islice(indices, number):
        pass
    how: dict[str, Any] = {"sampler": _Rest(indices), "batch_size": None}
    if loader.batch_sampler is not None:
        how = {"batch_sampler": _Rest(indices)}
    return DataLoader(
        loader.dataset,
        **how,
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
    """Goes on with indices that were begun: what is random in them is drawn when it would have been."""

    def __init__(self, indices: Iterator[Any]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[Any]:
        return self.indices


def _why_inexact(data: Any) -> str | None:
    """Why other batches might come when data is read again; None where none would."""
    if isinstance(data, Iterator):
        return f"{data!r} can be read once; give data that can be iterated again"
    if not isinstance(data, DataLoader) or not data.num_workers or _is_stateful(data):
        return None
    if not getattr(data, "in_order", True):
        return "its DataLoader has in_order=False, so workers decide the order of batches; leave that out"
    if data.persistent_workers:
        return (
            "its DataLoader has persistent_workers=True, whose random states go on over epochs and cannot be had; "
            "leave that out, or use torchdata's StatefulDataLoader"
        )
    return None
