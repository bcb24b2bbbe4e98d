"""Every public metric and handler of pytorch-ignite, on its own engine and on camshaft's: with the same data and seed
both give the same, or the README says what happens instead. Its table is written by
``PYTHONPATH=tests python -m test_ignite_box``.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import math
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import ignite.engine
import ignite.handlers
import ignite.handlers.checkpoint
import ignite.metrics
import ignite.metrics.metric
import pytest
import torch
from ignite import handlers as ih
from ignite import metrics as im
from ignite.metrics import clustering, fairness, regression
from torch import nn

import camshaft
from camshaft import Engine, record
from camshaft.compat import as_ignite
from support import tables

TABLE = "table of pytorch-ignite's box"


# -- the worlds in which each of them is tried ------------------------------------------------------------------------


@attrs.frozen
class World:
    """An engine, and the events that the user's code imports.

    Attributes:
        engine: makes an engine of a step.
        events: the built-in events.
        folder: an empty one.
    """

    engine: Callable[[Callable[[Any, Any], Any]], Any]
    events: Any
    folder: Path


def ours(step: Callable[[Any, Any], Any]) -> Engine:
    return Engine(step, "trainer")


def ours_as_ignite(step: Callable[[Any, Any], Any]) -> Engine:
    return as_ignite(ours(step))


UNCHANGED = "works unchanged"
WITH_LINE = "works after `as_ignite(engine)`"
FAILS = "does not work"
MAKERS = {UNCHANGED: ours, WITH_LINE: ours_as_ignite}
EVENTS = (ignite.engine.Events, camshaft.Events)

Case = Callable[[World], Any]


def play(case: Case, engine: Any, events: Any) -> Any:
    """What the case gives; what it writes to the logs of pytorch-ignite or to stderr is not shown."""
    counted = dict(ignite.engine.State.event_to_attr)
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    try:
        with (
            warnings.catch_warnings(),
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(io.StringIO()),
            record() as trace,
        ):
            warnings.filterwarnings("ignore", module=r"ignite\.")
            found = case(World(engine, events, Path(folder)))
        trace.assert_legal()
        return found
    finally:
        logging.disable(logging.NOTSET)
        ignite.engine.State.event_to_attr = counted  # what one engine adds there counts for all of them


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal to the last bit; NaN is equal to itself."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one.nan_to_num(7.7), other.nan_to_num(7.7))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@cache
def observe(name: str) -> tuple[str, str]:
    """How far a metric or handler works on camshaft's engine, and what went wrong before that."""
    case, wrong = CASES[name], ""
    expected = play(case, ignite.engine.Engine, ignite.engine.Events)
    for result, engine in MAKERS.items():
        try:
            found = [play(case, engine, events) for events in EVENTS]
        except Exception as error:
            wrong += f"{result}? {type(error).__name__}: {error}\n"
            continue
        if all(same(expected, one) for one in found):
            return result, wrong
        wrong += f"{result}? expected {expected}, got {found}\n"
    return FAILS, wrong


CASES: dict[str, Case] = {}


def case(*names: str) -> Callable[[Case], Case]:
    """This function shows what these names do."""

    def add(function: Case) -> Case:
        for name in names:
            assert name not in CASES, name
            CASES[name] = function
        return function

    return add


# -- metrics ----------------------------------------------------------------------------------------------------------


def batches(make: Callable[[], Any], n: int = 4) -> list[Any]:
    torch.manual_seed(1)
    return [make() for _ in range(n)]


def classes() -> Any:
    return torch.softmax(torch.randn(8, 3), dim=1), torch.randint(3, (8,))


def binary() -> Any:
    return torch.rand(8), torch.randint(2, (8,))


def ones_and_zeros() -> Any:
    return torch.randint(2, (8,)), torch.randint(2, (8,))


def labels() -> Any:
    return torch.randint(2, (8, 3)), torch.randint(2, (8, 3))


def values() -> Any:
    return torch.rand(8) + 0.1, torch.rand(8) + 0.1


def vectors() -> Any:
    return torch.randn(8, 3), torch.randn(8, 3)


def numbers() -> Any:
    return torch.rand(()).item() + 0.1


def images() -> Any:
    return torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)


def features() -> Any:
    return torch.rand(8, 4), torch.rand(8, 4)


