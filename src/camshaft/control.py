"""Control calls: what ``terminate()``, ``skip_iteration()`` and the others ask of a running loop.

A call leaves one of these with the engine. It takes effect when the firing, phase or step in which it was made is
over: the engine throws those that are exceptions into the loop, which catches them where it declares what follows.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Control", "Interrupt", "NewData", "SkipIteration", "Terminate", "TerminateEpoch"]


class Control(Exception):
    """Base of the control calls. Of several, the one with the highest rank is done and the others are dropped."""

    rank = 0


class Terminate(Control):
    """End the run: TERMINATE, then COMPLETED unless it is skipped."""

    rank = 5

    def __init__(self, skip_completed: bool = False) -> None:
        super().__init__(skip_completed)
        self.skip_completed = skip_completed


class TerminateEpoch(Control):
    """End the present pass of the outermost loop; the next one starts with fresh data."""

    rank = 4

    def __init__(self, skip_epoch_completed: bool = False) -> None:
        super().__init__(skip_epoch_completed)
        self.skip_epoch_completed = skip_epoch_completed


class SkipIteration(Control):
    """Leave out what the present iteration would do."""

    rank = 3


class NewData(Control):
    """Take the next batch from other data."""

    rank = 2

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data


class Interrupt(Control):
    """Pause: the next run goes on at this very point."""

    rank = 1
