"""The program that is killed: it trains on handwritten digits, with everything that has a state or is random."""

from __future__ import annotations

import builtins
import io
import json
import random
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torchmetrics
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset
from torchmetrics.wrappers import MinMaxMetric

from camshaft import (
    BackpropEvents,
    Engine,
    Events,
    Snapshot,
    create_supervised_evaluator,
    create_supervised_trainer,
    event,
    record,
)
from camshaft.handlers import EMA, CustomPeriodicEvent, EarlyStopping, LRScheduler
from camshaft.metrics import RUNNING_EPOCH, Accuracy, Loss, RunningAverage, attach
from camshaft.resume import storage
from camshaft.resume.rng import rng_states

__all__ = ["PLACES", "Stop", "read_logs", "train", "uninterrupted"]

PLACES = {
    "handler": "a handler of the trainer",
    "forward": "FORWARD, half-way through the model",
    "backward": "BACKWARD, when some of the gradients are there",
    "optim_step": "OPTIM_STEP, when the weights are new",
    "write": "a snapshot, half-written",
    "rename": "a snapshot, written and not yet renamed",
    "evaluation": "a nested evaluation",
    "epochs": "between epochs",
    "fetch": "the process itself, fetching a batch",
    "worker": "a worker, loading a sample",
}
"""The places where a training can be killed, in words."""

HANDLED = (
    Events.STARTED
    | Events.EPOCH_STARTED
    | Events.GET_BATCH_COMPLETED
    | Events.ITERATION_STARTED
    | BackpropEvents.OPTIM_STEP_COMPLETED
    | Events.ITERATION_COMPLETED
    | Events.EPOCH_COMPLETED
)
TOLD = (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED)
"""The events at which outputs and metrics are logged."""

AFTER_ALL = -2_000_000_000
"""A priority below all others, also below the writing of snapshots."""

criterion = nn.CrossEntropyLoss()


@attrs.define
class Stop:
    """Stops the process at the place where it will be killed, and reports that.

    Args:
        place: one of :data:`PLACES`.
        iterations: the number of iterations before the times are counted.
        times: the number of the time at the place, from 1.
        connection: receives True when the process stops.
    """

    place: str
    iterations: int
    times: int
    connection: Connection

    def iteration(self) -> None:
        """Count an iteration that is over."""
        self.iterations -= 1

    def __call__(self, place: str) -> None:
        """Report that the process has reached a place. At the right time, stop there."""
        if place != self.place or self.iterations > 0:
            return
        self.times -= 1
        if not self.times:
            self.connection.send(True)
            while True:
                signal.pause()


Reached = Callable[[str], None]


def no_op(place: str) -> None:
    """Do nothing at a place."""


# -- data --------------------------------------------------------------------------------------------------------------


class Augmented(Dataset[Any]):
    """Images that are shifted, brightened and made noisy with the random numbers of three libraries."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, reached: Reached) -> None:
        self.images, self.labels, self._reached = images, labels, reached

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images[index].roll(random.randint(-1, 1), -1) * float(np.random.uniform(0.8, 1.2))
        image = image + 0.1 * torch.randn_like(image)
        self._reached("worker")
        return image, self.labels[index]


class Shuffled(RandomSampler):
    """A sampler in the training process, with a second generator, of NumPy. Before each index it is at ``fetch``."""

    def __init__(
        self, data: Dataset[Any], generator: torch.Generator, rng: np.random.Generator, reached: Reached
    ) -> None:
        super().__init__(data, generator=generator)  # type: ignore[arg-type]
        self.rng, self._reached = rng, reached

    def __iter__(self) -> Iterator[int]:
        for index in self.rng.permutation([*super().__iter__()]):
            self._reached("fetch")
            yield int(index)


def loaders(seed: int, reached: Reached, batch_size: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of 500 digits for training, in 16 batches with a smaller last one, and 128 for validation."""
    digits = load_digits()
    images = torch.tensor(digits.images[:628], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target[:628])
    generator = torch.Generator().manual_seed(seed)
    data = Augmented(images[:500], labels[:500], reached)
    training = DataLoader(
        data,
        batch_size=batch_size,
        sampler=Shuffled(data, generator, np.random.default_rng(seed), reached),
        generator=generator,
        num_workers=2,
        multiprocessing_context="fork",
    )
    generator = torch.Generator().manual_seed(seed + 1)
    rest = TensorDataset(images[500:], labels[500:])
    return training, DataLoader(rest, batch_size=32, shuffle=True, generator=generator)


# -- logs --------------------------------------------------------------------------------------------------------------


class Log:
    """A log of every event of ``trace``, with batches, outputs and metrics, as numbered lines of a file.

    Each line is in the file as soon as it is written. The number of lines is part of the snapshot, so that a process
    that resumes continues the numbers. Events that fire again while a run resumes are left out.
    """

    def __init__(self, path: Path, trainer: Engine, evaluator: Engine) -> None:
        self.trainer = trainer
        self.evaluator = evaluator
        self.lines = 0
        self._file = path.open("x", buffering=1)
        self._seen = 0
        for engine in (trainer, evaluator):
            for key in engine.loop.event_keys:
                engine.add_event_handler(event(key, priority=-1_000_000), self.note)

    def note(self, engine: Engine, error: BaseException | None = None) -> None:
        """Write the events since the last call. It is the last handler of every event."""
        fired = [str(one) for one in self.trace[self._seen :]]
        self._seen = len(self.trace)
        if self.trainer.state.resumed:
            return
        for line in fired:
            self._write(line)
        if engine.last_event_name is Events.ITERATION_STARTED:
            self._write(checksum(engine.state.batch))
        if engine.last_event_name in TOLD:
            self._write([checksum(engine.state.output), self.trainer.state.metrics, self.evaluator.state.metrics])

    def _write(self, line: Any) -> None:
        self._file.write(json.dumps([self.lines, line]) + "\n")
        self.lines += 1

    def state_dict(self) -> dict[str, int]:
        return {"lines": self.lines}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.lines = state["lines"]


