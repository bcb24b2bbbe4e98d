"""camshaft: a PyTorch training loop as a state machine that you can read, draw, extend and test."""

from camshaft.engine.engine import Engine, RemovableEventHandle
from camshaft.engine.state import State
from camshaft.events import BackpropEvents, EventEnum, Events, EventUnion, FilteredEvent, event
from camshaft.loop.loop import DATA, Free, Loop, LoopError, Mark, Nested, Phase, Step, every
from camshaft.machine.machine import EventOrderError, LoopMachine
from camshaft.resume.exit_signals import graceful_exit
from camshaft.resume.snapshot import Snapshot
from camshaft.trace.recording import record
from camshaft.trace.trace import HandlerTime, Selection, Trace, TraceError, TraceEvent, Violation
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
