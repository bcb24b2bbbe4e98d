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
        "OPTIM_STEP  when window_is_full",
        "LAST_UNSCALE  when gradients_are_left",
        "LAST_OPTIM_STEP  when gradients_are_left",
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
