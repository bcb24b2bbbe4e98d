"""States saved at the end of an epoch: the run that resumes starts the next data, and reads nothing twice."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from camshaft import Engine, Events


class Reads:
    """Data that counts how many batches were read of it."""

    def __init__(self, number, has_length):
        self.number, self.reads = number, 0
        if has_length:
            self.__class__ = SizedReads

    def __iter__(self):
        for index in range(self.number):
            self.reads += 1
            yield index


class SizedReads(Reads):
    def __len__(self):
        return self.number


def saved_at(event, data, epochs=2, **limits):
    engine, states = Engine(lambda engine, batch: None), []
    engine.add_event_handler(event, lambda: states.append(engine.state_dict()))
    engine.run(data, max_epochs=epochs, **limits)
    return states


def resumed_from(state, data, epochs):
    engine, seen = Engine(lambda engine, batch: seen.append(batch)), []
    for event in (Events.EPOCH_STARTED, Events.DATALOADER_STOP_ITERATION, Events.EPOCH_COMPLETED):
        engine.add_event_handler(event, lambda: seen.append(engine.last_event_name.value))
    engine.load_state_dict(state)
    engine.run(data, max_epochs=epochs)
    return seen, engine


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_state_of_the_end_of_an_epoch_starts_the_next_data(has_length, epoch):
    state = saved_at(Events.EPOCH_COMPLETED, Reads(3, has_length))[epoch - 1]
    data = Reads(3, has_length)
    seen, engine = resumed_from(state, data, epoch + 1)
    assert seen == ["epoch_started", 0, 1, 2, "epoch_completed"]
    assert data.reads == 3
    # of the resumed engine too, whose data was not read to its end
    seen, _ = resumed_from(engine.state_dict(), data, epoch + 2)
    assert seen == ["epoch_started", 0, 1, 2, "epoch_completed"]
    assert data.reads == 6


@pytest.mark.parametrize("has_length", [True, False])
def test_a_state_of_the_end_of_an_epoch_goes_on_in_data_that_is_not_at_its_end(has_length):
    (state,) = saved_at(Events.EPOCH_COMPLETED, Reads(5, has_length), 1, epoch_length=2)
    seen, _ = resumed_from(state, Reads(5, has_length), 3)
    assert [batch for batch in seen if batch not in ("epoch_started", "epoch_completed")] == [
        *[2, 3],
        *[4, "dataloader_stop_iteration", 0],
    ]


def test_states_saved_one_after_the_other_each_start_the_next_data():
    data = Reads(3, False)
    states = saved_at(Events.EPOCH_COMPLETED, data, 1)
    for epoch in range(2, 5):
        engine, more = Engine(lambda engine, batch: None), []
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: more.append(engine.state_dict()))
        engine.load_state_dict(states[-1])
        before = data.reads
        engine.run(data, max_epochs=epoch)
        assert data.reads == before + 3
        states += more


def test_shuffled_data_comes_in_the_order_of_the_next_epoch():
    def loader():
        return DataLoader(range(6), shuffle=True, generator=torch.Generator().manual_seed(0))

    (state,) = saved_at(Events.EPOCH_COMPLETED, loader(), 1)
    data = loader()
    expected = [batch.item() for batch in data]
    data.generator.manual_seed(0)
    seen, _ = resumed_from(state, data, 2)
    assert [batch.item() for batch in seen[1:-1]] == expected
