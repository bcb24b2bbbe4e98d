"""Cross-validation: the outer loop FOLD runs a trainer and an evaluator, nested, with other data in every pass.

Each fold begins with an untrained model and points the samplers of two data loaders at its share of the data: nested
engines read their data anew in each run, so what is declared once serves all folds. Run it:

    python examples/k_fold.py

It takes a few seconds. A small network reads some 97 of 100 handwritten digits that it has not seen, untrained 10: at
least 3 more than the baseline, which takes the nearest centroid (mean image) of the same folds and reads 90.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from sklearn import datasets
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from camshaft import Engine, Events, Loop, Phase, create_supervised_evaluator, create_supervised_trainer, record
from camshaft.metrics import Accuracy


class Program(NamedTuple):
    """The engine that cross-validates, what is nested in it, and all of the data."""

    cross_validator: Engine
    trainer: Engine
    evaluator: Engine
    digits: TensorDataset


def load() -> TensorDataset:
    """The handwritten digits of scikit-learn: 1,797 images of 8x8, from 0 to 1, and their labels."""
    digits = datasets.load_digits()
    return TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))


def splitter(n_splits: int, seed: int) -> StratifiedKFold:
    """What divides the digits into folds with all classes in equal shares."""
    return StratifiedKFold(n_splits, shuffle=True, random_state=seed)


def build(seed: int = 0, n_splits: int = 5, max_epochs: int = 15) -> Program:
    """Make the engines, without running anything."""
    torch.manual_seed(seed)
    digits = load()
    images, labels = digits.tensors
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    untrained = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train_sampler, val_sampler = (SubsetRandomSampler(range(len(labels))) for _ in range(2))

    def folds(engine: Engine) -> Iterator[Any]:
        return splitter(n_splits, seed).split(images, labels)

    def split(engine: Engine, _: None) -> None:
        train_sampler.indices, val_sampler.indices = engine.state.fold_item

    def reset_parameters(engine: Engine, _: None) -> None:
        model.load_state_dict(untrained[0])
        optimizer.load_state_dict(untrained[1])

    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    fold = Loop("FOLD", Phase("SPLIT", split), Phase("RESET_PARAMETERS", reset_parameters), over=folds)
    cross_validator = Engine(fold, name="cross_validator")
    train_loader, val_loader = (DataLoader(digits, batch_size=64, sampler=s) for s in (train_sampler, val_sampler))
    cross_validator.nest(trainer, on=fold.events.RESET_PARAMETERS_COMPLETED, data=train_loader, max_epochs=max_epochs)
    cross_validator.nest(evaluator, on=fold.events.FOLD_COMPLETED, data=val_loader)

    @cross_validator.on(Events.STARTED)
    def forget(engine: Engine) -> None:
        engine.state.accuracies = []

    @cross_validator.on(fold.events.FOLD_COMPLETED)  # after the evaluator, which was attached before
    def keep_accuracy(engine: Engine) -> None:
        engine.state.accuracies.append(evaluator.state.metrics["accuracy"])

    return Program(cross_validator, trainer, evaluator, digits)


def baseline(digits: TensorDataset, n_splits: int = 5, seed: int = 0) -> float:
    """The accuracy of the nearest centroid, on average over the same folds."""
    images, labels = digits.tensors[0].flatten(1), digits.tensors[1]
    accuracies = []
    for train, val in splitter(n_splits, seed).split(images, labels):
        centroids = torch.stack([images[train][labels[train] == digit].mean(0) for digit in range(10)])
        nearest = torch.cdist(images[val], centroids).argmin(1)
        accuracies.append((nearest == labels[val]).double().mean().item())
    return sum(accuracies) / n_splits


def cross_validator() -> Engine:
    """The outer engine alone, for looking at its loop: ``camshaft show examples/k_fold.py:cross_validator``."""
    return build().cross_validator


def main(argv: Sequence[str] | None = None) -> int:
    """Cross-validate, and compare."""
    program = build()
    print(program.cross_validator.loop)
    with record() as trace:
        accuracies = program.cross_validator.run().accuracies
    trace.assert_legal()
    for number, accuracy in enumerate(accuracies, start=1):
        print(f"fold {number}: accuracy {accuracy:.4f}")
    print(f"mean   {sum(accuracies) / len(accuracies):.4f}, nearest centroid {baseline(program.digits):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
