"""The declaration of a training loop: its states, the rules for them, and the loop as text and as JSON."""

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
