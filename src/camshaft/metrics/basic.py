"""The metrics Accuracy, Loss and RunningAverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchmetrics

from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.exceptions import NoValueError
from camshaft.metrics.attachment import EPOCH_WISE, RUNNING, Usage, attach, itself

__all__ = ["Accuracy", "Loss", "RunningAverage"]


class _Attachable(torchmetrics.Metric):
    """Base of metrics with ``attach`` as a method.

    Args:
        output_transform: ``output_transform(state.output)`` returns the arguments of ``update`` when it is attached.
        device: where the states are, the CPU by default.
    """

    usage = EPOCH_WISE

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = itself,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(output_transform):
            raise TypeError(
                f"{type(self).__name__}: output_transform must be a function of state.output, got {output_transform!r}"
            )
        self.output_transform = output_transform
        if device is not None:
            self.to(device)

    def attach(
        self,
        engine: Engine,
        name: str,
        output_transform: Callable[[Any], Any] | None = None,
        usage: Usage | None = None,
    ) -> RemovableEventHandle:
        """Attach the metric to an engine: see :func:`attach`.

        Without ``output_transform`` and ``usage``, those of the metric apply.
        """
        transform = self.output_transform if output_transform is None else output_transform
        return attach(self, engine, name, transform, self.usage if usage is None else usage)

    def add_state(self, name: str, default: Any, *args: Any, **kwargs: Any) -> None:
        """Add a state on the device of the metric."""
        super().add_state(name, default.to(self.device), *args, **kwargs)


class Accuracy(_Attachable):
    """The fraction of samples that are classified correctly.

    It is updated with ``(y_pred, y)``: scores of shape (N, C) or (N, C, ...) with labels of shape (N,) or (N, ...), or
    binary predictions of 0 and 1. Binary predictions have the shape of the labels, (N, 1) or (N, 1, ...).

    Args:
        output_transform: ``output_transform(state.output)`` returns ``(y_pred, y)`` when the metric is attached.
        device: where the counts are, the CPU by default.
        kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        TypeError: ``output_transform`` is not a function.
    """

    correct: torch.Tensor
    total: torch.Tensor
    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = itself,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(output_transform, device, **kwargs)
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        """Count one batch.

        Raises:
            ValueError: the shapes do not match, or binary predictions are not 0 or 1.
        """
        if y_pred.ndim > 1 and y_pred.shape[:1] + y_pred.shape[2:] == y.shape:
            y_pred = y_pred.squeeze(dim=1) if y_pred.shape[1] == 1 else y_pred.argmax(dim=1)
        if y_pred.shape != y.shape:
            raise ValueError(
                f"predictions of shape {tuple(y_pred.shape)} do not match labels of shape {tuple(y.shape)}: "
                f"give (N, C, ...) and (N, ...)"
            )
        if y_pred.is_floating_point() and not bool(((y_pred == 0) | (y_pred == 1)).all()):
            raise ValueError(
                "binary predictions must be 0 or 1: round them in output_transform, or give scores of shape (N, C)"
            )
        self.correct += (y_pred == y).sum().to(self.correct.device)
        self.total += y.numel()

    def compute(self) -> torch.Tensor:
        """Return the accuracy so far, a scalar tensor.

        Raises:
            NoValueError: the metric has no samples. It is a ``ValueError``.
        """
        if self.total == 0:
            raise NoValueError("Accuracy has no samples: call update() before compute()")
        return self.correct / self.total


class Loss(_Attachable):
    """The mean of a loss over samples.

    It is updated with ``(y_pred, y)`` or ``(y_pred, y, kwargs)``.

    Args:
        loss_fn: ``loss_fn(y_pred, y, **kwargs)`` returns the mean over a batch, a scalar tensor.
        output_transform: ``output_transform(state.output)`` returns the arguments of :meth:`update` when the metric is
            attached.
        batch_size: ``batch_size(y) -> int``; by default the size of the first dimension of y.
        device: where the sum is, the CPU by default.
        kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        TypeError: ``loss_fn`` is not a function, or is a class, or ``output_transform`` is not a function.
    """

    total: torch.Tensor
    samples: torch.Tensor
    is_differentiable = True
    full_state_update = False

    def __init__(
        self,
        loss_fn: Callable[..., torch.Tensor],
        output_transform: Callable[[Any], Any] = itself,
        batch_size: Callable[[Any], int] = len,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(output_transform, device, **kwargs)
        if isinstance(loss_fn, type) or not callable(loss_fn):
            raise TypeError(
                f"Loss: loss_fn must be a function (y_pred, y) -> loss, got {loss_fn!r}: give one, such as nn.MSELoss()"
            )
        self.loss_fn = loss_fn
        self.batch_size = batch_size
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, y_pred: torch.Tensor, y: torch.Tensor, kwargs: Mapping[str, Any] | None = None) -> None:
        """Add one batch.

        Raises:
            ValueError: the loss is not a scalar.
        """
        __tracebackhide__ = True
        mean = self.loss_fn(y_pred, y, **(kwargs or {})).detach()
        if mean.ndim:
            raise ValueError(
                f"loss_fn must return the mean over the batch, a scalar, got a tensor of shape {tuple(mean.shape)}"
            )
        size = self.batch_size(y)
        self.total += mean.to(self.total) * size
        self.samples += size

    def compute(self) -> torch.Tensor:
        """Return the mean so far, a scalar tensor.

        Raises:
            NoValueError: the metric has no samples. It is a ``ValueError``.
        """
        if self.samples == 0:
            raise NoValueError("Loss has no samples: call update() before compute()")
        return self.total / self.samples


class RunningAverage(_Attachable):
    """The exponential moving average of values, or of another metric computed on single batches.

    The average starts with the first value. Each later value sets ``average = alpha * average + (1 - alpha) * value``.
    By default it runs over the whole run and is available after each batch (:data:`RUNNING`).

    Args:
        src: a metric that is computed on each batch. Without it, ``output_transform`` must return the value: a number,
            or a tensor of any shape.
        alpha: the weight of the previous average, above 0 and at most 1.
        output_transform: ``output_transform(state.output)`` returns the value, or the arguments of ``src.update``, when
            the metric is attached. By default, that of ``src``.
        device: where the average is, the CPU by default.
        kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        TypeError: ``src`` is not a torchmetrics metric, or ``output_transform`` is not a function.
        ValueError: ``alpha`` is out of range.
    """

    average: torch.Tensor
    values: torch.Tensor
    usage = RUNNING
    full_state_update = True

    def __init__(
        self,
        src: torchmetrics.Metric | None = None,
        alpha: float = 0.98,
        output_transform: Callable[[Any], Any] | None = None,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        if output_transform is None:
            output_transform = src.output_transform if isinstance(src, _Attachable) else itself
        super().__init__(output_transform, device, **kwargs)
        if src is not None and not isinstance(src, torchmetrics.Metric):
            raise TypeError(f"src must be a torchmetrics metric, got {src!r}: leave it out to average the outputs")
        if not 0 < alpha <= 1:
            raise ValueError(
                f"alpha must be above 0 and at most 1, got {alpha!r}: it is the weight of the previous average"
            )
        self.src = src
        self.alpha = alpha
        self.add_state("average", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="mean")
        self.add_state("values", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add one batch: a value, or the arguments of ``src.update``. Without samples, ``src`` adds nothing."""
        try:
            found = self._value(*args, **kwargs)
        except NoValueError:
            return
        value = torch.as_tensor(found, device=self.device).detach().double()
        self.average = value if not self.values else self.alpha * self.average + (1 - self.alpha) * value
        self.values += 1

    def _value(self, *args: Any, **kwargs: Any) -> Any:
        if self.src is None:
            return args[0]
        self.src.reset()
        self.src.update(*args, **kwargs)
        return self.src.compute()

    def compute(self) -> torch.Tensor:
        """Return the average so far, with the shape of the values.

        Raises:
            NoValueError: the metric has no samples. It is a ``ValueError``.
        """
        if not self.values:
            raise NoValueError("RunningAverage has no values: call update() before compute()")
        return self.average
