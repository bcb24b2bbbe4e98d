"""Accuracy, Loss and RunningAverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchmetrics

from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.metrics.attachment import EPOCH_WISE, RUNNING, Usage, attach

__all__ = ["Accuracy", "Loss", "RunningAverage"]


class _Attachable(torchmetrics.Metric):
    """A metric with ``attach`` as a method."""

    usage = EPOCH_WISE

    def attach(
        self,
        engine: Engine,
        name: str,
        output_transform: Callable[[Any], Any] = lambda output: output,
        usage: Usage | None = None,
    ) -> RemovableEventHandle:
        """Compute the metric on an engine: see :func:`attach`."""
        return attach(self, engine, name, output_transform, self.usage if usage is None else usage)


class Accuracy(_Attachable):
    """The share of samples classified rightly.

    Takes ``(y_pred, y)``: scores of shape (N, C) or (N, C, ...) with labels of shape (N,) or (N, ...); or binary
    predictions of 0 and 1, of the labels' own shape or of shape (N, 1) or (N, 1, ...).
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
        if y_pred.ndim > 1 and y_pred.shape[:1] + y_pred.shape[2:] == y.shape:
            y_pred = y_pred.squeeze(dim=1) if y_pred.shape[1] == 1 else y_pred.argmax(dim=1)
        if y_pred.shape != y.shape:
            raise ValueError(
                f"predictions of shape {tuple(y_pred.shape)} do not fit labels of shape {tuple(y.shape)}: "
                f"give (N, C, ...) and (N, ...)"
            )
        if y_pred.is_floating_point() and not bool(((y_pred == 0) | (y_pred == 1)).all()):
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


class RunningAverage(_Attachable):
    """The exponential moving average of values, or of another metric's values over single batches.

    The first value counts as it is; then ``average = alpha * average + (1 - alpha) * value``. It goes over the whole
    run, and is there after each batch (:data:`RUNNING`), unless it is attached with another usage.

    Args:
        src: a metric that makes a value of each batch; without it ``output_transform`` must give the value: a number,
            or a tensor of any shape.
        alpha: how much of the average stays, above 0 and at most 1.

    Raises:
        TypeError: ``src`` is no torchmetrics metric.
        ValueError: ``alpha`` is out of range.
    """

    average: torch.Tensor
    values: torch.Tensor
    usage = RUNNING
    full_state_update = True

    def __init__(self, src: torchmetrics.Metric | None = None, alpha: float = 0.98, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if src is not None and not isinstance(src, torchmetrics.Metric):
            raise TypeError(f"src={src!r} is no torchmetrics metric: leave it out for an average of the outputs")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha={alpha!r} is not above 0 and at most 1: it is how much of the average stays")
        self.src = src
        self.alpha = alpha
        self.add_state("average", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="mean")
        self.add_state("values", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add one batch: a value, or what ``src`` takes."""
        value = torch.as_tensor(self._value(*args, **kwargs), device=self.device).detach().double()
        self.average = value if not self.values else self.alpha * self.average + (1 - self.alpha) * value
        self.values += 1

    def _value(self, *args: Any, **kwargs: Any) -> Any:
        if self.src is None:
            return args[0]
        self.src.reset()
        self.src.update(*args, **kwargs)
        return self.src.compute()

    def compute(self) -> torch.Tensor:
        """The average so far, of the shape of the values."""
        if not self.values:
            raise ValueError("RunningAverage has seen no value: update it before compute")
        return self.average
