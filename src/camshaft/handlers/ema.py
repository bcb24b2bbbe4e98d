"""Moving averages of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["EMA"]


class EMA:
    """Keeps the exponential moving average of the weights of a model in a second model.

    ``trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, ema)``, and evaluate :attr:`model`. The first call
    copies the weights; each further one makes ``average = decay * average + (1 - decay) * weights``
    (``torch.optim.swa_utils``; Polyak and Juditsky 1992). Buffers, such as statistics of batch normalization, are
    copied.

    Args:
        model: whose weights are averaged.
        decay: how much of the average stays, from 0 to 1.
        use_buffers: average buffers too, instead of copying them.
        device: where the average is kept; that of the model unless given.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``decay`` is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.999,
        use_buffers: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"EMA: {model!r} is no torch.nn.Module")
        if not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay={decay!r} is not from 0 to 1: it is how much of the average stays")
        where = torch.device(device) if device is not None else None
        self._source = model
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, where, multi_avg_fn=average, use_buffers=use_buffers)

    @property
    def model(self) -> nn.Module:
        """The model with averaged weights: a copy of the first one's kind."""
        return self._averaged.module

    def __call__(self) -> None:
        """Take the present weights into the average."""
        self._averaged.update_parameters(self._source)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights, and how many there were."""
        return self._averaged.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the saved average."""
        self._averaged.load_state_dict(state_dict)
