"""Tests of clipping and norms of gradients, on real trainings."""

import copy

import pytest
import torch
from torch import nn

from camshaft import BackpropEvents, Events, event
from camshaft.handlers import ClipGradNorm, ClipGradValue, GradNorm
from support.learning import batches, criterion, same, sgd
from support.optimization import by_hand, run, training

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
    assert caught.value.__notes__ == [
        "in trainer: EPOCH 1 / ITERATION 1 / BACKWARD, at BACKWARD_COMPLETED, in handler ClipGradNorm"
    ]


@pytest.mark.parametrize("handler", [lambda p: ClipGradNorm(p, 1.0), lambda p: ClipGradValue(p, 1.0), GradNorm])
@pytest.mark.parametrize("parameters", [nn.Linear(1, 1), [], [1.0], iter(())])
def test_what_has_no_gradients_is_refused(handler, parameters):
    with pytest.raises(TypeError, match=r"model.parameters\(\)"):
        handler(parameters)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda p: ClipGradNorm(p, 0), "ClipGradNorm: max_norm must be a number above 0, got 0"),
        (lambda p: ClipGradNorm(p, "1"), "ClipGradNorm: max_norm must be a number above 0, got '1'"),
        (lambda p: ClipGradNorm(p, 1, float("nan")), "ClipGradNorm: norm_type must be a number above 0, got nan"),
        (lambda p: ClipGradValue(p, -1), "ClipGradValue: clip_value must be a number above 0, got -1"),
        (lambda p: GradNorm(p, norm_type=0), "GradNorm: norm_type must be a number above 0, got 0"),
    ],
)
def test_limits_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong(nn.Linear(1, 1).parameters())
