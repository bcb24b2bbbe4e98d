"""Selections of a trace: by engine, event and state, and by slices."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, Phase, record
from support.steps import no_op
from support.traces import record_pair


def test_events_are_selected_by_engine_event_and_state():
    trace = record_pair()
    inner = trace.select(engine="evaluator")
    assert inner[:3] == ["started", "epoch_started", Events.GET_BATCH_STARTED]
    assert len(inner) == 16
    assert {event.depth for event in inner} == {1}
    assert [event.count for event in trace.select(engine="trainer", event=Events.EPOCH_COMPLETED)] == [1, 2]
    both = trace.select(event=[Events.EPOCH_STARTED, "completed"])
    assert both == [*["epoch_started", "epoch_started", "completed"] * 2, "completed"]
    assert both.count(Events.COMPLETED) == 3
    assert both.count(Events.COMPLETED, engine="trainer") == 1


def test_what_is_inside_a_state_lies_between_its_two_events():
    trainer, evaluator = Engine([Phase("FORWARD", no_op), Phase("BACKWARD")], "trainer"), Engine(no_op, "evaluator")
    trainer.add_event_handler("forward_completed", lambda: evaluator.run([1]))
    with record() as trace:
        trainer.run([1])
    assert trace.select(inside="FORWARD") == []
    inside = trace.select(inside="ITERATION")
    assert inside[0].event == "forward_started"
    assert inside[-1].event == "backward_completed"
    assert inside.select(engine="evaluator") == trace.select(engine="evaluator")
    assert trace.select(inside="ITERATION", engine="trainer") == [
        "forward_started",
        "forward_completed",
        "backward_started",
        "backward_completed",
    ]


def test_a_slice_of_a_trace_is_a_selection():
    trace = record_pair()
    part = trace[2:9][1:3]
    assert part == ["get_batch_completed", "iteration_started"]
    assert [event.number for event in part] == [4, 5]
    assert (
        str(trace[7:10]) == "trainer GET_BATCH_COMPLETED 1\ntrainer ITERATION_STARTED 2\ntrainer ITERATION_COMPLETED 2"
    )
    assert part.table().splitlines()[1] == "trainer  GET_BATCH_COMPLETED      1"
    assert repr(part) == "<Selection: 2 events>"
    assert part != trace
    assert part == trace[3:5]


def test_selecting_what_was_not_recorded_is_an_error():
    trace = record_pair()
    with pytest.raises(ValueError, match="no engine 'validator' was recorded; recorded engines: trainer, evaluator"):
        trace.select(engine="validator")
    with pytest.raises(ValueError, match="no recorded engine has the event BACKWARD_STARTED, so it would never be"):
        trace.select(event="backward_started")
    with pytest.raises(ValueError, match="no recorded engine entered a state 'BACKWARD'; entered states: EPOCH, GET"):
        trace.select(inside="BACKWARD")


def test_events_are_selected_by_a_union_and_never_by_a_filter():
    trace = record_pair(1)
    both = trace.select(event=Events.STARTED | Events.COMPLETED)
    assert both == ["started", "started", "completed", "completed"]
    for ask in (trace.count, lambda event: trace.select(event=event), lambda event: event in trace):
        with pytest.raises(ValueError, match=r"STARTED\(every=2\) has a filter, but a trace records every firing"):
            ask(Events.STARTED(every=2))


def test_an_event_in_capitals_is_told_from_its_key():
    trace = record_pair(1)
    with pytest.raises(ValueError, match="'EPOCH_COMPLETED' is the displayed name of the event 'epoch_completed'"):
        trace.count("EPOCH_COMPLETED")
