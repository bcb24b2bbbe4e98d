"""A trainer, and an evaluator that one of its handlers runs. Each engine has its own events.

The trainer runs many epochs. After each of them, a handler runs the evaluator, whose own loop has one epoch. So the
evaluator fires EPOCH_COMPLETED once and COMPLETED once in each of its runs. Run it:

    python examples/trainer_and_evaluator.py

It takes a few seconds. It prints some events as they fire, and at the end the trace, with the evaluator's runs inside
the trainer's. Training ends when the validation accuracy has not improved for three epochs. A file keeps the best
weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sklearn import datasets
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, record
from camshaft.handlers import EarlyStopping, ModelCheckpoint
from camshaft.metrics import Accuracy


class Program(NamedTuple):
    """The model, the two engines, the handler that saves the best weights, and the data."""

    model: nn.Module
    trainer: Engine
    evaluator: Engine
    best_model_saver: ModelCheckpoint
    train_loader: DataLoader[Any]
    val_loader: DataLoader[Any]


def load(batch_size: int = 128) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of the digits of scikit-learn, in images of 8x8, for training and for validation."""
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    everything = TensorDataset(images, torch.tensor(digits.target))
    train, val = random_split(everything, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(val, batch_size=batch_size)


def score_function(engine: Engine) -> float:
    """Return the validation accuracy, the score that should increase."""
    return engine.state.metrics["accuracy"]


def build(dirname: str | Path, seed: int = 0) -> Program:
    """Build the engines and attach the handlers, without running anything. The best weights go to ``dirname``."""
    torch.manual_seed(seed)
    train_loader, val_loader = load()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})

    @trainer.on(Events.EPOCH_COMPLETED)
    def in_training_loop_on_epoch_completed(engine: Engine) -> None:
        state = engine.state
        print(f"trainer    EPOCH_COMPLETED  epoch {state.epoch} of {state.max_epochs}, loss {state.output:.4f}")
        evaluator.run(val_loader)  # this starts another loop, over the validation data

    @evaluator.on(Events.EPOCH_COMPLETED)
    def when_validation_epoch_is_done(engine: Engine) -> None:
        print(f"evaluator  EPOCH_COMPLETED  epoch {engine.state.epoch} of {engine.state.max_epochs}")

    @evaluator.on(Events.COMPLETED)
    def when_validation_loop_is_done(engine: Engine) -> None:
        print(f"evaluator  COMPLETED        validation accuracy {engine.state.metrics['accuracy']:.4f}")

    @trainer.on(Events.COMPLETED)
    def when_training_is_done(engine: Engine) -> None:
        print(f"trainer    COMPLETED        after {engine.state.iteration} iterations")

    handler = EarlyStopping(patience=3, score_function=score_function, trainer=trainer)
    evaluator.add_event_handler(Events.COMPLETED, handler)

    best_model_saver = ModelCheckpoint(dirname, "best", score_function=score_function)
    evaluator.add_event_handler(Events.COMPLETED, best_model_saver, {"mymodel": model})

    return Program(model, trainer, evaluator, best_model_saver, train_loader, val_loader)


def trainer() -> Engine:
    """Return the trainer, for ``camshaft show examples/trainer_and_evaluator.py:trainer``."""
    with tempfile.TemporaryDirectory() as dirname:
        return build(dirname).trainer


def main(max_epochs: int = 20) -> None:
    """Train, print the nested trace, and load the best weights."""
    with tempfile.TemporaryDirectory() as dirname:
        program = build(dirname)
        with record() as trace:
            program.trainer.run(program.train_loader, max_epochs=max_epochs)
        trace.assert_legal()
        print(f"\n{trace}\n\n{trace.table()}")

        best = program.best_model_saver.best_checkpoint
        ModelCheckpoint.load_objects({"mymodel": program.model}, best)
        program.evaluator.run(program.val_loader)
        print(f"\n{best.name} loaded back: validation accuracy {program.evaluator.state.metrics['accuracy']:.4f}")


if __name__ == "__main__":
    main()
