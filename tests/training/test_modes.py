"""Tests of training and evaluation mode: when it is switched, and what handlers may switch back."""

import copy

import pytest
import torch
from torch import nn

from camshaft import (
    BackpropEvents,
    Engine,
    Events,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    supervised_loop,
)
from support.learning import batches, classifier, criterion, same, sgd


def modes(model):
    return [part.training for part in model.modules()]


def by_own_function(model):
    def evaluate():
        model.eval()
        with torch.no_grad():
            model(next(iter(batches(shuffle=False)))[0])

    return evaluate


def by_evaluator(model):
    evaluator = create_supervised_evaluator(model, model_fn=lambda model, x: x)
    return lambda: evaluator.run(batches(shuffle=False))


def nested(trainer, model, at):
    trainer.nest(create_supervised_evaluator(model), on=at, data=batches(shuffle=False))


def called(trainer, model, at):
    trainer.add_event_handler(at, by_evaluator(model))


def foreign(trainer, model, at):
    trainer.add_event_handler(at, by_own_function(model))


EVALUATIONS = {
    "none": lambda trainer, model: None,
    "nested, each epoch": lambda trainer, model: nested(trainer, model, Events.EPOCH_COMPLETED),
    "nested, in mid-epoch": lambda trainer, model: nested(trainer, model, Events.ITERATION_COMPLETED(every=2)),
    "called, at the start": lambda trainer, model: called(trainer, model, Events.STARTED),
    "called, in mid-epoch": lambda trainer, model: called(trainer, model, Events.ITERATION_COMPLETED(every=3)),
    "foreign, each epoch": lambda trainer, model: foreign(trainer, model, Events.EPOCH_COMPLETED),
    "of a part": lambda trainer, model: called(trainer, model[0], Events.ITERATION_COMPLETED(every=3)),
    "of some parts": lambda trainer, model: called(trainer, model[1:3], Events.ITERATION_COMPLETED(every=3)),
}

WRAPPERS = {
    "the model": lambda model: model,
    "DataParallel": nn.DataParallel,
    "a compiled model": lambda model: torch.compile(model, backend="eager"),
    "a part of another": nn.Sequential,
}


@pytest.mark.parametrize("at", [Events.EPOCH_STARTED, Events.ITERATION_STARTED])
@pytest.mark.parametrize("wrapper", ["the model", "DataParallel", "a part of another"])
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_frozen_parts_stay_frozen(evaluation, wrapper, at):
    model = classifier()
    trained = WRAPPERS[wrapper](model)
    trainer = create_supervised_trainer(trained, sgd(model), criterion)
    EVALUATIONS[evaluation](trainer, model)
    trainer.add_event_handler(at, model[1].eval)
    seen = []
    trainer.add_event_handler(BackpropEvents.FORWARD_COMPLETED, lambda: seen.append(modes(model)))
    trainer.run(batches(), max_epochs=2)
    assert seen == [[True, True, False, True, True, True]] * 14
    assert torch.equal(model[1].running_mean, torch.zeros(16))


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("make", ["trainer", "loop"])
def test_nothing_stays_in_evaluation_mode(make, evaluation, wrapper):
    if (make, evaluation, wrapper) == ("loop", "foreign, each epoch", "a part of another"):
        pytest.skip("a loop alone cannot tell a part that other code has evaluated from one that is frozen")
    model = classifier()
    trained = WRAPPERS[wrapper](model)
    if make == "trainer":
        trainer = create_supervised_trainer(trained, sgd(model), criterion)
    else:
        trainer = Engine(supervised_loop(trained, sgd(model), criterion))
    EVALUATIONS[evaluation](trainer, model)
    trained.eval()
    seen = []
    trainer.add_event_handler(BackpropEvents.FORWARD_COMPLETED, lambda: seen.append(all(modes(model))))
    trainer.run(batches(), max_epochs=2)
    assert seen == [True] * 14


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_equal_a_loop_by_hand_that_switches_once_an_epoch(frozen):
    model = classifier()
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    optimizer, data = sgd(twin), batches()
    for _ in range(3):
        twin.train()
        if frozen:
            twin[1].eval()
        for x, y in data:
            optimizer.zero_grad()
            criterion(twin(x), y).backward()
            optimizer.step()
        twin.eval()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    nested(trainer, model, Events.EPOCH_COMPLETED)
    if frozen:
        trainer.add_event_handler(Events.EPOCH_STARTED, model[1].eval)
    torch.manual_seed(5)
    trainer.run(batches(), max_epochs=3)
    assert same(model, twin)


