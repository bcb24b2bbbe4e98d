"""Training and evaluation mode of the parts of a model, across an evaluation."""

from __future__ import annotations

import weakref

from torch import nn

__all__ = ["begin_evaluation", "end_evaluation", "forget_evaluation", "modes_of", "number_of_evaluations", "set_modes"]

_switched: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""The parts, of all models, that evaluators have put from training into evaluation mode."""

_evaluations = 0


def number_of_evaluations() -> int:
    """Return the number of evaluations so far. A trainer compares it to see whether there was another one."""
    return _evaluations


def begin_evaluation(model: nn.Module) -> None:
    """Put a model into evaluation mode, and remember which of its parts were in training mode."""
    global _evaluations  # noqa: PLW0603
    _evaluations += 1
    _switched.update(part for part in model.modules() if part.training)
    model.eval()


def end_evaluation(model: nn.Module) -> None:
    """Put the parts of a model that were evaluated into training mode. Other parts keep their mode."""
    set_modes(model, modes_of(model))
    forget_evaluation(model)


def forget_evaluation(model: nn.Module) -> None:
    """Forget the evaluations of a model and of its parts."""
    _switched.difference_update(model.modules())


def modes_of(model: nn.Module) -> dict[str, bool]:
    """Return, for each part by name, whether it is in training mode, or was so before an evaluation."""
    return {name: part.training or part in _switched for name, part in model.named_modules()}


def set_modes(model: nn.Module, modes: dict[str, bool]) -> None:
    """Put each part of a model into its mode. Parts that are not named keep theirs."""
    for name, part in model.named_modules():  # outer parts first, because train() also switches what is inside
        if part.training != modes.get(name, part.training):
            part.train(modes[name])
