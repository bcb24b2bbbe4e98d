"""Differences between pytorch-ignite and camshaft in data."""

from __future__ import annotations

import warnings

import ignite.engine
import pytest

import camshaft
from camshaft import Engine
from camshaft.testing import Call, Data
from support.ignite_differences import (
    data_that_cannot_be_restarted,
    differing,
    max_iters_with_data_of_unknown_length,
    set_data_in_a_run_without_data,
)
from support.ignite_engines import run_out
from support.ignite_parity import Endless, program
from support.steps import no_op

# -- differences that random programs avoid ----------------------------------------------------------------------------


def test_set_data_in_a_run_without_data():
    call = Call("iteration_completed", 1, "set_data", Data(2))
    ours, theirs = differing(set_data_in_a_run_without_data, program(call, data=None, epoch_length=3))
    assert theirs.batches == [None, 0, 1]
    assert theirs.after("iteration_completed")[0] == "get_batch_started"
    assert ours.batches == [None]
    assert "has no run that takes data" in str(ours.runs[0].error.__cause__)


def test_data_that_cannot_be_restarted():
    once = program(data=Data(3, "once"), epoch_length=2, max_epochs=4)
    ours, theirs = differing(data_that_cannot_be_restarted, once)
    empty = ["epoch_started", "get_batch_started", "dataloader_stop_iteration", "epoch_completed"]
    assert theirs.after("epoch_completed", 2) == [*empty, *empty, "completed"]
    assert theirs.runs[0].warned == 2, "in the second epoch and in the third one, but not in the last"
    assert ours.after("dataloader_stop_iteration") == ["terminate", "completed"]
    assert ours.runs[0].warned == 1
    assert ours.batches == theirs.batches == [0, 1, 2]


def test_data_that_cannot_be_restarted_under_max_iters():
    ours, theirs = differing(data_that_cannot_be_restarted, program(data=Data(3, "once"), epoch_length=2, max_iters=4))
    assert isinstance(theirs.runs[0].error, Endless)
    assert theirs.runs[0].states["trainer"]["iteration"] == 3
    assert ours.after("dataloader_stop_iteration") == ["terminate", "completed"]


def test_max_iters_with_data_of_unknown_length():
    unsized = Data(2, "unsized")
    ours, theirs = differing(max_iters_with_data_of_unknown_length, program(data=unsized, max_iters=3))
    assert theirs.runs[0].states["trainer"]["max_epochs"] == 2
    assert ours.runs[0].states["trainer"]["max_epochs"] is None
    cut_short = Call("iteration_started", 1, "terminate_epoch", False)
    ours, theirs = differing(max_iters_with_data_of_unknown_length, program(cut_short, data=unsized, max_iters=4))
    assert theirs.runs[0].states["trainer"]["iteration"] == 3, "it stopped after the second epoch"
    assert ours.runs[0].states["trainer"]["iteration"] == 4


# -- differences that random programs do not reach ---------------------------------------------------------------------


def test_an_event_fired_by_hand_at_dataloader_stop_iteration():
    def fetches(library):
        trainer, iterations = library.Engine(no_op), []
        trainer.register_events("restarting")
        stop, start = library.Events.DATALOADER_STOP_ITERATION, library.Events.GET_BATCH_STARTED
        trainer.add_event_handler(stop, lambda engine: engine.fire_event("restarting"))
        trainer.add_event_handler(start, lambda engine: iterations.append(engine.state.iteration))
        trainer.run([1], epoch_length=2)
        return iterations

    assert fetches(ignite.engine) == [0, 1, 1], "GET_BATCH_STARTED fires once more after the restart"
    assert fetches(camshaft) == [0, 1]


def test_set_data_outside_of_a_run():
    trainer = ignite.engine.Engine(lambda engine, batch: batch)
    trainer.set_data([5])
    assert trainer.run([1]).output == 5
    with pytest.raises(RuntimeError, match="has no run that takes data"):
        Engine(no_op).set_data([5])


def test_data_assigned_in_an_epoch():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        assign = lambda engine: setattr(engine.state, "dataloader", [7, 8, 9])
        trainer.add_event_handler(library.Events.ITERATION_COMPLETED(once=1), assign)
        trainer.run([1, 2, 3], max_epochs=2)
        return got

    assert batches(ignite.engine) == [1, 2, 3, 7, 8, 9]
    assert batches(camshaft) == [1, 7, 8, 9, 7, 8]


def test_data_whose_length_is_wrong():
    class Shorter:
        def __len__(self):
            return 3

        def __iter__(self):
            return iter([1, 2])

    def batches(library):
        got = []
        library.Engine(lambda engine, batch: got.append(batch)).run(Shorter(), max_epochs=2)
        return got

    assert batches(ignite.engine) == [1, 2, 1, 2, 1, 2]
    with pytest.warns(UserWarning, match="gave only 2 batches, and its length is 3"):
        assert batches(camshaft) == [1, 2, 1, 2]


def test_empty_data():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert ignite.engine.Engine(no_op).run([], epoch_length=2, max_epochs=2).iteration == 0
    assert len(caught) == 1
    assert ignite.engine.Engine(no_op).run(iter([])).epoch_length == 0
    assert "data is empty" in str(run_out(Engine(no_op), [], epoch_length=2))
    assert "data is empty" in str(run_out(Engine(no_op), iter([])))


def test_a_state_that_is_loaded_in_the_middle_of_an_epoch():
    def batches(library):
        got = []
        trainer = library.Engine(lambda engine, batch: got.append(batch))
        trainer.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 3})
        return trainer.state.epoch, got, trainer.run([1, 2, 3], max_epochs=3).epoch

    assert batches(ignite.engine) == (1, [1, 2, 3, 1, 2], 3), "the epoch was not begun, and gets the first batches"
    assert batches(camshaft) == (2, [2, 3, 1, 2, 3], 3), "the epoch goes on with the batch that comes next"


def test_the_batch_while_the_next_one_is_fetched():
    def batches(library):
        trainer, seen = library.Engine(no_op), []
        listen = lambda engine: seen.append(engine.state.batch)
        trainer.add_event_handler(library.Events.GET_BATCH_STARTED, listen)
        trainer.run([1, 2, 3])
        return seen

    assert batches(ignite.engine) == [None, None, None]
    assert batches(camshaft) == [None, 1, 2]
