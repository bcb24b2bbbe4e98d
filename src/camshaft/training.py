"""Supervised training and evaluation, each a declared loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from camshaft.engine import Engine
from camshaft.loop import DATA, Loop, Phase

__all__ = ["Forward", "convert_tensor", "create_supervised_evaluator", "create_supervised_trainer", "supervised_loop"]

Batch = Any
PrepareBatch = Callable[..., tuple[Any, Any]]


def convert_tensor(value: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> Any:
    """Move every tensor in a nest of mappings, lists and tuples to a device.

    Args:
        value: a tensor, or mappings, lists, tuples and named tuples of such; anything else is left as it is.
        device: where to; None leaves tensors where they are.
        non_blocking: copy from pinned memory without waiting, as for ``torch.Tensor.to``.
    """
    if isinstance(value, torch.Tensor):
        return value if device is None else value.to(device=device, non_blocking=non_blocking)
    if isinstance(value, Mapping):
        return {key: convert_tensor(inner, device, non_blocking) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        moved = [convert_tensor(inner, device, non_blocking) for inner in value]
        return type(value)(*moved) if hasattr(value, "_fields") else type(value)(moved)
    return value


def prepare_pair(batch: Batch, device: str | torch.device | None = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """A batch ``(x, y)`` on a device: the default for ``prepare_batch``.

    Raises:
        ValueError: the batch is no pair.
    """
    try:
        x, y = batch
    except (TypeError, ValueError):
        raise ValueError(
            f"a batch of type {type(batch).__name__} is no pair (x, y): give prepare_batch=, which makes one of it"
        ) from None
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)


def _detached(value: Any) -> Any:
    """The same nest with its tensors cut off from their graphs, so that keeping it keeps no graph alive."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _detached(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_detached(inner) for inner in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _train_output(x: Any, y: Any, y_pred: Any, loss: torch.Tensor) -> Any:
    return loss.item()


def _evaluate_output(x: Any, y: Any, y_pred: Any) -> Any:
    return y_pred, y


def _itself(value: Any) -> Any:
    return value


def _call(model: Callable[..., Any], x: Any) -> Any:
    return model(x)


class Forward(NamedTuple):
    """What FORWARD leaves for BACKWARD: the prepared batch, the prediction, and the loss with its graph."""

    x: Any
    y: Any
    y_pred: Any
    loss: torch.Tensor


def supervised_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = prepare_pair,
    model_transform: Callable[[Any], Any] = _itself,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = _train_output,
    model_fn: Callable[[nn.Module, Any], Any] = _call,
) -> Loop:
    """The loop of supervised training: FORWARD, BACKWARD and OPTIM_STEP in every ITERATION.

    FORWARD leaves a :class:`Forward` in ``state.output``; BACKWARD puts what is kept in its place, so that no graph
    outlives it.

    Args:
        model: in training mode from FORWARD on, on the device already.
        optimizer: over the parameters of the model.
        loss_fn: ``loss_fn(y_pred, y)``, a scalar tensor.
        device: where batches are moved to; None leaves them where they are.
        non_blocking: move them without waiting.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=) -> (x, y)``.
        model_transform: what makes ``y_pred`` of what the model gives.
        output_transform: ``output_transform(x, y, y_pred, loss)``, kept in ``state.output``, its tensors detached;
            the loss as a number unless given.
        model_fn: how the model is called, ``model_fn(model, x)``.
    """

    def forward(engine: Engine, batch: Batch) -> Forward:
        model.train()
        optimizer.zero_grad()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        y_pred = model_transform(model_fn(model, x))
        return Forward(x, y, y_pred, loss_fn(y_pred, y))

    def backward(engine: Engine, batch: Batch) -> Any:
        made: Forward = engine.state.output
        made.loss.backward()  # type: ignore[no-untyped-call]
        return _detached(output_transform(*made))

    def optim_step(engine: Engine, batch: Batch) -> None:
        optimizer.step()

    phases = (Phase("FORWARD", forward), Phase("BACKWARD", backward), Phase("OPTIM_STEP", optim_step))
    return Loop("EPOCH", Loop("ITERATION", *phases, over=DATA))


def create_supervised_trainer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = prepare_pair,
    model_transform: Callable[[Any], Any] = _itself,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = _train_output,
    model_fn: Callable[[nn.Module, Any], Any] = _call,
    *,
    name: str = "trainer",
    strict: bool = False,
) -> Engine:
    """An engine that trains: :func:`supervised_loop` with the same arguments.

    Its phases fire :class:`~camshaft.BackpropEvents`, so that a handler at BACKWARD_COMPLETED can clip gradients.

    Args:
        name, strict: as for :class:`~camshaft.Engine`.
    """
    loop = supervised_loop(
        model, optimizer, loss_fn, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    )
    return Engine(loop, name, strict=strict)


def create_supervised_evaluator(
    model: nn.Module,
    metrics: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = prepare_pair,
    model_transform: Callable[[Any], Any] = _itself,
    output_transform: Callable[[Any, Any, Any], Any] = _evaluate_output,
    model_fn: Callable[[nn.Module, Any], Any] = _call,
    *,
    name: str = "evaluator",
    strict: bool = False,
) -> Engine:
    """An engine that evaluates: one FORWARD in every ITERATION, without gradients.

    Args:
        model: in evaluation mode while it runs.
        metrics: torchmetrics metrics by name, attached with :func:`camshaft.metrics.attach`.
        output_transform: ``output_transform(x, y, y_pred)``, kept in ``state.output``; ``(y_pred, y)`` unless given.
        device, non_blocking, prepare_batch, model_transform, model_fn: as for :func:`supervised_loop`.
        name, strict: as for :class:`~camshaft.Engine`.
    """

    @torch.no_grad()
    def forward(engine: Engine, batch: Batch) -> Any:
        model.eval()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        return output_transform(x, y, model_transform(model_fn(model, x)))

    engine = Engine([Phase("FORWARD", forward)], name, strict=strict)
    if metrics:
        from camshaft.metrics import attach  # torchmetrics is imported only where metrics are used

        for metric_name, metric in metrics.items():
            attach(metric, engine, metric_name)
    return engine
