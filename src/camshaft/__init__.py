"""camshaft: a PyTorch training loop as a state machine that you can read, draw, extend and test."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from camshaft._views import provide
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import BackpropEvents, CallableEvent, EventEnum, Events, EventUnion, FilteredEvent, event
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

if TYPE_CHECKING:
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

CallableEventWithFilter, EventsList = CallableEvent, EventUnion
"""Aliases, kept so that import lines for pytorch-ignite need no other names."""

provide(
    loop_diagram="camshaft.draw.diagram:loop_diagram",
    engine_diagram="camshaft.draw.diagram:engine_diagram",
    trace_diagram="camshaft.draw.diagram:trace_diagram",
    reporter_of="camshaft.adapters.lookup:reporter_of",
)

__all__ = [
    "BackpropEvents",
    "CallableEvent",
    "CallableEventWithFilter",
    "CamshaftError",
    "CustomState",
    "DATA",
    "Engine",
    "EventEnum",
    "EventOrderError",
    "EventPoint",
    "EventUnion",
    "Events",
    "EventsList",
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

_IMPORTED_WHEN_USED = {
    "camshaft.machine.machine": ["LoopMachine"],
    "camshaft.resume.exit_signals": ["graceful_exit"],
    "camshaft.resume.snapshot": ["Snapshot"],
    "camshaft.trace.log": ["HandlerTime", "TraceEvent"],
    "camshaft.trace.recording": ["record"],
    "camshaft.trace.selection": ["Selection"],
    "camshaft.trace.trace": ["Trace"],
    "camshaft.trace.violations": ["Violation"],
    "camshaft.training.supervised": [
        "create_supervised_evaluator",
        "create_supervised_trainer",
        "supervised_loop",
    ],
    "camshaft.training.tbptt": ["TbpttEvents", "create_supervised_tbptt_trainer", "tbptt_loop"],
}
_MODULE_OF = {name: module for module, names in _IMPORTED_WHEN_USED.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what not every program uses, when it is used. So importing the package stays fast."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
