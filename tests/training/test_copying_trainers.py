"""Deep copies and pickles of supervised engines: each has its own model, optimizer and metrics."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from camshaft import (
    Engine,
    Events,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
)
from camshaft.metrics import Accuracy

X = torch.linspace(-1, 1, 24).reshape(12, 2)
DATA = [(x, (x[:, 0] > 0.3).long()) for x in X.split(3)]
SEQUENCES = [(X.reshape(2, 6, 2), X.reshape(2, 6, 2))]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNN(2, 2, batch_first=True)

    def forward(self, x, hidden=None):
        return self.cell(x, hidden)


class StepsByClosure(torch.optim.SGD):
    """An optimizer that needs a closure, as LBFGS does. (torch cannot copy an LBFGS.)"""

    def step(self, closure):
        closure()
        super().step()


def supervised(make=torch.optim.SGD, lr=0.1, **options):
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    trainer = create_supervised_trainer(
        model, make(model.parameters(), lr=lr), nn.functional.cross_entropy, name="trainer", **options
    )
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=DATA)
    return trainer, DATA


def recurrent():
    torch.manual_seed(0)
    model = Recurrent()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return create_supervised_tbptt_trainer(model, optimizer, nn.functional.mse_loss, 2, dim=1), SEQUENCES


TRAINERS = {
    "plain": supervised,
    "Adam": lambda: supervised(torch.optim.Adam),
    "window": lambda: supervised(gradient_accumulation_steps=3),
    "scaler": lambda: supervised(scaler=torch.amp.GradScaler("cpu")),
    "autocast": lambda: supervised(autocast=torch.autocast("cpu", torch.bfloat16)),
    "closure": lambda: supervised(StepsByClosure),
    "time": recurrent,
}


def model_of(engine):
    """Return the model that FORWARD or OPTIM_STEP of an engine uses."""
    todo, seen = [next(item.run.__self__ for _, item in engine.loop.walk() if getattr(item, "run", None))], set()
    while todo:
        part = todo.pop()
        if isinstance(part, nn.Module):
            return part
        if id(part) not in seen and type(part).__module__.startswith("camshaft.training"):
            seen.add(id(part))
            names = getattr(type(part), "__slots__", ()) or vars(part)
            todo += [getattr(part, name) for name in names if hasattr(part, name) and name != "__weakref__"]
    raise AssertionError("no model found")


def values(engine):
    inner = [nested.engine.state.metrics.copy() for nested in engine.loop.nested]
    return [parameter.tolist() for parameter in model_of(engine).parameters()], engine.state.output, inner


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
@pytest.mark.parametrize("kind", TRAINERS)
def test_a_copy_trains_as_its_original_would_and_leaves_it_alone(kind, how):
    straight, data = TRAINERS[kind]()
    straight.run(data, max_epochs=3)
    trainer, data = TRAINERS[kind]()
    trainer.run(data, max_epochs=1)
    made, before = how(trainer), values(trainer)
    made.run(data, max_epochs=3)
    assert values(made) == values(straight) != before
    assert values(trainer) == before
    trainer.run(data, max_epochs=3)
    assert values(trainer) == values(straight)


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_a_copied_metric_has_its_own_numbers(how):
    evaluator = create_supervised_evaluator(nn.Linear(2, 2), {"accuracy": Accuracy()})
    evaluator.run(DATA)
    expected = evaluator.state.metrics["accuracy"]
    made = how(evaluator)
    evaluator.state.metrics.clear()
    made.run(DATA)
    assert made.state.metrics == {"accuracy": expected}
    assert not evaluator.state.metrics
    names = [[handler.name for handler in each.handlers(Events.ITERATION_COMPLETED)] for each in (evaluator, made)]
    assert names == [["accuracy.update"]] * 2
    assert isinstance(made, Engine)


class CountsUpdates(Accuracy):
    """A metric that also counts in an attribute."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def update(self, *args):
        self.count += 1
        super().update(*args)


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_a_copied_metric_saves_its_own_attributes(how):
    def saved(engine):
        handler = next(each for each in engine.handlers(Events.EPOCH_COMPLETED) if each.name == "accuracy.compute")
        return handler.function.state_dict()["attributes"]["changed"]

    evaluator = create_supervised_evaluator(nn.Linear(2, 2), {"accuracy": CountsUpdates()})
    evaluator.run(DATA)
    made, before = how(evaluator), saved(evaluator)
    made.run(DATA)
    assert saved(evaluator) == before
    assert saved(made)[""]["count"] == 2 * before[""]["count"] == 2 * len(DATA)
