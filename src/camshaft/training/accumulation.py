"""Gradient accumulation: which batches share a step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine

__all__ = ["AccumulationWindow"]


class AccumulationWindow:
    """The batches whose gradients are added up before a step: so many, or what is left of the epoch.

    Args:
        steps: how many batches share a step.

    Attributes:
        accumulated: batches whose gradients wait for the step.
        length: how many batches the present window will have.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.accumulated = self.length = 0

    @classmethod
    def of(cls, steps: int) -> AccumulationWindow | None:
        """The window of so many batches; None where each batch has a step of its own.

        Raises:
            ValueError: that is not an integer of 1 or more.
        """
        check_integer("gradient_accumulation_steps", steps)
        return cls(steps) if steps > 1 else None

    def begins(self, engine: Engine) -> bool:
        """Whether the present batch is the first of a window; each belongs to one epoch."""
        if 0 < self.accumulated < engine.position:
            return False
        self.accumulated, self.length = 0, int(min(self.steps, _ahead(engine)))
        return True

    def share(self, loss: torch.Tensor) -> torch.Tensor:
        """Count the present batch in; returns the share that its loss has in the window's."""
        self.accumulated += 1
        return loss / self.length

    def close(self) -> None:
        """The optimizer has stepped."""
        self.accumulated = 0

    def window_is_full(self, engine: Engine) -> bool:
        """Whether it is time for a step."""
        return self.accumulated >= self.length

    def gradients_are_left(self, engine: Engine) -> bool:
        """Whether the epoch ended before its last window was full."""
        return self.accumulated > 0

    def state_dict(self) -> dict[str, int]:
        """How far the window is; a :class:`~camshaft.Snapshot` finds it by the phases that ask."""
        return {"accumulated": self.accumulated, "length": self.length}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on with a window, whose gradients must be there."""
        self.accumulated, self.length = state_dict["accumulated"], state_dict["length"]


def _ahead(engine: Engine) -> float:
    """The batches that the epoch and the run still have, the present one included, as far as that is known."""
    state = engine.state
    ahead = float("inf") if state.epoch_length is None else state.epoch_length - engine.position + 1
    return ahead if state.max_iters is None else min(ahead, state.max_iters - state.iteration + 1)
