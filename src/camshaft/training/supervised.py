"""Supervised training and evaluation, each a declared loop."""

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
from camshaft.training.batches import PrepareBatch, prepare_pair

__all__ = ["ForwardResult", "create_supervised_evaluator", "create_supervised_trainer", "supervised_loop"]

Batch = Any


def _train_output(x: Any, y: Any, y_pred: Any, loss: torch.Tensor) -> Any:
    return loss.item()


def _evaluate_output(x: Any, y: Any, y_pred: Any) -> Any:
    return y_pred, y


def _itself(value: Any) -> Any:
    return value


def _call(model: Callable[..., Any], x: Any) -> Any:
    return model(x)


class ForwardResult(NamedTuple):
    """What FORWARD leaves for BACKWARD: the prepared batch, the prediction, and the loss with its graph."""

    x: Any
    y: Any
    y_pred: Any
    loss: torch.Tensor


@attrs.frozen
class _Objective:
    """How a batch becomes a loss, and what is kept of it."""

    model: nn.Module
    loss_fn: Callable[[Any, Any], torch.Tensor]
    device: str | torch.device | None
    non_blocking: bool
    prepare_batch: PrepareBatch
    model_transform: Callable[[Any], Any]
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any]
    model_fn: Callable[[nn.Module, Any], Any]
    autocast: AbstractContextManager[Any]

    def forward(self, batch: Batch) -> ForwardResult:
        self.model.train()
        x, y = self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)
        with self.autocast:
            y_pred = self.model_transform(self.model_fn(self.model, x))
            return ForwardResult(x, y, y_pred, self.loss_fn(y_pred, y))

    def output(self, made: ForwardResult) -> Any:
        return detached(self.output_transform(*made))


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
    """The loop of supervised training: FORWARD, BACKWARD and OPTIM_STEP in every ITERATION.

    FORWARD leaves a :class:`ForwardResult` in ``state.output``. BACKWARD replaces it by what is kept, so that no graph
    outlives the iteration. Further states depend on the arguments:

    - With ``gradient_accumulation_steps``, OPTIM_STEP comes when a window of so many batches is full, and each loss
      is divided by the number of batches in its window. The last window of an epoch, or of a run that ``max_iters``
      ends, has what is left: it is divided by its own number, and stepped with its last batch. In the first epoch
      over data of unknown length nobody knows which batch is the last: a shorter last window is divided by the full
      number then, and LAST_OPTIM_STEP behind the iterations makes the step, with the events of OPTIM_STEP. What
      terminate_epoch() or a failure leaves of a window is dropped. What is in the middle of a window goes on from a
      :class:`~camshaft.Snapshot`, which has its gradients; from ``engine.state_dict()`` a new one begins.
    - With a ``scaler``, UNSCALE stands before OPTIM_STEP: gradients are clipped at UNSCALE_COMPLETED.
    - With an optimizer whose ``step`` requires a closure, such as ``torch.optim.LBFGS``, FORWARD and BACKWARD run
      inside of OPTIM_STEP as often as it asks. ``state.output`` is what is kept of the first time.

    Args:
        model: in training mode from FORWARD on, on the device already.
        optimizer: over the parameters of the model.
        loss_fn: ``loss_fn(y_pred, y)``, a scalar tensor.
        device: where batches are moved to; None leaves them where they are.
        non_blocking: move them without waiting.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=) -> (x, y)``.
        model_transform: what makes ``y_pred`` of what the model gives.
        output_transform: ``output_transform(x, y, y_pred, loss)``, kept in ``state.output``, its tensors detached;
            the loss as a number unless given. It is the loss before any division and scaling.
        model_fn: how the model is called, ``model_fn(model, x)``.
        gradient_accumulation_steps: how many batches share a step of the optimizer.
        autocast: such as ``torch.autocast("cpu", torch.bfloat16)``: the model and the loss run in it.
        scaler: such as ``torch.amp.GradScaler()``: scales the loss, so that gradients in half precision do not vanish.

    Raises:
        TypeError, ValueError: arguments that cannot work, or not together.
    """
    window = AccumulationWindow.of(gradient_accumulation_steps)
    _check_precision(autocast, scaler)
    objective = _Objective(
        model,
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
            raise ValueError(f"{type(optimizer).__name__} asks for gradients as often as it likes: leave out {extra}")
        return _closure_loop(objective, optimizer)

    is_unscaled = False

    def forward(engine: Engine, batch: Batch) -> ForwardResult:
        nonlocal is_unscaled
        if window is None or window.begins(engine):
            optimizer.zero_grad()
            if is_unscaled:  # a control call came before the step, and the scaler waits for it
                scaler.update()  # type: ignore[union-attr]
                is_unscaled = False
        return objective.forward(batch)

    def backward(engine: Engine, batch: Batch) -> Any:
        made: ForwardResult = engine.state.output
        loss = made.loss if window is None else window.share(made.loss)
        loss = loss if scaler is None else scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]
        return objective.output(made)

    def unscale(engine: Engine, batch: Batch) -> None:
        nonlocal is_unscaled
        scaler.unscale_(optimizer)  # type: ignore[union-attr]
        is_unscaled = True

    def optim_step(engine: Engine, batch: Batch) -> None:
        nonlocal is_unscaled
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
            is_unscaled = False
        if window is not None:
            window.close()

    step = (
        [Phase("OPTIM_STEP", optim_step)]
        if scaler is None
        else [Phase("UNSCALE", unscale), Phase("OPTIM_STEP", optim_step)]
    )
    passes = [Phase("FORWARD", forward), Phase("BACKWARD", backward)]
    if window is None:
        return Loop("EPOCH", Loop("ITERATION", *passes, *step, over=DATA))
    full = [attrs.evolve(phase, when=window.window_is_full) for phase in step]
    left = [attrs.evolve(phase, name=f"LAST_{phase.name}", when=window.gradients_are_left) for phase in step]
    return Loop("EPOCH", Loop("ITERATION", *passes, *full, over=DATA), *left)