def scores() -> Any:
    return torch.softmax(torch.rand(8, 4), dim=1)


def clusters() -> Any:
    return torch.randn(8, 2), torch.arange(8) % 3


def grouped() -> Any:
    return (*classes(), torch.arange(8) % 2)


def ranked() -> Any:
    return torch.rand(4, 5), torch.randint(2, (4, 5)).float()


def tokens() -> Any:
    words = ["the", "valve", "opens", "before", "the", "piston", "moves"]
    order = torch.randperm(len(words)).tolist()
    return [[words[i] for i in order]], [[words]]


def text() -> Any:
    return ["the vlave opens"], ["the valve opens"]


def logits() -> Any:
    return torch.randn(2, 5, 4), torch.randint(5, (2, 4))


def boxes() -> Any:
    corner = torch.rand(3, 2) * 10
    box = torch.cat([corner, corner + 5 + torch.rand(3, 2)], dim=1)
    truth = {"bbox": box, "labels": torch.tensor([0, 1, 1]), "iscrowd": torch.zeros(3)}
    found = {"bbox": box + 0.5, "labels": torch.tensor([0, 1, 0]), "scores": torch.rand(3)}
    return [found], [truth]


def confusion() -> Any:
    return im.ConfusionMatrix(num_classes=3)


class SquaredSum(im.Metric):
    """A metric as a user writes it."""

    def reset(self) -> None:
        self.sum = 0.0

    def update(self, output: Any) -> None:
        self.sum += output**2

    def compute(self) -> float:
        return self.sum


METRICS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "Accuracy": (im.Accuracy, classes),
    "Average": (im.Average, numbers),
    "AveragePrecision": (im.AveragePrecision, binary),
    "Bleu": (lambda: im.Bleu(ngram=2, smooth="smooth1"), tokens),
    "CharacterErrorRate": (im.CharacterErrorRate, text),
    "ClassificationReport": (lambda: im.ClassificationReport(output_dict=True), classes),
    "CohenKappa": (im.CohenKappa, ones_and_zeros),
    "CommonObjectDetectionMetrics": (lambda: im.CommonObjectDetectionMetrics(num_classes=2), boxes),
    "ConfusionMatrix": (confusion, classes),
    "CosineSimilarity": (im.CosineSimilarity, vectors),
    "DiceCoefficient": (lambda: im.DiceCoefficient(confusion()), classes),
    "Entropy": (im.Entropy, classes),
    "EpochMetric": (lambda: im.EpochMetric(lambda y_pred, y: (y_pred - y).abs().max().item()), values),
    "FID": (lambda: im.FID(num_features=4, feature_extractor=nn.Identity()), features),
    "Fbeta": (lambda: im.Fbeta(beta=2.0), classes),
    "GeometricAverage": (im.GeometricAverage, numbers),
    "HSIC": (im.HSIC, vectors),
    "HitRate": (lambda: im.HitRate(top_k=[1, 2]), ranked),
    "InceptionScore": (lambda: im.InceptionScore(num_features=4, feature_extractor=nn.Identity()), scores),
    "IoU": (lambda: im.IoU(confusion()), classes),
    "JSDivergence": (im.JSDivergence, vectors),
    "JaccardIndex": (lambda: im.JaccardIndex(confusion()), classes),
    "KLDivergence": (im.KLDivergence, vectors),
    "Loss": (lambda: im.Loss(nn.functional.cross_entropy), classes),
    "MatthewsCorrCoef": (im.MatthewsCorrCoef, ones_and_zeros),
    "MaximumMeanDiscrepancy": (im.MaximumMeanDiscrepancy, vectors),
    "MeanAbsoluteError": (im.MeanAbsoluteError, values),
    "MeanAveragePrecision": (im.MeanAveragePrecision, classes),
    "MeanPairwiseDistance": (im.MeanPairwiseDistance, vectors),
    "MeanSquaredError": (im.MeanSquaredError, values),
    "Metric": (SquaredSum, numbers),
    "MetricGroup": (lambda: im.MetricGroup({"accuracy": im.Accuracy(), "recall": im.Recall()}), classes),
    "MetricsLambda": (lambda: (im.Precision() * im.Recall() * 2 / (im.Precision() + 1)).mean() - 0.5, classes),
    "MultiLabelConfusionMatrix": (lambda: im.MultiLabelConfusionMatrix(num_classes=3), labels),
    "MutualInformation": (im.MutualInformation, classes),
    "NDCG": (lambda: im.NDCG(top_k=[2, 3]), ranked),
    "ObjectDetectionAvgPrecisionRecall": (lambda: im.ObjectDetectionAvgPrecisionRecall(num_classes=2), boxes),
    "PSNR": (lambda: im.PSNR(data_range=1.0), images),
    "Perplexity": (im.Perplexity, logits),
    "Precision": (im.Precision, classes),
    "PrecisionRecallCurve": (im.PrecisionRecallCurve, binary),
    "ROC_AUC": (im.ROC_AUC, binary),
    "Recall": (im.Recall, classes),
    "RocCurve": (im.RocCurve, binary),
    "RootMeanSquaredError": (im.RootMeanSquaredError, values),
    "Rouge": (lambda: im.Rouge(variants=["L", 2]), tokens),
    "RougeL": (im.RougeL, tokens),
    "RougeN": (lambda: im.RougeN(ngram=2), tokens),
    "RunningAverage": (lambda: im.RunningAverage(output_transform=lambda output: output), numbers),
    "SSIM": (lambda: im.SSIM(data_range=1.0), images),
    "TopKCategoricalAccuracy": (lambda: im.TopKCategoricalAccuracy(k=2), classes),
    "VariableAccumulation": (lambda: im.VariableAccumulation(lambda total, x: total + 2 * x), numbers),
    "mIoU": (lambda: im.mIoU(confusion()), classes),
    "CalinskiHarabaszScore": (clustering.CalinskiHarabaszScore, clusters),
    "DaviesBouldinScore": (clustering.DaviesBouldinScore, clusters),
    "SilhouetteScore": (clustering.SilhouetteScore, clusters),
    "DemographicParityDifference": (lambda: fairness.DemographicParityDifference(groups=[0, 1]), grouped),
    "SelectionRate": (fairness.SelectionRate, classes),
    "SubgroupAccuracyDifference": (lambda: fairness.SubgroupAccuracyDifference(groups=[0, 1]), grouped),
    "SubgroupDifference": (lambda: fairness.SubgroupDifference(im.Accuracy(), groups=[0, 1]), grouped),
    "SubgroupMetric": (lambda: fairness.SubgroupMetric(im.Accuracy(), groups=[0, 1]), grouped),
} | {
    name: (getattr(regression, name), values) for name in dir(regression) if inspect.isclass(getattr(regression, name))
}


