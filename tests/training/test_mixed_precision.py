"""Tests of autocast and a GradScaler, compared bit for bit with loops written by hand."""

import copy

import pytest
import torch
from torch import nn

from camshaft import (
    BackpropEvents,
    Events,
    create_supervised_evaluator,
    create_supervised_trainer,
    event,
    record,
    supervised_loop,
)
from camshaft.handlers import EMA, LRScheduler
from support.learning import batches, classifier, criterion, same, sgd


def bfloat16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def scaler(**options):
    return torch.amp.GradScaler("cpu", **{"init_scale": 1024.0, "growth_interval": 3} | options)


def by_hand(model, optimizer, scaling=None, clip=None, epochs=2, steps=1):
    losses = []
    for _ in range(epochs):
        data = batches()
        for index, (x, y) in enumerate(data):
            first = index - index % steps
            window = min(steps, len(data) - first)
            model.train()
            if index == first:
                optimizer.zero_grad()
            with bfloat16():
                loss = criterion(model(x), y)
            losses.append(loss.item())
            loss = loss / window if steps > 1 else loss
            (loss if scaling is None else scaling.scale(loss)).backward()
            if index - first + 1 < window:
                continue
            if scaling is not None:
                scaling.unscale_(optimizer)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            if scaling is None:
                optimizer.step()
            else:
                scaling.step(optimizer)
                scaling.update()
    return losses


def trained(trainer):
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output))
    with record() as trace:
        for _ in range(2):  # as in the loop written by hand, every epoch has the same order
            trainer.close()
            trainer.run(batches())
    trace.assert_legal()
    return losses


def test_bfloat16_equals_a_loop_written_by_hand():
    model = classifier()
    twin, single = copy.deepcopy(model), copy.deepcopy(model)
    torch.manual_seed(5)
    expected = by_hand(twin, sgd(twin))
    torch.manual_seed(5)
    assert trained(create_supervised_trainer(model, sgd(model), criterion, autocast=bfloat16())) == expected
    assert same(model, twin)
    torch.manual_seed(5)
    assert trained(create_supervised_trainer(single, sgd(single), criterion)) != expected


@pytest.mark.parametrize("steps", [1, 3])
def test_clipping_after_unscaling_equals_a_loop_written_by_hand(steps):
    model = classifier()
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    expected, scaling = by_hand(twin, sgd(twin), theirs := scaler(), clip=0.05, steps=steps), scaler()
    trainer = create_supervised_trainer(
        model, sgd(model), criterion, autocast=bfloat16(), scaler=scaling, gradient_accumulation_steps=steps
    )
    trainer.add_event_handler("unscale_completed", lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.05))
    torch.manual_seed(5)
    assert trained(trainer) == expected
    assert same(model, twin)
    assert scaling.state_dict() == theirs.state_dict()
    assert scaling.get_scale() != 1024.0


def test_gradients_are_scaled_until_unscale_completed():
    model = classifier(dropout=0)
    norms = []

    def note():
        norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters()]).item())

    trainer = create_supervised_trainer(model, sgd(model), criterion, scaler=scaler())
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, note)
    trainer.add_event_handler("unscale_completed", note)
    trainer.run(batches(), max_iters=1)
    assert norms[0] == pytest.approx(1024 * norms[1], rel=1e-5)


def test_a_step_with_infinite_gradients_is_left_out():
    model = classifier(dropout=0)
    scaling = scaler()
    trainer = create_supervised_trainer(model, sgd(model), criterion, scaler=scaling)

    @trainer.on(BackpropEvents.BACKWARD_COMPLETED)
    def overflow():
        next(model.parameters()).grad[0, 0] = float("inf")

    before = [parameter.clone() for parameter in model.parameters()]
    trainer.run(batches(), max_iters=1)
    assert all(map(torch.equal, before, model.parameters()))
    assert scaling.get_scale() == 512.0


def large_loss(y_pred, y):
    return 64 * criterion(y_pred, y)


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-5, momentum=0.9),
    "fused SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-5, fused=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-5),
    "fused Adam": lambda parameters: torch.optim.AdamW(parameters, lr=1e-5, fused=True),
}


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("skipped", [{}, {7}], ids=["all batches", "the last one skipped"])
def test_only_steps_that_are_made_count(steps, enabled, optimizer_name, skipped, recwarn):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    twin = copy.deepcopy(model)
    scale = {"init_scale": 2.0**127, "growth_interval": 4, "enabled": enabled}  # overflows in the first steps
    scaling, theirs = torch.amp.GradScaler("cpu", **scale), torch.amp.GradScaler("cpu", **scale)
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    trainer = create_supervised_trainer(model, optimizer, large_loss, scaler=scaling, gradient_accumulation_steps=steps)
    schedule, average = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9), EMA(model)
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, LRScheduler(schedule))
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, average)
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: engine.skip_iteration() if engine.position in skipped else None
    )
    with record() as trace:
        trainer.run(batches(shuffle=False), max_epochs=2)
    trace.assert_legal()

    # the same by hand: a step that the scaler leaves out changes no weight
    hand, made, windows = OPTIMIZERS[optimizer_name](twin.parameters()), 0, 0
    for _ in range(2):
        kept = [batch for number, batch in enumerate(batches(shuffle=False), start=1) if number not in skipped]
        for first in range(0, len(kept), steps):
            hand.zero_grad()
            window = kept[first : first + steps]
            for x, y in window:
                theirs.scale(large_loss(twin.train()(x), y) / len(window)).backward()
            theirs.unscale_(hand)
            finite = all(parameter.grad.isfinite().all() for parameter in twin.parameters())
            theirs.step(hand)
            theirs.update()
            windows, made = windows + 1, made + finite
            for group in hand.param_groups if finite else ():
                group["lr"] *= 0.9
    assert made < windows or not enabled
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert scaling.state_dict() == theirs.state_dict()
    assert (schedule.last_epoch, average._averaged.n_averaged.item()) == (made, made)
    keys = [event.event for event in trace]
    assert (keys.count("optim_step_completed"), keys.count("skip_optim_step_completed")) == (made, windows - made)
    assert not any("optimizer.step()" in str(warning.message) for warning in recwarn)


