"""The judge of nested runs: each must be legal, and lie wholly inside one event of the run around it."""

from __future__ import annotations

import contextlib

import pytest

from camshaft import Engine, EventOrderError, Events, Loop, Phase, Trace, record
from camshaft.testing import Reporter
from support.engines import ITERATION, RESTARTED, E, legal, pair, standard, traced
from support.steps import echo, fires, no_op
from support.traces import doctored, make_pair, record_pair


def test_nested_engines_are_legal_and_lie_inside_one_event():
    trainer, evaluator = pair()
    trainer.nest(evaluator, on=E.EPOCH_STARTED | E.EPOCH_COMPLETED, data=[1, 2])
    trace = legal(trainer, [1], max_epochs=2)
    inner = standard(1, 2)
    first = [E.EPOCH_STARTED, *inner, *ITERATION, E.EPOCH_COMPLETED, *inner]
    assert trace == [E.STARTED, *first, E.EPOCH_STARTED, *inner, *RESTARTED, E.EPOCH_COMPLETED, *inner, E.COMPLETED]
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), *[("evaluator", 0)] * 4]


def test_a_nested_engine_runs_at_its_place_among_handlers():
    trainer, evaluator = pair()
    order = []
    trainer.add_event_handler(E.EPOCH_COMPLETED, lambda: order.append("before"))
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    trainer.add_event_handler(E.EPOCH_COMPLETED, lambda: order.append("after"))
    evaluator.add_event_handler(E.STARTED, lambda: order.append("evaluator"))
    legal(trainer, [1])
    assert order == ["before", "evaluator", "after"]


def test_an_illegal_nested_engine_makes_the_trace_illegal():
    trainer, evaluator = Engine(echo, "trainer"), Engine(fires("clip_started"), "evaluator")
    evaluator.register_events("clip_started", "clip_completed")
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    with pytest.raises(EventOrderError, match="evaluator"):
        traced(trainer, [1]).assert_legal()


def test_no_outer_event_falls_between_those_of_a_nested_run(tmp_path):
    trainer, evaluator = pair()
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    trace = legal(trainer, [1])
    with pytest.raises(EventOrderError, match="trainer"):
        doctored(trace, tmp_path / "trace", lambda events: [*events[:-2], events[-1], events[-2]]).assert_legal()


def test_a_nested_run_resumed_in_another_event_is_illegal():
    trainer, evaluator = pair()
    steps = []
    trainer.add_event_handler(E.ITERATION_STARTED, lambda: next(steps.append(evaluator.steps([1, 2])) or steps[0]))
    trainer.add_event_handler(E.ITERATION_COMPLETED, lambda: list(steps[0]) and None)
    with pytest.raises(EventOrderError, match=r"trainer|evaluator"):
        traced(trainer, [1]).assert_legal()


def test_engines_that_are_stepped_in_turn_are_legal_each_by_itself():
    first, second = Engine(no_op, name="first"), Engine(no_op, name="second")
    with record() as trace:
        for one, other in zip(first.steps([1, 2]), second.steps([1, 2]), strict=True):
            assert one is other
    trace.assert_legal()
    assert [run.engine for run in trace.runs] == ["first", "second"]
    assert trace == [event for one in first_order() for event in (one, one)]


def first_order():
    return list(Engine(no_op).steps([1, 2]))


def test_a_shared_evaluator_and_one_nested_twice():
    evaluator = Engine(no_op, name="evaluator")
    trainers = [Engine(no_op, name="one"), Engine(no_op, name="other")]
    for trainer in trainers:
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED | Events.STARTED, data=[1])
    with record() as trace:
        for _ in zip(*[trainer.steps([1, 2], max_epochs=2) for trainer in trainers], strict=True):
            pass
    trace.assert_legal()
    assert [run.parent for run in trace.runs if run.engine == "evaluator"].count(0) == 3


@pytest.mark.parametrize("end", ["terminate", "interrupt", "raise"])
def test_an_evaluator_that_ends_its_trainer_or_fails_is_legal(end):
    trainer, evaluator = make_pair()
    stop = (lambda: 1 / 0) if end == "raise" else getattr(trainer, end)
    evaluator.add_event_handler(Events.ITERATION_STARTED, stop)
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        trainer.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == {
        "terminate": ["completed", "completed"],
        "interrupt": ["interrupted", "completed"],
        "raise": ["failed", "failed"],
    }[end]


def test_an_outer_event_inside_an_inner_run_is_illegal():
    trace = record_pair(epochs=1)
    inner = next(index for index in range(len(trace)) if trace[index].engine == "evaluator")
    trace._run[inner + 2] = 0
    with pytest.raises(EventOrderError, match="trainer event #.* is illegal after EPOCH 1"):
        trace.assert_legal()


def test_engines_may_be_nested_to_any_depth(tmp_path):
    loop = Loop("EPOCH", Phase("A"), times=1)
    reporters = [Reporter(loop, name=f"engine {number}") for number in range(1500)]
    with record(*reporters) as trace:
        for report in reporters:
            report("started")
            report("epoch_started")
            report("a_started")
        for report in reversed(reporters):
            report("a_completed")
            report("epoch_completed")
            report("completed")
    trace.assert_legal()
    assert trace[4499].depth == 1499
    assert len(str(trace).splitlines()) == len(trace) == 9000
    trace.save(tmp_path / "run.jsonl")
    assert Trace.load(tmp_path / "run.jsonl") == trace
    order = [*range(len(trace))]
    order[4600], order[4601] = order[4601], order[4600]
    with pytest.raises(EventOrderError, match="engine 1466 event #4601 COMPLETED is illegal in EPOCH 1 / after A"):
        trace.rearranged(order).assert_legal()


def test_no_nested_run_precedes_the_first_event_around_it():
    trainer, _ = make_pair()
    with record() as trace:
        trainer.run([1])
    trainers = [index for index in range(len(trace)) if not trace[index].depth]
    nested = [index for index in range(len(trace)) if trace[index].depth]
    moved = trace.rearranged([*nested, *trainers])
    moved.segments = [[0, 0, len(moved)], [1, 0, len(nested)]]
    with pytest.raises(EventOrderError, match="was fired before the first event of trainer, which called it"):
        moved.assert_legal()


def test_a_run_belongs_to_the_nearest_recorded_one_around_it():
    trainer, evaluator = make_pair()
    inner = Engine(no_op, name="inner")
    evaluator.nest(inner, on=Events.ITERATION_COMPLETED, data=[1])
    with record(trainer, inner) as trace:
        trainer.run([1])
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), ("inner", 0)]
    trace.assert_legal()