def use(world: World, metric: Any, outputs: list[Any], *usage: Any) -> list[Any]:
    """The results of each iteration and epoch, while it is attached and when it is not any more."""
    engine, seen = world.engine(lambda engine, batch: batch), []
    metric.attach(engine, "it", *usage)
    seen.append(metric.is_attached(engine, *usage))

    def note(engine: Any) -> None:
        seen.append((engine.state.iteration, dict(engine.state.metrics)))

    engine.add_event_handler(world.events.ITERATION_COMPLETED | world.events.EPOCH_COMPLETED, note)
    engine.run(outputs, max_epochs=2)
    assert any(results for _, results in seen[1:]), "nothing was computed"
    metric.detach(engine, *usage)
    seen.append(metric.is_attached(engine, *usage))
    engine.state.metrics.clear()
    engine.run(outputs, max_epochs=2)
    return seen


def metric_case(make: Callable[[], Any], outputs: Callable[[], Any]) -> Case:
    return lambda world: use(world, make(), batches(outputs))


CASES |= {name: metric_case(*parts) for name, parts in METRICS.items()}

USAGES = ("EpochWise", "RunningEpochWise", "BatchWise", "RunningBatchWise", "SingleEpochRunningBatchWise")
CASES |= {
    name: (lambda world, usage=getattr(im.metric, name)(): use(world, im.Accuracy(), batches(classes), usage))
    for name in USAGES
}


@case("BatchFiltered")
def batch_filtered(world: World) -> Any:
    return use(world, im.Accuracy(), batches(classes), im.BatchFiltered(every=3))


@case("MetricUsage")
def metric_usage(world: World) -> Any:
    events = world.events
    usage = im.MetricUsage(events.STARTED, events.COMPLETED, events.ITERATION_COMPLETED(every=2))
    engine, metric = world.engine(lambda engine, batch: batch), im.Accuracy()
    metric.attach(engine, "it", usage)
    return engine.run(batches(classes), max_epochs=2).metrics, metric.is_attached(engine, usage)


