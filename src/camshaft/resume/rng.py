"""States of the global random generators of a process."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["load_rng_states", "rng_states"]


def rng_states() -> dict[str, Any]:
    """Return the states of the global generators as plain values and tensors.

    These are the generators of Python and torch; of NumPy, if it is imported; and of all GPUs, if CUDA is initialized.
    """
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        states["numpy"] = (kind, keys.tolist(), *rest)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def load_rng_states(states: Mapping[str, Any]) -> None:
    """Set the global generators to the states that :func:`rng_states` returned.

    If there are fewer GPUs than states, a warning is given, and the states of the others are ignored.
    """
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "numpy" in states:
        import numpy

        numpy.random.set_state(states["numpy"])
    if "cuda" in states:
        here = torch.cuda.device_count()
        if here < len(states["cuda"]):
            warnings.warn(
                f"random states of {len(states['cuda'])} GPUs were saved, and there are {here} here: random "
                f"numbers on the others will differ",
                stacklevel=2,
            )
        for device, state in enumerate(states["cuda"][:here]):
            torch.cuda.set_rng_state(state, device)
