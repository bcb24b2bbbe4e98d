"""Supervised training and evaluation as declared loops."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import attrs
import torch
from torch import nn

from camshaft._tensors import detached
from camshaft.engine.engine import Engine
from camshaft.events import BackpropEvents
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState, Phase
from camshaft.training.accumulation import AccumulationWindow
from camshaft.training.arguments import (
    check_arguments,
    check_loss,
    check_same_device,
    check_training_arguments,
)
from camshaft.training.batches import PrepareBatch, prepare_pair
from camshaft.training.modes import EvaluationMode, TrainingMode
from camshaft.training.parameter_update import ParameterUpdate

__all__ = ["ForwardResult", "create_supervised_evaluator", "create_supervised_trainer", "supervised_loop"]

Batch = Any


def _train_output(x: Any, y: Any, y_pred: Any, loss: torch.Tensor) -> Any:
    return loss.item()


def _evaluate_output(x: Any, y: Any, y_pred: Any) -> Any:
    return y_pred, y


def _itself(value: Any) -> Any:
    return value


def _call(model: Callable[..., Any], x: Any) -> Any:
    __tracebackhide__ = True
    return model(x)


class ForwardResult(NamedTuple):
    """Result of FORWARD for BACKWARD: the prepared batch, the prediction, and the loss with its graph."""

    x: Any
    y: Any
    y_pred: Any
    loss: torch.Tensor


@attrs.frozen
class _Objective:
    """Computation of the loss of a batch, and of the output that is kept."""

    model: nn.Module
    mode: TrainingMode
    loss_fn: Callable[[Any, Any], torch.Tensor]
    device: str | torch.device | None
    non_blocking: bool
    prepare_batch: PrepareBatch
    model_transform: Callable[[Any], Any]
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any]
    model_fn: Callable[[nn.Module, Any], Any]
    autocast: AbstractContextManager[Any]

    def forward(self, batch: Batch) -> ForwardResult:
        """Return the predictions and the loss of a batch."""
        __tracebackhide__ = True
        self.mode.end_evaluation()
        x, y = self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)
        try:
            with self.autocast:
                y_pred = self.model_transform(self.model_fn(self.model, x))
                return ForwardResult(x, y, y_pred, self.loss_fn(y_pred, y))
        except RuntimeError as error:
            check_same_device(self.model, self.device, (x, y), error)
            raise

    def output(self, result: ForwardResult) -> Any:
        """Return the output to keep, without graphs."""
        __tracebackhide__ = True
        return detached(self.output_transform(*result))


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
    *,
    gradient_accumulation_steps: int = 1,
    autocast: torch.autocast | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> Loop:
    """Return the loop of supervised training, with FORWARD, BACKWARD and OPTIM_STEP in every ITERATION.

    FORWARD puts a :class:`ForwardResult` into ``state.output``. BACKWARD replaces it with the output to keep, so no
    graph outlives the iteration. Further states depend on the arguments:

    - With ``gradient_accumulation_steps``, OPTIM_STEP runs when a window of this many batches is full. At each step the
      gradient is the mean over the batches in its window. Skipped batches are in no window.

      The last window of an epoch may be shorter, and so may the last window of a run that ``max_iters`` ends. The
      optimizer steps at its last batch. If that batch was not known to be the last one (the length of the data is
      unknown, or the following batches were skipped), RESCALE and LAST_OPTIM_STEP follow after the iterations. RESCALE
      makes the gradient the mean over the batches that are there. LAST_OPTIM_STEP has the events of OPTIM_STEP.

      A window that ``terminate()``, ``terminate_epoch()`` or a failure interrupts is discarded, and so is one whose
      last batches before ``max_iters`` are skipped. A :class:`~camshaft.Snapshot` includes the gradients of an
      incomplete window, and a run resumed from it continues that window. A run resumed from ``engine.state_dict()``
      starts a new window.
    - With a ``scaler``, UNSCALE precedes OPTIM_STEP. Clip gradients at UNSCALE_COMPLETED. If gradients have overflowed,
      SKIP_OPTIM_STEP runs instead of OPTIM_STEP: no step is made, and the scaler lowers its scale.
    - With an optimizer whose ``step`` requires a closure, such as ``torch.optim.LBFGS``, FORWARD and BACKWARD run
      inside OPTIM_STEP each time the optimizer evaluates the closure. ``state.output`` is that of the first evaluation.

    Args:
        model: the model, already on the device. FORWARD puts it into training mode after an evaluation. Parts that are
            in evaluation mode while the model is in training mode stay so. (:func:`create_supervised_trainer` also puts
            the whole model into training mode at EPOCH_STARTED.)
        optimizer: an optimizer of the model's parameters.
        loss_fn: ``loss_fn(y_pred, y)`` returns a scalar tensor.
        device: the device for batches, or None to leave them where they are.
        non_blocking: copy batches asynchronously if possible.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=) -> (x, y)``.
        model_transform: ``model_transform(model_output) -> y_pred``.
        output_transform: ``output_transform(x, y, y_pred, loss)`` returns the output to keep in ``state.output``. Its
            tensors are detached. The default is the loss as a number. The loss is neither divided nor scaled.
        model_fn: ``model_fn(model, x)`` calls the model.
        gradient_accumulation_steps: the number of batches that share a step of the optimizer.
        autocast: the context for the model and the loss, such as ``torch.autocast("cpu", torch.bfloat16)``.
        scaler: a scaler of the loss, such as ``torch.amp.GradScaler()``. It keeps gradients in half precision from
            becoming 0.

    Returns:
        The loop, for an :class:`~camshaft.Engine`.

    Raises:
        TypeError, ValueError: an argument is invalid, or two arguments exclude each other. While the loop runs:
            ``loss_fn`` returns no tensor, no scalar, or a tensor without a gradient.
        RuntimeError: while the loop runs: a batch is on another device than the model.
    """
    check_training_arguments(model, optimizer, loss_fn)
    functions = {
        "model_fn": (model_fn, ("model", "x")),
        "model_transform": (model_transform, ("output",)),
        "output_transform": (output_transform, ("x", "y", "y_pred", "loss")),
    }
    check_arguments(model, device, prepare_batch, functions)
    window = AccumulationWindow.of(gradient_accumulation_steps)
    _check_precision(autocast, scaler)
    objective = _Objective(
        model,
        TrainingMode(model),
        loss_fn,
        device,
        non_blocking,
        prepare_batch,
        model_transform,
        output_transform,
        model_fn,
        nullcontext() if autocast is None else autocast,
    )
    if _requires_closure(optimizer):
        if window is not None or scaler is not None:
            extra = "gradient_accumulation_steps" if window is not None else "scaler"
            raise ValueError(
                f"{type(optimizer).__name__} evaluates the model several times in a step: leave out {extra}"
            )
        return _closure_loop(objective, optimizer)

    update = ParameterUpdate(optimizer, window, scaler)
    step = _Step(objective, update)
    gradients = [Phase("FORWARD", step.forward), Phase("BACKWARD", step.backward)]
    return Loop("EPOCH", Loop("ITERATION", *gradients, *update.phases(), over=DATA), *update.last_phases())


# Objects rather than functions inside of functions: a copy of an engine copies the objects of its phases.
@attrs.frozen
class _Step:
    """The phases FORWARD and BACKWARD."""

    objective: _Objective
    update: ParameterUpdate

    def forward(self, engine: Engine, batch: Batch) -> ForwardResult:
        """Return the predictions and the loss of a batch."""
        __tracebackhide__ = True
        self.update.begin(engine)
        return self.objective.forward(batch)

    def backward(self, engine: Engine, batch: Batch) -> Any:
        """Compute the gradients, and return the output to keep."""
        __tracebackhide__ = True
        result: ForwardResult = engine.state.output
        self.update.backward(engine, result.loss)
        return self.objective.output(result)


@attrs.frozen
class _ClosureStep:
    """The phase OPTIM_STEP of an optimizer that evaluates the model through a closure."""

    objective: _Objective
    optimizer: torch.optim.Optimizer

    def optim_step(self, engine: Engine, batch: Batch) -> Any:
        """Make the step, and return the output of its first evaluation."""
        __tracebackhide__ = True
        objective, outputs = self.objective, []

        def closure() -> Any:
            __tracebackhide__ = True
            self.optimizer.zero_grad()
            engine.fire_event(BackpropEvents.FORWARD_STARTED)
            engine.state.output = result = objective.forward(batch)
            engine.fire_event(BackpropEvents.FORWARD_COMPLETED)
            engine.fire_event(BackpropEvents.BACKWARD_STARTED)
            try:
                result.loss.backward()  # type: ignore[no-untyped-call]
            except Exception as error:
                check_loss(result.loss, error)
                raise
            engine.state.output = objective.output(result)
            outputs.append(engine.state.output)
            engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
            return result.loss

        self.optimizer.step(closure)
        return outputs[0]


def _closure_loop(objective: _Objective, optimizer: torch.optim.Optimizer) -> Loop:
    """Return the loop for an optimizer that evaluates the model through a closure."""
    inside = (
        CustomState("FORWARD", "forward_started", "forward_completed", "OPTIM_STEP"),
        CustomState("BACKWARD", "backward_started", "backward_completed", "OPTIM_STEP"),
    )
    step = Phase("OPTIM_STEP", _ClosureStep(objective, optimizer).optim_step)
    return Loop("EPOCH", Loop("ITERATION", step, over=DATA), custom_states=inside)


def _requires_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _check_precision(autocast: Any, scaler: Any) -> None:
    """Refuse arguments of other types than torch's for mixed precision.

    Raises:
        TypeError: ``autocast`` is not a ``torch.autocast``, or ``scaler`` not a ``torch.amp.GradScaler``.
    """
    if autocast is not None and not isinstance(autocast, torch.autocast):
        raise TypeError(
            f"autocast must be a torch.autocast, such as torch.autocast('cpu', torch.bfloat16), got {autocast!r}"
        )
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, such as torch.amp.GradScaler(), got {scaler!r}")


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
    gradient_accumulation_steps: int = 1,
    autocast: torch.autocast | None = None,
    scaler: torch.amp.GradScaler | None = None,
    name: str = "trainer",
    strict: bool = False,
) -> Engine:
    """Return an engine for supervised training. It runs the :func:`supervised_loop` with the same arguments.

    Its phases fire :class:`~camshaft.BackpropEvents`. For example, a handler at BACKWARD_COMPLETED can clip gradients.

    The model is put into training mode at every EPOCH_STARTED, before the handlers of users run. Handlers of
    EPOCH_STARTED and ITERATION_STARTED can put parts of it into evaluation mode, such as batch normalization with fixed
    statistics: ``trainer.add_event_handler(Events.EPOCH_STARTED, lambda: model.backbone.eval())``. These parts stay so
    until the epoch ends. After an evaluation by :func:`create_supervised_evaluator` in mid-epoch, each part returns to
    its mode. If other code has put the model into evaluation mode, the whole model is put into training mode before the
    handlers of ITERATION_STARTED run.

    Args:
        name, strict: as for :class:`~camshaft.Engine`.

    Raises:
        TypeError, ValueError: an argument is invalid, or two arguments exclude each other.
    """
    loop = supervised_loop(
        model,
        optimizer,
        loss_fn,
        device,
        non_blocking,
        prepare_batch,
        model_transform,
        output_transform,
        model_fn,
        gradient_accumulation_steps=gradient_accumulation_steps,
        autocast=autocast,
        scaler=scaler,
    )
    engine = Engine(loop, name, strict=strict)
    TrainingMode(model).attach(engine)
    return engine


@attrs.frozen
class _Evaluation:
    """Computation of the output of a batch, without gradients."""

    mode: EvaluationMode
    device: str | torch.device | None
    non_blocking: bool
    prepare_batch: PrepareBatch
    model_transform: Callable[[Any], Any]
    output_transform: Callable[[Any, Any, Any], Any]
    model_fn: Callable[[nn.Module, Any], Any]
    autocast: AbstractContextManager[Any]

    @torch.no_grad()
    def forward(self, engine: Engine, batch: Batch) -> Any:
        """Return the output to keep of a batch."""
        __tracebackhide__ = True
        self.mode.end_training()
        x, y = self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)
        try:
            with self.autocast:
                return self.output_transform(x, y, self.model_transform(self.model_fn(self.mode.model, x)))
        except RuntimeError as error:
            check_same_device(self.mode.model, self.device, (x, y), error)
            raise


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
    autocast: torch.autocast | None = None,
    name: str = "evaluator",
    strict: bool = False,
) -> Engine:
    """Return an engine for evaluation, with one FORWARD in every ITERATION, without gradients.

    Args:
        model: the model. It is put into evaluation mode at EPOCH_STARTED, before the handlers of users run, and stays
            in it. So a handler of EPOCH_STARTED can put parts of it into training mode, such as dropout for Monte Carlo
            estimates.
        metrics: metrics by name. Each is attached with its method ``attach``, which those of pytorch-ignite have too.
            Others of torchmetrics are attached with :func:`camshaft.metrics.attach`. Of one that is attached already,
            the evaluator gets a copy, so several evaluators may be made with the same metrics.
        output_transform: ``output_transform(x, y, y_pred)`` returns the output to keep in ``state.output``. The default
            is ``(y_pred, y)``.
        device, non_blocking, prepare_batch, model_transform, model_fn, autocast: as for :func:`supervised_loop`.
        name, strict: as for :class:`~camshaft.Engine`.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    functions = {
        "model_fn": (model_fn, ("model", "x")),
        "model_transform": (model_transform, ("output",)),
        "output_transform": (output_transform, ("x", "y", "y_pred")),
    }
    check_arguments(model, device, prepare_batch, functions)
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(
            f"metrics must be a mapping of names to metrics, got {metrics!r}: give {{'accuracy': Accuracy()}}"
        )
    _check_precision(autocast, None)
    precision = nullcontext() if autocast is None else autocast
    mode = EvaluationMode(model)
    evaluation = _Evaluation(
        mode,
        device,
        non_blocking,
        prepare_batch,
        model_transform,
        output_transform,
        model_fn,
        precision,
    )
    engine = Engine([Phase("FORWARD", evaluation.forward)], name, strict=strict)
    mode.attach(engine)
    if metrics:
        from camshaft.metrics.attachment import (
            attach,
            is_attachable,
            unattached,
        )  # torchmetrics is imported only if metrics are used

        for metric_name, metric in metrics.items():
            if is_attachable(metric):  # with its own output_transform and usage
                unattached(metric).attach(engine, metric_name)
            else:
                attach(unattached(metric), engine, metric_name)
    return engine