def test_a_part_evaluated_inside_an_evaluated_model_returns_to_its_mode():
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    called(trainer, model[:2], Events.ITERATION_COMPLETED(every=2))
    called(trainer, model, Events.ITERATION_COMPLETED(every=2))
    trainer.add_event_handler(Events.EPOCH_STARTED, model[3].eval)
    seen = []
    trainer.add_event_handler(BackpropEvents.FORWARD_COMPLETED, lambda: seen.append(modes(model)))
    trainer.run(batches())
    assert seen == [[True, True, True, True, False, True]] * 7


class Merged(nn.Linear):
    """A layer that changes its weight with its mode, as layers do that merge low-rank updates."""

    def train(self, mode=True):
        if mode != self.training:
            self.weight.data += 1 if mode else -1
        return super().train(mode)


def test_the_mode_is_switched_through_train():
    model = nn.Sequential(Merged(6, 3), nn.BatchNorm1d(3))
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), criterion)
    trainer.add_event_handler(Events.EPOCH_STARTED, model[1].eval)
    called(trainer, model, Events.ITERATION_COMPLETED)
    before, seen = model[0].weight.clone(), []
    trainer.add_event_handler(
        BackpropEvents.FORWARD_COMPLETED, lambda: seen.append((model[0].weight - before).abs().max().item())
    )
    trainer.run(batches())
    assert seen == pytest.approx([0.0] * 7, abs=1e-6)


def test_evaluating_another_model_changes_nothing():
    model, other = classifier(), classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    trainer.add_event_handler(Events.EPOCH_STARTED, model[1].eval)
    called(trainer, other, Events.ITERATION_COMPLETED)
    trainer.run(batches())
    assert modes(model) == [True, True, False, True, True, True]
    assert not any(modes(other))


def test_a_model_stays_in_evaluation_mode_after_an_evaluation():
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    nested(trainer, model, Events.EPOCH_COMPLETED)
    trainer.run(batches())
    assert not any(modes(model))


def test_a_handler_of_an_evaluator_can_train_parts():
    model = classifier().train()
    evaluator = create_supervised_evaluator(model)
    seen = []
    evaluator.add_event_handler(Events.EPOCH_STARTED, lambda: model[3].train())
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(modes(model)))
    evaluator.run(batches())
    assert seen == [[False, False, False, False, True, False]] * 7


def test_the_mode_is_switched_once_an_epoch():
    model, switched = classifier(), []
    own = model.train
    model.train = lambda mode=True: switched.append(mode) or own(mode)
    create_supervised_trainer(model, sgd(model), criterion).run(batches(), max_epochs=3)
    assert switched == [True] * 3
    create_supervised_evaluator(model).run(batches(), max_epochs=2)
    assert switched == [True] * 3 + [False] * 2


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.norm = nn.RNN(2, 2, batch_first=True), nn.BatchNorm1d(2)

    def forward(self, x, hidden=None):
        y, hidden = self.cell(x, hidden)
        return self.norm(y.transpose(1, 2)).transpose(1, 2), hidden


def test_frozen_parts_stay_frozen_in_chunks_of_time():
    model = Recurrent()
    trainer = create_supervised_tbptt_trainer(model, sgd(model), nn.functional.mse_loss, tbtt_step=2, dim=1)
    trainer.add_event_handler(Events.EPOCH_STARTED, model.norm.eval)
    trainer.run([(torch.randn(3, 5, 2), torch.randn(3, 5, 2))] * 3, max_epochs=2)
    assert torch.equal(model.norm.running_mean, torch.zeros(2))


def test_frozen_parts_stay_frozen_in_a_closure():
    model = classifier(dropout=0)
    trainer = create_supervised_trainer(model, torch.optim.LBFGS(model.parameters(), max_iter=2), criterion)
    trainer.add_event_handler(Events.EPOCH_STARTED, model[1].eval)
    nested(trainer, model, Events.ITERATION_COMPLETED)
    trainer.run(batches(), max_iters=3)
    assert torch.equal(model[1].running_mean, torch.zeros(16))
