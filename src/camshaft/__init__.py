"""camshaft: a PyTorch training loop as a state machine that you can read, draw, extend and test."""

from camshaft._views import provide
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import BackpropEvents, EventEnum, Events, EventUnion, FilteredEvent, event
from camshaft.exceptions import CamshaftError, EventOrderError, LoopError, TraceError
from camshaft.loop.loop import Loop
from camshaft.loop.states import (
    DATA,
    CustomState,
    EventPoint,
    Free,
    Mark,
    Nested,
    OpaqueStep,
    Phase,
    Step,
    every,
)
from camshaft.machine.machine import LoopMachine
from camshaft.resume.exit_signals import graceful_exit
from camshaft.resume.snapshot import Snapshot
from camshaft.trace.log import HandlerTime, TraceEvent
from camshaft.trace.recording import record
from camshaft.trace.selection import Selection
from camshaft.trace.trace import Trace
from camshaft.trace.violations import Violation
from camshaft.training import (
    TbpttEvents,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    supervised_loop,
    tbptt_loop,
)

__version__ = "0.1.0"

provide(
    loop_diagram="camshaft.draw.diagram:loop_diagram",
    engine_diagram="camshaft.draw.diagram:engine_diagram",
    trace_diagram="camshaft.draw.diagram:trace_diagram",
    reporter_of="camshaft.adapters.lookup:reporter_of",
)

__all__ = [
    "BackpropEvents",
    "CamshaftError",
    "CustomState",
    "DATA",
    "Engine",
    "EventEnum",
    "EventOrderError",
    "EventPoint",
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
    "OpaqueStep",
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
