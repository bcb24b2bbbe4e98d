"""Custom events between backward() and optimizer.step(): a ResNet18 learns handwritten digits.

The step is one opaque function that fires three custom events. Registering them adds the states BACKWARD and OPTIM_STEP
to the loop of the trainer. Two nested evaluators run at the end of each epoch. Run it:

    python examples/custom_events_resnet18.py
    python examples/custom_events_resnet18.py --data mnist --download

The default data are the digits included in scikit-learn, which need no download. Training takes about a minute on two
CPU cores. The program prints the generated loop, its state machine, the metrics of each epoch, the time spent in
handlers, and the result of checking the order of all events.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from sklearn import datasets
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import MNIST, FashionMNIST
from torchvision.models import resnet18
from torchvision.transforms import Compose, Normalize, ToTensor

from camshaft import Engine, EventEnum, Events, create_supervised_evaluator, record
from camshaft.handlers import BasicTimeProfiler, ProgressBar, Timer
from camshaft.metrics import Accuracy, Loss


class Values(NamedTuple):
    """Hyperparameters that suit a data set."""

    epochs: int
    batch_size: int
    lr: float


DEFAULTS = {
    "digits": Values(epochs=4, batch_size=64, lr=0.0005),
    "mnist": Values(epochs=3, batch_size=128, lr=0.005),
    "fashion-mnist": Values(epochs=3, batch_size=128, lr=0.005),
}


# -- the custom events ------------------------------------------------------------------------------------------------


class BackpropEvents(EventEnum):
    """Events that the step fires."""

    BACKWARD_STARTED = "backward_started"
    BACKWARD_COMPLETED = "backward_completed"
    OPTIM_STEP_COMPLETED = "optim_step_completed"


class Net(nn.Module):
    """ResNet18 for images with one channel and ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = resnet18(num_classes=10)
        self.model.conv1 = nn.Conv2d(1, 64, kernel_size=3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (N, 10) for images of shape (N, 1, H, W)."""
        return self.model(x)


def make_trainer(
    model: nn.Module, optimizer: torch.optim.Optimizer, criterion: nn.Module, device: torch.device
) -> Engine:
    """Return an engine whose step fires the events of backpropagation."""

    def train_step(engine: Engine, batch: Sequence[torch.Tensor]) -> float:
        model.train()
        optimizer.zero_grad()
        x, y = batch[0].to(device), batch[1].to(device)
        y_pred = model(x)
        loss = criterion(y_pred, y)

        engine.fire_event(BackpropEvents.BACKWARD_STARTED)
        loss.backward()
        engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)

        optimizer.step()
        engine.fire_event(BackpropEvents.OPTIM_STEP_COMPLETED)

        return loss.item()

    trainer = Engine(train_step, name="trainer")
    trainer.register_events(*BackpropEvents)

    @trainer.on(BackpropEvents.BACKWARD_COMPLETED(once=1) | BackpropEvents.BACKWARD_COMPLETED(every=20))
    def show_gradients(engine: Engine) -> None:
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        print(f"Iter[{engine.state.iteration}] Function fired after backward pass: gradient norm {norm:.3f}")

    first_lr = optimizer.param_groups[0]["lr"]

    @trainer.on(BackpropEvents.OPTIM_STEP_COMPLETED)
    def lower_lr(engine: Engine) -> None:
        """Lower the learning rate linearly to 0, so that the last epoch converges with every seed."""
        state = engine.state
        iterations = state.max_iters or state.max_epochs * state.epoch_length
        for group in optimizer.param_groups:
            group["lr"] = first_lr * (1 - state.iteration / iterations)

    return trainer


# -- data -------------------------------------------------------------------------------------------------------------


def load_digits() -> tuple[Dataset[Any], Dataset[Any]]:
    """Return the 1,797 digits of scikit-learn at 28x28, always split in the same way, 4:1."""
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = F.interpolate(images, size=28, mode="bilinear", align_corners=False)
    images = (images - 0.3053) / 0.3247
    everything = TensorDataset(images, torch.tensor(digits.target))
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0)).tolist()
    cut = len(order) * 4 // 5
    return Subset(everything, order[:cut]), Subset(everything, order[cut:])


def load_idx(data: str, root: str | Path, download: bool) -> tuple[Dataset[Any], Dataset[Any]]:
    """Return MNIST or Fashion-MNIST from IDX files. The test set is used for validation.

    Raises:
        FileNotFoundError: the files are missing. The message says how to get them.
    """
    kind = {"mnist": MNIST, "fashion-mnist": FashionMNIST}[data]
    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    try:
        train, validation = (kind(root, train=train, transform=transform, download=download) for train in (True, False))
    except RuntimeError as error:  # torchvision raises it for missing, damaged and unreachable files
        folder = Path(root) / kind.__name__ / "raw"
        fix = f"unpack its four IDX files into {folder}" + ("" if download else ", or add --download to fetch them")
        raise FileNotFoundError(f"no {data} under {root} ({str(error).partition('.')[0]}): {fix}") from None
    return train, validation


# -- the program ------------------------------------------------------------------------------------------------------


class Training(NamedTuple):
    """A trainer, the evaluators nested in it, and the data."""

    trainer: Engine
    train_evaluator: Engine
    validation_evaluator: Engine
    train_loader: DataLoader[Any]
    validation_loader: DataLoader[Any]


def build(
    data: str = "digits",
    *,
    root: str | Path = "data",
    download: bool = False,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    device: str | None = None,
    epoch_length: int | None = None,
) -> Training:
    """Build the engines and the data, without running anything.

    Args:
        data: "digits", "mnist" or "fashion-mnist".
        root, download: the folder of the IDX files, and whether to download them.
        batch_size, lr: the batch size and the learning rate; those of DEFAULTS by default.
        seed: the same seed gives the same numbers on the same machine.
        device: the device; by default a GPU if there is one.
        epoch_length: the largest number of batches in an evaluation; all of them by default.
    """
    defaults = DEFAULTS[data]
    train_set, validation_set = load_digits() if data == "digits" else load_idx(data, root, download)
    torch.manual_seed(seed)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = Net().to(place)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=defaults.lr if lr is None else lr)
    criterion = nn.CrossEntropyLoss()
    size = defaults.batch_size if batch_size is None else batch_size
    shuffled = torch.Generator().manual_seed(seed)
    train_loader = DataLoader(train_set, batch_size=size, shuffle=True, generator=shuffled)
    validation_loader = DataLoader(validation_set, batch_size=size)

    trainer = make_trainer(model, optimizer, criterion, place)
    evaluators = [
        create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(criterion)}, device=place, name=name)
        for name in ("train_evaluator", "validation_evaluator")
    ]
    bar = ProgressBar(persist=False)  # show_metrics already prints a line for each epoch
    for engine in (trainer, *evaluators):
        bar.attach(engine)
    for evaluator, loader in zip(evaluators, (train_loader, validation_loader), strict=True):
        length = min(epoch_length, len(loader)) if epoch_length else None
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=loader, epoch_length=length)
    training = Training(trainer, *evaluators, train_loader, validation_loader)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, show_metrics, training
    )  # attached last, so it runs after the evaluators
    return training


def trainer() -> Engine:
    """Return the trainer, for ``camshaft show examples/custom_events_resnet18.py:trainer``."""
    return build().trainer


def show_metrics(engine: Engine, training: Training) -> None:
    """Print the results of an epoch in one line."""
    train, validation = (inner.state.metrics for inner in (training.train_evaluator, training.validation_evaluator))
    print(
        f"epoch {engine.state.epoch}/{engine.state.max_epochs}"
        f"  train accuracy {train['accuracy']:.4f} loss {train['loss']:.4f}"
        f"  validation accuracy {validation['accuracy']:.4f} loss {validation['loss']:.4f}",
        flush=True,
    )


def show(title: str, text: object) -> None:
    """Print a text under a title."""
    print(f"=== {title} ===\n\n{text}\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Train a ResNet18 on handwritten digits, with custom events.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def defaults(field: str) -> str:
        return ", ".join(f"{getattr(values, field)} for {data}" for data, values in DEFAULTS.items())

    def add(name: str, text: str, **options: Any) -> None:
        parser.add_argument(name, help=text, **options)

    def positive(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
        return int(text)

    hidden = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    add("--data", "the data set", choices=list(DEFAULTS), default="digits")
    add("--root", "the folder of the IDX files", type=Path, default=Path("data"))
    add("--download", "download the IDX files if they are missing", action="store_true", default=hidden)
    add("--epochs", defaults("epochs"), type=positive, default=hidden)
    add("--batch-size", defaults("batch_size"), type=positive, default=hidden)
    add("--lr", defaults("lr"), type=float, default=hidden)
    add("--seed", "the seed of all random numbers", type=int, default=0)
    add("--device", "such as cpu or cuda (default: a GPU if there is one)", default=hidden)
    add("--epoch-length", "the largest number of batches in an epoch, for a quick look", type=positive, default=hidden)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Build, show and train the engine, and check the order of its events. Returns the exit code."""
    options = vars(parse(argv))
    epochs = options.pop("epochs", DEFAULTS[options["data"]].epochs)
    try:
        training = build(**options)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    engine = training.trainer

    show("The loop that runs", engine.source())
    show("Its machine", engine.machine)
    show("Its states", engine.loop)

    print("=== Training ===\n")
    timer, profiler = Timer().attach(engine), BasicTimeProfiler()
    profiler.attach(engine)
    with record() as trace:
        engine.run(training.train_loader, max_epochs=epochs, epoch_length=options.get("epoch_length"))
    print(f"\ntrained for {timer.value():.0f} s\n")

    print("=== Where the time went ===\n")
    profiler.print_results(profiler.get_results())

    print("=== Order check ===\n")
    trace.assert_legal()
    print(f"{len(trace):,} events in {len(trace.runs)} runs checked against their machines: legal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
