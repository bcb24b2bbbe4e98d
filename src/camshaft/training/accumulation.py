"""Gradient accumulation: the batches that share a step of the optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine

__all__ = ["AccumulationWindow"]


class AccumulationWindow:
    """The batches whose gradients are summed before a step: ``steps`` batches, or fewer at the end of an epoch.

    Every loss is divided by the length that the window is expected to have, so that the summed gradient is the mean
    over its batches. The window may end with fewer: a batch is skipped, or the data or a limit ends the epoch early.
    The gradient is then rescaled, see :meth:`rescale`.

    A window belongs to one pass of the loop around the data, in one run. What an earlier pass has left is dropped.

    Args:
        steps: the number of batches that share a step.

    Attributes:
        accumulated: the number of batches in the window so far.
        length: the number of batches by which the losses are divided.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.accumulated = self.length = 0
        self._pass = 0
        self._run: weakref.ref[Any] | None = None  # None: any run, for a window that was loaded from a file

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy copies. The run belongs to the engine of the original."""
        return self.__dict__ | {"_run": None}

    @classmethod
    def of(cls, steps: int) -> AccumulationWindow | None:
        """Return a window of ``steps`` batches, or None if each batch has its own step.

        Raises:
            ValueError: ``steps`` is not an integer of 1 or more.
        """
        check_integer("gradient_accumulation_steps", steps)
        return cls(steps) if steps > 1 else None

    def starts_window(self, engine: Engine) -> bool:
        """Return whether the current batch is the first of a window, and if so, start that window."""
        if self.accumulated < self.length and self.gradients_are_left(engine):
            return False
        self._pass, self._run = _pass_number(engine), weakref.ref(engine.current_run)
        self.accumulated, self.length = 0, int(min(self.steps, max(1, _remaining_batches(engine))))
        return True

    def add(self, loss: torch.Tensor) -> torch.Tensor:
        """Count the current batch, and return its loss divided by the length of the window."""
        self.accumulated += 1
        return loss / self.length

    def ends_early(self, engine: Engine) -> bool:
        """Return whether the current batch is the last one of the epoch or the run, and the window is not full."""
        return self.accumulated < self.length and _remaining_batches(engine) <= 1

    def rescale(self, parameters: Iterable[torch.Tensor]) -> None:
        """Make the gradient the mean over the batches that are in the window. The window is full then.

        Args:
            parameters: the parameters with the gradients. They may be scaled by a GradScaler.
        """
        factor = self.length / self.accumulated
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        self.length = self.accumulated

    def close(self) -> None:
        """End the window after the step of the optimizer."""
        self.accumulated = 0

    def window_is_full(self, engine: Engine) -> bool:
        """Return whether all batches of the window are accumulated."""
        return self.accumulated >= self.length

    def gradients_are_left(self, engine: Engine) -> bool:
        """Return whether the current pass of the loop around the data has gradients without a step."""
        if not self.accumulated or self._pass != _pass_number(engine):
            return False
        if self._run is None:
            self._run = weakref.ref(engine.current_run)
        return self._run() is engine.current_run

    def state_dict(self) -> dict[str, int]:
        """Return the progress of the window.

        A :class:`~camshaft.Snapshot` finds the window through the conditions of the phases, which are its methods.
        """
        return {"accumulated": self.accumulated, "length": self.length, "pass": self._pass}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Restore the progress of a window. The gradients of its batches must be restored too."""
        self.accumulated, self.length = state_dict["accumulated"], state_dict["length"]
        self._pass, self._run = state_dict["pass"], None


def _pass_number(engine: Engine) -> int:
    """Return the number of the current pass of the loop around the data; 0 if no loop is around it."""
    around = engine.loop.data_path[:-1]
    return int(getattr(engine.state, around[-1].lower())) if around else 0


def _remaining_batches(engine: Engine) -> float:
    """Return the number of batches left in the epoch or the run, including the current one; infinity if unknown."""
    state = engine.state
    remaining = float("inf") if state.known_length is None else state.known_length - engine.position + 1
    return remaining if state.max_iters is None else min(remaining, state.max_iters - state.iteration + 1)
