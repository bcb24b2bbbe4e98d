"""Observers: functions that see every event of the runs in a block, before its handlers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock, Thread, current_thread, main_thread
from types import FrameType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from camshaft.engine.handler import Stopwatch
from camshaft.machine.context import Context

__all__ = ["Observer", "ObservedRun", "active_observers", "code_site", "observing"]


class ObservedRun(Protocol):
    """The part of a run that an observer may use.

    Attributes:
        parent: the engine whose transition is executing this run, or None.
    """

    parent: Any

    @property
    def engine(self) -> Any:
        """The engine of the run, with its name, loop and state."""

    def machine_position(self) -> tuple[str, Context]:
        """Return the run's place in the machine, and the context for judging its next events."""

    def call_site(self, frame: FrameType | None) -> str:
        """Return the line of code that fires the present event, given the frame of an observer."""

    def measure(self, stopwatch: Stopwatch) -> None:
        """Time every call of a handler with ``stopwatch``, until the observers are disconnected."""


class Observer(Protocol):
    """An object that is called at every event of an engine, while it is :func:`observing`.

    It must be hashable. Any thread may call it.
    """

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]] | None:
        """Connect to a run that starts or continues.

        Returns:
            A function that returns, for the key of an event, a function of the engine to call at that event; None to
            ignore this run.
        """

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Take note that a run has ended or paused.

        Args:
            run: the run.
            outcome: ``"completed"``, ``"terminated"``, ``"interrupted"``, ``"paused"`` or ``"failed"``.
        """


# -- which observers see a run ----------------------------------------------------------------------------------------

_own: ContextVar[tuple[Observer, ...]] = ContextVar("camshaft_observers", default=())
"""The observers of the blocks around this code, in this thread or asyncio task."""


class _Blocks:
    """The blocks of :func:`observing` in this process.

    Attributes:
        opened: the observers whose blocks are open, in the order of opening, with the threads that opened them. It is
            never changed, only replaced, because any thread may read it at any time.
        noted: the observers of the code that started a thread, for each thread started while a block was open. Python
            keeps no record of that.
    """

    def __init__(self) -> None:
        self.opened: dict[Observer, Thread] = {}
        self.noted: WeakKeyDictionary[Thread, tuple[Observer, ...]] = WeakKeyDictionary()
        self._lock = RLock()

    def open(self, observer: Observer) -> None:
        """Open the block of an observer."""
        with self._lock:
            if not self.opened:
                _replace_start(_note_and_start)
            self.opened = {**self.opened, observer: current_thread()}

    def close(self, observer: Observer) -> None:
        """Close the block of an observer, and forget the observer."""
        with self._lock:
            self.opened = {other: thread for other, thread in self.opened.items() if other is not observer}
            for thread, noted in list(self.noted.items()):  # a thread of a pool may live long
                self.noted[thread] = tuple(other for other in noted if other is not observer)
            if not self.opened and Thread.start is _note_and_start:
                _replace_start(_start)

    def note(self, thread: Thread) -> None:
        """Note the observers of the code that starts a thread."""
        with self._lock:
            self.noted[thread] = active_observers()


_blocks = _Blocks()
_start: Callable[[Thread], None] = Thread.start


def _note_and_start(thread: Thread) -> None:
    _blocks.note(thread)
    _start(thread)


def _replace_start(start: Callable[[Thread], None]) -> None:
    Thread.start = start  # type: ignore[method-assign, assignment]


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Let an observer see the runs that begin or continue in the block: see :func:`active_observers`."""
    _blocks.open(observer)
    _own.set((*_own.get(), observer))
    try:
        yield
    finally:
        # Take away this observer only. Restoring the earlier value would be wrong: blocks may overlap.
        _own.set(tuple(other for other in _own.get() if other is not observer))
        _blocks.close(observer)


def active_observers() -> tuple[Observer, ...]:
    """Return the observers of a run that begins or continues now, in the order in which their blocks were opened.

    These are the observers of all blocks around this code. A block is also around the threads that are started inside
    of it. A block of the main thread is also around threads that were there before, such as those of a pool, unless
    they are inside of a block of their own or of another thread.
    """
    opened = _blocks.opened
    if not opened:
        return ()
    thread, main = current_thread(), main_thread()
    own = [observer for observer in _own.get() if observer in opened]
    found = set(own)
    if all(opened[observer] is thread for observer in own):  # otherwise the context is a copy, and tells everything
        found |= {observer for observer in _blocks.noted.get(thread, ()) if observer in opened}
    if thread is not main and not own and all(opened[observer] is main for observer in found):
        found |= {observer for observer, opener in opened.items() if opener is main}
    return tuple(observer for observer in opened if observer in found)


# -- for call sites ----------------------------------------------------------------------------------------------------


def code_site(frame: FrameType | None) -> str:
    """Return the line of code that a frame executes, as ``file:line in function``.

    The file is relative to the working directory, if it lies below it.
    """
    if frame is None:
        return "nowhere"
    path = frame.f_code.co_filename.removeprefix(os.path.join(os.getcwd(), ""))
    return f"{path}:{frame.f_lineno} in {frame.f_code.co_name}"
