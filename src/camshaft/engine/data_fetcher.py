"""The feed: where batches come from, and when an epoch has had its share of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from camshaft.control import Terminate
from camshaft.engine.state import State

__all__ = ["DataFetcher", "OpenData", "check_data", "open_data"]

OpenData = Callable[[Any, int], tuple[Iterator[Any], int]]
"""``open_data(data, number) -> (iterator, passed)``: begins to read data, behind its first batches."""


def check_data(data: Any) -> None:
    """Refuse data that no batch can come from.

    Raises:
        TypeError: it is not iterable.
        ValueError: it is empty.
    """
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise TypeError(f"data is not iterable: {data!r}; give a DataLoader, a list of batches, or any iterable")
    if length_of(data) == 0:
        raise ValueError("data is empty: there is no batch to run on")


def length_of(data: Any) -> int | None:
    """The number of batches in data, where it tells."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):  # an IterableDataset's loader has __len__ and raises
        return None


def open_data(data: Any, number: int) -> tuple[Iterator[Any], int]:
    """Read data from its beginning, and drop so many batches of it; from the beginning again where it has fewer.

    Returns:
        The iterator behind them, and how many of them it gave itself.
    """
    iterator, passed = iter(data), 0
    while number:
        passed = sum(1 for _ in islice(iterator, number))
        number -= passed
        if not passed:
            break
        if number:
            iterator = iter(data)
    return iterator, passed


def _close(iterator: Any) -> None:
    """Close an iterator that can be closed.

    A DataLoader's has only its finalizer to stop its workers, which comes late where an error holds the iterator.
    """
    if hasattr(iterator, "_shutdown_workers"):
        if not iterator._persistent_workers:
            iterator._shutdown_workers()
    elif hasattr(iterator, "close"):
        iterator.close()


