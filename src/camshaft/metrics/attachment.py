"""Attachment of torchmetrics metrics to an engine."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
import torchmetrics

from camshaft._functions import check_runs, function_name
from camshaft.engine.attachment import attached_to, note_host
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.state import note_value
from camshaft.events import EventEnum, EventHandle, Events, EventUnion, attachments
from camshaft.exceptions import NoValueError
from camshaft.loop.loop import Loop
from camshaft.priorities import METRICS
from camshaft.resume.metric_states import MetricStates

__all__ = ["BATCH_WISE", "EPOCH_WISE", "RUNNING", "RUNNING_EPOCH", "Usage", "attach"]


def _check_event(handle: EventHandle) -> EventHandle:
    attachments(handle)  # raises a TypeError if this is not an event
    return handle


@attrs.frozen
class Usage:
    """The events at which a metric is reset, updated and computed.

    Args:
        reset, update, compute: an event, a filtered event or a union for each. Custom events are allowed.

    Raises:
        TypeError: one of them is not an event.
    """

    reset: EventHandle = attrs.field(converter=_check_event)
    update: EventHandle = attrs.field(converter=_check_event)
    compute: EventHandle = attrs.field(converter=_check_event)

    def is_batch_wise(self, loop: Loop) -> bool:
        """Return whether a value is of a batch, or of the batches of an epoch so far. The next epoch drops it."""
        reset, update, compute = (
            {single.key for single in attachments(handle) if single.filter is None}
            for handle in (self.reset, self.update, self.compute)
        )
        return bool(update & compute) and not reset <= {"started"}


EPOCH_WISE = Usage(Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED)
"""Usage for one value per epoch, computed at its end."""

BATCH_WISE = Usage(Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)
"""Usage for one value per batch."""

RUNNING_EPOCH = Usage(Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)
"""Usage for a value after each batch, over all batches of the epoch so far."""

RUNNING = Usage(Events.STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)
"""Usage for a value after each batch, over all batches of the run so far."""


def itself(output: Any) -> Any:
    """Return the output as it is, as the arguments of ``metric.update``."""
    return output


def attach(
    metric: torchmetrics.Metric | torchmetrics.MetricCollection,
    engine: Engine,
    name: str,
    output_transform: Callable[[Any], Any] = itself,
    usage: Usage = EPOCH_WISE,
) -> RemovableEventHandle:
    """Attach a metric to an engine, which then writes its value to ``state.metrics[name]``, by default for each epoch.

    The value is available to all handlers of priority 0 at the same event. Scalar tensors become numbers, and a
    ``MetricCollection`` becomes a dictionary of values. Without samples, as in an epoch whose iterations were all
    skipped, the metric has no value: it is left out of ``state.metrics``, and a warning says so once.

    Args:
        metric: a ``torchmetrics.Metric`` or ``MetricCollection``.
        engine: the engine whose outputs update the metric.
        name: the key in ``state.metrics``.
        output_transform: ``output_transform(state.output)`` returns the arguments of ``metric.update``: a tuple or list
            of arguments, a mapping of keyword arguments, or one value.
        usage: the events at which the metric is reset, updated and computed.

    Returns:
        A handle; call its ``remove()`` to detach the metric. The last value stays in ``state.metrics``.

    Raises:
        TypeError: ``metric`` is not a torchmetrics metric, ``name`` is not a string, ``usage`` is not a
            :class:`Usage`, or ``output_transform`` is not a function, or a call would not run it. While the engine
            runs: ``metric.update`` does not accept its arguments.
        ValueError: the engine already has a metric of this name, or never fires one of the events. Or the metric is
            attached already, by itself or inside of another metric: attach ``metric.clone()``.
    """
    if not isinstance(metric, (torchmetrics.Metric, torchmetrics.MetricCollection)):
        raise TypeError(
            f"metric must be a torchmetrics metric, got {metric!r}: give an instance, such as "
            f"camshaft.metrics.Accuracy()"
        )
    if not isinstance(engine, Engine):
        raise TypeError(f"engine must be an Engine, got {engine!r}: call attach(metric, engine, name)")
    if not isinstance(usage, Usage):
        raise TypeError(
            f"usage must be a Usage, got {usage!r}: give EPOCH_WISE, BATCH_WISE, or Usage(reset, update, compute)"
        )
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}: it is the key in state.metrics")
    if not callable(output_transform) or isinstance(output_transform, (EventEnum, EventUnion)):
        raise TypeError(
            f"output_transform must be a function, got {output_transform!r}: give events by "
            f"usage=Usage(reset, update, compute)"
        )
    check_runs(f"output_transform {function_name(output_transform)}", output_transform)
    for handle in (usage.reset, usage.update, usage.compute):
        for single in attachments(handle):
            engine.handlers(single)  # raises before anything is attached if the loop never fires this event
    for handler in (handler for key in engine.loop.event_keys for handler in engine.handlers(key)):
        if isinstance(handler.function, _Compute) and handler.function.name == name:
            raise ValueError(f"{engine.name} already has a metric named {name!r}: give another name")

    compute = _Compute(metric, name)
    compute.refuse_shared(engine)

    compute.note_attachment(engine)
    accumulation = _Accumulation(compute, output_transform)
    roles: list[tuple[EventHandle, Callable[..., Any]]] = [
        (usage.reset, _Named(accumulation.reset, f"{name}.reset")),
        (usage.update, _Named(accumulation.update, f"{name}.update")),
        (usage.compute, compute),
    ]
    if usage.is_batch_wise(engine.loop):
        roles.insert(0, (engine.loop.started, _Named(accumulation.drop, f"{name}.drop")))
    return RemovableEventHandle.union(
        engine.add_event_handler(attrs.evolve(single, priority=METRICS), handler)
        for handle, handler in roles
        for single in attachments(handle)
    )


@attrs.frozen
class _Accumulation:
    """The handlers of a metric before its value.

    They are an object rather than functions inside of a function: a copy of an engine copies the objects of its
    handlers.
    """

    compute: _Compute
    output_transform: Callable[[Any], Any]

    def reset(self, engine: Engine) -> None:
        """Reset the metric, unless a resumed run goes on with its saved state."""
        if not engine.state.resumed:
            self.compute.metric.reset()
            self.compute.begin()

    @torch.no_grad()
    def update(self, engine: Engine) -> None:
        """Update the metric with the output of the engine."""
        __tracebackhide__ = True
        metric, output = self.compute.metric, engine.state.output
        self.compute.was_updated = True
        arguments = self.output_transform(output)
        try:
            if isinstance(arguments, Mapping):
                metric.update(**arguments)
            elif isinstance(arguments, (tuple, list)):
                metric.update(*arguments)
            else:
                metric.update(arguments)
        except TypeError as error:
            source = (
                "" if arguments is output else f"the result of output_transform= ({_describe_type(arguments)}) for "
            )
            raise TypeError(
                f"{type(metric).__name__} {self.compute.name!r} of {engine.name} cannot be updated with "
                f"{source}state.output ({_describe_type(output)}): {error}; give attach() or the engine an "
                f"output_transform= that returns the arguments of update()"
            ) from error

    def drop(self, engine: Engine) -> None:
        """Drop the value of the last epoch: if no batch of this one has samples, none replaces it."""
        if not engine.state.resumed:
            engine.state.metrics.pop(self.compute.name, None)


class _Named:
    """A handler under another name, for diagrams and reports."""

    def __init__(self, function: Callable[[Engine], None], name: str) -> None:
        self.function, self.__qualname__ = function, name

    def __call__(self, engine: Engine) -> None:
        __tracebackhide__ = True
        self.function(engine)


class _Compute:
    """Handler that writes the value of a metric to the state, and saves the metric in snapshots."""

    def __init__(self, metric: torchmetrics.Metric | torchmetrics.MetricCollection, name: str) -> None:
        self.metric = metric
        self.name = name
        self.__qualname__ = f"{name}.compute"
        self.was_updated, self._updates_before = False, 0
        self._parts = [part for part in metric.modules() if isinstance(part, torchmetrics.Metric)]
        self._lacks_value = self._has_warned = False
        self._states = MetricStates(metric)

    def refuse_shared(self, engine: Engine) -> None:
        """Refuse a metric that is attached already, by itself or inside of another metric.

        Raises:
            ValueError: the metric is attached already.
        """
        for part in self._parts:
            other, host = _attachment_of(part)
            if other is not None and host is not None:
                inside = "" if part is self.metric else f" in {self.name!r}"
                raise ValueError(
                    f"the {type(part).__name__}{inside} is attached to {host.name} already, as {other.name!r}, and "
                    f"would mix its values with those of {self.name!r} of {engine.name}: attach another one, such as "
                    f"metric.clone()"
                )

    def note_attachment(self, engine: Engine) -> None:
        """Note that the metric is attached to an engine."""
        note_host(self, engine)
        for part in self._parts:
            _ATTACHED[id(part)] = self

    def begin(self) -> None:
        """Start a new value: the metric was reset."""
        self.was_updated, self._updates_before = False, self._updates()

    def __call__(self, engine: Engine) -> None:
        __tracebackhide__ = True
        try:
            # the counts are those of updates by hand, and of a resumed run
            has_value = self.was_updated or self._updates() != self._updates_before
            if has_value:
                engine.state.metrics[self.name] = _plain(self.metric.compute())
        except NoValueError:
            has_value = False
        if has_value:
            if self._lacks_value:
                note_value(engine.state, self.name, has_value=True)
            self._lacks_value = False
            return
        note_value(engine.state, self.name, has_value=False)
        self._lacks_value = True
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.name} of {engine.name} has no value, because there were no samples, in {engine.place}: "
                f"it is left out of state.metrics",
                stacklevel=2,
            )

    def _updates(self) -> int:
        """Return the number of updates. Only its changes mean something, because some metrics never reset it."""
        return sum(part.update_count for part in self._parts)

    def state_dict(self) -> dict[str, Any]:
        """Return the accumulated states of the metric, and of the metrics inside of it."""
        return self._states.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the accumulated states."""
        self._states.load_state_dict(state_dict)


