"""Trainings with handlers between backward and step, after each step, or after each epoch."""

import torch

from camshaft import create_supervised_trainer, record
from support.learning import batches, classifier, criterion, sgd


def training(**options):
    model = classifier()
    optimizer = sgd(model)
    return create_supervised_trainer(model, optimizer, criterion, **options), model, optimizer


def run(trainer, **limits):
    torch.manual_seed(5)
    with record() as trace:
        trainer.run(batches(), **limits)
    trace.assert_legal()


def by_hand(model, optimizer, each=lambda: None, between=lambda: None, epochs=1, after=lambda: None):
    """Run a hand-written loop that calls functions between backward and step, after each step, and after each epoch."""
    torch.manual_seed(5)
    data = batches()
    for _ in range(epochs):
        for x, y in data:
            model.train()
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            between()
            optimizer.step()
            each()
        after()
