"""Gradient accumulation: the batches that share a step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine

__all__ = ["AccumulationWindow"]


class AccumulationWindow:
    """The batches whose gradients are summed before a step: ``steps`` batches, or fewer at the end of an epoch.

    Args:
        steps: the number of batches that share a step.

    Attributes:
        accumulated: the number of batches in the window so far.
        length: the number of batches in the complete window.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.accumulated = self.length = 0

    @classmethod
    def of(cls, steps: int) -> AccumulationWindow | None:
        """Return a window of ``steps`` batches, or None if each batch has its own step.

        Raises:
            ValueError: ``steps`` is not an integer of 1 or more.
        """
        check_integer("gradient_accumulation_steps", steps)
        return cls(steps) if steps > 1 else None

    def starts_window(self, engine: Engine) -> bool:
        """Return whether the current batch is the first of a window, and if so, start that window.

        A window never extends over the end of an epoch.
        """
        if 0 < self.accumulated < engine.position:
            return False
        self.accumulated, self.length = 0, int(min(self.steps, _remaining_batches(engine)))
        return True

    def add(self, loss: torch.Tensor) -> torch.Tensor:
        """Count the current batch, and return its loss divided by the number of batches in the window."""
        self.accumulated += 1
        return loss / self.length

    def close(self) -> None:
        """End the window after the step of the optimizer."""
        self.accumulated = 0

    def window_is_full(self, engine: Engine) -> bool:
        """Return whether all batches of the window are accumulated."""
        return self.accumulated >= self.length

    def gradients_are_left(self, engine: Engine) -> bool:
        """Return whether the epoch ended before its last window was full."""
        return self.accumulated > 0

    def state_dict(self) -> dict[str, int]:
        """Return the progress of the window.

        A :class:`~camshaft.Snapshot` finds the window through the conditions of the phases, which are its methods.
        """
        return {"accumulated": self.accumulated, "length": self.length}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Restore the progress of a window. The gradients of its batches must be restored too."""
        self.accumulated, self.length = state_dict["accumulated"], state_dict["length"]


def _remaining_batches(engine: Engine) -> float:
    """Return the number of batches left in the epoch or the run, including the current one; infinity if unknown."""
    state = engine.state
    remaining = float("inf") if state.epoch_length is None else state.epoch_length - engine.position + 1
    return remaining if state.max_iters is None else min(remaining, state.max_iters - state.iteration + 1)