_ATTACHED: weakref.WeakValueDictionary[int, _Compute] = weakref.WeakValueDictionary()
"""By the id of a metric: the handler that computes it, or a metric that contains it, and keeps both in memory."""


def _attachment_of(part: torchmetrics.Metric) -> tuple[_Compute | None, Any]:
    """Return the handler that computes a metric, and the engine that it is attached to; None without one."""
    other = _ATTACHED.get(id(part))
    return other, attached_to(other, other) if other is not None else None


def is_attachable(metric: Any) -> bool:
    """Return whether a metric attaches itself, as those of camshaft and of pytorch-ignite do."""
    return not isinstance(metric, type) and callable(getattr(metric, "attach", None))


def unattached(metric: Any) -> Any:
    """Return the metric, or a copy of it if it is attached already, by itself or inside of another metric."""
    if not isinstance(metric, (torchmetrics.Metric, torchmetrics.MetricCollection)):
        return metric  # attach() refuses it
    parts = (part for part in metric.modules() if isinstance(part, torchmetrics.Metric))
    return metric.clone() if any(_attachment_of(part)[1] is not None for part in parts) else metric


def _describe_type(value: Any) -> str:
    """Return a short description of a value's type and size."""
    if isinstance(value, torch.Tensor):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _plain(value: Any) -> Any:
    """Return a value with its scalar tensors converted to numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value
