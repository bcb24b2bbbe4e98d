"""Truncated back-propagation through time, as a loop over chunks of time in every ITERATION."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import nn

from camshaft._checks import check_integer
from camshaft._tensors import detached
from camshaft.engine.engine import Engine
from camshaft.events import EventEnum
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, Phase
from camshaft.training.arguments import check_arguments, check_loss, check_same_device, check_training_arguments
from camshaft.training.batches import PrepareBatch, prepare_pair
from camshaft.training.modes import TrainingMode

__all__ = ["TbpttEvents", "create_supervised_tbptt_trainer", "tbptt_loop"]


class TbpttEvents(EventEnum):
    """Events of the loop TIME, at the start and the end of each chunk."""

    TIME_ITERATION_STARTED = "time_iteration_started"
    TIME_ITERATION_COMPLETED = "time_iteration_completed"


def tbptt_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    tbtt_step: int,
    dim: int = 0,
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = prepare_pair,
) -> Loop:
    """Return the loop of truncated back-propagation through time, with FORWARD, BACKWARD and OPTIM_STEP per chunk.

    Each batch is split into chunks along its time dimension. A chunk starts with the detached hidden state of the chunk
    before it (Williams and Peng 1990, BPTT(h; h) in their notation). The loop TIME counts chunks over the whole run in
    ``state.time``, and fires :class:`TbpttEvents`. ``state.output`` is the loss of the chunk at
    TIME_ITERATION_COMPLETED, and the mean over the chunks at ITERATION_COMPLETED.

    Args:
        model: called as ``model(x)`` for the first chunk and ``model(x, hidden)`` for the others. Both return
            ``(y_pred, hidden)``, where hidden is a tensor or a nest of tensors.
        optimizer: an optimizer of the model's parameters.
        loss_fn: ``loss_fn(y_pred, y)`` returns a scalar tensor.
        tbtt_step: the number of time steps in a chunk. The last chunk may have fewer.
        dim: the time dimension of x and y.
        device: the device for chunks, or None to leave them where they are.
        non_blocking: copy chunks asynchronously if possible.
        prepare_batch: ``prepare_batch(chunk, device=, non_blocking=) -> (x, y)``, called for each chunk.

    Returns:
        The loop, for an :class:`~camshaft.Engine`.

    Raises:
        TypeError: an argument is of another type, such as a class in place of an instance.
        ValueError: ``tbtt_step`` is not an integer of 1 or more. While the loop runs: a batch is not a pair of tensors
            with the same number of time steps.
    """
    check_training_arguments(model, optimizer, loss_fn)
    check_arguments(model, device, prepare_batch, {})
    check_integer("tbtt_step", tbtt_step, hint="give the time steps of a chunk")
    step = _Step(TrainingMode(model), optimizer, loss_fn, tbtt_step, dim, device, non_blocking, prepare_batch)
    time = Loop(
        "TIME",
        Phase("FORWARD", step.forward),
        Phase("BACKWARD", step.backward),
        Phase("OPTIM_STEP", step.optim_step),
        over=step.chunks,
        started=TbpttEvents.TIME_ITERATION_STARTED,
        completed=TbpttEvents.TIME_ITERATION_COMPLETED,
    )
    return Loop("EPOCH", Loop("ITERATION", time, over=DATA))


# An object rather than functions inside of a function: a copy of an engine copies the objects of its phases.
@attrs.define(eq=False)
class _Step:
    """The functions of the phases. They share the hidden state between two chunks, which is None before the first."""

    mode: TrainingMode
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[[Any, Any], torch.Tensor]
    tbtt_step: int
    dim: int
    device: str | torch.device | None
    non_blocking: bool
    prepare_batch: PrepareBatch
    hidden: Any = None

    def chunks(self, engine: Engine) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the chunks of a batch."""
        __tracebackhide__ = True
        losses = []
        try:
            for chunk in _split(engine.state.batch, self.tbtt_step, self.dim):
                yield chunk
                losses.append(engine.state.output)
            engine.state.output = sum(losses) / len(losses)
        finally:  # free the graph and the data of this batch
            self.hidden = None
            engine.state.time_item = None

    def forward(self, engine: Engine, batch: Any) -> torch.Tensor:
        """Return the loss of a chunk."""
        __tracebackhide__ = True
        self.mode.end_evaluation()
        self.optimizer.zero_grad()
        model, hidden = self.mode.model, self.hidden
        x, y = self.prepare_batch(engine.state.time_item, device=self.device, non_blocking=self.non_blocking)
        try:
            y_pred, self.hidden = model(x) if hidden is None else model(x, hidden)
            return self.loss_fn(y_pred, y)
        except RuntimeError as error:
            check_same_device(model, self.device, (x, y), error)
            raise

    def backward(self, engine: Engine, batch: Any) -> float:
        """Compute the gradients of a chunk, and return its loss as a number."""
        __tracebackhide__ = True
        loss: torch.Tensor = engine.state.output
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            check_loss(loss, error)
            raise
        self.hidden = detached(self.hidden)
        return loss.item()

    def optim_step(self, engine: Engine, batch: Any) -> None:
        """Make a step of the optimizer."""
        __tracebackhide__ = True
        self.optimizer.step()


def _split(batch: Any, tbtt_step: int, dim: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    try:
        x, y = batch
        steps = x.shape[dim], y.shape[dim]
    except (TypeError, ValueError, AttributeError, IndexError):
        raise ValueError(
            f"a batch must be a pair of tensors (x, y) with the time dimension {dim}, got a {type(batch).__name__}: "
            f"give such batches, or another dim="
        ) from None
    if steps[0] != steps[1] or not steps[0]:
        raise ValueError(
            f"x has {steps[0]} time steps and y has {steps[1]}, in dimension {dim}: they must have equally many"
        )
    yield from zip(x.split(tbtt_step, dim=dim), y.split(tbtt_step, dim=dim), strict=True)


def create_supervised_tbptt_trainer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    tbtt_step: int,
    dim: int = 0,
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = prepare_pair,
    *,
    name: str = "trainer",
    strict: bool = False,
) -> Engine:
    """Return an engine that trains a recurrent model. It runs the :func:`tbptt_loop` with the same arguments.

    The model is put into training mode at EPOCH_STARTED and after evaluations, as by
    :func:`create_supervised_trainer`.

    Args:
        name, strict: as for :class:`~camshaft.Engine`.

    Raises:
        ValueError: ``tbtt_step`` is not an integer of 1 or more.
    """
    loop = tbptt_loop(model, optimizer, loss_fn, tbtt_step, dim, device, non_blocking, prepare_batch)
    engine = Engine(loop, name, strict=strict)
    TrainingMode(model).attach(engine)
    return engine
