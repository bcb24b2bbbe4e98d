"""Metrics: any torchmetrics metric on an engine, under a name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
import torchmetrics

from camshaft.engine.engine import Engine, RemovableEventHandle
from camshaft.events import EventHandle, Events, attachments
from camshaft.priorities import METRICS
from camshaft.training.batches import convert_tensor

__all__ = [
    "Accuracy",
    "BATCH_WISE",
    "EPOCH_WISE",
    "Loss",
    "RUNNING",
    "RUNNING_EPOCH",
    "RunningAverage",
    "Usage",
    "attach",
]


def _checked(handle: EventHandle) -> EventHandle:
    attachments(handle)  # refuses what is no event
    return handle


@attrs.frozen
class Usage:
    """When a metric is reset, updated and computed.

    Args:
        reset, update, compute: an event each, filtered or not, or a union; custom events too.

    Raises:
        TypeError: one of them is no event.
    """

    reset: EventHandle = attrs.field(converter=_checked)
    update: EventHandle = attrs.field(converter=_checked)
    compute: EventHandle = attrs.field(converter=_checked)


EPOCH_WISE = Usage(Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED)
"""Over each epoch, when it is over."""

BATCH_WISE = Usage(Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)
"""Over each batch by itself."""

RUNNING_EPOCH = Usage(Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)
"""After each batch, over what the epoch has had so far."""

RUNNING = Usage(Events.STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)
"""After each batch, over what the run has had so far."""


def attach(
    metric: torchmetrics.Metric | torchmetrics.MetricCollection,
    engine: Engine,
    name: str,
    output_transform: Callable[[Any], Any] = lambda output: output,
    usage: Usage = EPOCH_WISE,
) -> RemovableEventHandle:
    """Compute a metric on an engine, into ``state.metrics[name]``: over each epoch unless ``usage`` says otherwise.

    Results are there before the handlers of priority 0 run that are attached to the same event. Values of one element
    are numbers; a ``MetricCollection`` gives a dictionary of its metrics.

    Args:
        metric: any ``torchmetrics.Metric`` or ``MetricCollection``.
        engine: whose outputs it sees.
        name: the key in ``state.metrics``.
        output_transform: makes of ``state.output`` what ``metric.update`` takes: a tuple of arguments, a mapping of
            keyword arguments, or one value.
        usage: when it is reset, updated and computed.

    Returns:
        What detaches it again; the last result stays in ``state.metrics``.

    Raises:
        TypeError: ``metric`` is no torchmetrics metric, or ``usage`` no :class:`Usage`. While it runs: ``update`` does
            not take what it is given.
        ValueError: the engine has a metric of that name already, or never fires one of the events.
    """
    if not isinstance(metric, (torchmetrics.Metric, torchmetrics.MetricCollection)):
        raise TypeError(f"{metric!r} is no torchmetrics metric: give an instance, such as camshaft.metrics.Accuracy()")
    if not isinstance(engine, Engine):
        raise TypeError(f"{engine!r} is no Engine: a metric is attached to an engine, under a name")
    if not isinstance(usage, Usage):
        raise TypeError(f"{usage!r} is no Usage: give EPOCH_WISE, BATCH_WISE, or a Usage(reset, update, compute)")
    for handle in (usage.reset, usage.update, usage.compute):
        for single in attachments(handle):
            engine.handlers(single)  # refuses a loop that never fires it, before anything is attached
    for handler in (handler for key in engine.loop.event_keys for handler in engine.handlers(key)):
        if isinstance(handler.function, _Compute) and handler.function.name == name:
            raise ValueError(f"{engine.name} has a metric named {name!r} already: give another name")

    def reset(engine: Engine) -> None:
        if not engine.state.resumed:
            metric.reset()

    @torch.no_grad()
    def update(engine: Engine) -> None:
        seen = output_transform(engine.state.output)
        try:
            if isinstance(seen, Mapping):
                metric.update(**seen)
            elif isinstance(seen, (tuple, list)):
                metric.update(*seen)
            else:
                metric.update(seen)
        except TypeError as error:
            output = engine.state.output
            made = "" if seen is output else f"what output_transform= makes ({_kind(seen)}) of "
            raise TypeError(
                f"{type(metric).__name__} {name!r} of {engine.name} cannot be updated with {made}state.output "
                f"({_kind(output)}): {error}; give attach() or the engine an output_transform= that makes of it what "
                f"update() takes"
            ) from error

    reset.__qualname__, update.__qualname__ = f"{name}.reset", f"{name}.update"  # as diagrams and reports show them
    roles = ((usage.reset, reset), (usage.update, update), (usage.compute, _Compute(metric, name)))
    return RemovableEventHandle.union(
        engine.add_event_handler(attrs.evolve(single, priority=METRICS), handler)
        for handle, handler in roles
        for single in attachments(handle)
    )


class _Compute:
    """Writes the value of a metric to the state."""

    def __init__(self, metric: torchmetrics.Metric | torchmetrics.MetricCollection, name: str) -> None:
        self.metric = metric
        self.name = name
        self.__qualname__ = f"{name}.compute"

    def __call__(self, engine: Engine) -> None:
        engine.state.metrics[self.name] = _plain(self.metric.compute())

    def state_dict(self) -> dict[str, Any]:
        """What the metric has counted so far."""
        return {
            name: {"updates": metric.update_count, "state": dict(metric.metric_state)}
            for name, metric in self._metrics()
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on counting."""
        for name, metric in self._metrics():
            for attribute, value in state_dict[name]["state"].items():
                setattr(metric, attribute, convert_tensor(copy.deepcopy(value), metric.device))
            metric._update_count, metric._computed = state_dict[name]["updates"], None  # which have no other setter

    def _metrics(self) -> list[tuple[str, torchmetrics.Metric]]:
        """The metric, or those of a collection, whose values are brought up to date by asking for them."""
        if isinstance(self.metric, torchmetrics.MetricCollection):
            return [(str(name), metric) for name, metric in self.metric.items()]
        return [("metric", self.metric)]


def _kind(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, torch.Tensor):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _plain(value: Any) -> Any:
    """Numbers where there is one element."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value


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
