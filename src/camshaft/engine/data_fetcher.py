"""The data fetcher: opens the data, gives the loop its batches, and ends an epoch after its last batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import FunctionType
from typing import Any

from camshaft.control import Terminate
from camshaft.engine.state import State

__all__ = ["DataFetcher", "OpenData", "can_begin_anew", "open_data"]

OpenData = Callable[[Any, int], tuple[Iterator[Any], int]]
"""A function ``open_data(data, number) -> (iterator, passed)``: opens data and skips its first ``number`` batches.

``passed`` is the number of batches skipped since the data was last begun.
"""


def open_data(data: Any, number: int) -> tuple[Iterator[Any], int]:
    """Open data, and read and drop its first batches. If it has fewer, open it again and continue with the rest.

    Args:
        data: an iterable of batches.
        number: how many batches to drop.

    Returns:
        The iterator after the dropped batches, and how many of them came from this iterator.
    """
    __tracebackhide__ = True
    iterator, passed = _begin(data), 0
    while number:
        passed = sum(1 for _ in islice(iterator, number))
        number -= passed
        if not passed:  # the data is empty, or cannot be restarted: the fetcher reports that
            break
        if number:
            iterator = _begin(data)
    return iterator, passed


def can_begin_anew(data: Any) -> bool:
    """Return whether data that is its own iterator, such as a prefetcher, may begin anew at each ``iter()``."""
    begin = getattr(type(data), "__iter__", None)
    return isinstance(begin, FunctionType) and begin is not Iterator.__iter__


def _begin(data: Any) -> Iterator[Any]:
    """Return an iterator over data, on which another ``iter()``, also that of a ``for``, changes nothing."""
    __tracebackhide__ = True
    iterator = iter(data)
    return _rest_of(iterator) if iterator is data and can_begin_anew(data) else iterator


def _rest_of(iterator: Iterator[Any]) -> Iterator[Any]:
    __tracebackhide__ = True
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch


def _close(iterator: Any) -> None:
    """Close an iterator, if it can be closed.

    The iterator of a DataLoader stops its workers only in its finalizer. That would be late if the traceback of an
    error still refers to the iterator, so its workers are stopped here.
    """
    if hasattr(iterator, "_shutdown_workers"):
        if not iterator._persistent_workers:
            iterator._shutdown_workers()
    elif hasattr(iterator, "close"):
        iterator.close()


class DataFetcher:
    """The source of the batches of one run.

    The generated loop reads ``for state.batch in fetcher.batches``. The iterator is kept across epochs: an epoch may be
    shorter or longer than the data.

    All positions are values of the counter of batches, which never decreases within a run. The fetcher stores the
    values at the start of the epoch and at the opening of the iterator; the rest is the difference to the present
    value. So no code runs for a single batch, and ``batches`` can be a plain ``islice``.

    Args:
        state: the state of the engine, with the data: an iterable of batches, or None for a run without data. Each
            batch is None then.
        counter: the attribute of the state that counts the batches; empty for a loop without data.
        around: the attributes that count the loops around the data, outermost first.
        skipped: how many batches of the first epoch are done already, for a run that resumes in the middle of it; None
            if it does not.
        passes: for a run that resumes inside loops around the data: how many passes each of them has begun, by name.
        after_pass: True if the run was saved after a pass of the outermost loop.
        fetched: how many batches a previous process had taken from the iterator that this run continues with; by
            default ``skipped``. The two differ if the data is shorter or longer than an epoch.
        open_data: the function that opens the data.
        produced_any: True if this data has given batches before. If it then gives none, it cannot be restarted, but it
            is not empty.

    Attributes:
        batches: the iterable for the ``for`` loop, set by :meth:`prepare_batches`.
        end_count: the value of the counter after the last batch of this epoch, as far as the limits tell.
        after_pass: True until a run that was saved after a pass of a loop has begun with that loop.
        must_refetch: True if ``batches`` is out of date, because the data or the limits have changed.
        cannot_restart: True if the run ended because the data ran out and could not be restarted.
        skipped: see above; 0 after the first epoch has begun.
        resumes_in_data: True until a run that resumes in the middle of an epoch has reached it.
        resumed_passes: ``passes``, without the loops that the run has entered already.
    """

    __slots__ = (
        "_around",
        "_begun",
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
        "after_pass",
        "batches",
        "cannot_restart",
        "end_count",
        "must_refetch",
        "resumed_passes",
        "resumes_in_data",
        "skipped",
    )

    def __init__(
        self,
        state: State,
        counter: str,
        around: Sequence[str] = (),
        skipped: int | None = None,
        passes: Mapping[str, int] | None = None,
        after_pass: bool = False,
        fetched: int | None = None,
        open_data: OpenData = open_data,
        produced_any: bool = False,
    ) -> None:
        self._state = state
        self._data = state.take_data()
        self._counter = counter
        self._iterator: Iterator[Any] | None = None
        self._first = self._count() if counter else 0  # the counter before the first batch of this epoch
        self.end_count = math.inf
        self._opened_at = 0  # the counter when the present iterator was opened
        self._produced_any = produced_any
        self._restarted = False  # the present iterator follows an exhausted one
        self._around = [*around]
        # the count of a loop, and of the one around it, when it began
        self._begun: dict[str, tuple[int, int | None]] = {}
        self.skipped = skipped or 0
        self.resumes_in_data = skipped is not None
        self.resumed_passes = dict(passes or {})
        self.after_pass = after_pass
        self._fetched = fetched
        self._open_data = open_data
        self.batches: Iterable[Any] = ()
        self.must_refetch = False
        self.cannot_restart = False

    @property
    def has_data(self) -> bool:
        """True if batches come from data; False if each batch is None."""
        return self._data is not None

    @property
    def position(self) -> int:
        """The number of batches that the present epoch has had; 0 in a loop that takes no data."""
        if not self._counter:
            return 0
        # until a resumed epoch has begun, it is not counted
        return self.skipped if self._state.resumed else self.passes_begun(self._counter)

    def passes(self, name: str, elements: Iterable[Any]) -> Iterator[Any]:
        """Begin a loop around the data, and return the elements of its passes.

        A resumed run leaves out the passes that are over. If it resumes inside a pass, that pass comes again, but is
        not counted again.

        Args:
            name: the loop.
            elements: the elements of all its passes.
        """
        state, counter = self._state, name.lower()
        begun, is_inside, self.after_pass = 0, False, False
        if state.resumed:
            begun = self.resumed_passes.pop(name, 0)
            is_inside = self.resumes_in_data or bool(self.resumed_passes)
            state.resumed, self.after_pass = is_inside, begun > 0 and not is_inside
        self._begun[counter] = getattr(state, counter) - begun, self._count_around(counter)
        return islice(elements, begun - is_inside, None)

    def resumes_in(self, name: str) -> bool:
        """Return whether a resumed run goes on in this loop, so that the states before it are over.

        If the loop has had no pass yet, the run goes on from here, with these states.
        """
        if not self._state.resumed:
            return False
        if self.skipped if name.lower() == self._counter else self.resumed_passes.get(name, 0):
            return True
        self._state.resumed = self.resumes_in_data = False
        self.resumed_passes.clear()
        return False

    def resumes_after_pass(self) -> bool:
        """Return whether a resumed run was saved after a pass of this loop. True only once."""
        resumes, self.after_pass = self.after_pass, False
        return resumes

    def passes_begun(self, name: str) -> int:
        """Return how many passes a loop around the data has begun in the present pass of the loop around it."""
        begun, count_around = self._begun.get(name.lower(), (0, None))
        return getattr(self._state, name.lower()) - begun if self._count_around(name.lower()) == count_around else 0

    def _count_around(self, counter: str) -> int | None:
        """Return the count of the loop around a loop, or None for the outermost one."""
        names = [*self._around, self._counter]
        index = names.index(counter)
        return getattr(self._state, names[index - 1]) if index else None

    @property
    def fetched(self) -> int:
        """The number of batches that the open iterator has given, over all epochs; 0 without an open iterator."""
        if self._state.has_new_data:  # the open iterator, if any, will give no more batches
            return 0
        if self._iterator is None:  # a resumed run that is saved again before its first batch
            return self._fetched or 0
        return self._count() - self._opened_at

    def begin_epoch(self) -> None:
        """Begin an epoch: count its batches from here. Called after EPOCH_STARTED."""
        self._first = self._count() - self.skipped
        self._begun[self._counter] = self._first, self._count_around(self._counter)
        self.skipped, self.resumes_in_data = 0, False
        self._state.resumed = False
        self._update_end_count()

    def prepare_batches(self) -> bool:
        """Set ``batches`` to the rest of this epoch.

        Returns:
            False if the epoch already has all its batches.

        Raises:
            Terminate: ``max_iters`` is reached in the middle of the epoch.
        """
        __tracebackhide__ = True
        self._update_end_count()
        state = self._state
        count = getattr(state, self._counter)
        # The length is tested first: an epoch that is complete when max_iters is reached ends as usual.
        if state.known_length is not None and count - self._first >= state.known_length:
            self._first = count
            return False
        if state.max_iters is not None and count >= state.max_iters:
            raise Terminate
        iterator = self._open(count) if self._iterator is None else self._iterator
        self.must_refetch = False
        batches = iterator if self.end_count == math.inf else islice(iterator, int(self.end_count) - count)
        if state.expected_length is not None:
            expected = max(0, self._first + state.expected_length - count)
            batches = chain(islice(batches, expected), self._unexpected(batches))
        self.batches = batches
        return True

    def restart_if_exhausted(self) -> bool:
        """Close the iterator if the data ran out before the end of the epoch. Called after each ``for`` loop.

        The next :meth:`prepare_batches` opens the data again. A handler of DATALOADER_STOP_ITERATION may replace it
        before. If the length of an epoch is unknown, the first epoch ends with the data instead, and sets it.

        Returns:
            True if the data ran out before the end of the epoch.

        Raises:
            ValueError: the data is empty.
            Terminate: the data cannot be restarted. A warning reports it.
        """
        __tracebackhide__ = True
        count = self._count()
        if self.must_refetch or count >= self.end_count:  # the batches ended for another reason
            return False
        # The iterator gave nothing. Data that has given batches before gets one more try: DATALOADER_STOP_ITERATION
        # fires, and a handler may replace the data. If the length of an epoch is unknown, no epoch can be formed.
        if count == self._opened_at and (self._restarted or not self._produced_any or self._state.known_length is None):
            self._produced_nothing(count)
        self._produced_any = True
        if self._state.known_length is None:
            self._learn_length(count - self._first)
            return False
        self._close_iterator()
        self._restarted = True
        return True

    def take_new_data(self) -> None:
        """Fetch the next batch from the new data of the state."""
        __tracebackhide__ = True
        self._close_iterator()
        self._data = self._state.take_data()
        self._produced_any = self._restarted = False
        self.must_refetch = True

    def limits_changed(self) -> None:
        """Apply changed limits before the next batch is fetched."""
        self._update_end_count()
        self.must_refetch = True

    def restart(self) -> None:
        """End the epoch early: the next one reads the data from the beginning."""
        self.skipped, self.resumes_in_data, self._state.resumed = 0, False, False
        self.resumed_passes.clear()
        count = self._count()
        self._produced_any = self._produced_any or (self._iterator is not None and count > self._opened_at)
        self._restarted = False
        self._close_iterator()
        self._first = count

    def close(self) -> None:
        """Close the iterator, and drop the reference to the data."""
        self._close_iterator()
        self._data = None

    def _update_end_count(self) -> None:
        state = self._state
        self.end_count = math.inf if state.max_iters is None else state.max_iters
        if state.known_length is not None and self._first + state.known_length < self.end_count:
            self.end_count = self._first + state.known_length

    def _count(self) -> int:
        return getattr(self._state, self._counter)  # type: ignore[no-any-return]

    def _unexpected(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Give the batches beyond the expected length of the data, with a warning if there are any."""
        __tracebackhide__ = True
        for batch in batches:
            expected, self._state.expected_length = self._state.expected_length, None
            if expected is not None:
                warnings.warn(
                    f"the data gives more batches than its length of {expected}; the epoch goes on to the end of the "
                    f"data. Give epoch_length={expected} to end it there, or correct the len() of the data",
                    stacklevel=2,
                )
            yield batch

    def _learn_length(self, length: int) -> None:
        """Set the length of an epoch to the number of batches that the first one had."""
        expected, self._state.expected_length = self._state.expected_length, None
        self._state.known_length = self._state.learned_length = length
        if expected is not None and length != expected:
            warnings.warn(
                f"the data gave only {length} batches, and its length is {expected}; epochs have {length} from now on. "
                f"Give epoch_length={expected} to restart the data instead, or correct the len() of the data",
                stacklevel=2,
            )

    def _produced_nothing(self, count: int) -> None:
        if not self._produced_any:
            raise ValueError("data is empty: it gave no batch")
        state = self._state
        wanted = f"max_iters={state.max_iters}" if state.max_iters is not None else f"an epoch of {state.known_length}"
        done = count if state.max_iters is not None else count - self._first
        warnings.warn(
            f"the data cannot be restarted and ended after {done} iterations of {wanted}; the run ends here. "
            f"Give data that can be iterated again, or set_data() at DATALOADER_STOP_ITERATION",
            stacklevel=2,
        )
        self.cannot_restart = True
        raise Terminate

    def _empty_batches(self) -> Iterator[None]:
        while self._count() < self.end_count:
            yield None

    def _open(self, count: int) -> Iterator[Any]:
        """Open the data. A resumed run skips the batches that were read before it was saved."""
        __tracebackhide__ = True
        if self._state.has_new_data:  # assigned in an epoch of unknown length, which had to read the other to its end
            self._data = self._state.take_data()
            self._produced_any = self._restarted = False
        number, self._fetched = count - self._first if self._fetched is None else self._fetched, 0
        passed = 0
        if self._data is None:
            self._iterator = self._empty_batches()
        else:
            self._iterator, passed = self._open_data(self._data, number)
        self._opened_at = count - passed
        return self._iterator

    def _close_iterator(self) -> None:
        iterator, self._iterator = self._iterator, None
        self._fetched = 0  # the next iterator starts at the beginning
        self.batches = ()  # it refers to the iterator too
        if iterator is not self._data:  # a generator given as data belongs to the user
            _close(iterator)
