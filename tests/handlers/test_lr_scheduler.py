"""Tests of learning rate schedules, on real trainings."""

import copy

import pytest
from torch.optim import lr_scheduler

from camshaft import BackpropEvents, Events, create_supervised_evaluator
from camshaft.handlers import LRScheduler
from camshaft.metrics import Loss
from support.learning import batches, classifier, criterion, same, sgd
from support.optimization import by_hand, run, training

SCHEDULES = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 3, 0.5),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=14),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer, 0.1, 1, 5), lr_scheduler.ExponentialLR(optimizer, 0.9)], [5]
    ),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda n: 1 / (n + 1)),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("at", [BackpropEvents.OPTIM_STEP_COMPLETED, Events.ITERATION_COMPLETED])
def test_any_scheduler_of_torch_equals_a_loop_written_by_hand(name, at):
    trainer, model, optimizer = training()
    twin = copy.deepcopy(model)
    other = sgd(twin)
    schedule = SCHEDULES[name](other)
    by_hand(twin, other, schedule.step, epochs=2)
    handler = LRScheduler(SCHEDULES[name](optimizer))
    trainer.add_event_handler(at, handler)
    run(trainer, max_epochs=2)
    assert same(model, twin)
    assert handler.lr_scheduler.get_last_lr() == schedule.get_last_lr()


def test_a_plateau_is_judged_by_a_score():
    trainer, model, optimizer = training()
    evaluator = create_supervised_evaluator(model, {"loss": Loss(criterion)})
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=batches(shuffle=False))
    scores = []

    def score(engine):
        scores.append(evaluator.state.metrics["loss"])
        return scores[-1]

    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, LRScheduler(plateau, score))
    run(trainer, max_epochs=8)
    expected = lr_scheduler.ReduceLROnPlateau(sgd(classifier()), patience=0, threshold=0.1)
    for value in scores:
        expected.step(value)
    assert plateau.get_last_lr() == expected.get_last_lr()
    assert plateau.get_last_lr()[0] < 0.1


def test_a_saved_schedule_goes_on_where_it_was():
    def build():
        trainer, model, optimizer = training()
        handler = LRScheduler(lr_scheduler.StepLR(optimizer, 3, 0.5))
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, handler)
        return trainer, model, optimizer, handler

    whole = build()
    run(whole[0], max_epochs=2)
    first, second = build(), build()
    run(first[0], max_epochs=1)
    for part, saved in zip(second, first, strict=True):
        part.load_state_dict(copy.deepcopy(saved.state_dict()))
    second[0].run(batches(), max_epochs=2)
    assert second[3].state_dict() == whole[3].state_dict()
    assert second[2].param_groups[0]["lr"] == whole[2].param_groups[0]["lr"] == pytest.approx(0.1 / 16)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (
            lambda optimizer: LRScheduler(optimizer),
            TypeError,
            "LRScheduler: lr_scheduler must be a scheduler of torch.optim.lr_scheduler, got",
        ),
        (
            lambda optimizer: LRScheduler(lr_scheduler.ReduceLROnPlateau(optimizer)),
            ValueError,
            "a ReduceLROnPlateau needs a score: give score_function=",
        ),
        (
            lambda optimizer: LRScheduler(lr_scheduler.StepLR(optimizer, 1), lambda engine: 0.0),
            ValueError,
            "a StepLR takes no score: leave score_function out",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(sgd(classifier()))