def _closure_loop(objective: _Objective, optimizer: torch.optim.Optimizer) -> Loop:
    """The loop around an optimizer that evaluates the model itself."""

    def optim_step(engine: Engine, batch: Batch) -> Any:
        outputs = []

        def closure() -> Any:
            optimizer.zero_grad()
            engine.fire_event(BackpropEvents.FORWARD_STARTED)
            engine.state.output = made = objective.forward(batch)
            engine.fire_event(BackpropEvents.FORWARD_COMPLETED)
            engine.fire_event(BackpropEvents.BACKWARD_STARTED)
            made.loss.backward()  # type: ignore[no-untyped-call]
            engine.state.output = objective.output(made)
            outputs.append(engine.state.output)
            engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
            return made.loss

        optimizer.step(closure)
        return outputs[0]

    inside = (
        CustomState("FORWARD", "forward_started", "forward_completed", "OPTIM_STEP"),
        CustomState("BACKWARD", "backward_started", "backward_completed", "OPTIM_STEP"),
    )
    return Loop("EPOCH", Loop("ITERATION", Phase("OPTIM_STEP", optim_step), over=DATA), custom_states=inside)


def _requires_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _check_precision(autocast: Any, scaler: Any) -> None:
    """Refuse what only looks like mixed precision.

    Raises:
        TypeError: it is no autocast, or no scaler.
    """
    if autocast is not None and not isinstance(autocast, torch.autocast):
        raise TypeError(
            f"autocast={autocast!r} is no torch.autocast: give one, such as torch.autocast('cpu', torch.bfloat16)"
        )
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise TypeError(f"scaler={scaler!r} is no torch.amp.GradScaler: give one, such as torch.amp.GradScaler()")


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
    """An engine that trains: :func:`supervised_loop` with the same arguments.

    Its phases fire :class:`~camshaft.BackpropEvents`, so that a handler at BACKWARD_COMPLETED can clip gradients.

    Args:
        name, strict: as for :class:`~camshaft.Engine`.
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
    autocast: torch.autocast | None = None,
    name: str = "evaluator",
    strict: bool = False,
) -> Engine:
    """An engine that evaluates: one FORWARD in every ITERATION, without gradients.

    Args:
        model: put into evaluation mode, in which it stays.
        metrics: torchmetrics metrics by name, attached with :func:`camshaft.metrics.attach`.
        output_transform: ``output_transform(x, y, y_pred)``, kept in ``state.output``; ``(y_pred, y)`` unless given.
        device, non_blocking, prepare_batch, model_transform, model_fn, autocast: as for :func:`supervised_loop`.
        name, strict: as for :class:`~camshaft.Engine`.
    """
    _check_precision(autocast, None)
    precision = nullcontext() if autocast is None else autocast

    @torch.no_grad()
    def forward(engine: Engine, batch: Batch) -> Any:
        model.eval()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        with precision:
            return output_transform(x, y, model_transform(model_fn(model, x)))

    engine = Engine([Phase("FORWARD", forward)], name, strict=strict)
    if metrics:
        from camshaft.metrics.attachment import attach  # torchmetrics is imported only where metrics are used

        for metric_name, metric in metrics.items():
            attach(metric, engine, metric_name)
    return engine
