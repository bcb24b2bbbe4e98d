"""Messages about illegal order: the events before, the expected events, and the nearest legal order."""

from __future__ import annotations

import pytest

from camshaft import Engine, EventOrderError, Events, Phase, Trace, record
from support.steps import no_op
from support.traces import record_pair, without


def test_an_engine_that_ran_elsewhere_is_not_legal():
    """Its events lie outside of the trainer's event that called it."""
    trace = record_pair(epochs=1)
    trace.segments[1][1] -= 1
    with pytest.raises(EventOrderError, match="trainer event #.* was fired inside evaluator"):
        trace.assert_legal()


def test_the_message_shows_what_stood_before_and_what_was_expected():
    engine = Engine([Phase("FORWARD", no_op), Phase("OPTIM_STEP", no_op)], name="trainer")
    with record() as trace:
        engine.run([1])
    made = Trace()
    made.runs = trace.runs
    made.segments = [[0, 0, len(trace) - 1]]
    for index, one in enumerate(trace):
        if index != 6:
            made.append(0, one.event, one.count, one.time)
    with pytest.raises(EventOrderError) as caught:
        made.assert_legal()
    assert str(caught.value).splitlines() == [
        "trainer event #7 OPTIM_STEP_STARTED is illegal in EPOCH 1 / ITERATION 1 / FORWARD",
        "    5  ITERATION_STARTED",
        "    6  FORWARD_STARTED",
        "  > 7  OPTIM_STEP_STARTED",
        "  expected: FORWARD_COMPLETED | TERMINATE | INTERRUPT | TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED",
        "  nearest legal order: FORWARD_COMPLETED comes first",
    ]


def test_the_nearest_legal_order_may_be_far():
    engine = Engine([Phase("FORWARD", no_op), Phase("BACKWARD", no_op), Phase("OPTIM_STEP", no_op)])
    with record() as trace:
        engine.run([1, 2])
    keys = [event.event for event in trace]

    def first_lines(*lost):
        with pytest.raises(EventOrderError) as caught:
            without(trace, lost).assert_legal()
        return str(caught.value).splitlines()[-1]

    backward = keys.index("forward_completed")
    assert first_lines(backward, backward + 1, backward + 2, backward + 3) == (
        "  nearest legal order: "
        "FORWARD_COMPLETED, BACKWARD_STARTED, BACKWARD_COMPLETED and OPTIM_STEP_STARTED come first"
    )
    assert first_lines(*range(5, len(trace) - 2)) == (
        "  nearest legal order: FORWARD_STARTED, FORWARD_COMPLETED, BACKWARD_STARTED, BACKWARD_COMPLETED, "
        "12 more and ITERATION_COMPLETED come first"
    )
    assert first_lines(len(trace) - 1) == "  expected: COMPLETED | TERMINATE | INTERRUPT | EXCEPTION_RAISED"


def test_the_events_before_a_long_nested_run_are_shown():
    trainer, evaluator = Engine(no_op, "trainer"), Engine(no_op, "evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[0] * 30)
    with record() as trace:
        trainer.run([1])
    order = [index for index in range(len(trace)) if trace[index].event != "epoch_completed" or trace[index].depth]
    lost = trace.rearranged([*order, len(trace) - 1])
    with pytest.raises(EventOrderError) as caught:
        lost.assert_legal()
    assert str(caught.value).splitlines()[1:3] == ["      5  ITERATION_STARTED", "      6  ITERATION_COMPLETED"]
