"""Gradient accumulation: which batches share a step of the optimizer."""

from __future__ import annotations

import torch

from camshaft.engine import Engine

__all__ = ["Window"]


class Window:
    """The batches whose gradients are added up before a step: so many, or what is left of the epoch.

    It counts in ``state.accumulated``, and keeps the number of batches that it will have in ``state.window``.

    Args:
        steps: how many batches share a step.
    """

    COUNTERS = ("accumulated", "window")

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @classmethod
    def of(cls, steps: int) -> Window | None:
        """The window of so many batches; None where each batch has a step of its own.

        Raises:
            ValueError: that is no whole number of 1 or more.
        """
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"gradient_accumulation_steps={steps!r} is no whole number of 1 or more")
        return cls(steps) if steps > 1 else None

    def begins(self, engine: Engine) -> bool:
        """Whether the present batch is the first of a window; each belongs to one epoch."""
        state = engine.state
        if 0 < getattr(state, "accumulated", 0) < engine.position:
            return False
        state.accumulated, state.window = 0, min(self.steps, _ahead(engine))
        return True

    def share(self, engine: Engine, loss: torch.Tensor) -> torch.Tensor:
        """Count the present batch in; returns the share that its loss has in the window's."""
        state = engine.state
        state.accumulated += 1
        shared: torch.Tensor = loss / state.window
        return shared

    def close(self, engine: Engine) -> None:
        """The optimizer has stepped."""
        engine.state.accumulated = 0

    @staticmethod
    def window_is_full(engine: Engine) -> bool:
        """Whether it is time for a step."""
        return bool(engine.state.accumulated >= engine.state.window)

    @staticmethod
    def gradients_are_left(engine: Engine) -> bool:
        """Whether the epoch ended before its last window was full."""
        return bool(getattr(engine.state, "accumulated", 0))


def _ahead(engine: Engine) -> float:
    """The batches that the epoch and the run still have, the present one included, as far as that is known."""
    state = engine.state
    ahead = float("inf") if state.epoch_length is None else state.epoch_length - engine.position + 1
    return ahead if state.max_iters is None else min(ahead, state.max_iters - state.iteration + 1)
