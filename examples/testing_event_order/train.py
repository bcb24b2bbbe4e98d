"""A plain training loop with gradient accumulation, without camshaft.

An optional function ``report`` is called with the name of each event. Run it:

    python examples/testing_event_order/train.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sklearn import datasets
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

Report = Callable[[str], Any]


def ignore(event: str) -> None:
    """Discard an event. This is the default for ``report``."""


@contextmanager
def span(name: str, report: Report) -> Iterator[None]:
    """Report the start of a part of the loop and, unless it fails, its end."""
    report(f"{name}_started")
    yield
    report(f"{name}_completed")


def fit(
    model: nn.Module,
    train_loader: DataLoader[Any],
    val_loader: DataLoader[Any],
    *,
    epochs: int,
    accumulate: int = 2,
    report: Report = ignore,
    report_validation: Report = ignore,
) -> float:
    """Train a model and validate it after each epoch. Returns the last accuracy."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    accuracy = 0.0
    report("started")
    for _ in range(epochs):
        with span("epoch", report):
            train_epoch(model, train_loader, optimizer, accumulate, report)
        accuracy = validate(model, val_loader, report_validation)
    report("completed")
    return accuracy


def train_epoch(
    model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, accumulate: int, report: Report
) -> None:
    """Train for one epoch. The optimizer steps when a window of batches is full, and after the last batch."""
    model.train()
    for i, (x, y) in enumerate(loader, 1):
        with span("iteration", report):
            with span("forward", report):
                loss = cross_entropy(model(x), y)
            with span("backward", report):
                (loss / accumulate).backward()
            if i % accumulate == 0 or i == len(loader):
                with span("optim_step", report):
                    optimizer.step()
                with span("zero_grad", report):
                    optimizer.zero_grad()


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader[Any], report: Report = ignore) -> float:
    """Return the accuracy of a model."""
    model.eval()
    correct = seen = 0
    report("started")
    for x, y in loader:
        with span("iteration", report):
            correct += int((model(x).argmax(dim=1) == y).sum())
            seen += len(y)
    report("completed")
    return correct / seen


def make_model() -> nn.Module:
    """Return a small classifier with dropout, which behaves differently in training and evaluation."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


def load_digits(batch_size: int = 32) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of the digits of scikit-learn for training and for validation."""
    pixels, labels = datasets.load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels))
    training, validation = random_split(digits, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    return DataLoader(training, batch_size, shuffle=True), DataLoader(validation, batch_size)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"accuracy after 5 epochs: {fit(make_model(), *load_digits(), epochs=5):.3f}")
