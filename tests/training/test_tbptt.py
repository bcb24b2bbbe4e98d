"""Tests of truncated BPTT, compared bit for bit with a loop written by hand and with pytorch-ignite's trainer."""

import copy
import gc
import weakref

import ignite.engine
import pytest
import torch
from ignite.contrib.engines import tbptt as theirs
from torch import nn

from camshaft import (
    BackpropEvents,
    Engine,
    Events,
    TbpttEvents,
    create_supervised_tbptt_trainer,
    record,
    tbptt_loop,
)
from support.learning import same, sgd

STEPS, BATCH, FEATURES = 10, 4, 3
criterion = nn.MSELoss()


class Recurrent(nn.Module):
    """LSTM with a pair as hidden state, or GRU with a tensor, and an output for each time step."""

    def __init__(self, cell, batch_first):
        super().__init__()
        self.cell = cell(FEATURES, 8, batch_first=batch_first)
        self.out = nn.Linear(8, 1)

    def forward(self, x, hidden=None):
        y, hidden = self.cell(x, hidden)
        return self.out(y), hidden


def recurrent(cell=nn.LSTM, dim=0):
    torch.manual_seed(0)
    return Recurrent(cell, batch_first=dim == 1)


def sequences(dim=0, steps=STEPS, number=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, steps, BATCH, FEATURES, generator=generator)
    y = x.cumsum(dim=1).mean(dim=-1, keepdim=True)
    return [(a.transpose(0, dim).contiguous(), b.transpose(0, dim).contiguous()) for a, b in zip(x, y, strict=True)]


def cut(hidden):
    return hidden.detach() if isinstance(hidden, torch.Tensor) else tuple(part.detach() for part in hidden)


def by_hand(model, optimizer, data, size, dim, epochs=2):
    means, losses = [], []
    for _ in range(epochs):
        for x, y in data:
            hidden, chunks = None, []
            for x_t, y_t in zip(x.split(size, dim), y.split(size, dim), strict=True):
                model.train()
                optimizer.zero_grad()
                y_pred, hidden = model(x_t, hidden if hidden is None else cut(hidden))
                loss = criterion(y_pred, y_t)
                loss.backward()
                optimizer.step()
                chunks.append(loss.item())
            losses += chunks
            means.append(sum(chunks) / len(chunks))
    return means, losses


def trained(trainer, data, batch=Events.ITERATION_COMPLETED, chunk=TbpttEvents.TIME_ITERATION_COMPLETED):
    means, losses = [], []
    trainer.add_event_handler(batch, lambda engine: means.append(engine.state.output))
    trainer.add_event_handler(chunk, lambda engine: losses.append(engine.state.output))
    trainer.run(data, max_epochs=2)
    return means, losses


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_weights_and_losses_equal_a_loop_by_hand_and_ignite(cell, dim, size):
    data = sequences(dim)
    model = recurrent(cell, dim)
    twin, foreign = copy.deepcopy(model), copy.deepcopy(model)
    expected = by_hand(twin, sgd(twin), data, size, dim)
    with record() as trace:
        assert trained(create_supervised_tbptt_trainer(model, sgd(model), criterion, size, dim), data) == expected
    trace.assert_legal()
    assert same(model, twin)

    trainer = theirs.create_supervised_tbptt_trainer(foreign, sgd(foreign), criterion, size, dim)
    events = ignite.engine.Events.ITERATION_COMPLETED, theirs.Tbptt_Events.TIME_ITERATION_COMPLETED
    assert trained(trainer, data, *events) == expected
    assert same(foreign, twin)


def test_time_is_a_loop_with_events_and_a_counter_of_its_own():
    model = recurrent()
    trainer = create_supervised_tbptt_trainer(model, sgd(model), criterion, 4)
    assert str(trainer.loop).splitlines()[2:7] == [
        "  ITERATION  for each batch",
        "    TIME  for each of chunks",
        "      FORWARD",
        "      BACKWARD",
        "      OPTIM_STEP",
    ]
    seen = []

    @trainer.on(BackpropEvents.BACKWARD_COMPLETED)
    def note(engine):
        seen.append((engine.state.iteration, engine.state.time, engine.place))

    with record() as trace:
        state = trainer.run(sequences(number=2))
    trace.assert_legal()
    assert state.time == trace.count(TbpttEvents.TIME_ITERATION_STARTED) == 6
    assert [count for _, count, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1][2] == "EPOCH 1 / ITERATION 2 / TIME 6 / BACKWARD"


