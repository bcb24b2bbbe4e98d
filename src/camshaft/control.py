"""Control calls: what ``terminate()``, ``skip_iteration()`` and the others ask of a running loop.

A call leaves one of these with the engine. It takes effect when the handlers of the present event, the phase or the
step in which it was made are done. The engine throws those that are exceptions into the loop, which catches them where
it declares what follows.
"""

from __future__ import annotations

from typing import Any, ClassVar

from camshaft.events import Events

__all__ = ["CALLS", "CONTROLS", "Control", "Interrupt", "NewData", "SkipIteration", "Terminate", "TerminateEpoch"]


class Control(Exception):
    """Base of the control calls.

    Attributes:
        call: the method of the engine that makes it.
        event: the event that fires when it takes effect; None where none does.
        rank: of several calls, the one with the highest rank takes effect and the others are dropped.
        option: the keyword of the method that leaves out the event after this one; None where there is none.
        pending: the property of the engine that tells whether the call waits to take effect; None where there is none.
    """

    call: ClassVar[str]
    event: ClassVar[Events | None] = None
    rank: ClassVar[int] = 0
    option: ClassVar[str | None] = None
    pending: ClassVar[str | None] = None


class Terminate(Control):
    """End the run: TERMINATE, then COMPLETED unless it is skipped."""

    call, event, rank = "terminate", Events.TERMINATE, 5
    option, pending = "skip_completed", "should_terminate"

    def __init__(self, skip_completed: bool = False) -> None:
        super().__init__(skip_completed)
        self.skip_completed = skip_completed


class TerminateEpoch(Control):
    """End the present pass of the outermost loop; the next one starts with fresh data."""

    call, event, rank = "terminate_epoch", Events.TERMINATE_SINGLE_EPOCH, 4
    option, pending = "skip_epoch_completed", "should_terminate_single_epoch"

    def __init__(self, skip_epoch_completed: bool = False) -> None:
        super().__init__(skip_epoch_completed)
        self.skip_epoch_completed = skip_epoch_completed


class SkipIteration(Control):
    """Leave out what the present iteration would do."""

    call, event, rank = "skip_iteration", Events.ITERATION_SKIPPED, 3


class NewData(Control):
    """Take the next batch from other data."""

    call, rank = "set_data", 2

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data


class Interrupt(Control):
    """Pause: the next run goes on at this very point."""

    call, event, rank = "interrupt", Events.INTERRUPT, 1
    pending = "should_interrupt"


CONTROLS: dict[str, type[Control]] = {
    control.call: control for control in (Terminate, TerminateEpoch, SkipIteration, NewData, Interrupt)
}
"""The control calls, by the name of the engine's method, the highest rank first."""

CALLS: dict[str, type[Control]] = {
    control.event.value: control for control in CONTROLS.values() if control.event is not None
}
"""The control call that brings an event, by the key of the event."""
