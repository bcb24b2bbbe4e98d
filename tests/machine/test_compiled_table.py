"""The law by which events are judged says what the table says, at every step of every trace."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import DATA, EventOrderError, Loop, Phase, Trace, every
from camshaft.context import Context, Guard, function
from camshaft.machine import LoopMachine, OrderChecker
from camshaft.testing import loops, traces


@st.composite
def recorded(draw: st.DrawFn) -> Trace:
    return draw(traces(draw(loops())))


@given(recorded(), st.booleans())
def test_each_event_is_refused_where_a_guard_denies_it_and_changes_the_context_as_its_row_does(trace, is_known):
    for number, record in enumerate(trace.runs):
        machine, context = LoopMachine(record.loop), record.context.copy()
        if not is_known:
            context.has_data = None
        place, move = record.place, machine.law(context)[record.place]
        for run, event, _, _ in trace.rows():
            if run != number:
                continue
            assert move.then.keys() == machine.table[place].keys()
            for other, row in machine.table[place].items():
                judged, expected = context.copy(), context.copy()
                refuse = move.then[other].refuse
                refused = refuse is not None and refuse(judged) is True
                assert refused == (row.denied_by(expected) is not None)
                if not refused:
                    row.apply(expected)
                assert judged == expected
            move, row = move.then[event], machine.table[place][event]
            row.apply(context)
            place = row.dest
            assert move.place == place


def test_a_run_with_somebody_to_ask_is_judged_by_the_answers():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("RARE", when=lambda engine: True), over=DATA))
    answers = {"when": False, "batch": True}
    context = Context(max_epochs=1, ask=lambda question, item: answers[question])
    checker = OrderChecker(LoopMachine(loop), "engine", context)
    for event in ("started", "epoch_started", "get_batch_started", "get_batch_completed", "iteration_started"):
        checker.advance(event)
    with pytest.raises(EventOrderError, match="RARE_STARTED is illegal"):
        checker.advance("rare_started")
    checker.advance("iteration_completed")


def test_nobody_to_ask_leaves_both_ways_open():
    loop = Loop(
        "EPOCH", Loop("ITERATION", Phase("RARE", when=lambda engine: True), Phase("ODD", when=every(2)), over=DATA)
    )
    machine = LoopMachine(loop)
    ways = machine.expected("EPOCH/ITERATION", Context(counts={"ITERATION": 1}))
    assert ways[:2] == ["rare_started", "iteration_completed"]


@pytest.mark.parametrize(("held", "opposite"), [(True, False), (False, True), (None, None)])
def test_a_negated_guard_gives_the_opposite_and_what_is_not_known_stays_so(held, opposite):
    guard = Guard("data", "context.has_data")
    assert guard.test(Context(has_data=held)) is held
    assert guard.negated("no data").test(Context(has_data=held)) is opposite


def test_conditions_keep_their_meaning_whatever_stands_beside_them():
    guard = Guard("known", "context.epoch_length is not None")
    refuse = function([f"if ({guard.holds}) is False: return True"])
    assert refuse(Context()) is True
    assert refuse(Context(epoch_length=3)) is None


def test_contexts_that_are_copied_share_nothing():
    context = Context(counts={"EPOCH": 1}, entered={"X"})
    copied = context.copy()
    assert copied == context
    copied.counts["EPOCH"] = 2
    copied.entered.add("Y")
    assert attrs.asdict(context)["counts"] == {"EPOCH": 1}
    assert context.entered == {"X"}
