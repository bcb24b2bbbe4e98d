"""Logging for TensorBoard: outputs, metrics and parameters of optimizers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import torch

from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.state import State, lacks_value
from camshaft.events import EventHandle, event_key
from camshaft.loop.counting import counter_loop_by_event

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLogger", "global_step_from_engine"]

GlobalStep = Callable[[Engine, EventHandle], int]
"""``global_step_transform(engine, event) -> step``, the position on the horizontal axis."""


def global_step_from_engine(engine: Engine) -> GlobalStep:
    """Return a ``global_step_transform`` that takes the step from ``engine``, such as an evaluator's from its trainer.

    The step is a count of ``engine``, chosen by its last event: the count of epochs after EPOCH_COMPLETED, the count of
    iterations after ITERATION_COMPLETED.

    Args:
        engine: the engine that counts.

    Raises:
        TypeError: ``engine`` is not an Engine.
    """
    _check_engine("global_step_from_engine", engine)

    def global_step(_: Engine, event: EventHandle) -> int:
        return _count_at(engine, engine.last_event_name or engine.loop.started)

    return global_step


class TensorBoardLogger:
    """Logger that writes scalars to a TensorBoard event file while engines run.

    ``logger.writer`` is a ``torch.utils.tensorboard.SummaryWriter``. Your own handlers may use it for images and
    histograms. Use the logger as a context manager, or call :meth:`close`.

    Args:
        log_dir: the folder of the event file; ``runs/<time>_<host>`` by default.
        options: further arguments of ``SummaryWriter``, such as ``flush_secs`` or ``purge_step``.

    Raises:
        ModuleNotFoundError: the package tensorboard is not installed.

    .. code-block:: python

        with TensorBoardLogger("runs/first") as logger:
            logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED(every=100), tag="training")
            logger.attach_output_handler(
                evaluator, Events.COMPLETED, tag="validation", metric_names="all",
                global_step_transform=global_step_from_engine(trainer),
            )
            logger.attach_opt_params_handler(trainer, Events.EPOCH_STARTED, optimizer)
            trainer.run(loader, max_epochs=10)
    """

    writer: SummaryWriter

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, **options: Any) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(
                "TensorBoardLogger needs the package tensorboard: pip install tensorboard"
            ) from error
        self.writer = SummaryWriter(log_dir, **options)
        self._attached: list[RemovableEventHandle] = []

    def attach_output_handler(
        self,
        engine: Engine,
        event_name: EventHandle,
        tag: str,
        metric_names: Iterable[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        global_step_transform: GlobalStep | None = None,
    ) -> RemovableEventHandle:
        """Write the output of an engine, its metrics, or both at an event.

        A number is written as ``<tag>/output`` or ``<tag>/<metric>``, a mapping as ``<tag>/<key>``, the elements of a
        list or of a tensor of shape (N,) as ``.../0``, ``.../1``.

        Args:
            engine: the engine with the output and metrics.
            event_name: the event at which to write: an event, a filtered event or a union.
            tag: the name of the group of charts.
            metric_names: names in ``state.metrics``, or ``"all"``; None for the output alone. ``"all"`` leaves out
                what is no number, such as a confusion matrix, with one warning.
            output_transform: ``output_transform(state.output)`` returns the values to write. By default, the output is
                written unchanged, or not at all if ``metric_names`` is given.
            global_step_transform: ``global_step_transform(engine, event) -> int``, such as the result of
                :func:`global_step_from_engine`. By default, the engine's own count of the loop that fires the event.

        Returns:
            A handle; call its ``remove()`` to detach the handler.

        Raises:
            TypeError, ValueError: an argument is invalid. While the engine runs: a value is not a number, or a metric
                does not exist.
        """
        _check_engine("attach_output_handler", engine)
        _check_tag("attach_output_handler", tag)
        names = [metric_names] if isinstance(metric_names, str) else metric_names
        names = list(names) if names is not None else None
        wants_output = output_transform is not None or names is None
        reported: set[str] = set()

        def values(engine: Engine) -> Iterator[tuple[str, float]]:
            __tracebackhide__ = True
            if wants_output:
                output = engine.state.output
                output = output_transform(output) if output_transform is not None else output
                yield from _flat(tag if isinstance(output, Mapping) else f"{tag}/output", output)
            left_out: dict[str, str] = {}
            refuse = left_out.__setitem__ if names == ["all"] else _refuse
            for name in _resolve_metric_names(names or [], engine.state):
                yield from _flat(f"{tag}/{name}", engine.state.metrics[name], refuse)
            new = [f"{chart} ({shown})" for chart, shown in left_out.items() if chart not in reported]
            if new:
                reported.update(left_out)
                warnings.warn(
                    f"TensorBoardLogger: metrics of {engine.name} that are no numbers are not written: "
                    f"{', '.join(new)}",
                    stacklevel=2,
                )

        return self._attach(engine, event_name, values, global_step_transform, f"log {tag}")

    def attach_opt_params_handler(
        self,
        engine: Engine,
        event_name: EventHandle,
        optimizer: torch.optim.Optimizer,
        param_name: str = "lr",
        tag: str | None = None,
        global_step_transform: GlobalStep | None = None,
    ) -> RemovableEventHandle:
        """Write a parameter of every group of an optimizer at an event, as ``lr/group_0`` or ``<tag>/lr/group_0``.

        Args:
            engine: the engine that fires the event.
            event_name: the event at which to write: an event, a filtered event or a union.
            optimizer: the optimizer with the ``param_groups``.
            param_name: the parameter: ``"lr"``, ``"momentum"``, ``"weight_decay"``.
            tag: the name of the group of charts.
            global_step_transform: as for :meth:`attach_output_handler`.

        Returns:
            A handle; call its ``remove()`` to detach the handler.

        Raises:
            TypeError, ValueError: an argument is invalid, or the optimizer lacks the parameter.
        """
        _check_engine("attach_opt_params_handler", engine)
        if tag is not None:
            _check_tag("attach_opt_params_handler", tag)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"attach_opt_params_handler: optimizer must be one of torch.optim, got {optimizer!r}")
        if any(param_name not in group for group in optimizer.param_groups):
            known = ", ".join(name for name in optimizer.param_groups[0] if name != "params")
            raise ValueError(
                f"attach_opt_params_handler: param_name must be a parameter of {optimizer.__class__.__name__}, got "
                f"{param_name!r}: give one of {known}"
            )
        prefix = param_name if tag is None else f"{tag}/{param_name}"

        def values(engine: Engine) -> Iterator[tuple[str, float]]:
            for index, group in enumerate(optimizer.param_groups):
                yield from _flat(f"{prefix}/group_{index}", group[param_name])

        return self._attach(engine, event_name, values, global_step_transform, f"log {prefix}")

    def close(self) -> None:
        """Detach all handlers, then flush and close the event file. Calling it again does nothing."""
        attached, self._attached = self._attached, []
        for handle in attached:
            handle.remove()
        self.writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attach(
        self,
        engine: Engine,
        event_name: EventHandle,
        values: Callable[[Engine], Iterator[tuple[str, float]]],
        global_step_transform: GlobalStep | None,
        name: str,
    ) -> RemovableEventHandle:
        step = global_step_transform if global_step_transform is not None else global_step_from_engine(engine)
        handle = engine.add_event_handler(event_name, _Log(self.writer, values, step, name))
        self._attached.append(handle)
        return handle


class _Log:
    """The handler that writes values at an event."""

    def __init__(
        self,
        writer: SummaryWriter,
        values: Callable[[Engine], Iterator[tuple[str, float]]],
        step: GlobalStep,
        name: str,
    ) -> None:
        self._writer, self._values, self._step = writer, values, step
        self.__qualname__ = name  # the name in diagrams and reports

    def __call__(self, engine: Engine, *_: BaseException) -> None:
        """Write the values."""
        __tracebackhide__ = True
        global_step = self._step(engine, engine.last_event_name)
        for chart, value in self._values(engine):
            self._writer.add_scalar(chart, value, global_step)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "TensorBoardLogger: an engine with an open event file cannot be copied or pickled: close() the logger "
            "first, and attach another one to the copy"
        )


def _resolve_metric_names(names: list[str], state: State) -> list[str]:
    """Return the names of the metrics to write. Those without samples are left out."""
    metrics = state.metrics
    if names == ["all"]:
        return list(metrics)
    missing = [name for name in names if name not in metrics and not lacks_value(name, state)]
    if missing:
        raise ValueError(
            f"TensorBoardLogger: state.metrics has {', '.join(metrics) or 'nothing'} at this event, "
            f"but not {missing[0]!r}: attach the logger to an event after the metric is computed"
        )
    return [name for name in names if name in metrics]


def _refuse(chart: str, shown: str) -> None:
    raise TypeError(
        f"TensorBoardLogger: {chart} must be a number, got {shown}: give an output_transform= that returns numbers"
    )


def _flat(tag: str, value: Any, refuse: Callable[[str, str], None] = _refuse) -> Iterator[tuple[str, float]]:
    """Yield each number in nested mappings, lists, and tensors and arrays of at most one dimension, with its tag.

    Args:
        tag: the tag of the value itself.
        value: the value.
        refuse: called with the tag and a description of each other value.
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and len(shape) <= 1 and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{tag}/{name}", inner, refuse)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _flat(f"{tag}/{index}", inner, refuse)
    elif isinstance(value, Real):
        yield tag, float(value)
    elif isinstance(shape, tuple):
        refuse(tag, f"{'a tensor' if isinstance(value, torch.Tensor) else 'an array'} of shape {tuple(shape)}")
    else:
        refuse(tag, repr(value))


def _count_at(engine: Engine, event: EventHandle) -> int:
    """Return the current count of the loop that fires an event."""
    return int(getattr(engine.state, counter_loop_by_event(engine.loop)[event_key(event)].lower()))


def _check_engine(where: str, engine: Any) -> None:
    if not isinstance(engine, Engine):
        raise TypeError(f"{where}: engine must be an Engine, got {engine!r}")


def _check_tag(where: str, tag: Any) -> None:
    if not isinstance(tag, str) or not tag:
        raise TypeError(f"{where}: tag must be a non-empty string, got {tag!r}: it names a group of charts")
