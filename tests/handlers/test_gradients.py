"""Schedules of learning rates, averages of weights, clipping and norms of gradients: on real trainings."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from camshaft import BackpropEvents, Events, create_supervised_evaluator, create_supervised_trainer, event, record
from camshaft.handlers import EMA, ClipGradNorm, ClipGradValue, GradNorm, LRScheduler
from camshaft.metrics import Loss
from support.learning import batches, classifier, same, sgd

criterion = nn.CrossEntropyLoss()


def training(**options):
    model = classifier()
    optimizer = sgd(model)
    return create_supervised_trainer(model, optimizer, criterion, **options), model, optimizer


def run(trainer, **limits):
    torch.manual_seed(5)
    with record() as trace:
        trainer.run(batches(), **limits)
    trace.assert_legal()


def by_hand(model, optimizer, each=lambda: None, between=lambda: None, epochs=1, after=lambda: None):
    """A loop in which something happens between backward and step, after each step, and after each epoch."""
    torch.manual_seed(5)
    data = batches()
    for _ in range(epochs):
        for x, y in data:
            model.train()
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            between()
            optimizer.step()
            each()
        after()


# -- schedules ------------------------------------------------------------------------------------------------------

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
        (lambda optimizer: LRScheduler(optimizer), TypeError, "is no scheduler of torch.optim.lr_scheduler"),
        (
            lambda optimizer: LRScheduler(lr_scheduler.ReduceLROnPlateau(optimizer)),
            ValueError,
            "a ReduceLROnPlateau judges a score: give score_function=",
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


# -- averages of weights ----------------------------------------------------------------------------------------------


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
        (("model",), TypeError, "EMA: 'model' is no torch.nn.Module"),
        ((nn.Linear(1, 1), 1.5), ValueError, "EMA: decay=1.5 is not from 0 to 1"),
        ((nn.Linear(1, 1), -0.1), ValueError, "EMA: decay=-0.1 is not from 0 to 1"),
        ((nn.Linear(1, 1), "0.9"), ValueError, "EMA: decay='0.9' is not from 0 to 1"),
    ],
)
def test_what_cannot_be_averaged_is_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        EMA(*arguments)


# -- gradients --------------------------------------------------------------------------------------------------------

CLIPPERS = {
    "norm": (lambda p: ClipGradNorm(p, 0.05), lambda p: nn.utils.clip_grad_norm_(p, 0.05)),
    "infinity norm": (
        lambda p: ClipGradNorm(p, 0.01, norm_type=float("inf")),
        lambda p: nn.utils.clip_grad_norm_(p, 0.01, float("inf")),
    ),
    "value": (lambda p: ClipGradValue(p, 0.001), lambda p: nn.utils.clip_grad_value_(p, 0.001)),
}


@pytest.mark.parametrize("name", CLIPPERS)
def test_clipping_equals_a_loop_written_by_hand(name):
    handler, function = CLIPPERS[name]
    trainer, model, _ = training()
    twin, plain = copy.deepcopy(model), copy.deepcopy(model)
    by_hand(twin, sgd(twin), between=lambda: function(twin.parameters()), epochs=2)
    by_hand(plain, sgd(plain), epochs=2)
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, handler(model.parameters()))
    run(trainer, max_epochs=2)
    assert same(model, twin)
    assert not same(model, plain)


def test_norms_before_and_after_clipping_are_metrics():
    trainer, model, _ = training()
    expected, seen = [], []

    @trainer.on(event(BackpropEvents.BACKWARD_COMPLETED, priority=1))
    def measure():
        expected.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())

    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, GradNorm(model.parameters()))
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, ClipGradNorm(model.parameters(), 0.05))
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, GradNorm(model.parameters(), "clipped"))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    run(trainer)
    assert [each["grad_norm"] for each in seen] == pytest.approx(expected, rel=1e-5)
    assert [each["clipped"] for each in seen] == pytest.approx([0.05] * 7, rel=1e-3)


def test_with_a_scaler_they_belong_behind_unscale():
    trainer, model, _ = training(scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, GradNorm(model.parameters(), "scaled"))
    trainer.add_event_handler("unscale_completed", GradNorm(model.parameters(), norm_type=2))
    run(trainer, max_iters=1)
    assert trainer.state.metrics["scaled"] == pytest.approx(1024 * trainer.state.metrics["grad_norm"], rel=1e-5)


def test_with_accumulation_they_belong_before_the_step():
    trainer, model, _ = training(gradient_accumulation_steps=3)
    twin = copy.deepcopy(model)
    optimizer = sgd(twin)
    torch.manual_seed(5)
    for index, (x, y) in enumerate(batches()):
        if index % 3 == 0:
            optimizer.zero_grad()
        (criterion(twin.train()(x), y) / (1 if index == 6 else 3)).backward()
        if index % 3 == 2 or index == 6:
            nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
            optimizer.step()
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_STARTED, ClipGradNorm(model.parameters(), 0.05))
    run(trainer)
    assert same(model, twin)


def test_a_norm_that_is_not_finite_can_be_an_error():
    trainer, model, _ = training()

    @trainer.on(event(BackpropEvents.BACKWARD_COMPLETED, priority=1))
    def overflow():
        model[0].weight.grad[0, 0] = float("nan")

    clip = ClipGradNorm(model.parameters(), 1.0, error_if_nonfinite=True)
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, clip)
    with pytest.raises(RuntimeError, match="non-finite") as caught:
        trainer.run(batches())
    assert caught.value.__notes__ == ["in trainer: EPOCH 1 / ITERATION 1 / BACKWARD"]


@pytest.mark.parametrize("handler", [lambda p: ClipGradNorm(p, 1.0), lambda p: ClipGradValue(p, 1.0), GradNorm])
@pytest.mark.parametrize("parameters", [nn.Linear(1, 1), [], [1.0], iter(())])
def test_what_has_no_gradients_is_refused(handler, parameters):
    with pytest.raises(TypeError, match=r"model.parameters\(\)"):
        handler(parameters)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda p: ClipGradNorm(p, 0), "ClipGradNorm: max_norm=0 is no number above 0"),
        (lambda p: ClipGradNorm(p, "1"), "ClipGradNorm: max_norm='1' is no number above 0"),
        (lambda p: ClipGradNorm(p, 1, float("nan")), "ClipGradNorm: norm_type=nan is no number above 0"),
        (lambda p: ClipGradValue(p, -1), "ClipGradValue: clip_value=-1 is no number above 0"),
        (lambda p: GradNorm(p, norm_type=0), "GradNorm: norm_type=0 is no number above 0"),
    ],
)
def test_limits_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong(nn.Linear(1, 1).parameters())
