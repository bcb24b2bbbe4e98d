"""The names of ``ignite.engine``, with engines for handlers that require pytorch-ignite's own class of engine.

A program that was written for pytorch-ignite, with its handlers and loggers, needs no further change than
``from camshaft.compat import ...`` in place of ``from ignite.engine import ...``. Trainers and evaluators also take the
arguments that only pytorch-ignite's have.
"""

from __future__ import annotations

from typing import Any

import torch

from camshaft.adapters.as_ignite import as_ignite
from camshaft.engine import engine as plain
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.state import State
from camshaft.events import CallableEvent as CallableEventWithFilter
from camshaft.events import EventEnum, Events
from camshaft.events import EventUnion as EventsList
from camshaft.training import supervised, tbptt

__all__ = [
    "CallableEventWithFilter",
    "Engine",
    "EventEnum",
    "Events",
    "EventsList",
    "RemovableEventHandle",
    "State",
    "as_ignite",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
]


class _AnyEngine(type):
    """The class of :class:`Engine`, of which every engine of camshaft is an instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (cls is Engine and isinstance(instance, plain.Engine))


class Engine(plain.Engine, metaclass=_AnyEngine):
    """An :class:`camshaft.Engine` that :func:`as_ignite` presents as one of pytorch-ignite."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        as_ignite(self)


TRAINER = (
    *("device", "non_blocking", "prepare_batch", "model_transform", "output_transform"),
    *("deterministic", "amp_mode", "scaler", "gradient_accumulation_steps", "model_fn"),
)
"""The arguments of pytorch-ignite's ``create_supervised_trainer`` after the first three, in its order."""

EVALUATOR = (
    *("metrics", "device", "non_blocking", "prepare_batch", "model_transform", "output_transform", "amp_mode"),
    "model_fn",
)
"""The arguments of pytorch-ignite's ``create_supervised_evaluator`` after the first one, in its order."""


def create_supervised_trainer(model: Any, optimizer: Any, loss_fn: Any, *args: Any, **kwargs: Any) -> plain.Engine:
    """Return what :func:`camshaft.create_supervised_trainer` does, for the arguments of pytorch-ignite.

    Args:
        model, optimizer, loss_fn: as there.
        args, kwargs: further arguments of either function. ``amp_mode="amp"`` becomes ``autocast``, and ``scaler=True``
            a ``torch.amp.GradScaler``.

    Raises:
        TypeError, ValueError: an argument is invalid, or is not available here.
    """
    __tracebackhide__ = True
    options = _options(TRAINER, args, kwargs)
    if options.pop("deterministic", False):
        raise ValueError("deterministic=True is not available: a Snapshot resumes a run exactly, with any engine")
    kind = _precision(options)
    scaler = options.pop("scaler", None)
    if scaler and "autocast" not in options:
        raise ValueError('scaler needs mixed precision: give amp_mode="amp" too')
    if scaler:
        options["scaler"] = torch.amp.GradScaler(kind) if scaler is True else scaler
    return as_ignite(supervised.create_supervised_trainer(model, optimizer, loss_fn, **options))


def create_supervised_evaluator(model: Any, *args: Any, **kwargs: Any) -> plain.Engine:
    """Return what :func:`camshaft.create_supervised_evaluator` does, for the arguments of pytorch-ignite.

    Args:
        model: as there.
        args, kwargs: further arguments of either function. ``amp_mode="amp"`` becomes ``autocast``.

    Raises:
        TypeError, ValueError: an argument is invalid, or is not available here.
    """
    __tracebackhide__ = True
    options = _options(EVALUATOR, args, kwargs)
    _precision(options)
    return as_ignite(supervised.create_supervised_evaluator(model, **options))


def create_supervised_tbptt_trainer(*args: Any, **kwargs: Any) -> plain.Engine:
    """Return what :func:`camshaft.create_supervised_tbptt_trainer` does."""
    __tracebackhide__ = True
    return as_ignite(tbptt.create_supervised_tbptt_trainer(*args, **kwargs))


def _options(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by name."""
    return dict(zip(names, args, strict=False)) | kwargs


def _precision(options: dict[str, Any]) -> str:
    """Replace ``amp_mode`` by ``autocast``, and return the type of the device."""
    mode, device = options.pop("amp_mode", None), options.get("device")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    kind = default if device is None else torch.device(device).type
    if mode == "amp":
        options["autocast"] = torch.autocast(kind)
    elif mode is not None:
        raise ValueError(f'amp_mode={mode!r} is not available: give "amp" or None')
    return kind
