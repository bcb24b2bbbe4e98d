"""Reporters inside reporters and engines, and engines inside reporters."""

from __future__ import annotations

import contextlib

import pytest

from camshaft import Engine, Events, record
from camshaft.testing import Reporter
from support.reported import EVALUATED, EVALUATION, LOOP, epoch, make_engine, tell, verdict

# -- nested ------------------------------------------------------------------------------------------------------------


def test_a_reporter_inside_of_an_event_of_another_is_nested_there(pair):
    trainer, evaluator = pair
    with record() as trace, trainer, evaluator:
        tell(trainer, "started")
        for _ in range(2):
            tell(trainer, *epoch(1))
            tell(evaluator, *EVALUATED)
        tell(trainer, "completed")
    trace.assert_legal()
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), ("evaluator", 0), ("evaluator", 0)]
    assert {event.depth for event in trace.select(engine="evaluator")} == {1}
    trace.assert_matches("STARTED (EPOCH evaluator[STARTED ITERATION COMPLETED]){2} COMPLETED", strict=True)


def test_reporters_fire_what_engines_fire():
    trainer, evaluator = Engine(lambda engine, batch: None, "trainer"), Engine(EVALUATION, "evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    trainer.nest(evaluator, on=Events.ITERATION_STARTED(once=2), data=[1])
    with record() as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    reporters = {engine.name: Reporter(engine.loop, engine.name) for engine in (trainer, evaluator)}
    reporters["trainer"].state.epoch_length = 3
    with record() as again, reporters["trainer"], reporters["evaluator"]:
        for event in trace:
            reporters[event.engine](event.event)
    again.assert_legal()
    assert again == trace
    assert str(again) == str(trace)


@pytest.mark.parametrize("first", ["trainer", "evaluator"])
def test_an_exception_ends_what_it_passes_innermost_first(pair, first):
    trainer, evaluator = pair
    blocks = pair if first == "trainer" else pair[::-1]
    with record() as trace, pytest.raises(ArithmeticError), blocks[0], blocks[1]:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED[:2])
        raise ArithmeticError
    trace.assert_legal()
    assert [(event.engine, event.event) for event in trace[-2:]] == [
        ("evaluator", "exception_raised"),
        ("trainer", "exception_raised"),
    ]


def test_a_failed_evaluator_may_be_survived(pair):
    trainer, evaluator = pair
    with record() as trace, trainer:
        tell(trainer, "started", *epoch(1))
        with contextlib.suppress(ArithmeticError), evaluator:
            tell(evaluator, *EVALUATED[:2])
            raise ArithmeticError
        tell(trainer, *epoch(1), "completed")
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed", "failed"]


@pytest.mark.parametrize("first", ["trainer", "evaluator"])
def test_an_evaluator_that_never_completes_is_the_one_to_blame(pair, first):
    """Its run ends when the trainer goes on, even if it did not report that."""
    trainer, evaluator = pair
    blocks = pair if first == "trainer" else pair[::-1]
    with record() as trace, blocks[0], blocks[1]:
        tell(trainer, "started")
        for _ in range(2):
            tell(trainer, *epoch(1))
            tell(evaluator, *EVALUATED[:-1])
        tell(trainer, "completed")
    assert [segment[1:] for segment in trace.segments] == [[0, 20], [7, 10], [16, 19]]
    said = verdict(trace)
    assert said.startswith("evaluator stops with event #")
    assert "expected: GET_BATCH_STARTED | ITERATION_STARTED | COMPLETED | TERMINATE | INTERRUPT" in said


def test_an_evaluator_without_an_end_in_a_trainer_without_an_end(pair):
    trainer, evaluator = pair
    with record() as trace, evaluator, trainer:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED[:-1])
    assert [run.outcome for run in trace.runs] == ["completed", "completed"]
    assert " stops with event #" in verdict(trace)