class DataFetcher:
    """Hands the loop its batches, ``for state.batch in fetcher.batches``, and keeps the iterator across epochs.

    While the counter is below ``end_count`` there is another batch to fetch, as far as the limits say.

    Args:
        state: the state of the engine.
        data: an iterable of batches; None for a run without data, which takes ``state.epoch_length`` times None.
        counter: the attribute of the state that counts the batches.
        skipped: batches that the epoch to begin has already had, when a run goes on in the middle of one.
        fetched: batches that an iterator had given which is to be gone on with; those of the epoch unless given.
        open_data: how reading begins.
        gave: whether this data has given batches before, so that there being none now does not mean that it is empty.
    """

    __slots__ = (
        "_counter",
        "_data",
        "_fetched",
        "_first",
        "_iterator",
        "_open_data",
        "_opened_at",
        "_produced_any",
        "_restarted",
        "_state",
        "batches",
        "cannot_restart",
        "end_count",
        "must_refetch",
        "skipped",
    )

    def __init__(
        self,
        state: State,
        data: Any,
        counter: str,
        skipped: int = 0,
        fetched: int | None = None,
        open_data: OpenData = open_data,
        produced_any: bool = False,
    ) -> None:
        self._state = state
        self._data = data
        self._counter = counter
        self._iterator: Iterator[Any] | None = None
        self._first = 0
        self.end_count = math.inf
        self._opened_at = 0
        self._produced_any = produced_any
        self._restarted = False
        self.skipped = skipped
        self._fetched = fetched
        self._open_data = open_data
        self.batches: Iterable[Any] = ()
        self.must_refetch = False
        self.cannot_restart = False

    @property
    def has_data(self) -> bool:
        """Whether batches come from data, or are None."""
        return self._data is not None

    @property
    def position(self) -> int:
        """Batches that the present epoch has had."""
        return self.skipped if self._state.resumed else self._count() - self._first

    @property
    def fetched(self) -> int:
        """Batches that the present iterator has given, whichever epoch had them; 0 when none is open."""
        if self._iterator is None:
            return self._fetched or 0
        return self._count() - self._opened_at

    def begin_epoch(self) -> None:
        """Begin an epoch: from here on its batches are counted."""
        self._first = self._count() - self.skipped
        self.skipped = 0
        self._state.resumed = False
        self._update_end_count()

    def prepare_batches(self) -> bool:
        """Make ``batches`` ready for what the epoch still wants; False when it has had its share.

        Raises:
            Terminate: ``max_iters`` is reached inside the epoch.
        """
        self._update_end_count()
        state = self._state
        count = getattr(state, self._counter)
        if state.epoch_length is not None and count - self._first >= state.epoch_length:
            self._first = count
            return False
        if state.max_iters is not None and count >= state.max_iters:
            raise Terminate
        iterator = self._open(count) if self._iterator is None else self._iterator
        self.must_refetch = False
        self.batches = iterator if self.end_count == math.inf else islice(iterator, int(self.end_count) - count)
        return True

    def restart_if_exhausted(self) -> bool:
        """Whether the batches ended because the data did; it is restarted then, at the next ``prepare_batches()``.

        The first time that data of unknown length ends, the epoch ends with it, and its length is known.

        Raises:
            ValueError: the data is empty.
            Terminate: the data was restarted and gave nothing; a warning says so.
        """
        count = self._count()
        if self.must_refetch or count >= self.end_count:
            return False
        if count == self._opened_at and (self._restarted or not self._produced_any or self._state.epoch_length is None):
            self._produced_nothing(count)
        self._produced_any = True
        if self._state.epoch_length is None:
            self._state.epoch_length = count - self._first
            return False
        self._close_iterator()
        self._restarted = True
        return True

    def replace(self, data: Any) -> None:
        """Fetch from other data, from the next batch on."""
        self._close_iterator()
        self._data = self._state.dataloader = data
        self._produced_any = self._restarted = False
        self.must_refetch = True

    def limits_changed(self) -> None:
        """Look at the limits again, before the next batch."""
        self._update_end_count()
        self.must_refetch = True

    def restart(self) -> None:
        """End the epoch: the next one begins with fresh data."""
        self.skipped, self._state.resumed = 0, False
        count = self._count()
        self._produced_any = self._produced_any or (self._iterator is not None and count > self._opened_at)
        self._restarted = False
        self._close_iterator()
        self._first = count

    def close(self) -> None:
        """Let go of the iterator and of the data."""
        self._close_iterator()
        self._data = None

    def _update_end_count(self) -> None:
        state = self._state
        self.end_count = math.inf if state.max_iters is None else state.max_iters
        if state.epoch_length is not None and self._first + state.epoch_length < self.end_count:
            self.end_count = self._first + state.epoch_length

    def _count(self) -> int:
        return getattr(self._state, self._counter)  # type: ignore[no-any-return]

    def _produced_nothing(self, count: int) -> None:
        if not self._produced_any:
            raise ValueError("data is empty: it gave no batch")
        state = self._state
        wanted = f"max_iters={state.max_iters}" if state.max_iters is not None else f"an epoch of {state.epoch_length}"
        done = count if state.max_iters is not None else count - self._first
        warnings.warn(
            f"the data cannot be restarted and ended after {done} iterations of {wanted}; the run ends here. "
            f"Give data that can be iterated again, or set_data() at DATALOADER_STOP_ITERATION",
            stacklevel=2,
        )
        self.cannot_restart = True
        raise Terminate

    def _nothing(self) -> Iterator[None]:
        while self._count() < self.end_count:
            yield None

    def _open(self, count: int) -> Iterator[Any]:
        """Begin to read; what was read before the run was left is read again, and dropped."""
        number, self._fetched = count - self._first if self._fetched is None else self._fetched, 0
        passed = 0
        if self._data is None:
            self._iterator = self._nothing()
        else:
            self._iterator, passed = self._open_data(self._data, number)
        self._opened_at = count - passed
        return self._iterator

    def _close_iterator(self) -> None:
        iterator, self._iterator = self._iterator, None
        self._fetched = 0
        self.batches = ()
        if iterator is not self._data:
            _close(iterator)
