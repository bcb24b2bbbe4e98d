"""What a state dict of a module leaves out: gradients, which parameters are trained, modes and attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from torch import nn

from camshaft._modes import modes_of, set_modes
from camshaft.resume.attribute_states import AttributeStates, base_attributes
from camshaft.resume.metric_states import metrics_in
from camshaft.resume.storage import unwrapped

__all__ = ["ModuleStates"]


class ModuleStates:
    """What the state dict of a module leaves out, by the names of its parameters and parts.

    The names are those inside of wrappers for parallel training and of ``torch.compile``, as in its state dict.

    Args:
        module: the module.
        with_attributes: also save attributes and buffers of its parts that have changed since this was made.
    """

    def __init__(self, module: nn.Module, with_attributes: bool) -> None:
        self._module = unwrapped(module)
        self._attributes = AttributeStates(self._parts, _saved_otherwise) if with_attributes else None

    def state_dict(self) -> dict[str, Any]:
        """Return the states."""
        parameters = dict(self._module.named_parameters())
        return {
            "gradients": {name: each.grad for name, each in parameters.items() if each.grad is not None},
            "requires_grad": {name: each.requires_grad for name, each in parameters.items()},
            "training": modes_of(self._module),
            "attributes": self._attributes.state_dict() if self._attributes is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states. What the module has and the state has not keeps its value.

        Gradients are an exception: they become None for parameters without a saved one.
        """
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(state["requires_grad"].get(name, parameter.requires_grad))
            gradient = state["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter)
        set_modes(self._module, state["training"])
        if self._attributes is not None and state["attributes"] is not None:
            self._attributes.load_state_dict(state["attributes"])

    def differences(self, name: str, state: Mapping[str, Any]) -> list[str]:
        """Return what of a state fits nothing in the module, in words with the module's name."""
        parameters = dict(self._module.named_parameters())
        found = [
            f"the gradient of {name}.{each} fits no parameter" for each in state["gradients"] if each not in parameters
        ]
        if self._attributes is not None and state["attributes"] is not None:
            lost = self._attributes.differences(state["attributes"])
            found += [f"{name}.{each} is in the file, but not here" for each in lost]
        return found

    def _parts(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the parts of the module, without those of metrics, whose states are saved otherwise."""
        of_metrics = {id(part) for _, metric in metrics_in(self._module) for part in metric.modules()}
        for name, part in self._module.named_modules():
            if id(part) not in of_metrics and not type(part).__module__.startswith("torchmetrics."):
                yield name, part


def _saved_otherwise(module: nn.Module) -> Set[str]:
    return base_attributes() | (module._buffers.keys() - module._non_persistent_buffers_set)
