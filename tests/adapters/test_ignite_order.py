"""The order of pytorch-ignite's engines: their traces are legal, except for the disorders named here."""

from __future__ import annotations

import ignite.engine
from hypothesis import assume, given
from hypothesis import strategies as st

from camshaft import record
from camshaft.testing import Call, Data, PlantedError
from support.ignite_disorders import (
    DISORDERS,
    a_get_batch_that_is_started_twice,
    an_epoch_that_is_completed_although_data_gave_out,
    an_epoch_without_batches,
    an_exception_that_is_not_the_end,
    batches_in_a_run_without_data,
    disorderly,
    max_iters_that_is_not_reached,
)
from support.ignite_parity import ORDERLY, Ignite, Program, Side, program, verdict
from support.ignite_programs import programs
from support.steps import no_op


@given(programs(st.sampled_from(ORDERLY)))
def test_traces_of_ignite_are_legal(program: Program) -> None:
    theirs = Side(program, Ignite)
    assume(not any(disorder(theirs) for disorder in DISORDERS.values()))
    for run in theirs.runs:
        run.trace.assert_legal()


def test_an_epoch_that_is_completed_although_data_gave_out():
    theirs = disorderly(
        an_epoch_that_is_completed_although_data_gave_out, program(data=Data(1, "once"), epoch_length=2)
    )
    assert "EPOCH_COMPLETED is illegal in EPOCH 1 / GET_BATCH" in verdict(theirs.runs[0].trace)


def test_an_epoch_without_batches():
    call = Call("get_batch_started", 2, "terminate_epoch", False)
    theirs = disorderly(an_epoch_without_batches, program(call, data=Data(1, "once"), max_epochs=2))
    assert "[iteration in epoch > 0] does not hold" in verdict(theirs.runs[0].trace)


def test_a_get_batch_that_is_started_twice():
    call = Call("dataloader_stop_iteration", 1, "interrupt")
    theirs = disorderly(a_get_batch_that_is_started_twice, program(call, data=Data(1), epoch_length=2))
    assert "GET_BATCH_STARTED is illegal in EPOCH 1 / GET_BATCH" in verdict(theirs.runs[0].trace)


def test_an_exception_that_is_not_the_end():
    call = Call("iteration_started", 1, "raise", PlantedError)
    theirs = disorderly(an_exception_that_is_not_the_end, program(call, swallow=True))
    assert "EPOCH_COMPLETED is illegal in FAILED" in verdict(theirs.runs[0].trace)


def test_batches_in_a_run_without_data():
    call = Call("iteration_completed", 1, "set_data", Data(1))
    theirs = disorderly(batches_in_a_run_without_data, program(call, data=None, epoch_length=2))
    assert "GET_BATCH_STARTED is illegal in EPOCH 1 / after ITERATION 1: [data] does not hold" in verdict(
        theirs.runs[0].trace
    )


def test_max_iters_that_is_not_reached():
    call = Call("iteration_started", 1, "terminate_epoch", False)
    theirs = disorderly(max_iters_that_is_not_reached, program(call, data=Data(2, "unsized"), max_iters=4))
    assert "COMPLETED is illegal after EPOCH 2: [epoch == max_epochs] does not hold" in verdict(theirs.runs[0].trace)


def test_an_event_fired_by_hand_while_data_restarts():
    trainer = ignite.engine.Engine(no_op)
    trainer.register_events("restarting")
    trainer.add_event_handler(
        ignite.engine.Events.DATALOADER_STOP_ITERATION, lambda engine: engine.fire_event("restarting")
    )
    with record(trainer) as trace:
        trainer.run([1], epoch_length=2)
    assert "GET_BATCH_STARTED is illegal in EPOCH 1 / GET_BATCH" in verdict(trace)
