"""The update of parameters: from zeroed gradients to the step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch

from camshaft.engine.engine import Engine
from camshaft.loop.states import Phase
from camshaft.training.accumulation import AccumulationWindow
from camshaft.training.arguments import check_loss

__all__ = ["ParameterUpdate"]

Condition = Callable[[Engine], bool]


class ParameterUpdate:
    """The part of a training step that concerns gradients, and its phases.

    Args:
        optimizer: the optimizer of the parameters.
        window: the window of accumulated batches, or None if each batch has its own step.
        scaler: the scaler of the loss, or None.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        window: AccumulationWindow | None,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        self.optimizer, self.window, self.scaler = optimizer, window, scaler
        self._overflowed: bool | None = None  # None: the gradients are not unscaled yet

    def phases(self) -> list[Phase]:
        """Return the phases after BACKWARD in every iteration."""
        return self._step_phases(None if self.window is None else self.window.window_is_full)

    def last_phases(self) -> list[Phase]:
        """Return the phases after the last iteration of an epoch, which complete a window that is not full."""
        if self.window is None:
            return []
        is_left = self.window.gradients_are_left
        last = [attrs.evolve(phase, name=f"LAST_{phase.name}") for phase in self._step_phases(is_left)]
        return [Phase("RESCALE", self.rescale, when=is_left), *last]

    def _step_phases(self, is_due: Condition | None) -> list[Phase]:
        if self.scaler is None:
            return [Phase("OPTIM_STEP", self.step, when=is_due)]
        return [
            Phase("UNSCALE", self.unscale, when=is_due),
            Phase("OPTIM_STEP", self.step, when=self.gradients_are_finite),
            Phase("SKIP_OPTIM_STEP", self.skip_step, when=self.gradients_overflowed),
        ]

    # -- before the phases -------------------------------------------------------------------------------------------

    def begin(self, engine: Engine) -> None:
        """Zero the gradients, unless the current batch continues a window."""
        __tracebackhide__ = True
        if self.window is not None and not self.window.starts_window(engine):
            return
        self.optimizer.zero_grad()
        if self._overflowed is not None:  # a control call skipped the step: the scaler must forget that it unscaled
            self._end_step()

    def backward(self, engine: Engine, loss: torch.Tensor) -> None:
        """Add the gradients of a loss, divided by the length of the window and scaled.

        Args:
            engine: the engine.
            loss: the loss of the current batch, a scalar.
        """
        __tracebackhide__ = True
        given = loss
        try:
            if self.window is not None:
                loss = self.window.add(loss)
            if self.scaler is not None:
                loss = self.scaler.scale(loss)
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            check_loss(given, error)
            raise
        if self.window is not None and self.window.ends_early(engine):
            self.window.rescale(self._parameters())

    # -- phases and their conditions ---------------------------------------------------------------------------------

    def rescale(self, engine: Engine, batch: Any) -> None:
        """Make the gradient of a short window the mean over its batches."""
        self.window.rescale(self._parameters())  # type: ignore[union-attr]

    def unscale(self, engine: Engine, batch: Any) -> None:
        """Divide the gradients by the scale, and find out whether they overflowed."""
        scaler: torch.amp.GradScaler = self.scaler  # type: ignore[assignment]
        scaler.unscale_(self.optimizer)
        # scaler.step() decides by these values too. torch has no public method that tells the decision before the step.
        found = scaler._found_inf_per_device(self.optimizer) if scaler.is_enabled() else {}
        self._overflowed = any(value.item() for value in found.values())

    def gradients_are_finite(self, engine: Engine) -> bool:
        """Return whether the gradients of a step are unscaled, and all of them are finite."""
        return self._overflowed is False and self._are_of_this_pass(engine)

    def gradients_overflowed(self, engine: Engine) -> bool:
        """Return whether the gradients of a step are unscaled, and some of them are infinite or NaN."""
        return self._overflowed is True and self._are_of_this_pass(engine)

    def _are_of_this_pass(self, engine: Engine) -> bool:
        # terminate_epoch() after UNSCALE leaves gradients, and the next epoch may skip all its batches
        return self.window is None or self.window.gradients_are_left(engine)

    def step(self, engine: Engine, batch: Any) -> None:
        """Make the step of the optimizer."""
        __tracebackhide__ = True
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
        self._end_step()

    def skip_step(self, engine: Engine, batch: Any) -> None:
        """Leave the step out. The scaler lowers its scale."""
        self._end_step()

    def _end_step(self) -> None:
        if self.scaler is not None:
            self.scaler.update()
            self._overflowed = None
        if self.window is not None:
            self.window.close()

    def _parameters(self) -> Iterator[torch.Tensor]:
        for group in self.optimizer.param_groups:
            yield from group["params"]
