"""Tests of averages of weights, on real trainings."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from camshaft import BackpropEvents, Events, create_supervised_evaluator
from camshaft.handlers import EMA
from camshaft.metrics import Loss
from support.learning import batches, classifier, criterion, same, sgd
from support.optimization import by_hand, run, training


@pytest.mark.parametrize("use_buffers", [False, True])
def test_the_average_equals_that_of_torch(use_buffers):
    trainer, model, _ = training()
    twin = copy.deepcopy(model)
    theirs = AveragedModel(twin, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    by_hand(twin, sgd(twin), lambda: theirs.update_parameters(twin), epochs=2)
    ema = EMA(model, 0.9, use_buffers)
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, ema)
    run(trainer, max_epochs=2)
    assert same(ema.model, theirs.module)
    assert not same(ema.model, model)
    assert same(model, twin)


def test_the_average_is_evaluated_like_any_model():
    trainer, model, _ = training()
    ema = EMA(model, 0.9)
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, ema)
    evaluator = create_supervised_evaluator(ema.model, {"loss": Loss(criterion)})
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=batches(shuffle=False))
    run(trainer, max_epochs=3)
    plain = create_supervised_evaluator(model, {"loss": Loss(criterion)}).run(batches(shuffle=False)).metrics["loss"]
    assert 0 < evaluator.state.metrics["loss"] != plain


def test_with_accumulation_only_steps_count():
    trainer, model, _ = training(gradient_accumulation_steps=3)
    ema = EMA(model)
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, ema)
    run(trainer)
    assert ema.state_dict()["n_averaged"] == 3


def test_a_saved_average_goes_on_where_it_was(tmp_path):
    model = classifier()
    ema, whole = EMA(model, 0.9), EMA(model, 0.9)
    for n in range(4):
        nn.init.constant_(model[0].weight, n)
        whole()
        if n == 2:
            torch.save(ema.state_dict(), tmp_path / "ema.pt")
            ema = EMA(classifier(seed=1), 0.9)
            ema.load_state_dict(torch.load(tmp_path / "ema.pt", weights_only=True))
            ema._source = model
        ema()
    assert same(ema.model, whole.model)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("model",), TypeError, "EMA: model must be a torch.nn.Module, got 'model'"),
        ((nn.Linear(1, 1), 1.5), ValueError, "EMA: decay must be a number from 0 to 1, got 1.5"),
        ((nn.Linear(1, 1), -0.1), ValueError, "EMA: decay must be a number from 0 to 1, got -0.1"),
        ((nn.Linear(1, 1), "0.9"), ValueError, "EMA: decay must be a number from 0 to 1, got '0.9'"),
    ],
)
def test_what_cannot_be_averaged_is_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        EMA(*arguments)
