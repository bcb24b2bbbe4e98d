"""Data of a run: of known and unknown length, shorter than an epoch, restarted, replaced."""

from __future__ import annotations

from itertools import count

import pytest
from torch.utils.data import DataLoader

from camshaft import Engine, Events, record
from camshaft.testing import call_at
from support.engines import ITERATION, RESTARTED, Closing, E, Stream, collect, legal, names
from support.steps import echo, no_op


def test_data_none_needs_epoch_length():
    engine = Engine(echo)
    with pytest.raises(ValueError, match="epoch_length"):
        engine.run(max_epochs=1)
    state = engine.run(epoch_length=3)
    assert (state.iteration, state.batch) == (3, None)


def test_epoch_length_may_be_other_than_the_length_of_the_data():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.run(range(5), max_epochs=2, epoch_length=2)
    assert stepped == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [Closing(3), DataLoader(Stream(), batch_size=None)])
def test_unknown_length_the_first_exhaustion_sets_epoch_length(data):
    engine = Engine(echo)
    first = [E.EPOCH_STARTED, *ITERATION * 3, E.GET_BATCH_STARTED, E.EPOCH_COMPLETED]
    assert legal(engine, data, max_epochs=1) == [E.STARTED, *first, E.COMPLETED]
    assert engine.state.epoch_length == 3


def test_unknown_length_later_epochs_have_the_length_of_the_first():
    trace = legal(Engine(echo), Closing(2), max_epochs=3)
    assert trace.count(E.ITERATION_COMPLETED) == 6
    assert trace.count(E.EPOCH_COMPLETED) == 3


def test_the_data_iterator_is_kept_across_epochs():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    legal(engine, count(), max_epochs=3, epoch_length=2)
    assert stepped == [0, 1, 2, 3, 4, 5]


def test_data_shorter_than_the_epoch_is_restarted():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    trace = legal(engine, [1, 2], epoch_length=3)
    assert trace == [E.STARTED, E.EPOCH_STARTED, *ITERATION * 2, *RESTARTED, E.EPOCH_COMPLETED, E.COMPLETED]
    assert stepped == [1, 2, 1]


def test_data_is_restarted_after_dataloader_stop_iteration():
    engine, data = Engine(echo), Closing(2)
    opened = collect(engine, E.DATALOADER_STOP_ITERATION, lambda engine: data.opened)
    engine.run(data, epoch_length=5)
    assert opened == [1, 2]
    assert data.opened == 3


def test_an_exhausted_iterator_is_restarted_in_the_next_epoch():
    trace = legal(Engine(echo), Closing(2), max_epochs=2, epoch_length=2)
    first, second = (
        [E.EPOCH_STARTED, *ITERATION * 2, E.EPOCH_COMPLETED],
        [E.EPOCH_STARTED, *RESTARTED, *ITERATION, E.EPOCH_COMPLETED],
    )
    assert trace == [E.STARTED, *first, *second, E.COMPLETED]


def test_data_may_be_replaced_at_dataloader_stop_iteration():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(E.DATALOADER_STOP_ITERATION, lambda engine: engine.set_data([7, 8, 9]))
    legal(engine, iter([1, 2]), epoch_length=4)
    assert stepped == [1, 2, 7, 8]


def test_data_that_cannot_be_restarted_ends_the_run():
    engine = Engine(echo)
    with record() as trace, pytest.warns(UserWarning, match=r"\b2\b.*\b5\b"):
        engine.run(iter([1, 2]), epoch_length=5)
    trace.assert_legal()
    assert names(trace)[-4:] == ["get_batch_started", "dataloader_stop_iteration", "terminate", "completed"]
    assert engine.state.iteration == 2


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (E.GET_BATCH_STARTED(event_filter=lambda engine, count: engine.state.iteration == 1), [1, 10, 20, 30]),
        (E.GET_BATCH_COMPLETED(event_filter=lambda engine, count: engine.state.iteration == 1), [1, 2, 10, 20]),
        (E.ITERATION_STARTED(once=2), [1, 2, 10, 20]),
        (E.ITERATION_COMPLETED(once=2), [1, 2, 10, 20]),
        (E.EPOCH_STARTED, [10, 20, 30, 40]),
    ],
)
def test_set_data_acts_at_the_next_fetch(event, expected):
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(event, lambda engine: engine.set_data([10, 20, 30, 40]))
    legal(engine, [1, 2, 3, 4])
    assert stepped == expected


