"""Cases for every public handler of pytorch-ignite."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.engine
import torch
from ignite import handlers as ih
from ignite import metrics as im
from torch import nn

from support.ignite_box.metrics import batches
from support.ignite_box.worlds import CASES, World, case, same


def training(world: World) -> tuple[Any, nn.Module, torch.optim.Optimizer, Any]:
    """Return a trainer, its model and optimizer, and data."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    data = batches(lambda: (torch.randn(4, 2), torch.randn(4, 1)), 5)

    def step(engine: Any, batch: Any) -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    return world.engine(step), model, optimizer, data


def weights(module: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@case("EarlyStopping")
def early_stopping(world: World) -> Any:
    trainer, evaluator = world.engine(lambda *_: None), world.engine(lambda *_: None)
    losses = iter([3.0, 2.0, 2.5, 2.4, 1.0])
    stopping, seen = ih.EarlyStopping(2, lambda engine: -engine.state.loss, trainer), []

    def evaluate() -> None:
        evaluator.state.loss = next(losses)
        evaluator.run([0])

    trainer.add_event_handler(world.events.EPOCH_COMPLETED, evaluate)
    evaluator.add_event_handler(world.events.COMPLETED, stopping)
    evaluator.add_event_handler(world.events.COMPLETED, lambda: seen.append(stopping.state_dict()))
    return trainer.run([0], max_epochs=9).epoch, seen


def saved(folder: Path) -> dict[str, Any]:
    """Return the contents of all files. Of an engine's state, only the keys that both engines have."""
    found = {}
    for path in sorted(folder.rglob("*.pt")):
        content = torch.load(path, weights_only=True)
        if "trainer" in content:
            kept = ("epoch_length", "iteration", "max_epochs")
            content["trainer"] = {key: content["trainer"][key] for key in kept}
        found[path.name] = content
    return found


@case("Checkpoint", "DiskSaver")
def checkpoint(world: World) -> Any:
    """Save by iteration, and by score with the epoch; load both into a second engine, and run it."""
    trainer, model, optimizer, data = training(world)
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    latest = ih.Checkpoint(to_save, ih.DiskSaver(world.folder / "latest"), n_saved=2)
    best = ih.Checkpoint(
        {"model": model},
        ih.DiskSaver(world.folder / "best"),
        score_function=lambda engine: -engine.state.output,
        score_name="loss",
        global_step_transform=lambda engine, _: engine.state.epoch,
        include_self=False,
    )
    trainer.add_event_handler(world.events.ITERATION_COMPLETED(every=5), latest)
    trainer.add_event_handler(world.events.EPOCH_COMPLETED, best)
    trainer.run(data, max_epochs=2)
    files = saved(world.folder)
    second, other, other_optimizer, data = training(world)
    loaded = torch.load(world.folder / "latest" / "checkpoint_5.pt", weights_only=True)
    ih.Checkpoint.load_objects({"model": other, "optimizer": other_optimizer, "trainer": second}, loaded)
    second.run(data, max_epochs=2)
    return files, Path(latest.last_checkpoint).name, [name for _, name in best._saved], weights(other)


@case("ModelCheckpoint")
def model_checkpoint(world: World) -> Any:
    trainer, model, _, data = training(world)
    keep = ih.ModelCheckpoint(world.folder, "last", n_saved=2, require_empty=False)
    trainer.add_event_handler(world.events.EPOCH_COMPLETED, keep, {"model": model})
    trainer.run(data, max_epochs=3)
    return saved(world.folder), Path(keep.last_checkpoint).name


@case("global_step_from_engine")
def global_step(world: World) -> Any:
    trainer, _, _, data = training(world)
    steps = []
    by_event = ih.global_step_from_engine(trainer)
    fixed = ih.global_step_from_engine(trainer, ignite.engine.Events.ITERATION_COMPLETED)

    def note(engine: Any) -> None:
        steps.append((by_event(engine, engine.last_event_name), fixed(engine, None)))

    trainer.add_event_handler(world.events.ITERATION_COMPLETED | world.events.EPOCH_COMPLETED, note)
    trainer.run(data, max_epochs=2)
    return steps


@case("Timer")
def timer(world: World) -> Any:
    engine, timer, counts = world.engine(lambda *_: None), ih.Timer(average=True), []
    events = world.events
    started, done = events.ITERATION_STARTED, events.ITERATION_COMPLETED
    timer.attach(engine, start=events.EPOCH_STARTED, resume=started, pause=done, step=done)
    engine.add_event_handler(events.EPOCH_COMPLETED, lambda: counts.append((timer.step_count, timer.value() >= 0)))
    engine.run(range(5), max_epochs=2)
    return counts, timer.running


@case("TerminateOnNan")
def terminate_on_nan(world: World) -> Any:
    engine = world.engine(lambda engine, batch: batch)
    engine.add_event_handler(world.events.ITERATION_COMPLETED, ih.TerminateOnNan())
    state = engine.run([1.0, 2.0, math.nan, 4.0], max_epochs=2)
    return state.iteration, state.epoch


@case("TimeLimit")
def time_limit(world: World) -> Any:
    engine, limit = world.engine(lambda *_: None), ih.TimeLimit(limit_sec=1000)
    done = world.events.ITERATION_COMPLETED
    engine.add_event_handler(done(once=3), lambda: setattr(limit, "start_time", limit.start_time - 2000))
    engine.add_event_handler(done, limit)
    return engine.run(range(5), max_epochs=2).iteration


@case("EpochOutputStore")
def epoch_output_store(world: World) -> Any:
    engine, seen = world.engine(lambda engine, batch: batch * 2), []
    store = ih.EpochOutputStore(output_transform=lambda output: output + 1)
    store.attach(engine, "outputs")
    engine.add_event_handler(world.events.EPOCH_COMPLETED, lambda e: seen.append((e.state.outputs, list(store.data))))
    engine.run([1, 2, 3], max_epochs=2)
    return seen


@case("EMAHandler")
def ema(world: World) -> Any:
    trainer, model, _, data = training(world)
    handler, momenta = ih.EMAHandler(model, momentum=0.3, momentum_warmup=0.1, warmup_iters=4), []
    handler.attach(trainer, name="pace", event=world.events.ITERATION_COMPLETED(every=2))
    trainer.add_event_handler(world.events.ITERATION_COMPLETED, lambda engine: momenta.append(engine.state.pace))
    trainer.run(data, max_epochs=2)
    return momenta, weights(handler.ema_model)


def rates(world: World, make: Callable[[Any], Any], event: str = "ITERATION_STARTED", ahead: Any = None) -> Any:
    """Return the learning rates of each iteration with a scheduler, and the state of the scheduler."""
    trainer, model, optimizer, data = training(world)
    scheduler, seen = make(optimizer), []
    if ahead:
        ahead(trainer)
    trainer.add_event_handler(getattr(world.events, event), scheduler)
    trainer.add_event_handler(
        world.events.ITERATION_COMPLETED, lambda: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    trainer.run(data, max_epochs=2)
    assert len({str(rate) for rate in seen}) > 1, "the learning rate never changed"
    kept = {key: value for key, value in scheduler.state_dict().items() if key != "scheduler"}  # it has bound methods
    return seen, kept, getattr(trainer.state, "param_history", None), weights(model)


class Halving(ih.ParamScheduler):
    """A scheduler that a user could write."""

    def get_param(self) -> float:
        return 0.1 / 2**self.event_index


class EachGroup(ih.BaseParamScheduler):
    """A scheduler that uses only the base class."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__("lr")
        self.optimizer = optimizer

    def __call__(self, engine: Any, name: str | None = None) -> None:
        self.optimizer.param_groups[0]["lr"] = self.get_param()
        self.event_index += 1

    def get_param(self) -> float:
        return 0.1 + self.event_index

    @classmethod
    def simulate_values(cls, num_events: int, **kwargs: Any) -> Any:
        raise NotImplementedError


def linear(optimizer: Any, **kwargs: Any) -> Any:
    return ih.LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, 4, **kwargs)


def cosine(optimizer: Any) -> Any:
    return ih.CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, 4)


class Sawtooth(ih.CyclicalScheduler):
    """A cyclical scheduler that a user could write."""

    def get_param(self) -> float:
        return self.start_value + (self.end_value - self.start_value) * self.event_index / self.cycle_size


def groups(optimizer: Any) -> Any:
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5})
    first = ih.LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, 4, param_group_index=0)
    second = ih.CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, 4, param_group_index=1)
    return ih.ParamGroupScheduler([first, second], names=["one", "two"])


def exponential(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "BaseParamScheduler": EachGroup,
    "ParamScheduler": lambda optimizer: Halving(optimizer, "lr", save_history=True),
    "CyclicalScheduler": lambda optimizer: Sawtooth(optimizer, "lr", 0.0, 1.0, 4),
    "LinearCyclicalScheduler": lambda optimizer: linear(optimizer, save_history=True),
    "CosineAnnealingScheduler": cosine,
    "PiecewiseLinear": lambda optimizer: ih.PiecewiseLinear(optimizer, "lr", [(1, 0.5), (4, 0.1), (8, 0.0)]),
    "ConcatScheduler": lambda optimizer: ih.ConcatScheduler([linear(optimizer), cosine(optimizer)], [4]),
    "ParamGroupScheduler": groups,
    "LRScheduler": lambda optimizer: ih.LRScheduler(exponential(optimizer)),
    "create_lr_scheduler_with_warmup": lambda optimizer: ih.create_lr_scheduler_with_warmup(
        exponential(optimizer), warmup_start_value=0.0, warmup_end_value=0.1, warmup_duration=3
    ),
}
CASES |= {name: (lambda world, make=make: rates(world, make)) for name, make in SCHEDULERS.items()}


@case("ReduceLROnPlateauScheduler")
def plateau(world: World) -> Any:
    def metric(trainer: Any) -> None:
        trainer.add_event_handler(world.events.ITERATION_COMPLETED, lambda e: e.state.metrics.update(loss=1.0))

    return rates(
        world,
        lambda optimizer: ih.ReduceLROnPlateauScheduler(optimizer, "loss", factor=0.5, patience=1, save_history=True),
        "ITERATION_COMPLETED",
        metric,
    )


@case("BatchSizeScheduler")
def batch_size(world: World) -> Any:
    loader = torch.utils.data.DataLoader(torch.arange(12), batch_size=2)
    scheduler = ih.BatchSizeScheduler(loader, lambda epoch: 2 + 2 * epoch, save_history=True)
    engine, sizes = world.engine(lambda engine, batch: len(batch)), []
    scheduler.attach(engine, world.events.EPOCH_STARTED)
    engine.add_event_handler(world.events.ITERATION_COMPLETED, lambda e: sizes.append((e.state.epoch, e.state.output)))
    engine.run(loader, max_epochs=3, epoch_length=3)
    return sizes, engine.state.param_history


class AddOne(ih.StateParamScheduler):
    """A scheduler of an attribute of the state that a user could write."""

    def get_param(self) -> float:
        return self.event_index + 1.0


STATE_SCHEDULERS: dict[str, Callable[[], Any]] = {
    "StateParamScheduler": lambda: AddOne("pace", create_new=True),
    "LambdaStateScheduler": lambda: ih.LambdaStateScheduler(lambda i: 0.9**i, "pace", create_new=True),
    "PiecewiseLinearStateScheduler": lambda: ih.PiecewiseLinearStateScheduler(
        [(1, 0.5), (4, 0.1)], "pace", save_history=True, create_new=True
    ),
    "ExpStateScheduler": lambda: ih.ExpStateScheduler(1.0, 0.9, "pace", create_new=True),
    "StepStateScheduler": lambda: ih.StepStateScheduler(1.0, 0.9, 2, "pace", create_new=True),
    "MultiStepStateScheduler": lambda: ih.MultiStepStateScheduler(1.0, 0.9, [2, 3], "pace", create_new=True),
}


def paces(world: World, make: Callable[[], Any]) -> Any:
    engine, scheduler, seen = world.engine(lambda *_: None), make(), []
    scheduler.attach(engine, world.events.ITERATION_COMPLETED)
    engine.add_event_handler(world.events.ITERATION_COMPLETED, lambda e: seen.append(e.state.pace))
    engine.run(range(3), max_epochs=2)
    assert len(set(seen)) > 1
    return seen, scheduler.event_index, getattr(engine.state, "param_history", None)


CASES |= {name: (lambda world, make=make: paces(world, make)) for name, make in STATE_SCHEDULERS.items()}


@case("FastaiLRFinder")
def lr_finder(world: World) -> Any:
    trainer, model, optimizer, data = training(world)
    finder, before = ih.FastaiLRFinder(), weights(model)
    to_save = {"model": model, "optimizer": optimizer}
    with finder.attach(trainer, to_save, num_iter=8, start_lr=1e-4, end_lr=1.0) as searching:
        searching.run(data, max_epochs=2)
    assert same(before, weights(model)), "what it tried out stayed"
    return finder.get_results(), optimizer.param_groups[0]["lr"]


@case("ProgressBar")
def progress_bar(world: World) -> Any:
    shown = io.StringIO()
    engine = world.engine(lambda engine, batch: batch / 2)
    im.RunningAverage(output_transform=lambda output: output).attach(engine, "mean")
    bar = ih.ProgressBar(bar_format="{desc}[{n_fmt}/{total_fmt}]{postfix}", mininterval=0, file=shown, ascii=True)
    bar.attach(engine, metric_names=["mean"], output_transform=lambda output: {"half": output})
    engine.run([1.0, 2.0, 3.0], max_epochs=2)
    assert "half=1.5" in shown.getvalue()
    return shown.getvalue()


@case("FBResearchLogger")
def fbresearch_logger(world: World) -> Any:
    """Return the lines that it writes, without times and memory."""
    trainer, _, optimizer, data = training(world)
    lines = []

    class Lines:
        info = lines.append

    ih.FBResearchLogger(logger=Lines(), show_output=True).attach(trainer, "Train", every=2, optimizer=optimizer)
    trainer.run(data, max_epochs=2)
    return [re.sub(r"\d+:\d\d(:\d\d)?|\d+\.\d+ s|[\d.]+ s / it", "?", line) for line in lines]


@case("TensorboardLogger")
def tensorboard_logger(world: World) -> Any:
    from ignite.handlers.tensorboard_logger import GradsScalarHandler, WeightsScalarHandler
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer, model, optimizer, data = training(world)
    done = world.events.ITERATION_COMPLETED
    with ih.TensorboardLogger(log_dir=world.folder) as logger:
        logger.attach_output_handler(trainer, done, tag="train", output_transform=lambda loss: {"loss": loss})
        logger.attach_opt_params_handler(trainer, done, optimizer=optimizer)
        logger.attach(trainer, WeightsScalarHandler(model), world.events.EPOCH_COMPLETED)
        logger.attach(trainer, GradsScalarHandler(model), world.events.EPOCH_COMPLETED)
        trainer.run(data, max_epochs=2)
    read = EventAccumulator(str(world.folder)).Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@case("BasicTimeProfiler")
def basic_time_profiler(world: World) -> Any:
    engine, profiler = world.engine(lambda *_: None), ih.BasicTimeProfiler()
    engine.add_event_handler(world.events.EPOCH_COMPLETED, lambda: None)
    profiler.attach(engine)
    engine.run(range(3), max_epochs=2)
    results = profiler.get_results()
    return {name: list(part) for name, part in results.items()}


@case("HandlersTimeProfiler")
def handlers_time_profiler(world: World) -> Any:
    engine, profiler = world.engine(lambda *_: None), ih.HandlersTimeProfiler()
    engine.add_event_handler(world.events.EPOCH_COMPLETED, lambda: None)
    profiler.attach(engine)
    engine.run(range(3), max_epochs=2)
    return [row[:2] for row in profiler.get_results()]
