"""Differences between pytorch-ignite and camshaft in events, filters and handlers."""

from __future__ import annotations

import ignite.engine
import ignite.handlers
import pytest
from torch import nn

import camshaft.handlers
from camshaft import Engine, event
from camshaft.testing import Call, Data
from support.ignite_differences import (
    a_filter_on_an_event_without_counter,
    a_filtered_event_that_fires_twice_at_one_count,
    differing,
    every_with_before_alone,
)
from support.ignite_engines import run_out
from support.ignite_parity import Ignite, Side, make_ours, program
from support.steps import no_op

# -- differences that random programs avoid ----------------------------------------------------------------------------


def test_every_with_before_alone():
    listener = event("iteration_started", every=2, before=6)
    ours, theirs = differing(every_with_before_alone, program(data=Data(7), handlers=[listener]))
    assert theirs.called_at == [1, 3, 5]
    assert ours.called_at == [2, 4]


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (event("iteration_started", every=5, after=8, before=25), [9, 14, 19, 24]),
        (event("get_batch_started", every=1), list(range(30))),
        (event("get_batch_started", every=12), [0, 12, 24]),
        (event("get_batch_completed", every=12), [0, 12, 24]),
        (event("get_batch_completed", before=2), [1]),
        (event("started", every=2), [0]),
        (event("started", after=0), []),
        (event("completed", every=2), []),
        (event("completed", once=1), [30]),
    ],
)
def test_these_filters_are_the_same(listener, expected):
    sides = [Side(program(data=Data(30), handlers=[listener]), make) for make in (make_ours, Ignite)]
    assert [side.called_at for side in sides] == [expected] * 2


@pytest.mark.parametrize("filter", [{"every": 1, "after": 0}, {"once": [1, 2]}, {"before": 3}])
def test_a_filtered_event_that_fires_twice_at_one_count(filter):
    by_hand = program(data=Data(2), fires=["y", "y"], handlers=[event("y", **filter)])
    ours, theirs = differing(a_filtered_event_that_fires_twice_at_one_count, by_hand)
    assert theirs.called_at == [1, 1, 2, 2]
    assert ours.called_at == [1, 2]
    call, listener = Call("get_batch_started", 2, "terminate_epoch", False), event("get_batch_started", **filter)
    again = program(call, data=Data(1), handlers=[listener], max_epochs=2, epoch_length=2)
    ours, theirs = differing(a_filtered_event_that_fires_twice_at_one_count, again)
    assert theirs.called_at == [1, 1, 2]
    assert ours.called_at == [1, 2]


def test_a_filter_on_an_event_without_counter():
    listener = event("x_started", every=2)
    program_ = program(fires=["x_started", "x_completed"], handlers=[listener])
    ours, theirs = differing(a_filter_on_an_event_without_counter, program_)
    assert isinstance(theirs.runs[0].error, RuntimeError)
    assert str(theirs.runs[0].error).startswith("Unknown event name")
    assert ours.called_at == [2]


# -- differences that random programs do not reach ---------------------------------------------------------------------


def test_a_handler_that_is_added_while_its_event_fires():
    def calls_on(library):
        trainer, iterations = library.Engine(no_op), []

        @trainer.on(library.Events.ITERATION_STARTED(once=1))
        def add():
            listen = lambda engine: iterations.append(engine.state.iteration)
            trainer.add_event_handler(library.Events.ITERATION_STARTED, listen)

        trainer.run([1, 2])
        return iterations

    assert calls_on(ignite.engine) == [1, 2]
    assert calls_on(camshaft) == [2]


def test_a_handler_that_is_removed_while_its_event_fires():
    def calls_on(library):
        trainer, iterations = library.Engine(no_op), []
        trainer.add_event_handler(library.Events.ITERATION_STARTED, lambda: handle.remove())
        listen = lambda engine: iterations.append(engine.state.iteration)
        handle = trainer.add_event_handler(library.Events.ITERATION_STARTED, listen)
        trainer.run([1, 2])
        return iterations

    assert calls_on(ignite.engine) == [1]
    assert calls_on(camshaft) == []


def test_members_of_one_name_or_of_one_value():
    def calls_on(library, attached, fired):
        one = library.EventEnum("One", {"X": "x"})
        other = library.EventEnum("Other", {"X": "another", "Y": "x"})
        trainer, called = library.Engine(lambda engine, batch: engine.fire_event(other[fired])), []
        trainer.register_events(one.X, other[fired])
        trainer.add_event_handler(one[attached], lambda: called.append(fired))
        trainer.run([1])
        return called

    assert calls_on(ignite.engine, "X", "X") == ["X"], "of one name: the same event on ignite"
    assert calls_on(camshaft, "X", "X") == []
    assert calls_on(ignite.engine, "X", "Y") == []
    assert calls_on(camshaft, "X", "Y") == ["Y"], "of one value: the same event on camshaft"


def test_the_string_that_names_a_built_in_event():
    assert ignite.engine.Events.EPOCH_STARTED == "EPOCH_STARTED"
    assert camshaft.Events.EPOCH_STARTED != "EPOCH_STARTED"
    assert ignite.engine.Engine(no_op).has_registered_events("EPOCH_STARTED")
    assert not ignite.engine.Engine(no_op).has_registered_events("epoch_started")
    assert not Engine(no_op).has_registered_events("EPOCH_STARTED")
    assert Engine(no_op).has_registered_events("epoch_started")


