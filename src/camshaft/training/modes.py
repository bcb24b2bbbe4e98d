"""Training and evaluation mode of models: when trainers and evaluators switch it.

A trainer puts its model into training mode at the start of an epoch and after an evaluation, and not for every batch.
So handlers can put parts of the model into evaluation mode, such as batch normalization with fixed statistics.
"""

from __future__ import annotations

import weakref

from torch import nn

from camshaft.engine.engine import Engine
from camshaft.events import Events, event
from camshaft.priorities import SWITCH_MODE
from camshaft.resume.storage import unwrapped

__all__ = ["EvaluationMode", "TrainingMode"]


class _Evaluations:
    """What evaluators have put into evaluation mode, of all models.

    Attributes:
        number: the number of evaluations so far. A trainer compares it to see whether there was another one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._switched: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def begin(self, model: nn.Module) -> None:
        """Put a model into evaluation mode, and remember which of its parts were in training mode."""
        self.number += 1
        self._switched.update(part for part in model.modules() if part.training)
        model.eval()

    def end(self, model: nn.Module) -> None:
        """Put the parts of a model that were evaluated into training mode. Other parts keep their mode."""
        modes = {part: part.training or part in self._switched for part in model.modules()}
        for part, mode in modes.items():  # outer parts first, because train() also switches what is inside
            if part.training != mode:
                part.train(mode)
        self.forget(model)

    def forget(self, model: nn.Module) -> None:
        """Forget the evaluations of a model and of its parts."""
        self._switched.difference_update(model.modules())


_evaluations = _Evaluations()


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
        _evaluations.forget(self.model)
        self.model.train()
        self._seen = _evaluations.number

    def end_evaluation(self) -> None:
        """Put the model into training mode if it was evaluated. Parts return to the mode that they had before."""
        if self._seen != _evaluations.number:
            self._seen = _evaluations.number
            _evaluations.end(self.model)
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
        _evaluations.begin(self.model)

    def end_training(self) -> None:
        """Put the model into evaluation mode if it was trained since the start."""
        if self._inner.training:
            self.start()
