"""What a state dict of a module leaves out: gradients, which parameters are trained, and modes of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from camshaft._modes import modes_of, set_modes
from camshaft.resume.storage import unwrapped

__all__ = ["load_module", "module_state"]


def module_state(module: nn.Module) -> dict[str, Any]:
    """Return what the state dict of a module leaves out, by the names of its parameters and parts.

    The names are those inside of wrappers for parallel training and of ``torch.compile``, as in its state dict.
    """
    inner = unwrapped(module)
    parameters = dict(inner.named_parameters())
    return {
        "gradients": {name: each.grad for name, each in parameters.items() if each.grad is not None},
        "requires_grad": {name: each.requires_grad for name, each in parameters.items()},
        "training": modes_of(inner),
    }


def load_module(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore a result of :func:`module_state`. What the module has and the state has not keeps its value.

    Gradients are an exception: they become None for parameters without a saved one.
    """
    inner = unwrapped(module)
    for name, parameter in inner.named_parameters():
        parameter.requires_grad_(state["requires_grad"].get(name, parameter.requires_grad))
        gradient = state["gradients"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter)
    set_modes(inner, state["training"])
