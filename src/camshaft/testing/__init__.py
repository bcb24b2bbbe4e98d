"""Tools for tests of the order of training events.

Names that need Hypothesis or further modules of torch are imported when they are first used. The module
:mod:`camshaft_pytest` describes the fixtures and options of the pytest plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from camshaft.adapters.reporter import Reporter
from camshaft.testing.callables import Batches, EveryNthTime, FireEvents, Scripted, ScriptedRange, no_op, return_batch
from camshaft.testing.faults import Planted, PlantedError, call_at, raise_at
from camshaft.testing.paths import transition_paths
from camshaft.testing.scenario import Call, CallAt, Data, Play, Scenario
from camshaft.trace.pattern import PatternError

if TYPE_CHECKING:
    from camshaft.adapters.ignite import reporting
    from camshaft.testing.equivalence import assert_same_run
    from camshaft.testing.stateful import EngineStateMachine
    from camshaft.testing.strategies import illegal_traces, loops, scenarios, traces

__all__ = [
    "Batches",
    "Call",
    "CallAt",
    "Data",
    "EngineStateMachine",
    "EveryNthTime",
    "FireEvents",
    "PatternError",
    "Planted",
    "PlantedError",
    "Play",
    "Reporter",
    "Scenario",
    "Scripted",
    "ScriptedRange",
    "assert_same_run",
    "call_at",
    "illegal_traces",
    "loops",
    "no_op",
    "raise_at",
    "reporting",
    "return_batch",
    "scenarios",
    "traces",
    "transition_paths",
]

_ON_DEMAND = {
    "EngineStateMachine": "camshaft.testing.stateful",
    "assert_same_run": "camshaft.testing.equivalence",
    "illegal_traces": "camshaft.testing.strategies",
    "loops": "camshaft.testing.strategies",
    "reporting": "camshaft.adapters.ignite",
    "scenarios": "camshaft.testing.strategies",
    "traces": "camshaft.testing.strategies",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_ON_DEMAND[name])
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ImportError(f"{__name__}.{name} needs Hypothesis: pip install 'camshaft[testing]'") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