def test_set_data_in_a_step_acts_at_the_next_fetch():
    stepped = []

    def step(engine, batch):
        stepped.append(batch)
        if batch == 2:
            engine.set_data([10, 20, 30, 40])

    legal(Engine(step), [1, 2, 3, 4])
    assert stepped == [1, 2, 10, 20]


def test_set_data_at_epoch_completed_acts_in_the_next_epoch():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(E.EPOCH_COMPLETED(once=1), lambda engine: engine.set_data([10, 20, 30]))
    legal(engine, [1, 2], max_epochs=2)
    assert stepped == [1, 2, 10, 20]


def test_data_used_up_by_an_earlier_run_is_not_called_empty():
    engine, data = Engine(no_op), (number for number in range(3))
    engine.run(data, max_epochs=1)
    with pytest.warns(UserWarning, match="cannot be restarted"):
        engine.run(max_epochs=2)


def test_used_up_data_can_be_replaced_after_a_terminated_epoch():
    engine = Engine(no_op)
    call_at(engine, Events.GET_BATCH_STARTED, engine.terminate_epoch, n=4)
    engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda: engine.set_data([7, 8]))
    with record() as trace:
        state = engine.run(iter([0, 1]), max_iters=3)
    assert state.iteration == 3
    assert state.batch == 7
    assert trace.count(Events.DATALOADER_STOP_ITERATION) == 1
    trace.assert_legal()


def test_a_run_that_is_continued_begins_its_epoch_at_0():
    engine = Engine(lambda engine, batch: None)
    engine.run([1, 2, 3], max_epochs=2)
    seen = []
    for event in (Events.STARTED, Events.EPOCH_STARTED, Events.ITERATION_STARTED):
        engine.add_event_handler(event, lambda: seen.append(engine.position))
    engine.run([1, 2, 3], max_epochs=3)
    assert seen == [0, 0, 1, 2, 3]


class Prefetcher:
    """Data that is its own iterator, and begins anew at each iter()."""

    def __init__(self, batches, begins_anew=True):
        self.batches, self.begins_anew, self.begun, self.left = batches, begins_anew, 0, iter(batches)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.begun += 1
        self.left = iter(self.batches) if self.begins_anew else self.left
        return self

    def __next__(self):
        return next(self.left)


@pytest.mark.parametrize("epoch_length", [None, 2, 5])
def test_data_that_is_its_own_iterator_is_begun_once(epoch_length):
    data, plain = Prefetcher([1, 2, 3]), [1, 2, 3]
    seen = []
    for one in (data, plain):
        engine = Engine(lambda engine, batch: batch)
        batches = []
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: batches.append(engine.state.output))
        with record() as trace:
            engine.run(one, max_epochs=3, epoch_length=epoch_length)
        trace.assert_legal()
        seen.append(batches)
    assert seen[0] == seen[1]
    assert data.begun == {None: 3, 2: 2, 5: 5}[epoch_length]


def test_data_that_is_its_own_iterator_is_resumed_at_its_place():
    engine = Engine(lambda engine, batch: batch)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), engine.interrupt)
    engine.run(Prefetcher([1, 2, 3]), max_epochs=2)
    state, engine, batches = engine.state_dict(), Engine(lambda engine, batch: batch), []
    engine.load_state_dict(state)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: batches.append(engine.state.output))
    engine.run(Prefetcher([1, 2, 3]))
    assert batches == [2, 3]


def test_an_iterator_that_cannot_begin_anew_is_read_once():
    data = Prefetcher([1, 2, 3], begins_anew=False)
    engine = Engine(lambda engine, batch: batch)
    with pytest.warns(UserWarning, match="cannot be restarted and ended after 0 iterations"):
        engine.run(data, max_epochs=2)
    assert engine.state.iteration == 3
