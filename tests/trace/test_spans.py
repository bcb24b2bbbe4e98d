"""Spans: the stays in states, with their entering and leaving events."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given

from camshaft import DATA, Engine, EventPoint, Events, Loop, Phase, Trace, event, every, record
from camshaft.testing import Scenario, loops, scenarios
from camshaft.trace.spans import Span, span_events, spans
from support.steps import fires, no_op


def record_run(engine, data=(1, 2), **limits):
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        engine.run(list(data), **limits)
    return trace


def in_words(trace, found=None):
    """Return each span as engine, state and the numbers of its two events, from 1; "-" if it was cut short."""
    return [
        f"{trace.runs[span.run].engine} {span.state} {span.first + 1}..{'-' if span.last is None else span.last + 1}"
        + ("" if span.last == span.past - 1 else f" past {span.past}")
        for span in (spans(trace) if found is None else found)
    ]


def test_spans_are_in_the_order_in_which_they_were_entered():
    trace = record_run(Engine([Phase("A", no_op)], name="t"), max_epochs=1)
    assert spans(trace)[0] == Span(run=0, state="EPOCH", first=1, last=14, past=15)
    assert in_words(trace) == [
        "t EPOCH 2..15",
        "t GET_BATCH 3..4",
        "t ITERATION 5..8",
        "t A 6..7",
        "t GET_BATCH 9..10",
        "t ITERATION 11..14",
        "t A 12..13",
    ]


def test_a_trace_of_nothing_has_none():
    assert spans(Trace()) == []
    with record() as trace:
        pass
    assert spans(trace) == []


def test_without_data_there_is_no_batch_to_get():
    with record() as trace:
        Engine(no_op, name="t").run(epoch_length=1)
    assert in_words(trace) == ["t EPOCH 2..5", "t ITERATION 3..4"]


def test_data_that_runs_out_cuts_the_getting_of_a_batch_short():
    with record() as trace:
        Engine(no_op, name="t").run(iter([1]))
    assert in_words(trace)[-1] == "t GET_BATCH 7..- past 7"
    assert trace[6].event == "get_batch_started"


def test_restarting_the_data_is_part_of_getting_a_batch():
    trace = record_run(Engine(no_op, name="t"), data=[1], epoch_length=2)
    fetched = [span for span in spans(trace) if span.state == "GET_BATCH"]
    assert [trace[span.first + 1].event for span in fetched] == ["get_batch_completed", "dataloader_stop_iteration"]
    assert all(span.last == span.past - 1 for span in fetched)


def test_a_phase_after_data_ran_out_is_not_inside_get_batch():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", no_op), over=DATA), Phase("B", no_op))
    with record() as trace:
        Engine(loop, name="t").run(iter([1]))
    assert in_words(trace)[-2:] == ["t GET_BATCH 9..- past 9", "t B 10..11"]


# -- what ends early --------------------------------------------------------------------------------------------------


def stopped(control, on, data=(1, 2), **limits):
    engine = Engine([Phase("A", no_op)], name="t")
    engine.add_event_handler(on, (lambda: 1 / 0) if control == "raise" else getattr(engine, control))
    return record_run(engine, data, **limits)


def test_terminate_cuts_all_that_is_open_and_does_not_fall_in_it():
    trace = stopped("terminate", event("a_started", once=1))
    assert in_words(trace) == [
        "t EPOCH 2..- past 6",
        "t GET_BATCH 3..4",
        "t ITERATION 5..- past 6",
        "t A 6..- past 6",
    ]
    assert [one.event for one in trace[6:]] == ["terminate", "completed"]


def test_a_failure_cuts_all_that_is_open_and_falls_in_it():
    trace = stopped("raise", "a_started")
    assert in_words(trace) == [
        "t EPOCH 2..- past 7",
        "t GET_BATCH 3..4",
        "t ITERATION 5..- past 7",
        "t A 6..- past 7",
    ]
    assert trace[6].event == "exception_raised"


def test_a_terminated_epoch_is_cut_short_inside_and_then_left():
    trace = stopped("terminate_epoch", Events.ITERATION_STARTED, data=[1])
    assert trace[5].event == "terminate_single_epoch"
    assert in_words(trace) == ["t EPOCH 2..7", "t GET_BATCH 3..4", "t ITERATION 5..- past 5"]


def test_an_epoch_without_its_end_is_cut_by_what_follows():
    engine = Engine(no_op, name="t")
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: engine.terminate_epoch(skip_epoch_completed=True))
    trace = record_run(engine, data=[1], max_epochs=2)
    epochs = [span for span in spans(trace) if span.state == "EPOCH"]
    assert in_words(trace, epochs) == ["t EPOCH 2..- past 6", "t EPOCH 7..- past 11"]
    assert trace[11].event == "completed"


def test_a_skipped_iteration_is_cut_short_and_the_skip_falls_in_it():
    trace = stopped("skip_iteration", event(Events.ITERATION_STARTED, once=1), data=[1])
    assert in_words(trace) == ["t EPOCH 2..7", "t GET_BATCH 3..4", "t ITERATION 5..- past 6"]
    assert trace[5].event == "iteration_skipped"


def test_an_interrupt_cuts_nothing_and_the_run_goes_on():
    engine = Engine([Phase("A", no_op)], name="t")
    engine.add_event_handler("a_started", engine.interrupt)
    with record() as trace:
        engine.run([1])
        Engine(no_op, name="other").run([1])
        engine.run()
    assert in_words(trace) == [
        "t EPOCH 2..18",
        "t GET_BATCH 3..4",
        "t ITERATION 5..17",
        "t A 6..16",
        "other EPOCH 9..14",
        "other GET_BATCH 10..11",
        "other ITERATION 12..13",
    ]


def test_a_run_that_never_went_on_is_cut_after_its_own_last_event():
    engine = Engine(no_op, name="t")
    engine.add_event_handler(Events.ITERATION_STARTED, engine.interrupt)
    with record() as trace:
        engine.run([1])
        Engine(no_op, name="other").run([1])
    assert in_words(trace)[:3] == ["t EPOCH 2..- past 6", "t GET_BATCH 3..4", "t ITERATION 5..- past 6"]
    assert trace[5].event == "interrupt"


def test_a_record_begun_midway_has_the_spans_entered_in_it():
    engine = Engine([Phase("A", no_op)], name="t")
    engine.add_event_handler("a_started", event_once(engine.interrupt))
    engine.run([1, 2])
    with record() as trace:
        engine.run()
    assert in_words(trace) == ["t GET_BATCH 3..4", "t ITERATION 5..8", "t A 6..7"]


def event_once(function):
    calls = [function]
    return lambda: calls.pop()() if calls else None


# -- nested runs ------------------------------------------------------------------------------------------------------


def test_each_run_has_its_own_states():
    trainer, evaluator = Engine([Phase("A", no_op)], name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on="a_started", data=[1])
    trace = record_run(trainer, data=[1])
    assert in_words(trace) == [
        "trainer EPOCH 2..17",
        "trainer GET_BATCH 3..4",
        "trainer ITERATION 5..16",
        "trainer A 6..15",
        "evaluator EPOCH 8..13",
        "evaluator GET_BATCH 9..10",
        "evaluator ITERATION 11..12",
    ]


def test_what_is_cut_by_the_end_of_the_trace_holds_the_nested_runs():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.ITERATION_STARTED, data=[1])
    with record() as trace:
        for fired in trainer.steps([1]):
            if fired == Events.ITERATION_STARTED:
                break
    open_ones = [span for span in spans(trace) if span.last is None]
    assert {span.past for span in open_ones} == {len(trace)}
    assert [span.state for span in open_ones] == ["EPOCH", "ITERATION"]


# -- custom states ----------------------------------------------------------------------------------------------------


PAIRS = ("a_started", "a_completed", "c_started", "c_completed", "b")


def test_custom_states_overlap_each_other():
    engine = Engine(fires("a_started", "c_started", "b", "a_completed", "c_completed"), name="t")
    engine.register_events(*PAIRS)
    assert in_words(record_run(engine, data=[1]))[2:] == ["t ITERATION 5..11", "t A 6..9", "t C 7..10"]


def test_custom_states_overlap_phases():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("X", fires("a_started")), Phase("Y", fires("a_completed")), over=DATA))
    engine = Engine(loop, name="t")
    engine.register_events(*PAIRS)
    assert in_words(record_run(engine, data=[1]))[2:] == ["t ITERATION 5..12", "t X 6..8", "t A 7..10", "t Y 9..11"]


def test_a_custom_state_ends_with_its_loop():
    engine = Engine(fires("a_started", "c_started"), name="t")
    engine.register_events("a_started", "a_completed", within="EPOCH")
    engine.register_events("c_started", "c_completed")
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: engine.fire_event("a_completed"))
    trace = record_run(engine)
    assert [one.event for one in trace if one.event in PAIRS] == [*["a_started", "c_started"] * 2, "a_completed"]
    found = [span for span in spans(trace) if span.state in "AC"]
    assert in_words(trace, found) == ["t A 6..- past 11", "t C 7..- past 7", "t A 12..- past 14", "t C 13..- past 13"]


def test_a_custom_state_of_the_epoch_lasts_over_iterations():
    engine = Engine(no_op, name="t")
    engine.register_events("a_started", "a_completed", within="EPOCH")
    engine.add_event_handler(event(Events.ITERATION_STARTED, once=1), lambda: engine.fire_event("a_started"))
    engine.add_event_handler(event(Events.ITERATION_STARTED, once=2), lambda: engine.fire_event("a_completed"))
    found = [span for span in spans(record_run(engine)) if span.state == "A"]
    assert in_words(record_run(engine), found) == ["t A 6..11"]


@pytest.mark.parametrize(("control", "past"), [("terminate", 7), ("terminate_epoch", 7), ("raise", 8)])
def test_a_custom_state_is_cut_short_with_the_rest(control, past):
    engine = Engine([Phase("X", fires("a_started", "c_started"))], name="t")
    engine.register_events("a_started", "a_completed")
    engine.register_events("c_started", "c_completed", within="RUN")
    engine.add_event_handler("c_started", (lambda: 1 / 0) if control == "raise" else getattr(engine, control))
    trace = record_run(engine, data=[1])
    found = {span.state: span for span in spans(trace)}
    assert found["A"].last is None
    assert found["A"].past == past + 1
    assert found["C"].past == (past + 1 if control != "terminate_epoch" else len(trace) - 1)


def test_a_leaving_event_without_an_entering_one_is_no_span():
    engine = Engine(fires("a_completed", "a_started", "a_started", "a_completed"), name="t")
    engine.register_events(*PAIRS)
    found = spans(record_run(engine, data=[1]))
    assert in_words(record_run(engine, data=[1]), found)[3:] == ["t A 7..- past 7", "t A 8..9"]


# -- other loops ------------------------------------------------------------------------------------------------------


def test_a_shared_event_enters_the_next_state_in_order():
    loop = Loop(
        "EPISODE",
        Loop("TURN", Phase("ACT", no_op, completed="acted"), Phase("LEARN", no_op, started="acted"), times=2),
        EventPoint("paused"),
        Phase("A", no_op, started="go"),
        Phase("B", no_op),
        Phase("C", no_op, started="go", completed="acted"),
    )
    with record() as trace:
        Engine(loop, name="t").run()
    trace.assert_legal()
    assert in_words(trace) == [
        "t EPISODE 2..22",
        "t TURN 3..8",
        "t ACT 4..5",
        "t LEARN 6..7",
        "t TURN 9..14",
        "t ACT 10..11",
        "t LEARN 12..13",
        "t A 16..17",
        "t B 18..19",
        "t C 20..21",
    ]


def test_a_shared_event_leaves_a_loop_and_enters_a_state_in_it():
    loop = Loop(
        "EPISODE",
        Loop("TURN", Phase("A", no_op, started="x"), EventPoint("m"), times=2, completed="x"),
        EventPoint("m2"),
        Phase("B", no_op, started="x"),
    )
    with record() as trace:
        Engine(loop, name="t").run()
    trace.assert_legal()
    assert in_words(trace) == [
        "t EPISODE 2..16",
        "t TURN 3..7",
        "t A 4..5",
        "t TURN 8..12",
        "t A 9..10",
        "t B 14..15",
    ]


def test_a_shared_event_enters_a_loop_again_before_what_follows():
    turn = Loop("TURN", Phase("A", no_op), times=2, started="x")
    with record() as trace:
        Engine(Loop("EPISODE", turn, EventPoint("m"), Phase("B", no_op, started="x")), name="t").run()
    trace.assert_legal()
    assert [span.state for span in spans(trace)] == ["EPISODE", "TURN", "A", "TURN", "A", "B"]


def test_conditional_phases_are_entered_where_they_are():
    trace = record_run(Engine([Phase("A", no_op, when=every(2))], name="t"), max_epochs=1)
    assert [span.state for span in spans(trace)] == ["EPOCH", "GET_BATCH", "ITERATION", "GET_BATCH", "ITERATION", "A"]


def test_the_events_of_the_states_of_a_loop():
    engine = Engine([Phase("A", no_op, started="go")])
    engine.register_events("x_started", "x_completed", "lone")
    engine.register_events("mark", after="A")
    assert span_events(engine.loop) == {
        "EPOCH": ("epoch_started", "epoch_completed"),
        "GET_BATCH": ("get_batch_started", "get_batch_completed"),
        "ITERATION": ("iteration_started", "iteration_completed"),
        "A": ("go", "a_completed"),
        "X": ("x_started", "x_completed"),
    }


def test_a_missing_event_leaves_no_phase_open():
    whole = record_run(Engine([Phase("A", no_op), Phase("B", no_op)], name="t"), data=[1])
    made = Trace()
    made.runs = whole.runs
    for run, key, count, time in whole.raw_events():
        if key != "a_completed":
            made.append(run, key, count, time)
    assert in_words(made)[3:] == ["t A 6..- past 6", "t B 7..8"]


# -- any run ----------------------------------------------------------------------------------------------------------


def check_ends(trace: Trace) -> None:
    """Check that a span begins and ends with its own events, and has none of them in between."""
    found = spans(trace)
    assert [span.first for span in found] == sorted({span.first for span in found})
    for span in found:
        started, completed = span_events(trace.runs[span.run].loop)[span.state]
        keys = [trace.key_of(index) for index in range(span.first, span.past) if trace.run_of(index) == span.run]
        assert keys[0] == started
        assert started not in keys[1:]
        assert completed not in keys[:-1]
        assert span.last is None or (span.last == span.past - 1 and keys[-1] == completed)


@given(scenarios(loops(), max_calls=3, depth=2))
def test_an_event_is_inside_the_states_where_the_engine_says_to_be(scenario: Scenario) -> None:
    stood: list[Any] = []

    def make(loop: Loop, name: str) -> Engine:
        engine = Engine(loop, name)
        states = {item.name for _, item in loop.walk() if isinstance(item, (Loop, Phase))} | {"GET_BATCH"}
        for key in loop.event_keys:

            def note_where(engine: Engine, *error: Any, key: str = key) -> None:
                stood.append((name, key, states.intersection(engine.where)))

            engine.add_event_handler(event(key, priority=100), note_where)
        return engine

    trace = scenario.play(make).trace
    check_ends(trace)
    inside: list[set[str]] = [set() for _ in trace]
    for span in spans(trace):
        free = {state.name for state in trace.runs[span.run].loop.custom_states}
        for index in range(span.first, span.past):
            if trace.run_of(index) == span.run and span.state not in free:
                inside[index].add(span.state)
    assert [(one.engine, one.event) for one in trace] == [(name, key) for name, key, _ in stood]
    for states, (_, key, where) in zip(inside, stood, strict=True):
        # an engine that pauses or fails at the leaving event of a state is reported as still inside the state
        assert states <= where if key in ("interrupt", "exception_raised") else states == where
