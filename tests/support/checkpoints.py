"""Trainings that write checkpoints, and the names of their files."""

import os

import torch
from torch import nn

from camshaft import Engine, Events, create_supervised_trainer
from camshaft.handlers import ModelCheckpoint
from support.learning import CLASSES, FEATURES

SERIAL = os.environ | {"OMP_NUM_THREADS": "1"}


def new_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))


def new_trainer(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss()), optimizer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(first, second):
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


def counting(name="trainer"):
    return Engine(lambda engine, batch: None, name)


def scored(folder, scores, **options):
    """Return an engine that saves a model after each epoch, with these scores. The weight of the model is the epoch."""
    model = nn.Linear(1, 1, bias=False)
    engine = counting()
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: nn.init.constant_(model.weight, engine.state.epoch))
    handler = ModelCheckpoint(
        folder, "best", score_function=lambda engine: scores[engine.state.epoch - 1], **({"n_saved": 2} | options)
    )
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler, {"model": model})
    return engine, handler
