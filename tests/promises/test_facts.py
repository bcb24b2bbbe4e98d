"""The facts about built-in events and control calls are written once, in events.py and control.py."""

import ast
import inspect

import pytest

from camshaft import Engine, Events
from camshaft.control import CALLS, CONTROLS
from camshaft.events import (
    ANYWHERE,
    ENDS_A_RUN,
    FACTS,
    LAST_EVENTS,
    OF_A_BATCH,
    OF_A_LOOP,
    OF_FETCHING,
    OF_SKIPPING,
    OF_THE_RUN,
    ONCE_A_RUN,
)
from support import ROOT

PACKAGE = ROOT / "src" / "camshaft"
MAY_LIST_EVENTS = {
    "events.py": "the table of facts",
    "machine/declared_transitions.py": "derives an order",
    "machine/transition_table.py": "derives an order",
    "compiler/writer.py": "derives an order",
    "draw/from_loop.py": "derives an order",
    "engine/progress.py": "says at which events a run can be resumed",
    "testing/stateful.py": "says by itself what is promised, to be compared with what happens",
}


def test_every_built_in_event_has_its_facts():
    assert set(FACTS) == {event.value for event in Events}
    assert all(facts.event.value == key for key, facts in FACTS.items())


def test_groups_of_events_are_derived_from_the_facts():
    assert OF_THE_RUN == ("started", "completed", "terminate", "interrupt", "exception_raised")
    assert OF_FETCHING == ("get_batch_started", "get_batch_completed", "dataloader_stop_iteration")
    assert OF_SKIPPING == ("iteration_skipped",)
    assert (*OF_FETCHING, *OF_SKIPPING) == OF_A_BATCH
    assert {"epoch_started", "epoch_completed", "iteration_started", "iteration_completed"} == OF_A_LOOP
    assert {"terminate", "interrupt", "terminate_single_epoch", "exception_raised"} == ANYWHERE
    assert {"terminate", "completed", "exception_raised"} == ENDS_A_RUN
    assert {"started", "completed", "terminate", "exception_raised"} == ONCE_A_RUN
    assert LAST_EVENTS == {
        "completed": "completed",
        "terminated": "terminate",
        "interrupted": "interrupt",
        "failed": "exception_raised",
    }


def test_control_calls_are_listed_by_falling_rank():
    ranks = [control.rank for control in CONTROLS.values()]
    assert ranks == sorted(set(ranks), reverse=True)


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_a_control_call_is_a_method_of_the_engine(control):
    parameters = inspect.signature(getattr(Engine, control.call)).parameters
    assert control.option is None or parameters[control.option].default is False
    assert control.event is None or CALLS[control.event.value] is control


def listed_events(path):
    """Yield the lines with a collection of three built-in events or more."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = [*node.keys, *node.values] if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        keys = {part.value for part in parts if isinstance(part, ast.Constant)} & set(FACTS)
        if len(keys) > 2:
            yield node.lineno


def test_events_are_listed_only_where_an_order_is_derived():
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if [*listed_events(path)]}
    assert found <= set(MAY_LIST_EVENTS)
