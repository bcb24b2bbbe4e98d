"""The standard loops of camshaft, as targets for the command line.

camshaft draw examples/standard_loops.py:supervised_trainer
camshaft source examples/standard_loops.py:opaque_step
"""

from __future__ import annotations

import torch
from torch import nn

from camshaft import (
    Engine,
    Phase,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    every,
)


def opaque_step() -> Engine:
    """Return an engine with an opaque step: one function, whose contents the loop does not know."""

    def train_step(engine: Engine, batch: torch.Tensor) -> torch.Tensor:
        return batch

    return Engine(train_step, name="trainer")


def declared_phases() -> Engine:
    """Return an engine with declared phases. One of them runs in every fourth iteration only."""

    def forward(engine: Engine, batch: torch.Tensor) -> None: ...

    def backward(engine: Engine, batch: torch.Tensor) -> None: ...

    def optim_step(engine: Engine, batch: torch.Tensor) -> None: ...

    phases = [Phase("FORWARD", forward), Phase("BACKWARD", backward), Phase("OPTIM_STEP", optim_step, when=every(4))]
    return Engine(phases, name="trainer")


def supervised_trainer() -> Engine:
    """Return a supervised trainer."""
    model = nn.Linear(4, 2)
    return create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())


def accumulating_trainer() -> Engine:
    """Return a trainer with gradient accumulation: four batches share a step of the optimizer."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss(), gradient_accumulation_steps=4)


def mixed_precision_trainer() -> Engine:
    """Return a trainer in mixed precision. Its scaler adds the state UNSCALE before the step of the optimizer."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return create_supervised_trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        autocast=torch.autocast("cpu", torch.bfloat16),
        scaler=torch.amp.GradScaler("cpu"),
    )


def closure_trainer() -> Engine:
    """Return a trainer with LBFGS, which evaluates the model inside its step."""
    model = nn.Linear(4, 2)
    return create_supervised_trainer(model, torch.optim.LBFGS(model.parameters()), nn.CrossEntropyLoss())


def tbptt_trainer() -> Engine:
    """Return a trainer with truncated back-propagation through time: a loop over chunks of time in every iteration."""
    model = nn.LSTM(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return create_supervised_tbptt_trainer(model, optimizer, nn.MSELoss(), tbtt_step=20)


def supervised_evaluator() -> Engine:
    """Return a supervised evaluator."""
    return create_supervised_evaluator(nn.Linear(4, 2))
