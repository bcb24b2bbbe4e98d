"""The judge of a trace: a legal run is a complete path through the machine, and its counters satisfy every guard."""

from __future__ import annotations

import pytest

from camshaft import Engine, EventOrderError, Events, record
from support.engines import E, fail, legal, names, traced
from support.steps import echo, no_op
from support.traces import doctored, make_pair, record_pair, renumbered

EDITS = {
    "cut off at the end": lambda events: events[:-1],
    "cut off in the middle": lambda events: events[:9],
    "without its start": lambda events: events[1:],
    "an event dropped": lambda events: events[:5] + events[6:],
    "two events swapped": lambda events: [*events[:4], events[5], events[4], *events[6:]],
    "an event fired twice": lambda events: [*events[:5], *events[4:]],
    "an iteration lost": lambda events: events[:6] + events[10:],
    "an iteration lost and the others counted anew": lambda events: renumbered(events, range(6, 10)),
    "an epoch lost": lambda events: [events[0], *events[15:]],
    "an event after the end": lambda events: [*events, events[-1]],
    "an event of no loop": lambda events: [*events[:5], [0, "unheard_of", 1, 0.0], *events[5:]],
    "a wrong count": lambda events: [[*each[:2], each[2] + (index == 5), each[3]] for index, each in enumerate(events)],
}


@pytest.mark.parametrize("edit", list(EDITS))
def test_a_legal_trace_is_complete_and_its_counters_fit(edit, tmp_path):
    trace = legal(Engine(echo, "trainer"), [1, 2, 3], max_epochs=2)
    doctored(trace, tmp_path / "trace", list).assert_legal()
    with pytest.raises(EventOrderError, match="trainer"):
        doctored(trace, tmp_path / "trace", EDITS[edit]).assert_legal()


def test_a_legal_trace_ends_in_one_of_four_ways():
    endings = {
        "completed": lambda engine: None,
        "terminate": lambda engine: engine.terminate(skip_completed=True),
        "interrupt": lambda engine: engine.interrupt(),
        "exception_raised": fail,
    }
    for last, action in endings.items():
        engine = Engine(echo)
        engine.add_event_handler(E.ITERATION_COMPLETED(once=2), action)
        engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
        assert names(legal(engine, [1, 2, 3]))[-1] == last


def test_counters_that_a_handler_moves_are_miscounted():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: setattr(engine.state, "iteration", 3))
    with pytest.raises(EventOrderError, match="miscounted"):
        traced(engine, [1, 2, 3, 4]).assert_legal()


def test_a_run_that_is_stepped_to_its_last_event_is_legal():
    engine = Engine(no_op)
    with record() as trace:
        for event in engine.steps([1]):
            if event is Events.COMPLETED:
                break
        del event
    trace.assert_legal()
    assert trace.runs[0].outcome == "completed"


def test_a_trace_can_be_judged_while_its_run_goes_on():
    trainer, evaluator = make_pair()
    judged = []
    with record() as trace:

        def judge():
            trace.assert_legal()
            judged.append(len(trace))

        evaluator.add_event_handler(Events.ITERATION_COMPLETED, judge)
        trainer.run([1, 2], max_epochs=2)
        with pytest.raises(EventOrderError, match="trainer event #20 COMPLETED is illegal after EPOCH 1"):
            trace.rearranged([*range(19), len(trace) - 1]).assert_legal()
    assert judged == [17, 36]
    trace.assert_legal()


def test_an_epoch_is_terminated_once():
    engine = Engine(no_op)
    engine.add_event_handler(Events.EPOCH_STARTED(once=1), lambda engine: engine.terminate_epoch())
    with record() as trace:
        engine.run([1], max_epochs=2)
    at = [event.event for event in trace].index("terminate_single_epoch")
    with pytest.raises(EventOrderError, match="TERMINATE_SINGLE_EPOCH is illegal"):
        trace.rearranged([*range(at), at, *range(at, len(trace))]).assert_legal()


def test_judging_by_something_that_is_no_loop_says_so():
    trace = record_pair(1)
    with pytest.raises(TypeError, match=r"loop must be a Loop, such as engine.loop, got <Engine trainer"):
        trace.assert_legal(make_pair()[0])