def test_events_of_ignite_are_handles_of_the_same_events():
    model = recurrent()
    trainer = create_supervised_tbptt_trainer(model, sgd(model), criterion, 4)
    counts = []
    event = theirs.Tbptt_Events.TIME_ITERATION_STARTED(every=2)
    trainer.add_event_handler(event, lambda engine: counts.append(engine.state.time))
    trainer.run(sequences(number=1))
    assert counts == [2]


def test_gradients_do_not_flow_but_the_hidden_state_does():
    data = sequences(number=1)
    losses = {}
    for size in (5, 10):
        model = recurrent()
        frozen = torch.optim.SGD(model.parameters(), lr=0.0)
        trainer = create_supervised_tbptt_trainer(model, frozen, criterion, size)
        losses[size] = trainer.run(data).output
        losses[f"{size} gradient"] = model.cell.weight_hh_l0.grad.clone()
    assert losses[5] == pytest.approx(losses[10], rel=1e-5)
    assert not torch.allclose(losses["5 gradient"], losses["10 gradient"])


def test_nothing_of_a_batch_is_kept_when_its_chunks_are_done():
    model = recurrent()
    trainer = create_supervised_tbptt_trainer(model, sgd(model), criterion, 4)
    alive = []

    @trainer.on(TbpttEvents.TIME_ITERATION_STARTED)
    def watch(engine):
        alive.append(weakref.ref(engine.state.time_item[0]))

    @trainer.on(Events.ITERATION_COMPLETED)
    def look():
        gc.collect()
        assert [reference() for reference in alive] == [None] * len(alive)

    trainer.run(sequences(), max_epochs=1)
    assert len(alive) == 9


def test_prepare_batch_gets_each_chunk_and_the_device():
    model = recurrent()
    calls = []

    def prepare(batch, device, non_blocking):
        calls.append((batch[0].shape[0], device, non_blocking))
        return batch

    trainer = create_supervised_tbptt_trainer(model, sgd(model), criterion, 4, 0, "cpu", True, prepare)
    trainer.run(sequences(number=1))
    assert calls == [(4, "cpu", True), (4, "cpu", True), (2, "cpu", True)]


def test_the_loop_can_be_extended():
    model = recurrent()
    engine = Engine(tbptt_loop(model, sgd(model), criterion, 5), "trainer")
    engine.register_events("grads_clipped", after="BACKWARD")
    with record() as trace:
        engine.run(sequences(number=1))
    trace.assert_legal()
    assert trace.count("grads_clipped") == 2


@pytest.mark.parametrize("size", [0, -3, 2.5, None, True])
def test_what_is_no_number_of_time_steps_is_refused(size):
    model = recurrent()
    with pytest.raises(ValueError, match="tbtt_step must be an integer of 1 or more, got .*"):
        create_supervised_tbptt_trainer(model, sgd(model), criterion, size)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (torch.zeros(3, 2, 1), r"a batch must be a pair of tensors \(x, y\) with the time dimension \d, got a Tensor"),
        (
            (torch.zeros(3, 2, 3), [1, 2]),
            r"a batch must be a pair of tensors \(x, y\) with the time dimension \d, got a tuple",
        ),
        ((torch.zeros(4, 2, 3), torch.zeros(3, 2, 1)), "x has 4 time steps and y has 3, in dimension 0"),
        ((torch.zeros(0, 2, 3), torch.zeros(0, 2, 1)), "x has 0 time steps and y has 0"),
    ],
)
def test_batches_that_have_no_time_are_refused(batch, says):
    model = recurrent()
    trainer = create_supervised_tbptt_trainer(model, sgd(model), criterion, 4)
    with pytest.raises(ValueError, match=says):
        trainer.run([batch])
