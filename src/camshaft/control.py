"""Control calls: the requests that ``terminate()``, ``skip_iteration()`` and similar methods make of a running loop.

Each call stores an instance of one of these classes in the run. The request takes effect when the handlers of the
current event, or the phase or step that made the call, have finished. ``Terminate``, ``TerminateEpoch`` and
``SkipIteration`` are then raised inside the generated loop, and its ``except`` blocks contain what follows.
"""

from __future__ import annotations

from typing import ClassVar

from camshaft.events import Events

__all__ = ["CALLS", "CONTROLS", "Control", "Interrupt", "NewData", "SkipIteration", "Terminate", "TerminateEpoch"]


class Control(Exception):
    """Base of the control calls.

    Attributes:
        call: the name of the engine's method.
        event: the event that fires when the call takes effect, or None.
        rank: the precedence. Of several calls, only the one with the highest rank takes effect. New data is taken with
            any of them.
        option: the argument of the method that suppresses the event after this one, or None.
    """

    call: ClassVar[str]
    event: ClassVar[Events | None] = None
    rank: ClassVar[int] = 0
    option: ClassVar[str | None] = None


class Terminate(Control):
    """The request to end the run: TERMINATE fires, then COMPLETED unless ``skip_completed`` is set."""

    call, event, rank = "terminate", Events.TERMINATE, 5
    option = "skip_completed"

    def __init__(self, skip_completed: bool = False) -> None:
        super().__init__(skip_completed)
        self.skip_completed = skip_completed


class TerminateEpoch(Control):
    """The request to end the current pass of the outermost loop. The next pass restarts the data."""

    call, event, rank = "terminate_epoch", Events.TERMINATE_SINGLE_EPOCH, 4
    option = "skip_epoch_completed"

    def __init__(self, skip_epoch_completed: bool = False) -> None:
        super().__init__(skip_epoch_completed)
        self.skip_epoch_completed = skip_epoch_completed


class SkipIteration(Control):
    """The request to skip the phases of the current iteration."""

    call, event, rank = "skip_iteration", Events.ITERATION_SKIPPED, 3


class Interrupt(Control):
    """The request to pause the run. The next ``run()`` resumes at exactly this point."""

    call, event, rank = "interrupt", Events.INTERRUPT, 2


class NewData(Control):
    """The request to take the next batch from the new data of the state.

    It is no rival of the other calls. Whichever of them takes effect, the new data is taken first.
    """

    call, rank = "set_data", 1


CONTROLS: dict[str, type[Control]] = {
    control.call: control for control in (Terminate, TerminateEpoch, SkipIteration, Interrupt, NewData)
}
"""The control calls by the name of the engine's method, the highest rank first."""

CALLS: dict[str, type[Control]] = {
    control.event.value: control for control in CONTROLS.values() if control.event is not None
}
"""The control calls by the key of the event that they fire."""
