"""Each engine has its own events: a trainer, and an evaluator that is run from one of its handlers.

The trainer runs many epochs. The evaluator, started anew after each of them, has a loop of its own that runs for one
epoch only: its EPOCH_COMPLETED and its COMPLETED both come once in every run. Run it:

    python examples/trainer_and_evaluator.py

It takes a few seconds, prints what fires, and at the end the trace with the evaluator's runs inside the trainer's.
Training ends when the validation accuracy has not improved in three epochs; the best weights are kept in a file.
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
    """Two engines and their data, and what keeps the best model."""

    model: nn.Module
    trainer: Engine
    evaluator: Engine
    best_model_saver: ModelCheckpoint
    train_loader: DataLoader[Any]
    val_loader: DataLoader[Any]


def load(batch_size: int = 128) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The handwritten digits of scikit-learn, 8x8, for training and for validation."""
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    everything = TensorDataset(images, torch.tensor(digits.target))
    train, val = random_split(everything, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(val, batch_size=batch_size)


def score_function(engine: Engine) -> float:
    """What has to grow."""
    return engine.state.metrics["accuracy"]


def build(dirname: str | Path, seed: int = 0) -> Program:
    """Make the engines and attach the handlers, without running anything. The best weights go to ``dirname``."""
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
    """The trainer alone, for looking at its loop: ``camshaft show examples/trainer_and_evaluator.py:trainer``."""
    with tempfile.TemporaryDirectory() as dirname:
        return build(dirname).trainer


def main(max_epochs: int = 20) -> None:
    """Train, show what came inside what, and load the best weights back."""
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
