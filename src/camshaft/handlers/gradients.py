"""Clipping and measuring of gradients, between the backward pass and the step of the optimizer.

Attach these handlers to an event at which the gradients of a step are complete: BACKWARD_COMPLETED by default,
``"unscale_completed"`` with a GradScaler, or OPTIM_STEP_STARTED with gradient accumulation alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from camshaft.engine.attachment import EventHandler
from camshaft.engine.engine import Engine

__all__ = ["ClipGradNorm", "ClipGradValue", "GradNorm"]


def _parameter_list(handler: str, parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return parameters as a list, because ``model.parameters()`` can be iterated only once.

    Raises:
        TypeError: these are not tensors, or there are none.
    """
    if isinstance(parameters, nn.Module):
        raise TypeError(
            f"{handler}: parameters must be tensors, got a {type(parameters).__name__}: give model.parameters()"
        )
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{handler}: parameters must be tensors, got {parameters!r}: give model.parameters()")
    tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise TypeError(f"{handler}: parameters must be tensors, got {tensors!r}: give model.parameters()")
    return tensors


def _check_positive(handler: str, name: str, value: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{handler}: {name} must be a number above 0, got {value!r}")


class ClipGradNorm(EventHandler):
    """Handler that limits the total norm of all gradients, with ``torch.nn.utils.clip_grad_norm_``.

    Attach it to BACKWARD_COMPLETED. With a GradScaler use ``"unscale_completed"``: the gradients are unscaled then.
    With gradient accumulation alone use OPTIM_STEP_STARTED: the window is full then.

    Args:
        parameters: the parameters whose gradients are clipped.
        max_norm: the largest total norm allowed.
        norm_type: p of the p-norm; ``float("inf")`` for the largest element.
        error_if_nonfinite: raise a RuntimeError if the norm is infinite or NaN.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
    ) -> None:
        self.parameters = _parameter_list("ClipGradNorm", parameters)
        _check_positive("ClipGradNorm", "max_norm", max_norm)
        _check_positive("ClipGradNorm", "norm_type", norm_type)
        self.max_norm, self.norm_type, self.error_if_nonfinite = max_norm, norm_type, error_if_nonfinite

    def __call__(self) -> None:
        """Clip the current gradients."""
        nn.utils.clip_grad_norm_(self.parameters, self.max_norm, self.norm_type, self.error_if_nonfinite)


class ClipGradValue(EventHandler):
    """Handler that limits the absolute value of each element of the gradients: ``torch.nn.utils.clip_grad_value_``.

    Attach it to BACKWARD_COMPLETED. With a GradScaler use ``"unscale_completed"``: the gradients are unscaled then.
    With gradient accumulation alone use OPTIM_STEP_STARTED: the window is full then.

    Args:
        parameters: the parameters whose gradients are clipped.
        clip_value: the limit; afterwards every element lies between ``-clip_value`` and ``clip_value``.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], clip_value: float) -> None:
        self.parameters = _parameter_list("ClipGradValue", parameters)
        _check_positive("ClipGradValue", "clip_value", clip_value)
        self.clip_value = clip_value

    def __call__(self) -> None:
        """Clip the current gradients."""
        nn.utils.clip_grad_value_(self.parameters, self.clip_value)


class GradNorm(EventHandler):
    """Handler that writes the total norm of all gradients to ``state.metrics``.

    To measure gradients before they are clipped, attach it to the same event as the clipping handler, and before it:
    BACKWARD_COMPLETED by default, ``"unscale_completed"`` with a GradScaler, or OPTIM_STEP_STARTED with gradient
    accumulation alone.

    Args:
        parameters: the parameters whose gradients are measured.
        name: the key in ``state.metrics``.
        norm_type: p of the p-norm; ``float("inf")`` for the largest element.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], name: str = "grad_norm", norm_type: float = 2.0) -> None:
        self.parameters = _parameter_list("GradNorm", parameters)
        _check_positive("GradNorm", "norm_type", norm_type)
        self.name, self.norm_type = name, norm_type

    def __call__(self, engine: Engine) -> None:
        """Measure the current gradients. Parameters without a gradient count as 0."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        engine.state.metrics[self.name] = nn.utils.get_total_norm(gradients, self.norm_type).item()
