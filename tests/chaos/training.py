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
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

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
from camshaft.metrics import RUNNING_EPOCH, Accuracy, Loss, RunningAverage
from camshaft.resume import storage
from camshaft.resume.rng import rng_states

__all__ = ["PLACES", "Stop", "kept", "train", "uninterrupted"]

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
"""Where a training can be killed, in words."""

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
"""Where outputs and metrics are written down: before they are new, too."""

AFTER_ALL = -2_000_000_000
"""A priority below that of whatever is attached to an event, the writing of snapshots included."""

criterion = nn.CrossEntropyLoss()


@attrs.define
class Stop:
    """Reports that the process has come to where it is to be killed, and waits for that there.

    Args:
        place: one of :data:`PLACES`.
        iterations: how many iterations the process does before it counts.
        times: at which time at the place it stops.
        connection: takes True when the process has come there.
    """

    place: str
    iterations: int
    times: int
    connection: Connection

    def iteration(self) -> None:
        """An iteration is over."""
        self.iterations -= 1

    def __call__(self, place: str) -> None:
        """The process is at a place."""
        if place != self.place or self.iterations > 0:
            return
        self.times -= 1
        if not self.times:
            self.connection.send(True)
            while True:
                signal.pause()


Passing = Callable[[str], None]


def go_by(place: str) -> None:
    """Stops nowhere."""


# -- data --------------------------------------------------------------------------------------------------------------


class Augmented(Dataset[Any]):
    """Images that are shifted, brightened and made noisy, each by another library's random numbers."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, passing: Passing) -> None:
        self.images, self.labels, self.passing = images, labels, passing

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images[index].roll(random.randint(-1, 1), -1) * float(np.random.uniform(0.8, 1.2))
        image = image + 0.1 * torch.randn_like(image)
        self.passing("worker")
        return image, self.labels[index]


class Shuffled(RandomSampler):
    """Draws the order of samples in the process that trains."""

    def __init__(self, data: Dataset[Any], generator: torch.Generator, passing: Passing) -> None:
        super().__init__(data, generator=generator)  # type: ignore[arg-type]
        self.passing = passing

    def __iter__(self) -> Iterator[int]:
        for index in super().__iter__():
            self.passing("fetch")
            yield index


def loaders(seed: int, passing: Passing) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """500 digits for training, in 16 batches of which the last is smaller, and 128 for validation."""
    digits = load_digits()
    images = torch.tensor(digits.images[:628], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target[:628])
    generator = torch.Generator().manual_seed(seed)
    data = Augmented(images[:500], labels[:500], passing)
    training = DataLoader(
        data,
        batch_size=32,
        sampler=Shuffled(data, generator, passing),
        generator=generator,
        num_workers=2,
        multiprocessing_context="fork",
    )
    generator = torch.Generator().manual_seed(seed + 1)
    rest = TensorDataset(images[500:], labels[500:])
    return training, DataLoader(rest, batch_size=32, shuffle=True, generator=generator)


# -- what is kept of a run ---------------------------------------------------------------------------------------------


class Log:
    """Writes down every event of its ``trace``, batches, outputs and metrics, as numbered lines of a file.

    A line is in the file as soon as it is written. How many there are is in the snapshot: a process that goes on
    gives its first line the number that came next. What fires again while a run resumes is left out.
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
        """An event has fired, and its handlers are through."""
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
    """Of the bits of tensors; numbers as they are."""
    if isinstance(value, torch.Tensor):
        return zlib.crc32(value.numpy().tobytes())
    return [checksum(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def kept(folder: Path) -> list[list[list[Any]]]:
    """The lines that each process of a training has written, as pairs of number and line."""
    files = sorted(folder.glob("log_*.jsonl"))
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in files]


# -- the program -------------------------------------------------------------------------------------------------------


class Training:
    """A trainer with what is usual around it.

    Args:
        folder: takes the log.
        number: which process of the training this is, from 0.
        seed: that of all random generators.
        passing: is told of the places that are reached.
    """

    def __init__(self, folder: Path, number: int, seed: int = 0, passing: Passing = go_by) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self.folder = folder
        self.data, validation = loaders(seed, passing)
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
        self._pass(passing)
        self.log = Log(folder / f"log_{number:03}.jsonl", self.trainer, self.evaluator)

    def _attach(self, validation: DataLoader[Any]) -> None:
        trainer = self.trainer
        trainer.add_event_handler(Events.ITERATION_STARTED, alter)
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.ema)
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.schedule)
        RunningAverage().attach(trainer, "loss")
        Loss(lambda loss, _: loss).attach(trainer, "mean", lambda loss: (torch.tensor(loss), [0]), RUNNING_EPOCH)
        trainer.nest(self.evaluator, on=Events.EPOCH_COMPLETED, data=validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self.stopping)
        CustomPeriodicEvent(n_iterations=7).attach(trainer)

    def _pass(self, passing: Passing) -> None:
        """Tell of each place that is reached, except those inside of writing."""
        self.trainer.add_event_handler(HANDLED, passing, "handler")
        self.model[3].register_forward_hook(lambda *_: passing("forward"))
        self.model[-1].weight.register_post_accumulate_grad_hook(lambda _: passing("backward"))
        self.optimizer.register_step_post_hook(lambda *_: passing("optim_step"))
        inside = Events.GET_BATCH_COMPLETED | Events.ITERATION_COMPLETED
        self.evaluator.add_event_handler(inside, passing, "evaluation")
        self.trainer.add_event_handler(event(Events.EPOCH_COMPLETED, priority=AFTER_ALL), passing, "epochs")

    def run(self, resume: str | None = None) -> None:
        """Train, and write down what has become of everything."""
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


def train(folder: Path, number: int, stop: Stop | None) -> None:
    """Train, or go on from the latest snapshot with everything built anew, from other random numbers."""
    passing = stop or go_by
    training = Training(folder, number, number if any(folder.glob("snapshot_*")) else 0, passing)
    trainer = training.trainer
    if stop is not None:
        trainer.add_event_handler(event(Events.ITERATION_COMPLETED, priority=AFTER_ALL), stop.iteration)
    snapshot = Snapshot(trainer, folder, model=training.model, optimizer=training.optimizer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=4) | Events.EPOCH_COMPLETED(every=2), snapshot)
    pass_writing(passing)
    training.run(resume="latest")


def pass_writing(passing: Passing) -> None:
    """Tell of each piece of a file that is written, and of each renaming."""

    class Written(io.BufferedWriter):
        def write(self, data: Any) -> int:
            self.flush()  # so that what is there is in the file when the process is killed
            passing("write")
            return super().write(data)

    def opened(path: Path, mode: str) -> Any:
        return Written(io.FileIO(path, mode)) if mode == "xb" else builtins.open(path, mode)

    storage.open = opened  # type: ignore[attr-defined]
    sys.addaudithook(lambda what, _: passing("rename") if what == "os.rename" else None)
