"""States of random generators: the global ones of a process, and those of data loaders."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch

__all__ = ["generators_of", "load_rng_states", "rng_states"]


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


def generators_of(data: Any) -> dict[str, torch.Generator]:
    """Return the generators that a data loader, its samplers and its dataset hold, each once.

    Returns:
        The generators by their place: ``"loader"``, ``"sampler"``, ``"batch_sampler"``, ``"batch_sampler.sampler"`` or
        ``"dataset"``.
    """
    found: dict[str, torch.Generator] = {}
    for place, owner in _owners(data):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and all(generator is not other for other in found.values()):
            found[place] = generator
    return found


def _owners(data: Any) -> Iterator[tuple[str, Any]]:
    batch_sampler = getattr(data, "batch_sampler", None)
    yield "loader", data
    yield "sampler", getattr(data, "sampler", None)
    yield "batch_sampler", batch_sampler
    yield "batch_sampler.sampler", getattr(batch_sampler, "sampler", None)
    yield "dataset", getattr(data, "dataset", None)
