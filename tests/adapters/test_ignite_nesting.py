"""Recording engines of pytorch-ignite that run inside others, pause and fail."""

from __future__ import annotations

import pytest

import camshaft
from camshaft import Engine, record
from camshaft.testing import reporting
from support.ignite_engines import THEIR, make_trainer, run_out
from support.steps import no_op


# -- nesting
def test_nested_engines_of_ignite():
    trainer, evaluator = make_trainer(), make_trainer()
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED | THEIR.COMPLETED, lambda: evaluator.run([1]))
    with reporting(trainer, name="trainer"), reporting(evaluator, name="evaluator"), record() as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert [(record.engine, record.parent) for record in trace.runs] == [("trainer", None), *[("evaluator", 0)] * 3]
    assert {event.depth for event in trace.select(engine="evaluator")} == {1}
    assert trace.select(event="epoch_completed", engine="trainer").indices != []


def test_an_evaluator_that_runs_when_its_trainer_fails():
    trainer, evaluator = make_trainer(lambda engine, batch: 1 / 0), make_trainer()

    @trainer.on(THEIR.EXCEPTION_RAISED)
    def evaluate(error):
        evaluator.run([1])
        raise error

    with record(trainer, evaluator) as trace:
        assert isinstance(run_out(trainer, [1]), ZeroDivisionError)
    assert [record.parent for record in trace.runs] == [None, 0, 0]


@pytest.mark.parametrize("outer", ["ignite", "camshaft"])
def test_an_engine_of_one_library_inside_one_of_the_other(outer):
    theirs, ours = make_trainer(), Engine(no_op, "ours")
    trainer, evaluator = (theirs, ours) if outer == "ignite" else (ours, theirs)
    events = THEIR if outer == "ignite" else camshaft.Events
    trainer.add_event_handler(events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(ours, theirs) as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert [record.parent for record in trace.runs] == [None, 0, 0]


def test_an_engine_that_is_not_asked_for_is_not_recorded():
    trainer, evaluator = make_trainer(), make_trainer()
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(trainer) as trace:
        trainer.run([1])
    trace.assert_legal()
    assert len(trace.runs) == 1


# -- pauses and failures
def test_an_interrupted_run():
    trainer = make_trainer()
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt())
    with record(trainer) as trace:
        trainer.run([1, 2, 3])
        assert trace[-1].event == "interrupt"
        assert trace.runs[0].outcome == "interrupted"
        trace.assert_legal()
        trainer.run([1, 2, 3])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed"]
    assert trace.count("iteration_completed") == 3


@pytest.mark.parametrize(
    "key", ["STARTED", "EPOCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "EPOCH_COMPLETED"]
)
def test_an_interrupted_run_that_goes_on_in_another_trace(key):
    trainer = make_trainer()
    trainer.add_event_handler(THEIR[key], lambda engine: engine.interrupt())
    with reporting(trainer):
        with record() as before:
            trainer.run([1, 2])
        with record() as after:
            while trainer._internal_run_generator is not None:
                trainer.run([1, 2])
    before.assert_legal()
    after.assert_legal()
    assert before[-1].event == "interrupt"
    assert (after[0].event, after[-1].event) != ("started", "interrupt")


def test_a_paused_run_that_is_given_up():
    trainer = make_trainer()
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    with record(trainer) as trace:
        trainer.run([1, 2])
        trainer._event_handlers.clear()
        trainer.state.max_epochs = None
        trainer.run([1, 2])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["interrupted", "completed"]


def test_arguments_that_are_refused_end_no_run():
    trainer = make_trainer()
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    with record(trainer) as trace:
        assert isinstance(run_out(trainer), ValueError)
        assert len(trace) == 0
        trainer.run([1, 2])
        assert isinstance(run_out(trainer, [1, 2], epoch_length=7), ValueError)
        trainer.run([1, 2])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed"]


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("key", ["STARTED", "ITERATION_STARTED", "EPOCH_COMPLETED", "COMPLETED"])
def test_a_failed_run(key, heard):
    trainer, errors = make_trainer(), []
    trainer.add_event_handler(THEIR[key], lambda: 1 / 0)
    if heard:
        trainer.add_event_handler(THEIR.EXCEPTION_RAISED, errors.append)
    with record(trainer) as trace:
        if heard:
            trainer.run([1])
        else:
            assert isinstance(run_out(trainer, [1]), ZeroDivisionError)
    assert [type(error) for error in errors] == [ZeroDivisionError] * heard
    assert trace.count("exception_raised") == 1
    if not (heard and key == "ITERATION_STARTED"):  # in that case ignite goes on
        trace.assert_legal()
        assert trace.runs[0].outcome == "failed"


def test_an_engine_inside_itself_is_one_failed_run():
    trainer = make_trainer(lambda engine, batch: engine.run([1]))
    with record(trainer) as trace:
        run_out(trainer, [1])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["failed"]


def test_an_engine_that_catches_that_it_runs_already_goes_on():
    trainer = make_trainer(lambda engine, batch: run_out(engine, [1]))
    with record(trainer) as trace:
        trainer.run([1])
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed"]