def test_a_skipped_step_is_a_state_in_trace_and_diagram():
    model = classifier(dropout=0)
    scaling = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trainer = create_supervised_trainer(model, sgd(model), large_loss, scaler=scaling, strict=True)
    trainer.add_event_handler("skip_optim_step_started", lambda engine: where.append(engine.where))
    where = []
    with record() as trace:
        trainer.run([next(iter(batches()))])
    assert where == [("EPOCH", "ITERATION", "SKIP_OPTIM_STEP")]
    assert "SKIP_OPTIM_STEP_COMPLETED" in str(trace)
    assert "SKIP_OPTIM_STEP" in str(trainer.diagram())


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("call", ["terminate_epoch", "terminate"])
def test_a_control_call_after_unscale_leaves_the_scaler_alone(call, steps):
    model = classifier()
    trainer = create_supervised_trainer(
        model, sgd(model), criterion, scaler=scaler(), gradient_accumulation_steps=steps
    )
    trainer.add_event_handler(event("unscale_completed", once=1), getattr(trainer, call))
    with record() as trace:
        trainer.run(batches(), max_epochs=2)
        trainer.run(batches(), max_epochs=3)
    trace.assert_legal()
    assert trainer.state.epoch == 3


def test_the_loop_has_a_state_in_which_gradients_are_unscaled():
    model = classifier()
    loop = supervised_loop(model, sgd(model), criterion, scaler=scaler(), gradient_accumulation_steps=2)
    assert [line.strip() for line in str(loop).splitlines()[3:-1]] == [
        "FORWARD",
        "BACKWARD",
        "UNSCALE  when window_is_full",
        "OPTIM_STEP  when gradients_are_finite",
        "SKIP_OPTIM_STEP  when gradients_overflowed",
        "RESCALE  when gradients_are_left",
        "LAST_UNSCALE  when gradients_are_left",
        "LAST_OPTIM_STEP  when gradients_are_finite",
        "LAST_SKIP_OPTIM_STEP  when gradients_overflowed",
    ]
    assert "UNSCALE" not in str(supervised_loop(model, sgd(model), criterion, autocast=bfloat16()))


def test_the_evaluator_casts_too():
    model = classifier()
    plain = create_supervised_evaluator(model).run(batches(shuffle=False)).output[0]
    cast = create_supervised_evaluator(model, autocast=bfloat16()).run(batches(shuffle=False)).output[0]
    assert (plain.dtype, cast.dtype) == (torch.float32, torch.bfloat16)


def test_autocast_is_over_when_forward_is():
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion, autocast=bfloat16())
    on = []
    trainer.add_event_handler(BackpropEvents.FORWARD_COMPLETED, lambda: on.append(torch.is_autocast_enabled("cpu")))
    trainer.run(batches(), max_iters=1)
    assert on == [False]


@pytest.mark.parametrize("make", [create_supervised_trainer, create_supervised_evaluator])
@pytest.mark.parametrize("autocast", [torch.bfloat16, True, "amp"])
def test_what_is_no_autocast_is_refused(make, autocast):
    model = classifier()
    arguments = (model, sgd(model), criterion) if make is create_supervised_trainer else (model,)
    with pytest.raises(TypeError, match=r"autocast must be a torch.autocast, such as torch.autocast\(.*, got "):
        make(*arguments, autocast=autocast)


def test_what_is_no_scaler_is_refused():
    model = classifier()
    with pytest.raises(TypeError, match="scaler must be a torch.amp.GradScaler, .*, got True"):
        create_supervised_trainer(model, sgd(model), criterion, scaler=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_float16_on_the_gpu_equals_a_loop_written_by_hand():
    model = classifier(dropout=0).to("cuda")
    twin = copy.deepcopy(model)
    optimizer, theirs = sgd(twin), torch.amp.GradScaler()
    for x, y in batches():
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = criterion(twin(x.to("cuda")), y.to("cuda"))
        theirs.scale(loss).backward()
        theirs.step(optimizer)
        theirs.update()
    trainer = create_supervised_trainer(
        model,
        sgd(model),
        criterion,
        device="cuda",
        autocast=torch.autocast("cuda", torch.float16),
        scaler=torch.amp.GradScaler(),
    )
    trainer.run(batches())
    assert same(model, twin)
