"""SAVED_CHECKPOINT: fired when a file is written, in the order of attachment that a program has."""

import pytest
from torch import nn

from camshaft import Engine, Events, record
from camshaft.handlers import Checkpoint, ModelCheckpoint
from support.steps import no_op


def checkpoint_on(engine, event, folder, kind):
    model = nn.Linear(1, 1)
    if kind is Checkpoint:
        handler = Checkpoint({"model": model}, folder, n_saved=2)
        engine.add_event_handler(event, handler)
    else:
        handler = ModelCheckpoint(folder, n_saved=2)
        engine.add_event_handler(event, handler, {"model": model})
    return handler


@pytest.mark.parametrize("kind", [Checkpoint, ModelCheckpoint])
@pytest.mark.parametrize("is_first", [True, False])
def test_it_fires_after_each_file(tmp_path, kind, is_first):
    engine, seen = Engine(no_op), []

    def told(engine):
        name = handler.last_checkpoint
        seen.append((engine.state.epoch, bool(name) and (tmp_path / name).is_file()))

    if is_first:
        engine.on(kind.SAVED_CHECKPOINT)(told)
    handler = checkpoint_on(engine, Events.EPOCH_COMPLETED, tmp_path, kind)
    if not is_first:
        engine.add_event_handler(kind.SAVED_CHECKPOINT, told)
    with record() as trace:
        engine.run([1, 2], max_epochs=3)
    assert seen == [(1, True), (2, True), (3, True)]
    assert trace.count("saved_checkpoint") == 3
    trace.assert_legal()


@pytest.mark.parametrize(
    "event",
    [Events.STARTED, Events.ITERATION_COMPLETED(once=2), Events.COMPLETED, Events.TERMINATE, Events.EXCEPTION_RAISED],
)
def test_it_fires_wherever_a_file_is_written(tmp_path, event):
    engine, seen = Engine(no_op), []
    checkpoint_on(engine, event, tmp_path, Checkpoint)
    engine.add_event_handler(Checkpoint.SAVED_CHECKPOINT, lambda: seen.append(engine.state.iteration))
    if event is Events.TERMINATE:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    if event is Events.EXCEPTION_RAISED:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: 1 / 0)
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    with record() as trace:
        engine.run([1, 2])
    assert seen == [0 if event is Events.STARTED else 2]
    trace.assert_legal()


def test_without_a_handler_the_loop_has_no_such_state(tmp_path):
    engine = Engine(no_op)
    checkpoint_on(engine, Events.EPOCH_COMPLETED, tmp_path, Checkpoint)
    engine.run([1])
    assert not engine.has_registered_events(Checkpoint.SAVED_CHECKPOINT)
    assert "SAVED_CHECKPOINT" not in engine.machine.states


def test_a_file_that_does_not_rank_is_not_told(tmp_path):
    engine, seen, scores = Engine(no_op), [], iter([3.0, 1.0, float("nan"), 5.0])
    handler = Checkpoint({"model": nn.Linear(1, 1)}, tmp_path, score_function=lambda engine: next(scores))
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.add_event_handler(Checkpoint.SAVED_CHECKPOINT, lambda: seen.append(engine.state.epoch))
    engine.run([1], max_epochs=4)
    assert seen == [1, 4]
