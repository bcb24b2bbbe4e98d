"""Schedules of learning rates: torch's schedulers, at any event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import lr_scheduler as schedulers

from camshaft.engine.engine import Engine

__all__ = ["LRScheduler"]


class LRScheduler:
    """Makes a step of one of ``torch.optim.lr_scheduler`` at the event that it is attached to.

    ``trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, LRScheduler(scheduler))``. Attach this and not
    ``scheduler.step``, which would take the engine for the number of an epoch.

    Args:
        lr_scheduler: the scheduler.
        score_function: ``score_function(engine) -> number``, what a ``ReduceLROnPlateau`` judges; for it only.

    Raises:
        TypeError: ``lr_scheduler`` is no scheduler of torch.
        ValueError: ``score_function`` is missing, or of no use.
    """

    def __init__(
        self, lr_scheduler: schedulers.LRScheduler, score_function: Callable[[Engine], float] | None = None
    ) -> None:
        if not isinstance(lr_scheduler, (schedulers.LRScheduler, schedulers.ReduceLROnPlateau)):
            raise TypeError(f"LRScheduler: {lr_scheduler!r} is no scheduler of torch.optim.lr_scheduler")
        judges = isinstance(lr_scheduler, schedulers.ReduceLROnPlateau)
        if judges and score_function is None:
            raise ValueError("LRScheduler: a ReduceLROnPlateau judges a score: give score_function=")
        if not judges and score_function is not None:
            raise ValueError(f"LRScheduler: a {type(lr_scheduler).__name__} takes no score: leave score_function out")
        self.lr_scheduler = lr_scheduler
        self.score_function = score_function

    def __call__(self, engine: Engine) -> None:
        """Make a step."""
        scores = () if self.score_function is None else (self.score_function(engine),)
        self.lr_scheduler.step(*scores)

    def state_dict(self) -> dict[str, Any]:
        """That of the scheduler."""
        return self.lr_scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the saved scheduler was."""
        self.lr_scheduler.load_state_dict(state_dict)