def checksum(value: Any) -> Any:
    """Return a checksum of the bytes of each tensor. Other values are returned unchanged."""
    if isinstance(value, torch.Tensor):
        return zlib.crc32(value.numpy().tobytes())
    return [checksum(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def read_logs(folder: Path) -> list[list[list[Any]]]:
    """Return the lines of each process of a training, as pairs of number and line."""
    files = sorted(folder.glob("log_*.jsonl"))
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in files]


# -- the program -------------------------------------------------------------------------------------------------------


class Training:
    """A trainer with an evaluator, metrics, and handlers that have a state.

    Args:
        folder: the folder of the log.
        number: the number of the process within the training, from 0.
        seed: the seed of all random generators.
        reached: a function that is called with each place that the process reaches.
        batch_size: the number of samples of a batch of the training data.
    """

    def __init__(
        self, folder: Path, number: int, seed: int = 0, reached: Reached = no_op, batch_size: int = 32
    ) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self.folder = folder
        self.data, validation = loaders(seed, reached, batch_size)
        self.model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(288, 10)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.trainer = create_supervised_trainer(
            self.model, self.optimizer, criterion, gradient_accumulation_steps=3, name="trainer"
        )
        self.ema = EMA(self.model, 0.9)
        self.schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 40))
        metrics = {"accuracy": Accuracy(), "loss": Loss(criterion)}
        self.evaluator = create_supervised_evaluator(self.ema.model, metrics, name="evaluator")
        self.stopping = EarlyStopping(3, lambda engine: -engine.state.metrics["loss"], self.trainer)
        self._attach(validation)
        self._report_places(reached)
        self.log = Log(folder / f"log_{number:03}.jsonl", self.trainer, self.evaluator)

    def _attach(self, validation: DataLoader[Any]) -> None:
        trainer = self.trainer
        trainer.add_event_handler(Events.ITERATION_STARTED, alter)
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.ema)
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.schedule)
        RunningAverage().attach(trainer, "loss")
        Loss(lambda loss, _: loss).attach(trainer, "mean", lambda loss: (torch.tensor(loss), [0]), RUNNING_EPOCH)
        extremes = MinMaxMetric(torchmetrics.MeanMetric())
        attach(extremes, trainer, "extremes", lambda loss: torch.tensor(loss), RUNNING_EPOCH)
        trainer.nest(self.evaluator, on=Events.EPOCH_COMPLETED, data=validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self.stopping)
        CustomPeriodicEvent(n_iterations=7).attach(trainer)

    def _report_places(self, reached: Reached) -> None:
        """Report each place as it is reached, except those during writing."""
        self.trainer.add_event_handler(HANDLED, reached, "handler")
        self.model[3].register_forward_hook(lambda *_: reached("forward"))
        self.model[-1].weight.register_post_accumulate_grad_hook(lambda _: reached("backward"))
        self.optimizer.register_step_post_hook(lambda *_: reached("optim_step"))
        inside = Events.GET_BATCH_COMPLETED | Events.ITERATION_COMPLETED
        self.evaluator.add_event_handler(inside, reached, "evaluation")
        self.trainer.add_event_handler(event(Events.EPOCH_COMPLETED, priority=AFTER_ALL), reached, "epochs")

    def run(self, resume: str | None = None) -> None:
        """Train, and write all states at the end."""
        with record() as self.log.trace:
            self.trainer.run(self.data, max_epochs=5, resume=resume)
        self.log.trace.assert_legal()
        stateful = ("model", "optimizer", "ema", "schedule", "stopping", "trainer", "log")
        states = {name: getattr(self, name).state_dict() for name in stateful}
        states |= {"random": rng_states(), "loader": self.data.generator.get_state()}
        storage.save(self.folder / "end.pt", states)


def alter(engine: Engine) -> None:
    """Change the whole batch with random numbers of the process that trains."""
    images, labels = engine.state.batch
    images = images.flip(-1) if random.random() < 0.1 else images
    engine.state.batch = images * float(np.random.uniform(0.9, 1.1)), labels


def uninterrupted(folder: Path, number: int) -> None:
    """Train without a snapshot."""
    Training(folder, number).run()


def train(folder: Path, number: int, stop: Stop | None, batch_size: int = 32) -> None:
    """Train, or resume from the latest snapshot with new objects, another seed, and batches of the given size."""
    reached = stop or no_op
    resumes = any(folder.glob("snapshot_*"))
    training = Training(folder, number, number if resumes else 0, reached, batch_size if resumes else 32)
    trainer = training.trainer
    if stop is not None:
        trainer.add_event_handler(event(Events.ITERATION_COMPLETED, priority=AFTER_ALL), stop.iteration)
    snapshot = Snapshot(trainer, folder, model=training.model, optimizer=training.optimizer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=4) | Events.EPOCH_COMPLETED(every=2), snapshot)
    report_writing(reached)
    training.run(resume="latest")


def report_writing(reached: Reached) -> None:
    """Report each piece of a file that is written, and each renaming of a file."""

    class Written(io.BufferedWriter):
        def write(self, data: Any) -> int:
            self.flush()  # the pieces written so far must be in the file when the process is killed
            reached("write")
            return super().write(data)

    def opened(path: Path, mode: str) -> Any:
        return Written(io.FileIO(path, mode)) if mode == "xb" else builtins.open(path, mode)

    storage.open = opened  # type: ignore[attr-defined]
    sys.addaudithook(lambda what, _: reached("rename") if what == "os.rename" else None)
