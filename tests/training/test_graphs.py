"""Tests that no autograd graph outlives an iteration that ends between FORWARD and BACKWARD."""

import gc
import warnings
import weakref
from contextlib import suppress

import pytest
import torch
from torch import nn

from camshaft import (
    DATA,
    BackpropEvents,
    Engine,
    Events,
    Loop,
    Phase,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    supervised_loop,
)

AFTER_FORWARD = (BackpropEvents.FORWARD_COMPLETED, BackpropEvents.BACKWARD_STARTED)


class Marker:
    """An object that is alive as long as the graph of a marked tensor."""


class Marked(torch.autograd.Function):
    alive: list[weakref.ref]

    @staticmethod
    def forward(ctx, x):
        ctx.marker = Marker()
        Marked.alive.append(weakref.ref(ctx.marker))
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.fixture(autouse=True)
def no_graphs():
    Marked.alive = []
    gc.disable()  # graphs must be freed without the garbage collector
    yield
    gc.enable()


def graphs():
    """Return the number of graphs that are alive."""
    return sum(marker() is not None for marker in Marked.alive)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x, hidden=None):
        return Marked.apply(self.linear(x))


class Recurrent(Model):
    def forward(self, x, hidden=None):
        y = super().forward(x if hidden is None else x + hidden)
        return y, y


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def supervised(**options):
    def make():
        model = Model()
        return create_supervised_trainer(model, sgd(model), nn.functional.mse_loss, **options)

    return make


def tbptt():
    model = Recurrent()
    return create_supervised_tbptt_trainer(model, sgd(model), nn.functional.mse_loss, tbtt_step=1, dim=0)


def closure():
    model = Model()
    return create_supervised_trainer(model, torch.optim.LBFGS(model.parameters()), nn.functional.mse_loss)


class Result:
    """An output that hides its tensors."""

    def __init__(self, loss):
        self.loss = loss


def own_phases(wrap):
    def make():
        model = Model()
        optimizer = sgd(model)

        def forward(engine, batch):
            optimizer.zero_grad()
            return wrap(nn.functional.mse_loss(model(batch[0]), batch[1]))

        def backward(engine, batch):
            return 0.0

        return Engine(
            Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", forward), Phase("BACKWARD", backward), over=DATA))
        )

    return make


TRAINERS = {
    "supervised": supervised(),
    "accumulating": supervised(gradient_accumulation_steps=2),
    "scaled": supervised(scaler=torch.amp.GradScaler("cpu")),
    "through time": tbptt,
    "closure": closure,
    "a tensor": own_phases(lambda loss: loss),
    "a dict": own_phases(lambda loss: {"losses": [loss]}),
    "an object": own_phases(Result),
    "a function": own_phases(lambda loss: lambda: loss),
}

DATA_ = [(torch.ones(3, 2), torch.zeros(3, 2))] * 3


def fail(engine):
    raise ArithmeticError


EXITS = {
    "terminate": Engine.terminate,
    "terminate without COMPLETED": lambda engine: engine.terminate(skip_completed=True),
    "terminate_epoch": Engine.terminate_epoch,
    "terminate_epoch without EPOCH_COMPLETED": lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
    "interrupt": Engine.interrupt,
    "error": fail,
}


@pytest.mark.parametrize("exit", EXITS)
@pytest.mark.parametrize("at", AFTER_FORWARD, ids=str)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_graph_is_left(trainer, at, exit):
    engine = TRAINERS[trainer]()
    engine.add_event_handler(at(once=2), EXITS[exit])
    at_the_end, seen = (Events.TERMINATE, Events.TERMINATE_SINGLE_EPOCH, Events.EPOCH_COMPLETED), []
    for event in (*at_the_end, Events.COMPLETED, Events.EXCEPTION_RAISED):
        engine.add_event_handler(event, lambda *_: seen.append(graphs()))
    with suppress(ArithmeticError):
        engine.run(DATA_)
    if exit == "interrupt":
        assert graphs() == (trainer != "closure")  # its step is complete by then
        engine.close()
    assert graphs() == 0
    if exit != "error":
        assert not any(seen)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_graph_is_left_by_steps_that_are_dropped(trainer):
    engine = TRAINERS[trainer]()
    for event in engine.steps(DATA_):
        if event == BackpropEvents.FORWARD_COMPLETED:
            break
    del event
    engine.close()
    assert graphs() == 0


@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_graph_is_left_by_a_paused_engine_that_is_dropped(trainer):
    engine = TRAINERS[trainer]()
    engine.add_event_handler(AFTER_FORWARD[0](once=2), engine.interrupt)
    engine.run(DATA_)
    del engine
    gc.collect()
    assert graphs() == 0


@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_graph_is_left_by_a_failing_phase(trainer):
    engine = TRAINERS[trainer]()
    with suppress(RuntimeError, ValueError), warnings.catch_warnings(action="ignore"):
        engine.run([DATA_[0], (torch.ones(3, 2), torch.zeros(3, 7))])
    assert graphs() == 0


def test_the_output_of_a_terminated_iteration_keeps_its_values():
    engine = supervised()()
    engine.add_event_handler(AFTER_FORWARD[0], engine.terminate)
    output = engine.run(DATA_).output
    assert (output.y_pred.shape, output.loss.requires_grad) == ((3, 2), False)


def test_the_output_of_a_whole_iteration_is_kept():
    result = Result(torch.ones(1))
    engine = Engine(lambda engine, batch: result)
    engine.add_event_handler(Events.ITERATION_COMPLETED, engine.terminate)
    assert engine.run([1]).output is result


def test_skipped_iterations_have_no_output():
    engine = Engine(supervised_loop(model := Model(), sgd(model), nn.functional.mse_loss))
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), engine.skip_iteration)
    seen = []
    engine.add_event_handler(Events.ITERATION_SKIPPED, lambda: seen.append((graphs(), engine.state.output)))
    engine.run(DATA_)
    assert seen == [(0, None)]
