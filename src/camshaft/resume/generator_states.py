"""States of random generators of Python, NumPy and torch, as plain values."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["generator_state", "load_generator"]


def generator_state(generator: Any) -> Any:
    """Return the state of a random generator as plain values or a tensor."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, sys.modules["numpy"].random.RandomState):
        return _listed(generator.get_state(legacy=False))
    return _listed(_bits(generator).state)


def load_generator(generator: Any, state: Any) -> None:
    """Set a random generator to a result of :func:`generator_state`."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, sys.modules["numpy"].random.RandomState):
        generator.set_state(state)
    else:
        _bits(generator).state = state


def _bits(generator: Any) -> Any:
    return getattr(generator, "bit_generator", generator)


def _listed(state: Any) -> Any:
    """Return the state of a NumPy generator, with arrays turned into lists."""
    if isinstance(state, Mapping):
        return {key: _listed(value) for key, value in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state
