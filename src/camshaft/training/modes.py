"""Training and evaluation mode of models: when trainers and evaluators switch it.

A trainer puts its model into training mode at the start of an epoch and after an evaluation, and not for every batch.
So handlers can put parts of the model into evaluation mode, such as batch normalization with fixed statistics.
"""

from __future__ import annotations

from torch import nn

from camshaft._modes import begin_evaluation, end_evaluation, forget_evaluation, number_of_evaluations
from camshaft.engine.engine import Engine
from camshaft.events import Events, event
from camshaft.priorities import SWITCH_MODE
from camshaft.resume.storage import unwrapped

__all__ = ["EvaluationMode", "TrainingMode"]


class TrainingMode:
    """The training mode of the model of a trainer.

    Args:
        model: the model. Wrappers for parallel training and of ``torch.compile`` are looked through.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._inner = unwrapped(model)  # an evaluator may have put this one into evaluation mode, without the wrapper
        self._seen = 0

    def attach(self, trainer: Engine) -> None:
        """Switch the mode at EPOCH_STARTED and ITERATION_STARTED of a trainer, before a user's handlers."""
        trainer.add_event_handler(event(Events.EPOCH_STARTED, priority=SWITCH_MODE), self.start)
        trainer.add_event_handler(event(Events.ITERATION_STARTED, priority=SWITCH_MODE), self.end_evaluation)

    def start(self) -> None:
        """Put the whole model into training mode."""
        forget_evaluation(self.model)
        self.model.train()
        self._seen = number_of_evaluations()

    def end_evaluation(self) -> None:
        """Put the model into training mode if it was evaluated. Parts return to the mode that they had before."""
        if self._seen != number_of_evaluations():
            self._seen = number_of_evaluations()
            end_evaluation(self.model)
        if not self._inner.training:
            self.model.train()


class EvaluationMode:
    """The evaluation mode of the model of an evaluator.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._inner = unwrapped(model)

    def attach(self, evaluator: Engine) -> None:
        """Switch the mode at EPOCH_STARTED of an evaluator, before a user's handlers."""
        evaluator.add_event_handler(event(Events.EPOCH_STARTED, priority=SWITCH_MODE), self.start)

    def start(self) -> None:
        """Put the whole model into evaluation mode."""
        begin_evaluation(self.model)

    def end_training(self) -> None:
        """Put the model into evaluation mode if it was trained since the start."""
        if self._inner.training:
            self.start()
