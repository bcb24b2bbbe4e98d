"""Trainings that are interrupted and resumed, and their comparison with uninterrupted ones."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from camshaft import (
    BackpropEvents,
    Events,
    Snapshot,
    create_supervised_evaluator,
    create_supervised_trainer,
    event,
    record,
)
from camshaft.handlers import EMA, CustomPeriodicEvent, EarlyStopping, LRScheduler
from camshaft.metrics import RUNNING_EPOCH, Accuracy, Loss, RunningAverage
from support.learning import Unsized, batches, classifier, criterion, dataset, sgd


class Noisy(Dataset):
    """Data with noise from every process-wide random generator."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        x, y = self.inner[index]
        return x + torch.rand(()) + random.random() + float(np.random.rand()), y


class Stream(IterableDataset):
    """A stream of noisy samples. Each worker yields its share."""

    def __init__(self, inner):
        self.inner = Noisy(inner)

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, len(self.inner), step):
            yield self.inner[index]


class Batched(torch.utils.data.Sampler):
    """A sampler of indices of whole batches, so that the loader does not batch."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        yield from torch.randperm(len(self.data)).split(8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LOADERS = {
    "in order": lambda: DataLoader(dataset(), batch_size=8),
    "shuffled": lambda: DataLoader(dataset(), batch_size=8, shuffle=True),
    "generator": lambda: DataLoader(dataset(), batch_size=8, shuffle=True, generator=generator()),
    "with replacement": lambda: DataLoader(
        dataset(), 8, sampler=torch.utils.data.RandomSampler(dataset(), replacement=True, generator=generator())
    ),
    "batches are samples": lambda: DataLoader(dataset(), batch_size=None, sampler=Batched(dataset())),
    "noisy": lambda: DataLoader(Noisy(dataset()), batch_size=8, shuffle=True),
    "list": lambda: list(DataLoader(dataset(), batch_size=8)),
    "unknown length": lambda: Unsized(DataLoader(dataset(), batch_size=8, shuffle=True)),
    "stream": lambda: DataLoader(Stream(dataset()), batch_size=8),
}
WITH_WORKERS = {
    "two workers": lambda: DataLoader(dataset(), batch_size=8, shuffle=True, num_workers=2),
    "two workers, noisy": lambda: DataLoader(Noisy(dataset()), batch_size=8, shuffle=True, num_workers=2),
    "two workers, generator": lambda: DataLoader(
        Noisy(dataset()), batch_size=8, shuffle=True, num_workers=2, generator=generator()
    ),
    "two workers, stream": lambda: DataLoader(Stream(dataset()), batch_size=5, num_workers=2),
}


class Training:
    """A training with everything that has a state, and a list of what happened."""

    def __init__(self, folder, load=LOADERS["shuffled"], steps=2, **options):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
        self.trainer = create_supervised_trainer(
            self.model, self.optimizer, criterion, gradient_accumulation_steps=steps, scaler=self.scaler, **options
        )
        self.ema = EMA(self.model, 0.9)
        self.data = load()
        trainer = self.trainer
        self.schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 30))
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.ema)
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.schedule)
        RunningAverage().attach(trainer, "loss")
        Loss(lambda a, b: a).attach(trainer, "mean", lambda loss: (torch.tensor(loss), [0]), RUNNING_EPOCH)
        self.evaluator = create_supervised_evaluator(self.ema.model, {"accuracy": Accuracy(), "loss": Loss(criterion)})
        validation = DataLoader(dataset(), batch_size=16, shuffle=True, generator=generator(7))
        trainer.nest(self.evaluator, on=Events.EPOCH_COMPLETED, data=validation)
        self.stopping = EarlyStopping(50, lambda engine: -engine.state.metrics["loss"], trainer)
        self.evaluator.add_event_handler(Events.COMPLETED, self.stopping)
        self.period = CustomPeriodicEvent(n_iterations=5)
        self.period.attach(trainer)
        self.seen = []
        trainer.add_event_handler(event("optim_step_completed", every=3), self.note, "third step")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.note, "iteration")
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.note, "epoch")
        self.snapshot = Snapshot(trainer, folder, model=self.model, optimizer=self.optimizer, scaler=self.scaler)

    def note(self, engine, what):
        state = engine.state
        metrics = {
            f"{inner.name} {name}": value
            for inner in (engine, self.evaluator)
            for name, value in inner.state.metrics.items()
        }
        self.seen.append(
            (what, state.epoch, state.iteration, state.iterations_5, state.output, torch.rand(()).item(), metrics)
        )

    def run(self, **limits):
        with record() as trace:
            self.trainer.run(self.data, **{"max_epochs": 3} | limits)
        trace.assert_legal()
        return self

    def states(self):
        objects = (self.model, self.optimizer, self.scaler, self.ema, self.schedule, self.stopping)
        return [copy.deepcopy(obj.state_dict()) for obj in objects] + [
            random.random(),
            np.random.rand(),
            torch.rand(()),
        ]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def left_at(training, moment, at):
    """Run until a snapshot that was requested at this moment is written, and return the number of notes so far."""
    trainer = training.trainer

    class Left(Exception):
        pass

    def leave():
        raise Left

    def ask():
        training.snapshot()
        write = training.snapshot._write

        def write_and_leave(engine):
            write(engine)
            leave()

        training.snapshot._write = write_and_leave

    trainer.add_event_handler(event(moment, event_filter=lambda engine, count: count == at), ask)
    with pytest.raises(Left):
        training.run()
    return len(training.seen)


def check(folder, load, moment, at, **options):
    whole = Training(folder / "whole", load, **options).run()
    expected = whole.states()
    left = Training(folder / "left", load, **options)
    had = left_at(left, moment, at)
    assert left.seen == whole.seen[:had]

    torch.manual_seed(99)
    random.seed(99)
    resumed = Training(folder / "left", load, **options)
    torch.manual_seed(123)
    next(resumed.model.parameters()).data.zero_()
    assert resumed.trainer.resume() is not None
    resumed.run()
    assert resumed.seen == whole.seen[had:]
    assert equal(resumed.states(), expected)


def snapshots(folder, iterations=3, model=None):
    model = classifier() if model is None else model
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(trainer, folder, model=model))
    trainer.run(batches(), max_iters=iterations)
    return trainer, sorted(folder.iterdir())
