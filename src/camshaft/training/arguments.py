"""Checks of the arguments of standard loops, before a run; and the reasons why a step fails that they cannot see."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from camshaft._functions import ARGUMENT, check_accepts, check_runs, function_name, refusing_signature
from camshaft._tensors import devices_of

__all__ = ["check_arguments", "check_loss", "check_same_device", "check_training_arguments"]


def check_training_arguments(model: Any, optimizer: Any, loss_fn: Any) -> None:
    """Refuse a model, an optimizer or a loss function that is something else, such as a class or another argument.

    Raises:
        TypeError: one of them is of another type, or ``loss_fn`` does not accept (y_pred, y).
    """
    _check_model(model)
    if isinstance(optimizer, type):
        raise TypeError(
            f"optimizer is the class {optimizer.__name__}: give an instance, {optimizer.__name__}(model.parameters())"
        )
    if not all(callable(getattr(optimizer, name, None)) for name in ("zero_grad", "step")):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {_shown(optimizer)}: {_ORDER}")
    if isinstance(loss_fn, type):
        raise TypeError(f"loss_fn is the class {loss_fn.__name__}: give an instance, {loss_fn.__name__}()")
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function (y_pred, y) -> loss, got {_shown(loss_fn)}: {_ORDER}")
    _check_function("loss_fn", loss_fn, "y_pred", "y")


_ORDER = "the arguments are (model, optimizer, loss_fn)"


def _check_model(model: Any) -> None:
    if isinstance(model, type):
        raise TypeError(f"model is the class {model.__name__}: give an instance, {model.__name__}(...)")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {_shown(model)}: {_ORDER}")


def _shown(value: Any) -> str:
    """Return a value in one line: an optimizer or a module prints several."""
    text = repr(value)
    return text if "\n" not in text and len(text) < 80 else f"an object of {type(value).__name__}"


def check_arguments(
    model: Any, device: Any, prepare_batch: Any, functions: dict[str, tuple[Any, tuple[str, ...]]]
) -> None:
    """Refuse arguments that trainers and evaluators share.

    Args:
        model, device, prepare_batch: see :func:`camshaft.supervised_loop`.
        functions: further functions by their parameter, with the names of the arguments that they will get.

    Raises:
        TypeError: an argument is of another type, or a function does not accept its arguments.
        ValueError: there is no such device.
    """
    _check_model(model)
    try:
        torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device must be a device of torch, such as 'cpu' or 'cuda:0', or None, got {device!r}"
        ) from None
    for parameter, (function, names) in functions.items():
        _check_function(parameter, function, *names)
    _check_callable("prepare_batch", prepare_batch)
    signature = refusing_signature(prepare_batch, (ARGUMENT,), {"device": device, "non_blocking": False})
    if signature is not None:
        raise TypeError(
            f"prepare_batch {function_name(prepare_batch)}{signature} does not fit: it will be called with "
            f"(batch, device=..., non_blocking=...)"
        )


def _check_function(parameter: str, function: Any, *names: str) -> None:
    _check_callable(parameter, function)
    check_accepts(f"{parameter} {function_name(function)}", function, *names)


def _check_callable(parameter: str, function: Any) -> None:
    if not callable(function):
        raise TypeError(f"{parameter} must be a function, got {function!r}: leave it out for the default")
    check_runs(f"{parameter} {function_name(function)}", function)


# -- when a step fails ------------------------------------------------------------------------------------------------


def check_loss(loss: Any, cause: Exception) -> None:
    """Refuse what a loss function has returned, if no gradient can be computed of it.

    Args:
        loss: the loss.
        cause: the exception of the backward pass. A pass that succeeds checks nothing, so that it costs nothing.

    Raises:
        TypeError: the loss is no tensor.
        ValueError: it has more than one element, or no graph.
    """
    if not isinstance(loss, torch.Tensor):
        raise TypeError(
            f"loss_fn must return a tensor, got a {type(loss).__name__}: return the loss alone, without .item(), "
            f"and further values by output_transform="
        ) from cause
    if loss.numel() != 1:
        raise ValueError(
            f"loss_fn must return a scalar, got a tensor of shape {tuple(loss.shape)}: reduce it, such as by .mean()"
        ) from cause
    if not loss.requires_grad:
        raise ValueError(
            "loss_fn returned a loss without a gradient: compute it of y_pred, without detach(), argmax() or "
            "torch.no_grad(), and with a model that has parameters with requires_grad=True"
        ) from cause


def check_same_device(model: nn.Module, device: Any, batch: Any, cause: RuntimeError) -> None:
    """Refuse a batch on another device than the model, if that is why a step has failed.

    Args:
        model: the model. It may be on several devices: then nothing is known.
        device: the argument ``device`` of the trainer or evaluator.
        batch: what ``prepare_batch`` has returned.
        cause: the exception of the step. A step that succeeds checks nothing, so that it costs nothing.

    Raises:
        RuntimeError: tensors of the batch are on another device.
    """
    of_model = {parameter.device for parameter in model.parameters()}
    others = devices_of(batch) - of_model
    if "device" not in str(cause) or len(of_model) != 1 or not others:
        return
    (own,), other = of_model, min(map(str, others))
    fix = (
        f"give device={str(own)!r}"
        if device is None or torch.device(device).type == own.type
        else f"give device={str(own)!r}, or move the model with model.to({str(device)!r})"
    )
    raise RuntimeError(f"the batch is on {other} and the model on {own}: {fix}") from cause
