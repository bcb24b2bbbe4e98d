"""camshaft: a PyTorch training loop as a state machine that you can read, draw, extend and test."""

from camshaft.engine import Engine, RemovableEventHandle
from camshaft.events import BackpropEvents, EventEnum, Events, EventUnion, FilteredEvent, event
from camshaft.loop import DATA, Free, Loop, LoopError, Mark, Nested, Phase, Step, every
from camshaft.machine import EventOrderError, LoopMachine
from camshaft.recording import record
from camshaft.signals import graceful_exit
from camshaft.snapshot import Snapshot
from camshaft.state import State
from camshaft.trace import HandlerTime, Selection, Trace, TraceError, TraceEvent, Violation
from camshaft.training import (
    TbpttEvents,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    supervised_loop,
    tbptt_loop,
)

__version__ = "0.1.0"

__all__ = [
    "BackpropEvents",
    "DATA",
    "Engine",
    "EventEnum",
    "EventOrderError",
    "EventUnion",
    "Events",
    "FilteredEvent",
    "Free",
    "HandlerTime",
    "Loop",
    "LoopError",
    "LoopMachine",
    "Mark",
    "Nested",
    "Phase",
    "RemovableEventHandle",
    "Selection",
    "Snapshot",
    "State",
    "Step",
    "TbpttEvents",
    "Trace",
    "TraceError",
    "TraceEvent",
    "Violation",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
    "event",
    "every",
    "graceful_exit",
    "record",
    "supervised_loop",
    "tbptt_loop",
]