@case("Frequency")
def frequency(world: World) -> Any:
    """Its value is a speed: only that it is there at each iteration can be compared."""
    engine, seen = world.engine(lambda engine, batch: batch), []
    im.Frequency(output_transform=len).attach(engine, "speed")
    engine.add_event_handler(world.events.ITERATION_COMPLETED, lambda e: seen.append(e.state.metrics["speed"] > 0))
    engine.run(["ab", "cde"], max_epochs=2)
    return seen


# -- handlers ---------------------------------------------------------------------------------------------------------


def training(world: World) -> tuple[Any, nn.Module, torch.optim.Optimizer, Any]:
    """A trainer, its model and optimizer, and data."""
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
    """The files with what lies in them; of an engine's state what both engines keep in the same way."""
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
    """Saved by iteration, and by score with the epoch; loaded into a second engine that goes on."""
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
    """The learning rates of each iteration under a scheduler of the optimizer, and what it saves."""
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
    """A scheduler as a user writes it."""

    def get_param(self) -> float:
        return 0.1 / 2**self.event_index


class EachGroup(ih.BaseParamScheduler):
    """A scheduler of the base class alone."""

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
    """A cycle as a user writes it."""

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
    """A scheduler of an attribute of the state as a user writes it."""

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
    """The lines that it writes; times and memory in them are not compared."""
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


# -- what is not tried, and the table ---------------------------------------------------------------------------------

UNTRIED = {
    "GpuInfo": "needs a GPU and the package pynvml",
    "coco_tensor_list_to_dict_list": "takes no engine",
    "ClearMLLogger": "need a package and a service each",
    "MLflowLogger": "need a package and a service each",
    "NeptuneLogger": "need a package and a service each",
    "PolyaxonLogger": "need a package and a service each",
    "VisdomLogger": "need a package and a service each",
    "WandBLogger": "need a package and a service each",
}
INSTEAD = {
    "BasicTimeProfiler": "they write to private lists of the engine; `camshaft.handlers` has both",
    "HandlersTimeProfiler": "they write to private lists of the engine; `camshaft.handlers` has both",
}


def public(module: Any) -> set[str]:
    """The names that a module offers; packages among them with what these offer in turn."""
    if not hasattr(module, "__all__"):
        return {
            name for name, thing in vars(module).items() if not name.startswith("_") and not inspect.ismodule(thing)
        }
    offered = {name: getattr(module, name) for name in module.__all__}
    return set().union(*(public(thing) if inspect.ismodule(thing) else {name} for name, thing in offered.items()))


def usages() -> set[str]:
    """The usages of metrics: public names that are in no ``__all__`` but that of their module."""
    return set(ignite.metrics.metric.__all__)


IN_THE_BOX = {"metrics": public(ignite.metrics) | usages(), "handlers": public(ignite.handlers)}


def result(name: str) -> str:
    """What the table says about it."""
    if name in UNTRIED:
        return f"untried: {UNTRIED[name]}"
    observed, _ = observe(name)
    return f"{observed}: {INSTEAD[name]}" if observed == FAILS else observed


def table() -> str:
    """The table of the README: one row for those of a kind that share a result."""
    lines = ["| from | result | names |", "| --- | --- | --- |"]
    for kind, names in IN_THE_BOX.items():
        rows: dict[str, list[str]] = {}
        for name in sorted(names, key=str.lower):
            rows.setdefault(result(name), []).append(f"`{name}`")
        order = [UNCHANGED, WITH_LINE, *sorted(set(rows) - {UNCHANGED, WITH_LINE})]
        lines += [f"| `ignite.{kind}` | {row} | {', '.join(rows[row])} |" for row in order if row in rows]
    return "\n".join(lines)


def row_in_readme(name: str) -> str:
    rows = [line.split(" | ") for line in tables.written(TABLE).splitlines()]
    (found,) = [row[1] for row in rows if f"`{name}`" in row[-1]]
    return found


def test_every_public_name_is_tried_or_has_a_reason():
    assert set().union(*IN_THE_BOX.values()) == set(CASES) | set(UNTRIED)
    assert not set(CASES) & set(UNTRIED)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_works_as_the_readme_says(name):
    assert result(name) == row_in_readme(name), observe(name)[1]


