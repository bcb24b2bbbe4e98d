"""Observers: functions that see every event of the runs in a block, before its handlers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, Protocol

from camshaft.engine.handler import Stopwatch
from camshaft.machine.context import Context

__all__ = ["Observer", "ObservedRun", "code_site", "observers"]


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
    """An object that is called at every event of an engine, while it is in :data:`observers`."""

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


observers: ContextVar[tuple[Observer, ...]] = ContextVar("camshaft_observers", default=())
"""The observers of runs that start now in this thread."""


def code_site(frame: FrameType | None) -> str:
    """Return the line of code that a frame executes, as ``file:line in function``.

    The file is relative to the working directory, if it lies below it.
    """
    if frame is None:
        return "nowhere"
    path = frame.f_code.co_filename.removeprefix(os.path.join(os.getcwd(), ""))
    return f"{path}:{frame.f_lineno} in {frame.f_code.co_name}"
