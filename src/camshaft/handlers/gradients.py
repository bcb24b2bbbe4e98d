"""Gradients between backward pass and step: clipped, and measured.

Attach these to an event at which the gradients of a step are complete: BACKWARD_COMPLETED; with a GradScaler
``"unscale_completed"``; with gradient accumulation alone OPTIM_STEP_STARTED.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from camshaft.engine.engine import Engine

__all__ = ["ClipGradNorm", "ClipGradValue", "GradNorm"]


def _listed(handler: str, parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The parameters, to be gone through again and again."""
    if isinstance(parameters, nn.Module):
        raise TypeError(f"{handler}: give the parameters of the {type(parameters).__name__}: model.parameters()")
    listed = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    if not listed or not all(isinstance(parameter, torch.Tensor) for parameter in listed):
        raise TypeError(f"{handler}: {listed!r} are no parameters: give model.parameters()")
    return listed


def _check_positive(handler: str, name: str, value: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{handler}: {name}={value!r} is no number above 0")


class ClipGradNorm:
    """Scales gradients down to a norm, all of them together: ``torch.nn.utils.clip_grad_norm_``.

    Attach it to BACKWARD_COMPLETED; with a GradScaler to ``"unscale_completed"``, when the gradients have their own
    size again; with gradient accumulation alone to OPTIM_STEP_STARTED, when the window is full.

    Args:
        parameters: whose gradients.
        max_norm: the largest norm that they may have.
        norm_type: p of the p-norm; ``float("inf")`` for the largest element.
        error_if_nonfinite: raise where the norm is infinite or not a number.

    Raises:
        TypeError, ValueError: arguments that cannot work.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
    ) -> None:
        self.parameters = _listed("ClipGradNorm", parameters)
        _check_positive("ClipGradNorm", "max_norm", max_norm)
        _check_positive("ClipGradNorm", "norm_type", norm_type)
        self.max_norm, self.norm_type, self.error_if_nonfinite = max_norm, norm_type, error_if_nonfinite

    def __call__(self) -> None:
        """Clip the present gradients."""
        nn.utils.clip_grad_norm_(self.parameters, self.max_norm, self.norm_type, self.error_if_nonfinite)


class ClipGradValue:
    """Cuts each element of the gradients off at a value: ``torch.nn.utils.clip_grad_value_``.

    Attach it to BACKWARD_COMPLETED; with a GradScaler to ``"unscale_completed"``, when the gradients have their own
    size again; with gradient accumulation alone to OPTIM_STEP_STARTED, when the window is full.

    Args:
        parameters: whose gradients.
        clip_value: elements end up from ``-clip_value`` to ``clip_value``.

    Raises:
        TypeError, ValueError: arguments that cannot work.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], clip_value: float) -> None:
        self.parameters = _listed("ClipGradValue", parameters)
        _check_positive("ClipGradValue", "clip_value", clip_value)
        self.clip_value = clip_value

    def __call__(self) -> None:
        """Clip the present gradients."""
        nn.utils.clip_grad_value_(self.parameters, self.clip_value)


class GradNorm:
    """Writes the norm of all gradients together into ``state.metrics``, for whatever shows or logs metrics.

    Attach it before what clips, to see what there was, and to the same event: BACKWARD_COMPLETED; with a GradScaler
    ``"unscale_completed"``; with gradient accumulation alone OPTIM_STEP_STARTED.

    Args:
        parameters: whose gradients.
        name: the key in ``state.metrics``.
        norm_type: p of the p-norm; ``float("inf")`` for the largest element.

    Raises:
        TypeError, ValueError: arguments that cannot work.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], name: str = "grad_norm", norm_type: float = 2.0) -> None:
        self.parameters = _listed("GradNorm", parameters)
        _check_positive("GradNorm", "norm_type", norm_type)
        self.name, self.norm_type = name, norm_type

    def __call__(self, engine: Engine) -> None:
        """Measure the present gradients; parameters without one count as 0."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        engine.state.metrics[self.name] = nn.utils.get_total_norm(gradients, self.norm_type).item()