def test_a_built_in_event_fired_by_hand():
    trainer = ignite.engine.Engine(lambda engine, batch: engine.fire_event(ignite.engine.Events.EPOCH_COMPLETED))
    epochs = []
    trainer.add_event_handler(ignite.engine.Events.EPOCH_COMPLETED, lambda: epochs.append("completed"))
    trainer.run([1])
    assert epochs == ["completed", "completed"]
    error = run_out(Engine(lambda engine, batch: engine.fire_event(camshaft.Events.EPOCH_COMPLETED)), [1])
    assert "fires EPOCH_COMPLETED itself" in str(error)


def test_an_attribute_for_filters_exists_on_every_engine():
    def leaks(library):
        trainer = library.Engine(no_op)
        trainer.register_events("counted", event_to_attr={"counted": "times_counted"})
        return hasattr(library.Engine(no_op).state, "times_counted")

    assert leaks(ignite.engine)
    assert not leaks(camshaft)


def test_handlers_of_terminate_single_epoch():
    def run(library, handler):
        trainer = library.Engine(no_op)
        trainer.add_event_handler(library.Events.TERMINATE_SINGLE_EPOCH, handler)
        trainer.add_event_handler(library.Events.ITERATION_STARTED(once=2), lambda engine: engine.terminate_epoch())
        trainer.run([1, 2, 3])

    counts, called = [], []
    run(ignite.engine, lambda engine, iter_counter: counts.append(iter_counter))
    assert counts == [2], "ignite passes the batches of the epoch, by name"
    with pytest.raises(TypeError, match="iter_counter"):
        run(ignite.engine, lambda engine: None)
    with pytest.raises(TypeError, match="does not fit TERMINATE_SINGLE_EPOCH"):
        run(camshaft, lambda engine, iter_counter: None)
    run(camshaft, lambda engine: called.append(engine.state.iteration))
    assert called == [2]


def test_a_handler_whose_signature_does_not_fit():
    with pytest.raises(ValueError, match="Error adding"):
        ignite.engine.Engine(no_op).add_event_handler(ignite.engine.Events.STARTED, lambda one, two, three: None)
    with pytest.raises(TypeError, match="does not fit STARTED"):
        Engine(no_op).add_event_handler(camshaft.Events.STARTED, lambda one, two, three: None)


def test_a_handler_whose_parameter_has_a_default():
    engines = {ignite: ignite.engine.Engine(no_op), camshaft: Engine(no_op)}
    got = []
    for library, events in ((ignite, ignite.engine.Events), (camshaft, camshaft.Events)):
        engines[library].add_event_handler(events.STARTED, lambda i=5: got.append(i))
        engines[library].add_event_handler(events.STARTED, lambda engine=None: got.append(engine))
        engines[library].run([1], max_epochs=1)
    assert got == [engines[ignite], engines[ignite], 5, engines[camshaft]]
    ignite.engine.Engine(no_op).add_event_handler(ignite.engine.Events.STARTED, lambda i=None: None)
    with pytest.raises(TypeError, match="does not tell whether i=None is for the engine"):
        Engine(no_op).add_event_handler(camshaft.Events.STARTED, lambda i=None: None)


def test_what_ignite_does_not_have():
    assert not hasattr(ignite.engine.Engine(no_op), "skip_iteration")
    assert not hasattr(ignite.engine.Engine(no_op), "parent")
    with pytest.raises(TypeError):
        ignite.engine.Events.STARTED(priority=1)
    called = []
    trainer = Engine(no_op)
    trainer.add_event_handler(camshaft.Events.GET_BATCH_COMPLETED(once=1), lambda engine: engine.skip_iteration())
    trainer.add_event_handler(camshaft.Events.ITERATION_SKIPPED, lambda engine: called.append("later"))
    trainer.add_event_handler(camshaft.Events.ITERATION_SKIPPED(priority=1), lambda engine: called.append("first"))
    trainer.run([1, 2])
    assert called == ["first", "later"]


def test_filters_that_are_never_due():
    assert ignite.engine.Engine(no_op).add_event_handler(ignite.engine.Events.TERMINATE(once=2), lambda: None)
    assert ignite.engine.Events.ITERATION_STARTED(before=0)
    with pytest.raises(ValueError, match="can never be due"):
        Engine(no_op).add_event_handler(camshaft.Events.TERMINATE(once=2), no_op)
    with pytest.raises(ValueError, match="is never due"):
        camshaft.Events.ITERATION_STARTED(before=0)


def test_last_event_name_after_an_event_fired_by_hand():
    def last(library):
        names = []

        def step(engine, batch):
            engine.fire_event("by_hand")
            names.append(engine.last_event_name)

        trainer = library.Engine(step)
        trainer.register_events("by_hand")
        trainer.run([1])
        return names

    assert last(ignite.engine) == ["by_hand"]
    assert last(camshaft) == [camshaft.Events.ITERATION_STARTED]


def test_the_last_checkpoint_of_a_ranking(tmp_path):
    def names(library, handlers):
        engine, scores = library.Engine(no_op), [0.3, 0.9, 0.5]
        handler = handlers.ModelCheckpoint(
            tmp_path / library.__name__,
            n_saved=2,
            score_function=lambda engine: scores[engine.state.epoch - 1],
            require_empty=False,
        )
        engine.add_event_handler(library.Events.EPOCH_COMPLETED, handler, {"model": nn.Linear(1, 1)})
        engine.run([1], max_epochs=3)
        return handler

    assert names(ignite.engine, ignite.handlers).last_checkpoint.name == "model_0.9000.pt"
    handler = names(camshaft, camshaft.handlers)
    assert handler.last_checkpoint.name == "model_0.5000.pt"
    assert handler.best_checkpoint.name == "model_0.9000.pt"
