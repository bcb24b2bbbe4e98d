"""Traces: their events, and questions about them."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, record
from support.steps import no_op
from support.traces import record_pair


def test_a_trace_equals_the_list_of_what_fired():
    with record() as trace:
        Engine(no_op).run([1])
    order = [
        Events.STARTED,
        Events.EPOCH_STARTED,
        "get_batch_started",
        Events.GET_BATCH_COMPLETED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
        Events.COMPLETED,
    ]
    assert trace == order
    assert trace != order[:-1]
    assert [one.event for one in trace[:2]] == ["started", "epoch_started"]
    assert trace[-1].engine == "engine"


def test_nested_runs_are_children_of_the_event_that_called_them():
    trace = record_pair()
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), ("evaluator", 0), ("evaluator", 0)]
    depths = {one.engine: one.depth for one in trace}
    assert depths == {"trainer": 0, "evaluator": 1}


def test_whether_an_event_fired_is_asked_with_in():
    trace = record_pair()
    assert Events.STARTED in trace
    assert "epoch_completed" in trace[2:]
    assert Events.TERMINATE not in trace
    with pytest.raises(ValueError, match="has the event BACKWARD_STARTED"):
        assert "backward_started" not in trace
    assert trace == list(trace)
    assert trace != [1, None]