def test_the_table_in_the_readme_is_what_was_observed():
    assert tables.written(TABLE) == table(), "write it anew: PYTHONPATH=tests python -m test_ignite_box"


def test_comparing_tells_results_apart():
    assert same([math.nan, {"a": torch.tensor([1.0, math.nan])}], [math.nan, {"a": torch.tensor([1.0, math.nan])}])
    assert not same({"a": torch.tensor([1.0])}, {"a": torch.tensor([1.0 + 1e-6])})
    assert not same([1], [1, 2])


# -- more than one of them at once ------------------------------------------------------------------------------------


class Stroke(camshaft.EventEnum):
    UP = "up"
    DOWN = "down"


class IgnitesStroke(ignite.engine.EventEnum):
    UP = "up"
    DOWN = "down"


def at_custom_events(engine: Any, events: Any, stroke: Any) -> Any:
    """A metric that is computed at custom events, over what is fired by hand."""
    engine.register_events(*stroke)
    usage = im.MetricUsage(events.EPOCH_STARTED, stroke.DOWN, stroke.UP)
    metric, seen = im.Accuracy(), []
    metric.attach(engine, "it", usage)
    engine.add_event_handler(stroke.DOWN, lambda engine: seen.append(engine.state.metrics["it"]))
    engine.run(batches(classes), max_epochs=2)
    return seen


def step_with_events(stroke: Any) -> Callable[[Any, Any], Any]:
    def step(engine: Any, batch: Any) -> Any:
        engine.state.output = batch
        engine.fire_event(stroke.UP)
        engine.fire_event(stroke.DOWN)
        return batch

    return step


def test_a_metric_at_custom_events():
    theirs = at_custom_events(
        ignite.engine.Engine(step_with_events(IgnitesStroke)), ignite.engine.Events, IgnitesStroke
    )
    assert len(set(theirs)) > 2
    for stroke in (Stroke, IgnitesStroke):
        assert at_custom_events(ours(step_with_events(stroke)), camshaft.Events, stroke) == theirs


def test_metrics_made_of_metrics():
    def program(world: World) -> Any:
        engine, seen = world.engine(lambda engine, batch: batch), []
        precision, recall = im.Precision(), im.Recall()
        metrics = {
            "f1": (2 * precision * recall / (precision + recall + 1e-9)).mean(),
            "first": recall[0],
            "mean": im.RunningAverage(im.Accuracy(), alpha=0.5),
            "group": im.MetricGroup({"accuracy": im.Accuracy(), "top": im.TopKCategoricalAccuracy(k=2)}),
        }
        for name, metric in metrics.items():
            metric.attach(engine, name)
        engine.add_event_handler(world.events.EPOCH_COMPLETED, lambda e: seen.append(dict(e.state.metrics)))
        engine.run(batches(classes), max_epochs=2)
        return seen

    expected = play(program, ignite.engine.Engine, ignite.engine.Events)
    assert expected[0].keys() == {"f1", "first", "mean", "group", "accuracy", "top"}
    for events in EVENTS:
        assert same(play(program, ours, events), expected)


def supervised(library: Any, events: Any, folder: Path, wrap: Callable[[Any], Any]) -> Any:
    """A whole program: evaluated, stopped early, saved, with a schedule of the learning rate."""
    torch.manual_seed(0)
    model, seen = nn.Linear(4, 3), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    criterion = nn.CrossEntropyLoss()
    data = batches(lambda: (torch.randn(8, 4), torch.randint(3, (8,))), 6)
    trainer = wrap(library.create_supervised_trainer(model, optimizer, criterion))
    evaluator = wrap(library.create_supervised_evaluator(model))
    im.Accuracy().attach(evaluator, "accuracy")
    im.Loss(criterion).attach(evaluator, "loss")
    im.RunningAverage(output_transform=lambda loss: loss).attach(trainer, "mean")
    trainer.add_event_handler(events.ITERATION_STARTED, ih.CosineAnnealingScheduler(optimizer, "lr", 0.5, 0.0, 12))

    @trainer.on(events.EPOCH_COMPLETED)
    def validate(engine: Any) -> None:
        metrics = evaluator.run(data[:3]).metrics
        seen.append({**metrics, **engine.state.metrics, "lr": optimizer.param_groups[0]["lr"]})

    def score(engine: Any) -> float:
        return -engine.state.metrics["loss"]

    evaluator.add_event_handler(events.COMPLETED, ih.EarlyStopping(1, score, trainer))
    steps = ih.global_step_from_engine(trainer)
    best = ih.ModelCheckpoint(folder, "best", score_function=score, score_name="loss", global_step_transform=steps)
    evaluator.add_event_handler(events.EPOCH_COMPLETED, best, {"model": model})
    trainer.run(data[3:], max_epochs=20)
    return seen, saved(folder), weights(model)


