"""The declaration of a training loop: its states, what may be declared, and how it is shown and stored."""

from camshaft.exceptions import LoopError
from camshaft.loop.loop import Loop
from camshaft.loop.states import (
    DATA,
    RUN,
    CustomState,
    EventPoint,
    Every,
    Free,
    Mark,
    Nested,
    OpaqueStep,
    Phase,
    Step,
    every,
)

__all__ = [
    "DATA",
    "RUN",
    "CustomState",
    "EventPoint",
    "Every",
    "Free",
    "Loop",
    "LoopError",
    "Mark",
    "Nested",
    "OpaqueStep",
    "Phase",
    "Step",
    "every",
]
