"""Violations: all faults of a trace, one for each edit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import (
    DATA,
    Engine,
    EventOrderError,
    EventPoint,
    Events,
    Loop,
    Phase,
    Trace,
    Violation,
    event,
    every,
    record,
)
from camshaft.testing import Scenario, illegal_traces, loops, scenarios, traces
from camshaft.trace.spans import spans
from support.steps import no_op


def first_error(trace: Trace) -> str | None:
    try:
        trace.assert_legal()
    except EventOrderError as error:
        return str(error)
    return None


def without(trace: Trace, *indices: int) -> Trace:
    return trace.rearranged([index for index in range(len(trace)) if index not in indices])


def twice(trace: Trace, index: int) -> Trace:
    return trace.rearranged(sorted([*range(len(trace)), index]))


def swapped(trace: Trace, index: int) -> Trace:
    return trace.rearranged([*range(index), index + 1, index, *range(index + 2, len(trace))])


def recorded(engine: Engine, data: Any = (1, 2, 3), **limits: Any) -> Trace:
    with record() as trace:
        engine.run(data, **limits)
    return trace


def trained(epochs: int = 3) -> Trace:
    phases = [Phase("FORWARD", no_op), Phase("BACKWARD", no_op), Phase("STEP", no_op, when=every(2))]
    return recorded(Engine(phases, name="trainer"), max_epochs=epochs)


# -- what a violation says --------------------------------------------------------------------------------------------


def test_a_legal_trace_has_none():
    assert trained().violations() == []
    assert Trace().violations() == []


def test_a_violation_says_event_run_place_and_error():
    trace = trained()
    lost = next(index for index, one in enumerate(trace) if one.event == "backward_started" and one.count == 2)
    edited = without(trace, lost)
    (violation,) = edited.violations()
    assert violation == Violation(
        engine="trainer",
        run=0,
        number=lost + 1,
        event="backward_completed",
        where="EPOCH 1 / ITERATION 2 / after FORWARD",
        message=first_error(edited),
    )
    assert str(violation) == violation.message
    assert violation.message.splitlines()[0].endswith("is illegal in EPOCH 1 / ITERATION 2 / after FORWARD")


def test_an_end_that_is_missing_is_a_violation_of_the_last_event():
    (violation,) = without(trained(), len(trained()) - 1).violations()
    assert (violation.number, violation.event, violation.where) == (
        len(trained()) - 1,
        "epoch_completed",
        "after EPOCH 3",
    )


def test_a_run_without_events_has_a_violation_without_event():
    trace = recorded(Engine(no_op, name="trainer"))
    (violation,) = without(trace, *range(len(trace))).violations()
    assert (violation.engine, violation.run, violation.number, violation.event) == ("trainer", 0, 0, "")
    assert violation.where == "READY"


def test_an_event_of_no_transition_leaves_the_run_where_it_was():
    trace = trained()
    made = Trace()
    made.runs = trace.runs
    for index, (run, key, count, time) in enumerate(trace.raw_events()):
        if index in (0, 8, 20):
            made.append(run, "never_heard_of", count, time)
        made.append(run, key, count, time)
    made = made.rearranged(range(len(made)))
    assert [(one.number, one.event) for one in made.violations()] == [
        (1, "never_heard_of"),
        (10, "never_heard_of"),
        (23, "never_heard_of"),
    ]


def test_runs_are_judged_by_another_loop():
    trace = trained(epochs=1)
    other = Engine([Phase("FORWARD", no_op), Phase("STEP", no_op, when=every(2))]).loop
    found = trace.violations(other)
    assert [one.event for one in found] == ["backward_started", "backward_completed"] * 3
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal(other)
    assert str(caught.value) == found[0].message


def test_judging_by_something_that_is_no_loop_says_so():
    with pytest.raises(TypeError, match=r"loop must be a Loop, such as engine.loop, got 'EPOCH'"):
        trained().violations("EPOCH")


# -- one edit, one violation ------------------------------------------------------------------------------------------


def with_frees() -> Trace:
    def step(engine, batch):
        for key in ("x_started", "y_started", "x_completed", "y_completed", "z"):
            engine.fire_event(key)

    engine = Engine(step, name="trainer")
    engine.register_events("x_started", "x_completed", "y_started", "y_completed", "z")
    return recorded(engine, max_epochs=2)


def with_order() -> Trace:
    def step(engine, batch):
        for key in ("x_started", "x_completed", "y", "z_started", "z_completed"):
            engine.fire_event(key)

    engine = Engine(step, name="trainer")
    engine.register_events("x_started", "x_completed", "y", "z_started", "z_completed", order="declared")
    return recorded(engine, max_epochs=2)


def of_unknown_length() -> Trace:
    return recorded(Engine([Phase("A", no_op)], name="trainer"), iter_of(3), max_epochs=2)


def iter_of(n: int) -> Any:
    class Unsized:
        def __iter__(self):
            return iter(range(n))

    return Unsized()


def of_inner_loops() -> Trace:
    turn = Loop("TURN", Phase("ACT", no_op), EventPoint("seen"), times=2)
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", no_op), turn, over=DATA), Phase("SAVE", no_op, when=every(2)))
    return recorded(Engine(loop, name="trainer"), max_epochs=4)


def terminated() -> Trace:
    engine = Engine([Phase("A", no_op)], name="trainer")
    engine.add_event_handler(event("a_started", once=2), engine.terminate_epoch)
    engine.add_event_handler(event("a_started", once=5), engine.terminate)
    return recorded(engine, max_epochs=4)


def nested() -> Trace:
    trainer, evaluator = Engine([Phase("A", no_op)], name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    return recorded(trainer, max_epochs=3)


MADE = [trained, with_frees, with_order, of_unknown_length, of_inner_loops, terminated, nested]


@pytest.mark.parametrize("make", MADE)
def test_an_event_that_is_lost_is_one_violation(make):
    trace = make()
    assert trace.violations() == []
    for index in range(len(trace)):
        edited = without(trace, index)
        found = edited.violations()
        if (
            first_error(edited) is not None
        ):  # after some edits the trace is still legal: data may end with the epoch or not
            astray = [one for one in found if one.where.startswith("outside of")]
            assert len(found) - len(astray) == 1, (index, str(trace[index]), [str(one) for one in found])
            # without its last event the run ends before its nested run
            assert not astray or (make is nested and index == len(trace) - 1)
            assert index <= found[0].number <= index + 4 or make is nested


@pytest.mark.parametrize("make", MADE)
def test_an_event_that_came_twice_is_one_violation(make):
    trace = make()
    for index in range(len(trace)):
        edited = twice(trace, index)
        found = edited.violations()
        if first_error(edited) is not None:  # an event that enters and leaves a state at once may come twice
            assert len(found) == 1, (index, str(trace[index]), [one.message.splitlines()[0] for one in found])
            assert found[0].number == index + 2


@pytest.mark.parametrize("make", MADE)
def test_two_swapped_events_are_three_violations_at_most(make):
    trace = make()
    for index in range(len(trace) - 1):
        edited = swapped(trace, index)
        found = edited.violations()
        assert bool(found) == (first_error(edited) is not None)
        assert len(found) <= 3 + (make is nested), (index, str(trace[index]), [one.message for one in found])


def test_an_iteration_or_an_epoch_that_is_lost_is_one_violation():
    trace = trained(4)
    for span in spans(trace):
        if span.state in ("ITERATION", "EPOCH"):
            fetched = 2 * (span.state == "ITERATION")
            found = without(trace, *range(span.first - fetched, span.last + 1)).violations()
            assert len(found) == 1


def test_a_count_told_since_a_violation_is_believed_again():
    trace = trained(4)
    lost = next(index for index, one in enumerate(trace) if one.event == "forward_completed")
    third = next(span for span in spans(trace) if span.state == "EPOCH" and trace[span.first].count == 3)
    found = without(trace, lost, *range(third.first, third.last + 1)).violations()
    assert [(one.event, one.where) for one in found] == [
        ("backward_started", "EPOCH 1 / ITERATION 1 / FORWARD"),
        ("epoch_started", "EPOCH 3"),
    ]
    assert "expected: EPOCH 3, got 4" in found[1].message


def test_one_wrong_count_is_one_violation():
    trace = trained()
    made = Trace()
    made.runs = trace.runs
    for index, (run, key, count, time) in enumerate(trace.raw_events()):
        made.append(run, key, count + (index == 10), time)
    found = made.rearranged(range(len(made))).violations()
    assert [one.number for one in found] == [11]
    assert "is miscounted" in found[0].message


# -- runs inside each other -------------------------------------------------------------------------------------------


def test_an_event_inside_a_nested_run_is_listed():
    trace = nested()
    inner = [index for index in range(len(trace)) if trace.run_of(index) == 1]
    moved = trace.rearranged(
        [*range(inner[2]), inner[-1] + 1, *range(inner[2], inner[-1] + 1), *range(inner[-1] + 2, len(trace))]
    )
    assert moved.runs[0].engine == "trainer"
    astray = [one for one in moved.violations() if " was fired " in one.message]
    assert [(one.engine, one.where) for one in astray] == [("trainer", "inside evaluator")]
    alone = [one for one in moved.violations() if " was fired " not in one.message]
    assert alone == []
    assert first_error(moved) == astray[0].message


def test_each_nested_run_that_lies_wrongly_is_listed():
    trace = nested()
    order = [*range(len(trace))]
    for run in (1, 2, 3):
        inner = [index for index in order if trace.run_of(index) == run]
        last = order.index(inner[-1])
        order[last], order[last + 1] = order[last + 1], order[last]
    found = trace.rearranged(order).violations()
    # COMPLETED is the last event of the trainer: the trainer ends inside the third evaluation
    assert [(one.run, one.where) for one in found] == [
        (0, "inside evaluator"),
        (0, "inside evaluator"),
        (3, "outside of trainer, which called it"),
    ]


def test_events_outside_of_every_run_are_listed_once():
    trace = trained(1)
    broken = trace.rearranged(range(len(trace)))
    broken.segments = [[0, 0, 4], [0, 8, len(trace)]]
    assert [(one.number, one.where) for one in broken.violations()] == [(5, "outside of its run")]


# -- any trace --------------------------------------------------------------------------------------------------------


@given(traces(loops()))
def test_no_legal_walk_has_any(trace):
    assert trace.violations() == []


@given(scenarios(loops(), max_calls=3, depth=2))
def test_no_run_has_any(scenario: Scenario):
    assert scenario.play(Engine).trace.violations() == []


def check(trace: Trace) -> list[Violation]:
    """Check that violations exist exactly if the trace is illegal, contain the first error, and are sorted."""
    found, error = trace.violations(), first_error(trace)
    assert (error is None) == (not found)
    assert error is None or error in [one.message for one in found]
    numbers = [one.number for one in found]
    assert numbers == sorted(numbers)
    for one in found:
        assert one.engine == trace.runs[one.run].engine
        if one.number:
            assert (trace.run_of(one.number - 1), trace.key_of(one.number - 1)) == (one.run, one.event)
        assert one.message.splitlines()[0].startswith(one.engine)
    return found


@given(illegal_traces(loops()))
def test_an_illegal_trace_has_few_with_the_first_error(trace):
    found = check(trace)
    assert 1 <= len(found) <= 6, [one.message for one in found]


@given(scenarios(loops(), max_calls=2, depth=2), st.data())
def test_runs_in_each_other_that_were_edited_anyhow_can_be_judged(scenario: Scenario, data: Any):
    trace = scenario.play(Engine).trace
    order = [*range(len(trace))]
    for _ in range(data.draw(st.integers(1, 4))):
        if order:
            taken = order.pop(data.draw(st.integers(0, len(order) - 1)))
            for _ in range(data.draw(st.integers(0, 2))):
                order.insert(data.draw(st.integers(0, len(order))), taken)
    check(trace.rearranged(order))


@given(st.data())
def test_edits_far_apart_are_each_found_where_they_are(data: Any):
    trace = data.draw(st.sampled_from([trained(8), of_inner_loops(), with_frees(), with_order()]))
    epochs = [span for span in spans(trace) if span.state == "EPOCH"]
    edits: list[tuple[int, str]] = []
    for span in epochs[::2]:
        index, edit = data.draw(st.integers(span.first, span.last)), data.draw(st.sampled_from(["lost", "twice", ""]))
        alone = {"lost": without, "twice": twice}[edit](trace, index) if edit else trace
        if first_error(alone) is not None:  # some events may be missing, or come twice
            edits.append((index, edit))
    order = [*range(len(trace))]
    for index, edit in reversed(edits):
        order[index : index + 1] = [] if edit == "lost" else [index, index]
    found = check(trace.rearranged(order))
    assert len(found) == len(edits), [one.message for one in found]
    for one, (index, _) in zip(found, edits, strict=True):
        assert abs(order[one.number - 1] - index) <= 4


def test_a_long_trace_that_lost_many_events_is_judged_in_one_pass():
    trace = recorded(Engine(no_op, name="trainer"), range(5000))
    lost = without(trace, *range(3, len(trace), 400))
    assert len(lost.violations()) == len(range(3, len(trace), 400))
