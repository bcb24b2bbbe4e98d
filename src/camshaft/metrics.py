"""Metrics: any torchmetrics metric on an engine, under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchmetrics

from camshaft.engine import Engine
from camshaft.events import Events, event

__all__ = ["Accuracy", "Loss", "attach"]

FIRST = 1_000_000
"""The priority that has results there before the handlers that a user attaches to the same event."""


def attach(
    metric: torchmetrics.Metric,
    engine: Engine,
    name: str,
    output_transform: Callable[[Any], Any] = lambda output: output,
) -> None:
    """Compute a metric over each epoch of an engine, into ``state.metrics[name]``.

    It is reset at EPOCH_STARTED, updated at ITERATION_COMPLETED and computed at EPOCH_COMPLETED, before the handlers
    of priority 0 there.

    Args:
        metric: any ``torchmetrics.Metric`` or ``MetricCollection``.
        engine: whose outputs it sees.
        name: the key in ``state.metrics``.
        output_transform: makes of ``state.output`` what ``metric.update`` takes: a tuple of arguments, a mapping of
            keyword arguments, or one value.

    Raises:
        TypeError: ``metric`` is no torchmetrics metric.
        ValueError: the engine has a metric of that name already.
    """
    if not isinstance(metric, (torchmetrics.Metric, torchmetrics.MetricCollection)):
        raise TypeError(f"{metric!r} is no torchmetrics metric: give an instance, such as camshaft.metrics.Accuracy()")
    if not isinstance(engine, Engine):
        raise TypeError(f"{engine!r} is no Engine: a metric is attached to an engine, under a name")
    for needed in (Events.EPOCH_STARTED, Events.ITERATION_COMPLETED):
        engine.handlers(needed)  # refuses a loop that never fires it, before anything is attached
    for handler in engine.handlers(Events.EPOCH_COMPLETED):
        if isinstance(handler.function, _Compute) and handler.function.name == name:
            raise ValueError(f"{engine.name} has a metric named {name!r} already: give another name")

    def reset(engine: Engine) -> None:
        if not engine.state.resumed:
            metric.reset()

    @torch.no_grad()
    def update(engine: Engine) -> None:
        seen = output_transform(engine.state.output)
        if isinstance(seen, Mapping):
            metric.update(**seen)
        elif isinstance(seen, (tuple, list)):
            metric.update(*seen)
        else:
            metric.update(seen)

    reset.__qualname__, update.__qualname__ = f"{name}.reset", f"{name}.update"  # as diagrams and reports show them
    engine.add_event_handler(event(Events.EPOCH_STARTED, priority=FIRST), reset)
    engine.add_event_handler(event(Events.ITERATION_COMPLETED, priority=FIRST), update)
    engine.add_event_handler(event(Events.EPOCH_COMPLETED, priority=FIRST), _Compute(metric, name))


class _Compute:
    """Writes the value of a metric to the state."""

    def __init__(self, metric: torchmetrics.Metric, name: str) -> None:
        self.metric = metric
        self.name = name
        self.__qualname__ = f"{name}.compute"

    def __call__(self, engine: Engine) -> None:
        value = self.metric.compute()
        engine.state.metrics[self.name] = value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value


class _Attachable(torchmetrics.Metric):
    """A metric with ``attach`` as a method."""

    def attach(self, engine: Engine, name: str, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        """Compute the metric over each epoch of an engine: see :func:`attach`."""
        attach(self, engine, name, output_transform)


class Accuracy(_Attachable):
    """The share of samples classified rightly.

    Takes ``(y_pred, y)``: scores of shape (N, C) or (N, C, ...) with labels of shape (N,) or (N, ...); or binary
    predictions of 0 and 1, of the labels' own shape.
    """

    correct: torch.Tensor
    total: torch.Tensor
    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        """Count one batch.

        Raises:
            ValueError: the shapes do not belong together, or there are scores where binary predictions should be.
        """
        if y_pred.ndim == y.ndim + 1 and y_pred.shape[0] == y.shape[0] and y_pred.shape[2:] == y.shape[1:]:
            y_pred = y_pred.argmax(dim=1)
        elif y_pred.shape != y.shape:
            raise ValueError(
                f"predictions of shape {tuple(y_pred.shape)} do not fit labels of shape {tuple(y.shape)}: "
                f"give (N, C, ...) and (N, ...)"
            )
        elif y_pred.is_floating_point() and not bool(((y_pred == 0) | (y_pred == 1)).all()):
            raise ValueError(
                "binary predictions must be 0 or 1: round them in output_transform, or give scores of shape (N, C)"
            )
        self.correct += (y_pred == y).sum().to(self.correct.device)
        self.total += y.numel()

    def compute(self) -> torch.Tensor:
        """The accuracy so far, a scalar."""
        if self.total == 0:
            raise ValueError("Accuracy has seen no sample: update it before compute")
        return self.correct / self.total


class Loss(_Attachable):
    """The mean of a loss over samples.

    Args:
        loss_fn: ``loss_fn(y_pred, y, **kwargs)``, the mean over a batch, a scalar tensor.
        batch_size: ``batch_size(y) -> int``; the first dimension of y unless given.

    Takes ``(y_pred, y)`` or ``(y_pred, y, kwargs)``.
    """

    total: torch.Tensor
    samples: torch.Tensor
    is_differentiable = True
    full_state_update = False

    def __init__(
        self, loss_fn: Callable[..., torch.Tensor], batch_size: Callable[[Any], int] = len, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.loss_fn = loss_fn
        self.batch_size = batch_size
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, y_pred: torch.Tensor, y: torch.Tensor, kwargs: Mapping[str, Any] | None = None) -> None:
        """Add one batch.

        Raises:
            ValueError: the loss is no scalar.
        """
        mean = self.loss_fn(y_pred, y, **(kwargs or {})).detach()
        if mean.ndim:
            raise ValueError(
                f"loss_fn gave a tensor of shape {tuple(mean.shape)}: it must give the mean over the batch, a scalar"
            )
        size = self.batch_size(y)
        self.total += mean.to(self.total) * size
        self.samples += size

    def compute(self) -> torch.Tensor:
        """The mean so far, a scalar."""
        if self.samples == 0:
            raise ValueError("Loss has seen no sample: update it before compute")
        return self.total / self.samples
