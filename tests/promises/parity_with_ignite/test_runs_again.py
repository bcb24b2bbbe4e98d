"""Differences between pytorch-ignite and camshaft in further runs of an engine and in nested engines."""

from __future__ import annotations

import ignite.engine

import camshaft
from camshaft import Engine
from camshaft.testing import Batches, Call, Data, PlantedError
from support.ignite_differences import (
    a_nested_engine_that_is_left_paused,
    a_run_again_after_a_failure,
    a_run_again_after_a_short_epoch,
    a_run_again_of_a_paused_engine,
    a_run_again_of_unknown_length,
    a_run_again_that_fetches_nothing,
    a_run_again_that_is_refused,
    a_run_again_with_the_other_limit,
    differing,
)
from support.ignite_engines import run_out
from support.ignite_parity import program
from support.steps import no_op

# -- differences that random programs avoid ----------------------------------------------------------------------------


def test_a_run_again_after_a_failure():
    call, further = Call("epoch_completed", 1, "raise", PlantedError), (Data(3), {"max_epochs": 2})
    ours, theirs = differing(a_run_again_after_a_failure, program(call, max_epochs=2, again=[further, further]))
    assert [bool(run.events) for run in theirs.runs] == [True, False, True], "the second one returned None at once"
    assert theirs.runs[2].events[1].count == ours.runs[1].events[1].count == 2, "the epoch that it goes on with"


def test_a_run_again_after_a_failure_in_an_epoch():
    call, further = Call("iteration_completed", 2, "raise", PlantedError), (Data(3), {"max_epochs": 2})
    failing = program(call, max_epochs=2, again=[further, further])
    ours, theirs = differing(a_run_again_after_a_failure, failing, a_run_again_after_a_short_epoch)
    assert theirs.batches == [0, 1, 0], "the next epoch counts what the failed one had done"
    assert ours.batches[:5] == [0, 1, 0, 1, 2]


def test_a_run_again_of_unknown_length():
    unsized = Data(2, "unsized")
    ours, theirs = differing(a_run_again_of_unknown_length, program(data=unsized, again=[(unsized, {})]))
    assert theirs.runs[1].events[-3].event == "iteration_completed"
    assert ours.runs[1].events[-3].event == "get_batch_started", "it learns the length anew"


def test_a_run_again_that_fetches_nothing():
    call = Call("started", 2, "terminate", False)
    ours, theirs = differing(a_run_again_that_fetches_nothing, program(call, again=[(Data(3), {})]))
    assert theirs.runs[1].states["trainer"]["output"] == 2
    assert ours.runs[1].states["trainer"]["output"] is None


def test_a_run_again_that_is_refused():
    refused = (Data(3), {"max_epochs": 3, "epoch_length": 2})
    ours, theirs = differing(a_run_again_that_is_refused, program(max_epochs=2, again=[refused]))
    assert isinstance(theirs.runs[1].error, ValueError)
    assert theirs.runs[1].states["trainer"]["max_epochs"] == 3
    assert isinstance(ours.runs[1].error, ValueError)
    assert ours.runs[1].states["trainer"]["max_epochs"] == 2


def test_a_run_again_with_the_other_limit():
    ours, theirs = differing(a_run_again_with_the_other_limit, program(again=[(Data(3), {"max_iters": 2})]))
    assert "you must first reset" in str(theirs.runs[1].error)
    assert ours.runs[1].states["trainer"]["iteration"] == 2


def test_a_run_again_after_a_short_epoch():
    call, further = Call("iteration_completed", 1, "terminate_epoch", False), (Data(3), {"max_epochs": 2})
    ours, theirs = differing(a_run_again_after_a_short_epoch, program(call, again=[further]))
    assert theirs.batches == [0, 0, 1]
    assert ours.batches == [0, 0, 1, 2]


def test_a_run_again_of_a_paused_engine():
    call = Call("iteration_completed", 1, "interrupt")
    ours, theirs = differing(a_run_again_of_a_paused_engine, program(call, resumes=0, again=[(Data(2), {})]))
    assert theirs.batches == [0, 1, 2]
    assert "is paused and continues with its own data" in str(ours.runs[1].error)


def test_a_nested_engine_that_is_left_paused():
    evaluator = program(Call("iteration_completed", 1, "interrupt"), data=Data(2)).scenario
    outer = program(nested=[(("epoch_completed",), evaluator)], again=[(Data(3), {})])
    ours, theirs = differing(a_nested_engine_that_is_left_paused, outer)
    assert [event.event for event in theirs.runs[1].events if event.depth][:1] == ["get_batch_started"]
    assert [event.event for event in ours.runs[1].events if event.depth][:1] == ["started"]


# -- differences that random programs do not reach ---------------------------------------------------------------------


def test_an_engine_inside_itself():
    assert (
        str(run_out(ignite.engine.Engine(lambda engine, batch: engine.run([1])), [1])) == "generator already executing"
    )
    error = run_out(Engine(lambda engine, batch: engine.run([1])), [1])
    assert isinstance(error, RuntimeError)
    assert "is running" in str(error)


def test_resuming_without_data_after_terminate():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        trainer.add_event_handler(library.Events.ITERATION_COMPLETED(once=1), lambda engine: engine.terminate())
        trainer.run([1, 2], max_epochs=2)
        trainer.run()
        return got

    assert batches(ignite.engine) == [1, None, None]
    assert batches(camshaft) == [1, 1, 2]


def test_a_new_run_without_data():
    trainer = ignite.engine.Engine(lambda engine, batch: batch)
    trainer.run([1, 2])
    assert trainer.run().output is None
    assert trainer.state.iteration == 2, "it knows the length of an epoch"
    trainer = Engine(no_op)
    trainer.run([1, 2])
    assert "data=None needs epoch_length" in str(run_out(trainer))


def test_resuming_without_data_before_the_first_fetch():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        trainer.add_event_handler(library.Events.STARTED, lambda engine: engine.interrupt())
        trainer.run([1, 2])
        trainer.run()
        return got

    assert batches(ignite.engine) == [None, None]
    assert batches(camshaft) == [1, 2]


def test_resuming_without_data_of_unknown_length():
    def interrupted(library):
        trainer = library.Engine(lambda engine, batch: batch)
        trainer.add_event_handler(library.Events.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
        trainer.run(Batches([1, 2]))
        return trainer

    trainer = interrupted(ignite.engine)
    assert "epoch_length should be provided if data is None" in str(run_out(trainer))
    assert trainer.run(Batches([])).output == 2, "it goes on when it is given any data, with what it has"
    assert interrupted(camshaft).run().output == 2


def test_metrics_of_the_previous_run():
    def metrics(library):
        trainer, seen = library.Engine(no_op), []

        @trainer.on(library.Events.STARTED)
        def look(engine):
            seen.append(dict(engine.state.metrics))
            engine.state.metrics["loss"] = engine.state.iteration

        trainer.run([1])
        trainer.run([1])
        return seen

    assert metrics(ignite.engine) == [{}, {"loss": 0}]
    assert metrics(camshaft) == [{}, {}]


def test_a_limit_of_zero():
    assert ignite.engine.Engine(no_op).run([1], max_epochs=0).epoch == 0
    assert "max_epochs must be an integer of 1 or more, got 0" in str(run_out(Engine(no_op), [1], max_epochs=0))
