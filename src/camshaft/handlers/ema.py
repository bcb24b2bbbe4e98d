"""Exponential moving averages of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from camshaft.engine.attachment import StatefulHandler

__all__ = ["EMA"]


class EMA(StatefulHandler):
    """Handler that keeps the exponential moving average of a model's weights in a second model.

    Attach it with ``trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, ema)`` and evaluate :attr:`model`.
    The first call copies the weights. Each later call sets ``average = decay * average + (1 - decay) * weights``
    (``torch.optim.swa_utils``; Polyak and Juditsky 1992). Buffers, such as statistics of batch normalization, are
    copied.

    Args:
        model: the model whose weights are averaged.
        decay: the weight of the previous average, from 0 to 1.
        use_buffers: average buffers too, instead of copying them.
        device: the device of the average; the model's own by default.

    Raises:
        TypeError: ``model`` is not a module.
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
            raise TypeError(f"EMA: model must be a torch.nn.Module, got {model!r}")
        if not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
            raise ValueError(
                f"EMA: decay must be a number from 0 to 1, got {decay!r}: it is the weight of the previous average"
            )
        average_device = torch.device(device) if device is not None else None
        self._source = model
        update_average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, average_device, multi_avg_fn=update_average, use_buffers=use_buffers)

    @property
    def model(self) -> nn.Module:
        """The averaged model: a copy of the original one with averaged weights."""
        return self._averaged.module

    def __call__(self) -> None:
        """Add the current weights to the average."""
        self._averaged.update_parameters(self._source)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return self._averaged.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the saved average."""
        self._averaged.load_state_dict(state_dict)
