"""Wrong arguments of standard loops are refused in one sentence that names the argument and the fix."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from camshaft import (
    Events,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    supervised_loop,
    tbptt_loop,
)
from camshaft.metrics import Accuracy

MODEL, LOSS = nn.Linear(2, 3), nn.CrossEntropyLoss()
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
BATCH = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)

MAKERS = {
    "trainer": create_supervised_trainer,
    "loop": supervised_loop,
    "tbptt trainer": lambda *args, **options: create_supervised_tbptt_trainer(*args, 2, **options),
    "tbptt loop": lambda *args, **options: tbptt_loop(*args, 2, **options),
}
ORDER = r": the arguments are \(model, optimizer, loss_fn\)"
WRONG = {
    "model and optimizer swapped": ((OPTIMIZER, MODEL, LOSS), f"^model must be a torch.nn.Module, got .*SGD{ORDER}$"),
    "optimizer and loss swapped": (
        (MODEL, LOSS, OPTIMIZER),
        f"^optimizer must be a torch.optim.Optimizer, got CrossEntropyLoss.*{ORDER}$",
    ),
    "loss and model swapped": (
        (LOSS, OPTIMIZER, OPTIMIZER),
        rf"^loss_fn must be a function \(y_pred, y\).*SGD{ORDER}$",
    ),
    "a class of models": (
        (nn.Linear, OPTIMIZER, LOSS),
        r"^model is the class Linear: give an instance, Linear\(\.\.\.\)$",
    ),
    "a class of optimizers": (
        (MODEL, torch.optim.SGD, LOSS),
        r"^optimizer is the class SGD: give an instance, SGD\(model\.parameters\(\)\)$",
    ),
    "a class of losses": (
        (MODEL, OPTIMIZER, nn.CrossEntropyLoss),
        r"^loss_fn is the class CrossEntropyLoss: give an instance, CrossEntropyLoss\(\)$",
    ),
    "parameters as a model": ((list(MODEL.parameters()), OPTIMIZER, LOSS), "^model must be a torch.nn.Module, got "),
    "parameters as an optimizer": ((MODEL, MODEL.parameters(), LOSS), "^optimizer must be a torch.optim.Optimizer"),
    "a number as an optimizer": ((MODEL, 0.1, LOSS), "^optimizer must be a torch.optim.Optimizer, got 0.1"),
    "a schedule as an optimizer": (
        (MODEL, torch.optim.lr_scheduler.StepLR(OPTIMIZER, 1), LOSS),
        "^optimizer must be a torch.optim.Optimizer, got .*StepLR",
    ),
    "a name as a loss": ((MODEL, OPTIMIZER, "mse"), r"^loss_fn must be a function \(y_pred, y\) -> loss, got 'mse'"),
    "None as a loss": ((MODEL, OPTIMIZER, None), r"^loss_fn must be a function \(y_pred, y\) -> loss, got None"),
    "a dict as a loss": ((MODEL, OPTIMIZER, {"a": LOSS}), r"^loss_fn must be a function"),
    "a tuple as a loss": ((MODEL, OPTIMIZER, (LOSS, LOSS)), r"^loss_fn must be a function"),
    "a loss of one argument": (
        (MODEL, OPTIMIZER, lambda y_pred: y_pred),
        r"^loss_fn .*\(y_pred\) does not fit: it will be called with \(y_pred, y\)$",
    ),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_model_optimizer_or_loss_is_refused(make, case):
    args, message = WRONG[case]
    with pytest.raises(TypeError, match=message):
        MAKERS[make](*args)


@pytest.mark.parametrize("make", [*MAKERS, "evaluator"])
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"device": "gpu"}, ValueError, r"^device must be a device of torch, such as 'cpu' .*, got 'gpu'$"),
        ({"device": True}, ValueError, r"^device must be a device of torch, .*, got True$"),
        (
            {"prepare_batch": None},
            TypeError,
            "^prepare_batch must be a function, got None: leave it out",
        ),
        (
            {"prepare_batch": lambda batch: batch},
            TypeError,
            r"^prepare_batch .*\(batch\) does not fit: it will be called with \(batch, device=\.\.\., non_blocking=",
        ),
    ],
)
def test_an_option_of_all_is_refused(make, option, error, message):
    with pytest.raises(error, match=message):
        if make == "evaluator":
            create_supervised_evaluator(MODEL, **option)
        else:
            MAKERS[make](MODEL, OPTIMIZER, LOSS, **option)


async def coroutine(*_):
    pass


@pytest.mark.parametrize("make", ["trainer", "evaluator"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"output_transform": None}, "^output_transform must be a function, got None: leave it out for the default$"),
        ({"output_transform": lambda output: 1}, r"^output_transform .*it will be called with \(x, y, y_pred"),
        ({"model_transform": None}, "^model_transform must be a function, got None"),
        ({"model_transform": lambda x, y: 1}, r"^model_transform .*it will be called with \(output\)$"),
        ({"model_fn": lambda x: 1}, r"^model_fn .*it will be called with \(model, x\)$"),
        ({"model_fn": coroutine}, r"^model_fn coroutine is a coroutine function"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(make, option, message):
    with pytest.raises(TypeError, match=message):
        if make == "evaluator":
            create_supervised_evaluator(MODEL, **option)
        else:
            create_supervised_trainer(MODEL, OPTIMIZER, LOSS, **option)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((nn.Linear,), r"^model is the class Linear: give an instance"),
        ((LOSS.forward,), "^model must be a torch.nn.Module, got "),
        ((MODEL, [Accuracy()]), r"^metrics must be a mapping .*, got \[.*: give \{'accuracy': Accuracy\(\)\}$"),
        ((MODEL, Accuracy()), r"^metrics must be a mapping of names to metrics, got Accuracy"),
        ((MODEL, {"accuracy": Accuracy}), r"^metric must be a torchmetrics metric, got <class .*give an instance"),
    ],
)
def test_a_wrong_argument_of_an_evaluator_is_refused(args, message):
    with pytest.raises(TypeError, match=message):
        create_supervised_evaluator(*args)


# -- while it runs ----------------------------------------------------------------------------------------------------

TRAINERS = {
    "trainer": {},
    "accumulating": {"gradient_accumulation_steps": 2},
    "scaled": {"scaler": torch.amp.GradScaler("cpu")},
    "closure": {},
}


def run_with(kind, loss_fn, model=MODEL):
    optimizer = (torch.optim.LBFGS if kind == "closure" else torch.optim.SGD)(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, loss_fn, **TRAINERS[kind])
    trainer.run([BATCH], max_epochs=1)


LOSSES = {
    "a dict": (lambda y_pred, y: {"loss": LOSS(y_pred, y)}, TypeError, "^loss_fn must return a tensor, got a dict: "),
    "a tuple": (lambda y_pred, y: (LOSS(y_pred, y), 1), TypeError, "^loss_fn must return a tensor, got a tuple: "),
    "a number": (lambda y_pred, y: LOSS(y_pred, y).item(), TypeError, r"^.* got a float: .*without \.item\(\)"),
    "None": (lambda y_pred, y: None, TypeError, "^loss_fn must return a tensor, got a NoneType: "),
    "a loss of each sample": (
        nn.CrossEntropyLoss(reduction="none"),
        ValueError,
        r"^loss_fn must return a scalar, got a tensor of shape \(4,\): reduce it, such as by \.mean\(\)",
    ),
    "a detached loss": (
        lambda y_pred, y: LOSS(y_pred, y).detach(),
        ValueError,
        r"^loss_fn returned a loss without a gradient: compute it of y_pred, without detach\(\)",
    ),
    "an accuracy": (lambda y_pred, y: (y_pred.argmax(1) == y).float().mean(), ValueError, "without a gradient"),
}


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_gives_no_gradient_is_refused(kind, case):
    loss_fn, error, message = LOSSES[case]
    with pytest.raises(error, match=message) as caught:
        run_with(kind, loss_fn)
    assert caught.value.__cause__ is not None
    assert "in trainer: EPOCH 1 / ITERATION 1 / " in caught.value.__notes__[0]


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_of_a_chunk_that_gives_no_gradient_is_refused(case):
    if case == "a loss of each sample":
        loss_fn, error, message = lambda y_pred, y: (y_pred - y).mean(-1), ValueError, "^loss_fn must return a scalar"
    else:
        made, error, message = LOSSES[case]
        loss_fn = lambda y_pred, y: made(y_pred.flatten(0, 1), y.flatten().long())
    model = nn.RNN(2, 1)
    trainer = create_supervised_tbptt_trainer(model, torch.optim.SGD(model.parameters()), loss_fn, 2)
    with pytest.raises(error, match=message):
        trainer.run([(torch.zeros(4, 1, 2), torch.zeros(4, 1, 1))])


def test_a_frozen_model_is_named_as_the_reason():
    model = nn.Linear(2, 3).requires_grad_(False)
    trainer = create_supervised_trainer(model, OPTIMIZER, LOSS)
    with pytest.raises(ValueError, match="a model that has parameters with requires_grad=True"):
        trainer.run([BATCH])


def test_another_error_of_the_backward_pass_stays_as_it_is():
    def fail(_):
        raise OSError("in a hook")

    def loss_fn(y_pred, y):
        y_pred.register_hook(fail)
        return LOSS(y_pred, y)

    with pytest.raises(OSError, match="^in a hook"):
        run_with("trainer", loss_fn)


def elsewhere():
    """Return a model on a device that every machine has, in the place of a GPU."""
    return nn.Linear(2, 3, device="meta")


def seen_by(make):
    model = elsewhere()
    optimizer = torch.optim.SGD(model.parameters())
    if make == "evaluator":
        return create_supervised_evaluator(model), BATCH
    if make == "tbptt trainer":
        recurrent = nn.RNN(2, 3, device="meta")
        return (
            create_supervised_tbptt_trainer(recurrent, torch.optim.SGD(recurrent.parameters()), nn.MSELoss(), 2),
            (torch.zeros(2, 1, 2), torch.zeros(2, 1, 3)),
        )
    if make == "closure":
        return create_supervised_trainer(model, torch.optim.LBFGS(model.parameters()), LOSS), BATCH
    return create_supervised_trainer(model, optimizer, LOSS), BATCH


@pytest.mark.parametrize("make", ["trainer", "closure", "evaluator", "tbptt trainer"])
def test_a_batch_on_another_device_than_the_model_is_refused(make):
    engine, batch = seen_by(make)
    with pytest.raises(RuntimeError, match=r"^the batch is on cpu and the model on meta: give device='meta'") as caught:
        engine.run([batch])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_model_that_was_left_behind_is_named():
    message = (
        r"^the batch is on meta and the model on cpu: give device='cpu', or move the model with model\.to\('meta'\)"
    )
    for engine in (
        create_supervised_trainer(MODEL, OPTIMIZER, LOSS, device="meta"),
        create_supervised_evaluator(MODEL, device="meta"),
    ):
        with pytest.raises(RuntimeError, match=message):
            engine.run([BATCH])


def test_another_error_of_the_forward_pass_stays_as_it_is():
    for message in ("no device is left", "sizes do not match"):

        def fail(model, x, message=message):
            raise RuntimeError(message)

        for engine in (
            create_supervised_trainer(MODEL, OPTIMIZER, LOSS, model_fn=fail),
            create_supervised_evaluator(MODEL, model_fn=fail),
        ):
            with pytest.raises(RuntimeError, match=f"^{re.escape(message)}"):
                engine.run([BATCH])


def test_nesting_without_data_names_the_engine_and_nest():
    trainer = create_supervised_trainer(MODEL, OPTIMIZER, LOSS)
    evaluator = create_supervised_evaluator(MODEL)
    with pytest.raises(ValueError, match=r"^trainer\.nest\(evaluator\): data=None needs epoch_length: give data"):
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED)
