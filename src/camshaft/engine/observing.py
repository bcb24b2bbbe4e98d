"""Observers of runs, and what they see."""

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
    """What an observer sees of a run."""

    parent: Any

    @property
    def engine(self) -> Any:
        """Its engine: name, loop and state."""

    def machine_position(self) -> tuple[str, Context]:
        """The place in the machine where it stands, and the context to judge it from there."""

    def call_site(self, frame: FrameType | None) -> str:
        """The line of code that fires the present event, seen from the frame of an observer."""

    def measure(self, stopwatch: Stopwatch) -> None:
        """Have every call of a handler measured, until the observer that asks for it is released."""


class Observer(Protocol):
    """Hears every event of the engines that run while it is in :data:`observers`, before their handlers do."""

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]] | None:
        """A run begins or goes on.

        Returns:
            What makes, for an event's key, a function of the engine; None to leave this run alone.
        """

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """It is over: ``"completed"``, ``"terminated"``, ``"interrupted"``, ``"paused"`` or ``"failed"``."""


observers: ContextVar[tuple[Observer, ...]] = ContextVar("camshaft_observers", default=())


def code_site(frame: FrameType | None) -> str:
    """The line of code that a frame executes, as ``file:line in function``, below the working directory if it is."""
    if frame is None:
        return "nowhere"
    path = frame.f_code.co_filename.removeprefix(os.path.join(os.getcwd(), ""))
    return f"{path}:{frame.f_lineno} in {frame.f_code.co_name}"
