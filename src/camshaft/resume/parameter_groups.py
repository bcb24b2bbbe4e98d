"""The groups of parameters of an optimizer, by name, so that groups that were added later can be added again."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import nn

from camshaft.resume.storage import unwrapped

__all__ = ["ParameterGroups"]

Names = list[list[str | None]]
"""The name of each parameter of each group; None for a parameter that is in no named module."""


class ParameterGroups:
    """The groups of parameters of an optimizer.

    Args:
        optimizer: the optimizer.
        modules: the modules whose parameters it may have, by name.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, modules: Mapping[str, nn.Module]) -> None:
        self._optimizer, self._modules = optimizer, modules

    def names(self) -> Names:
        """Return the names of the parameters of each group, such as ``model.0.weight``."""
        by_id = {id(parameter): name for name, parameter in self._parameters().items()}
        return [[by_id.get(id(each)) for each in group["params"]] for group in self._optimizer.param_groups]

    def fit(self, saved: Names, add: bool) -> bool:
        """Give the optimizer the groups that a saved state is for.

        Args:
            saved: the names of the parameters of each saved group.
            add: add the groups that are missing. Otherwise they are left out, because a handler may add them later.

        Returns:
            True if the optimizer has the saved groups now.

        Raises:
            ValueError: the groups have other parameters.
        """
        present = self.names()
        for number, (here, there) in enumerate(zip(present, saved, strict=False)):
            differs = len(here) != len(there) or any(
                one is not None and other is not None and one != other for one, other in zip(here, there, strict=True)
            )
            if differs:
                raise ValueError(f"group {number} has the parameters {_shown(here)}, and {_shown(there)} in the file")
        parameters = self._parameters()
        missing = saved[len(present) :]
        unknown = [name for group in missing for name in group if name is None or name not in parameters]
        if unknown or len(present) > len(saved):
            raise ValueError(
                f"it has {len(present)} groups of parameters, and {len(saved)} in the file"
                + ("; parameters of the further ones are in no named module" if unknown else "")
            )
        if missing and not add:
            return False
        for group in missing:
            self._optimizer.add_param_group({"params": [parameters[str(name)] for name in group]})
        return True

    def differences(self, saved: Names) -> list[str]:
        """Return the parameters that are in a named module here and not in the file, or the other way round."""
        pairs = [
            (one, other)
            for here, there in zip(self.names(), saved, strict=False)
            for one, other in zip(here, there, strict=False)
        ]
        found = [f"{one} has the state of a parameter in no named module" for one, other in pairs if one and not other]
        found += [
            f"the state of {other} goes to a parameter in no named module" for one, other in pairs if other and not one
        ]
        return found

    def unnamed(self, tensors: Set[int]) -> int:
        """Return the number of parameters that are not among saved tensors, which are given by their ids."""
        return sum(id(each) not in tensors for group in self._optimizer.param_groups for each in group["params"])

    def _parameters(self) -> dict[str, Any]:
        return {
            f"{name}.{each}": parameter
            for name, module in self._modules.items()
            for each, parameter in unwrapped(module).named_parameters()
        }


def _shown(names: list[str | None]) -> str:
    shown = [name or "an unnamed one" for name in names]
    return ", ".join(shown if len(shown) < 4 else [*shown[:2], f"{len(shown) - 2} more"])
