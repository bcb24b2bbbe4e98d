"""Gradient accumulation in two ways: counted by hand in an opaque step, and declared.

By hand, a condition inside the step decides when the optimizer steps. In the declared loop, OPTIM_STEP is a state that
is entered when a window of batches is full. Handlers, diagrams and tests can use it. Run it:

    python examples/gradient_accumulation.py

If the number of batches is a multiple of the window, both ways end with the same weights, bit for bit. Otherwise they
differ. The step written by hand counts iterations over epochs: the last batches of an epoch share a step with the first
batches of the next, and the last batches of the last epoch are lost. In the declared loop, every epoch has its own last
window, scaled by its own length.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from camshaft import BackpropEvents, Engine, create_supervised_trainer

WINDOW, EPOCHS = 4, 3
criterion = nn.CrossEntropyLoss()


def make_model(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a small classifier and its optimizer, the same each time."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def counted_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Engine, list[int]]:
    """Return an engine whose step counts batches, and the list of iterations with a step of the optimizer."""
    stepped: list[int] = []

    def update(engine: Engine, batch: Sequence[torch.Tensor]) -> float:
        model.train()
        x, y = batch
        loss = criterion(model(x), y) / WINDOW
        loss.backward()
        if engine.state.iteration % WINDOW == 0:
            optimizer.step()
            optimizer.zero_grad()
            stepped.append(engine.state.iteration)
        return loss.item()

    return Engine(update, name="by_hand"), stepped


def declared(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Engine, list[int]]:
    """Return an engine with a declared loop, and the list of iterations with a step of the optimizer."""
    trainer = create_supervised_trainer(model, optimizer, criterion, gradient_accumulation_steps=WINDOW)
    stepped: list[int] = []
    trainer.add_event_handler(
        BackpropEvents.OPTIM_STEP_COMPLETED, lambda engine: stepped.append(engine.state.iteration)
    )
    return trainer, stepped


def trainer() -> Engine:
    """Return the declared trainer, for ``camshaft show examples/gradient_accumulation.py:trainer``."""
    return declared(*make_model())[0]


def batches(number: int) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Return a loader of ``number`` batches with 32 digits each."""
    x, y = load_digits(return_X_y=True)
    size = number * 32
    data = TensorDataset(torch.tensor(x[:size], dtype=torch.float32) / 16, torch.tensor(y[:size]))
    return DataLoader(data, batch_size=32)


def compare(number: int) -> tuple[float, list[int], list[int]]:
    """Train in both ways. Returns the largest difference of a weight, and the iterations with a step in each way."""
    trained = []
    for make in (counted_by_hand, declared):
        model, optimizer = make_model()
        optimizer.zero_grad()
        engine, stepped = make(model, optimizer)
        engine.run(batches(number), max_epochs=EPOCHS)
        trained.append((nn.utils.parameters_to_vector(model.parameters()).detach(), stepped))
    (theirs, by_hand), (ours, by_loop) = trained
    return (theirs - ours).abs().max().item(), by_hand, by_loop


def main() -> int:
    """Compare both ways with 12 batches, a multiple of the window, and with 10."""
    print(trainer().loop)
    for number in (12, 10):
        difference, by_hand, by_loop = compare(number)
        same = "the same weights, bit for bit" if difference == 0 else f"weights differ by up to {difference:.3f}"
        print(f"\n{number} batches an epoch, {WINDOW} a window, {EPOCHS} epochs: {same}")
        print(f"  counted by hand  steps after {by_hand}, {number * EPOCHS - by_hand[-1]} batches lost")
        print(f"  declared         steps after {by_loop}, {number * EPOCHS - by_loop[-1]} batches lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
