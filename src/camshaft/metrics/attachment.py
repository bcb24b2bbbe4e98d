"""Metrics: any torchmetrics metric on an engine, under a name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
import torchmetrics

from camshaft._tensors import convert_tensor
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.events import EventHandle, Events, attachments
from camshaft.priorities import METRICS

__all__ = ["BATCH_WISE", "EPOCH_WISE", "RUNNING", "RUNNING_EPOCH", "Usage", "attach"]


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
        return f"{type(value).__name__} of {', '.join(map(str, value)) or 'no_op'}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _plain(value: Any) -> Any:
    """Numbers where there is one element."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value