def test_a_late_event_of_the_evaluator_begins_an_illegal_run(pair):
    trainer, evaluator = pair
    with record() as trace, trainer, evaluator:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED[:2])
        tell(trainer, "epoch_started")
        tell(evaluator, *EVALUATED[2:])
        tell(trainer, "epoch_completed", "completed")
    assert verdict(trace).startswith("evaluator event #11 ITERATION_COMPLETED is illegal in READY")


def test_three_deep(pair):
    trainer, evaluator = pair
    probe = Reporter(EVALUATION, "probe")
    with record() as trace, trainer, evaluator, probe:
        tell(trainer, "started", "epoch_started")
        tell(evaluator, *EVALUATED[:2])
        tell(probe, *EVALUATED)
        tell(evaluator, *EVALUATED[2:])
        tell(trainer, "epoch_completed", "completed")
        tell(probe, *EVALUATED)
    trace.assert_legal()
    assert [(run.engine, run.parent) for run in trace.runs] == [
        ("trainer", None),
        ("evaluator", 0),
        ("probe", 1),
        ("probe", None),
    ]


# -- engines beside reporters ------------------------------------------------------------------------------------------


def test_an_engine_inside_of_a_reported_run_is_nested_there():
    engine, report = make_engine(), Reporter(LOOP, "by hand")
    with record() as trace, report:
        tell(report, "started", *epoch(1))
        engine.run([1, 2])
        tell(report, "completed")
        engine.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert [(run.engine, run.parent) for run in trace.runs] == [("by hand", None), ("engine", 0), ("engine", None)]
    trace[:20].assert_matches("STARTED EPOCH engine[EPOCH[ITERATION{2}]] COMPLETED")


def test_an_engine_that_fails_inside_of_a_reported_run():
    engine = Engine(lambda engine, batch: 1 / 0, "engine")
    with record() as trace, pytest.raises(ZeroDivisionError), Reporter(LOOP, "by hand") as report:
        tell(report, "started", *epoch(1))
        engine.run([1])
    trace.assert_legal()
    assert [(event.engine, event.event) for event in trace[-2:]] == [
        ("engine", "exception_raised"),
        ("by hand", "exception_raised"),
    ]


def test_an_engine_may_pause_and_resume_inside_a_reported_run():
    engine, report = make_engine(), Reporter(LOOP, "by hand")
    engine.add_event_handler(Events.ITERATION_STARTED(once=1), engine.interrupt)
    with record() as trace, report:
        tell(report, "started", *epoch(1))
        engine.run([1])
        tell(report, *epoch(1))
        engine.run()
        tell(report, "completed")
    trace.assert_legal()
    assert engine.state.iteration == 1
    assert [run.outcome for run in trace.runs] == ["completed", "completed"]


@pytest.mark.parametrize("on", [Events.STARTED, Events.ITERATION_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED])
def test_a_reporter_inside_of_a_handler_is_nested_there(on):
    engine, report = make_engine(), Reporter(EVALUATION, "by hand")

    @engine.on(on)
    def evaluate():
        with report:
            tell(report, *EVALUATED)

    with record() as trace:
        engine.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert trace.count("completed", engine="by hand") == trace.count(on, engine="engine")
    assert {run.parent for run in trace.runs[1:]} == {0}
    assert engine.parent is None


def test_a_reporter_left_in_a_handler_does_not_stay_around():
    engine, report = make_engine(), Reporter(EVALUATION, "by hand")

    @engine.on(Events.EPOCH_COMPLETED)
    def evaluate():
        with report:
            tell(report, *EVALUATED[:-1])

    with record() as trace:
        engine.run([1], max_epochs=2)
    assert verdict(trace).startswith("by hand stops with event #")
    with record() as after:
        make_engine().run([1])
    assert after.runs[0].parent is None


def test_a_reported_run_must_end_in_the_handler_it_began_in():
    engine, report = make_engine(), Reporter(EVALUATION, "by hand")
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: tell(report, *EVALUATED[:2]))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: tell(report, *EVALUATED[2:]))
    with record() as trace, report:
        engine.run([1])
    assert verdict(trace).startswith("engine event #5 GET_BATCH_STARTED was fired inside by hand")