def test_a_whole_program(tmp_path):
    expected = supervised(ignite.engine, ignite.engine.Events, tmp_path / "theirs", lambda engine: engine)
    assert 1 < len(expected[0]) < 20, "it never stopped early, or at once"
    for number, events in enumerate(EVENTS):
        with record() as trace:
            found = supervised(camshaft, events, tmp_path / str(number), as_ignite)
        assert same(found, expected)
        trace.assert_legal()
        assert "saved_checkpoint" in {event.event for event in trace}


# -- as_ignite --------------------------------------------------------------------------------------------------------


def test_as_ignite_gives_the_same_engine():
    engine = ours(lambda *_: None)
    engine.state.mine = 1
    assert as_ignite(as_ignite(engine)) is engine
    assert isinstance(engine, ignite.engine.Engine)
    assert isinstance(engine, Engine)
    assert engine.state.mine == 1
    assert repr(engine) == repr(ours(lambda *_: None))


def test_nothing_is_inherited_from_ignite():
    engine = as_ignite(ours(lambda *_: None))
    modules = {base.__module__.partition(".")[0] for thing in (engine, engine.state) for base in type(thing).__mro__}
    assert modules == {"camshaft", "builtins"}
    theirs = ignite.engine.Engine(lambda *_: None)
    assert {name for name in dir(theirs) if name.startswith("_") and hasattr(engine, name)} - set(dir(object)) == {
        "__dict__", "__module__", "__weakref__", "_allowed_events"
    }  # fmt: skip


def test_what_only_ignites_own_engine_has_fails_clearly():
    engine = as_ignite(ours(lambda *_: None))
    with pytest.raises(AttributeError, match="trainer has no _event_handlers: it is an engine of camshaft"):
        ih.HandlersTimeProfiler().attach(engine)


def test_as_ignite_keeps_the_class_that_the_user_wrote():
    class Mine(Engine):
        def greet(self) -> str:
            return f"I am {self.name}"

    one, other = (as_ignite(Mine(lambda *_: None, name)) for name in ("one", "other"))
    assert isinstance(one, Mine)
    assert one.greet() == "I am one"
    assert type(one) is type(other)


def test_what_the_engine_does_stays_as_it_is():
    traces = []
    for engine in (ours(lambda *_: None), ours_as_ignite(lambda *_: None)):
        engine.add_event_handler(camshaft.Events.ITERATION_COMPLETED(once=4), engine.terminate)
        with record() as trace:
            engine.run(range(3), max_epochs=3)
        trace.assert_legal()
        traces.append([(event.event, event.count) for event in trace])
    assert traces[0] == traces[1]


def test_as_ignite_in_the_middle_of_a_run():
    engine = ours(lambda *_: None)
    engine.add_event_handler(camshaft.Events.EPOCH_STARTED, as_ignite)
    with pytest.raises(RuntimeError, match="change its loop before run"):
        engine.run([1])


def test_as_ignite_takes_engines_of_camshaft():
    with pytest.raises(TypeError, match="is no engine of camshaft"):
        as_ignite(ignite.engine.Engine(lambda *_: None))


def test_as_ignite_without_ignite(monkeypatch):
    monkeypatch.setitem(sys.modules, "ignite", None)
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    with pytest.raises(ModuleNotFoundError, match="as_ignite needs pytorch-ignite: pip install pytorch-ignite"):
        as_ignite(ours(lambda *_: None))


def test_ignite_is_imported_by_no_module_of_camshaft():
    code = "import sys, camshaft, camshaft.compat; print(sorted(name for name in sys.modules if name == 'ignite'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


if __name__ == "__main__":
    tables.write(TABLE, table())
