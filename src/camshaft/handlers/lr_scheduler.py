"""Learning rate schedules: torch's schedulers, stepped at any event."""

from __future__ import annotations

from typing import Any

from torch.optim import lr_scheduler as schedulers

from camshaft.engine.attachment import StatefulHandler
from camshaft.engine.engine import Engine
from camshaft.handlers.stopping import ScoreFunction, is_of_missing_value

__all__ = ["LRScheduler"]


class LRScheduler(StatefulHandler):
    """Handler that steps a scheduler of ``torch.optim.lr_scheduler`` at the event that it is attached to.

    Attach it with ``trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, LRScheduler(scheduler))``. Do not
    attach ``scheduler.step`` itself: it would be called with the engine and take it for the number of an epoch.

    Args:
        lr_scheduler: the scheduler.
        score_function: ``score_function(engine) -> number``, the metric of a ``ReduceLROnPlateau``. Other schedulers
            take none.

    Raises:
        TypeError: ``lr_scheduler`` is not a scheduler of torch.
        ValueError: ``score_function`` is missing, or the scheduler takes no score.
    """

    def __init__(self, lr_scheduler: schedulers.LRScheduler, score_function: ScoreFunction | None = None) -> None:
        if not isinstance(lr_scheduler, (schedulers.LRScheduler, schedulers.ReduceLROnPlateau)):
            raise TypeError(
                f"LRScheduler: lr_scheduler must be a scheduler of torch.optim.lr_scheduler, got {lr_scheduler!r}"
            )
        needs_score = isinstance(lr_scheduler, schedulers.ReduceLROnPlateau)
        if needs_score and score_function is None:
            raise ValueError("LRScheduler: a ReduceLROnPlateau needs a score: give score_function=")
        if not needs_score and score_function is not None:
            raise ValueError(f"LRScheduler: a {type(lr_scheduler).__name__} takes no score: leave score_function out")
        self.lr_scheduler = lr_scheduler
        self.score_function = score_function

    def __call__(self, engine: Engine) -> None:
        """Step the scheduler, with the score if it takes one. A metric without samples gives no score, and no step."""
        __tracebackhide__ = True
        if self.score_function is None:
            self.lr_scheduler.step()
            return
        try:
            score: Any = self.score_function(engine)
        except KeyError as error:
            if not is_of_missing_value(error, engine, self):
                raise
            return
        self.lr_scheduler.step(score)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scheduler."""
        return self.lr_scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the scheduler."""
        self.lr_scheduler.load_state_dict(state_dict)
