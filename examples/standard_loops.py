"""The loops that come with camshaft, each ready to be printed and drawn.

camshaft draw examples/standard_loops.py:supervised_trainer
camshaft source examples/standard_loops.py:opaque_step
"""

from __future__ import annotations

import torch
from torch import nn

from camshaft import Engine, Phase, create_supervised_evaluator, create_supervised_trainer, every


def opaque_step() -> Engine:
    """One function does everything: what it does in there, the loop does not know."""

    def train_step(engine: Engine, batch: torch.Tensor) -> torch.Tensor:
        return batch

    return Engine(train_step, name="trainer")


def declared_phases() -> Engine:
    """The step in phases, one of them in every fourth iteration only."""

    def forward(engine: Engine, batch: torch.Tensor) -> None: ...

    def backward(engine: Engine, batch: torch.Tensor) -> None: ...

    def optim_step(engine: Engine, batch: torch.Tensor) -> None: ...

    phases = [Phase("FORWARD", forward), Phase("BACKWARD", backward), Phase("OPTIM_STEP", optim_step, when=every(4))]
    return Engine(phases, name="trainer")


def supervised_trainer() -> Engine:
    """What create_supervised_trainer makes."""
    model = nn.Linear(4, 2)
    return create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())


def supervised_evaluator() -> Engine:
    """What create_supervised_evaluator makes."""
    return create_supervised_evaluator(nn.Linear(4, 2))
