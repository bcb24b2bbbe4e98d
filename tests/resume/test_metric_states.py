"""Metrics of every kind resume exactly: states, attributes, buffers, generators, and metrics inside of them."""

from __future__ import annotations

import random
import warnings
from collections import Counter, OrderedDict, defaultdict, deque

import numpy
import pytest
import torch
import torchmetrics
from torch import nn
from torchmetrics import wrappers
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy
from torchmetrics.wrappers.feature_share import FeatureShare

from camshaft import Engine, Events, Snapshot
from camshaft.metrics import RUNNING, attach
from camshaft.resume.plain import decoded, encoded, is_equal

NUMBERS = [(torch.tensor([i % 3, i * 2 % 3]), torch.tensor([i % 3, i % 2])) for i in range(6)]
WEIGHTS = [1, 2, 4, 8, 16, 32]  # every selection of them has another sum


class Counted(torchmetrics.Metric):
    """A metric that counts in ``self.kept``, whatever it is. It is never reset."""

    def __init__(self, make):
        super().__init__()
        self.kept = make()

    def reset(self):
        pass

    def update(self, number):
        self.kept = add(self.kept, number)

    def compute(self):
        return torch.tensor(float(total(self.kept)))


def add(kept, number):
    if isinstance(kept, (set, deque, list)):
        (kept.add if isinstance(kept, set) else kept.append)(number)
    elif isinstance(kept, (tuple, frozenset)):
        kept = type(kept)([*kept, number])
    elif isinstance(kept, dict):
        kept[number] = kept.get(number, 0) + 1
    else:
        kept = kept + number
    return kept


def total(kept):
    if isinstance(kept, dict):
        return sum(key * value for key, value in kept.items())
    return sum(kept) if isinstance(kept, (set, deque, list, tuple, frozenset)) else kept.sum().item()


KEPT = {
    "set": set,
    "frozenset": frozenset,
    "list": list,
    "tuple": tuple,
    "queue": lambda: deque(maxlen=4),
    "numbers as keys": dict,
    "ordered": OrderedDict,
    "counts": Counter,
    "default": lambda: defaultdict(int),
    "array": lambda: numpy.zeros(2),
    "scalar": lambda: numpy.float32(0),
    "tensor": lambda: torch.zeros(2),
}


class Buffered(Counted):
    def __init__(self, persistent):
        super().__init__(list)
        del self.kept
        self.register_buffer("kept", torch.zeros(2), persistent=persistent)


class Noisy(torchmetrics.Metric):
    """A metric with a random generator of its own."""

    def __init__(self, generator, draw):
        super().__init__()
        self.generator, self.draw = generator, draw
        self.add_state("sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, number):
        self.sum += number * self.draw(self.generator)

    def compute(self):
        return self.sum


class Holder:
    """An object of a class of its own, with a metric inside."""

    def __init__(self, metric):
        self.inner = {"a": (metric,)}


class Holding(torchmetrics.Metric):
    def __init__(self):
        super().__init__()
        self.holder = Holder(torchmetrics.SumMetric())
        self.average = nn.BatchNorm1d(1)  # a module that is no metric

    def update(self, number):
        self.holder.inner["a"][0].update(number)
        self.average(torch.tensor([[number], [0.0]]))

    def compute(self):
        return self.holder.inner["a"][0].compute() + self.average.running_mean[0]


class Networked(torchmetrics.Metric):
    """A metric of features, as those of images."""

    feature_network = "network"

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.add_state("sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, number):
        self.sum += self.network(torch.tensor([float(number)])).sum().detach()

    def compute(self):
        return self.sum


def shared():
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    return FeatureShare([Networked(network)])


METRICS = {f"own {name}": (lambda make=make: Counted(make)) for name, make in KEPT.items()} | {
    "own buffer": lambda: Buffered(True),
    "own buffer that is not persistent": lambda: Buffered(False),
    "generator of torch": lambda: Noisy(torch.Generator().manual_seed(3), lambda g: float(torch.rand((), generator=g))),
    "generator of Python": lambda: Noisy(random.Random(3), lambda g: g.random()),
    "generator of NumPy": lambda: Noisy(numpy.random.default_rng(3), lambda g: float(g.random())),
    "old generator of NumPy": lambda: Noisy(numpy.random.RandomState(3), lambda g: float(g.random_sample())),
    "in an object of its own class": Holding,
    "in a collection": lambda: torchmetrics.MetricCollection({"a": Holding(), "b": Counted(Counter)}),
    "in a wrapper": lambda: wrappers.MinMaxMetric(Counted(set)),
    "in a sum": lambda: Counted(set) + Counted(lambda: deque(maxlen=3)),
    "transformed": lambda: wrappers.LambdaInputTransformer(Counted(set), transform_pred=lambda number: -number),
    "with shared features": shared,
    "extremes of a window": lambda: wrappers.MinMaxMetric(wrappers.Running(torchmetrics.SumMetric(), window=3)),
}


def value_of(make, folder, stop=None, resume=None, data=WEIGHTS, usage=RUNNING):
    torch.manual_seed(3)
    engine = Engine(lambda engine, batch: batch, name="trainer")
    attach(make(), engine, "m", usage=usage)
    snapshot = Snapshot(engine, folder)
    if stop:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda: (snapshot(), engine.interrupt()))
    engine.run(data, max_epochs=2, resume=resume)
    return str(engine.state.metrics.get("m"))


@pytest.mark.parametrize("name", METRICS)
def test_every_state_inside_of_a_metric_resumes(tmp_path, name):
    make = METRICS[name]
    whole = value_of(make, tmp_path / "whole")
    for stop in (1, 4, 7):
        value_of(make, tmp_path / f"{stop}", stop=stop)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", module="camshaft")
            assert value_of(make, tmp_path / f"{stop}", resume="latest") == whole


def test_a_binary_target_is_transformed_after_a_resume(tmp_path):
    def make():
        return wrappers.BinaryTargetTransformer(BinaryAccuracy(), threshold=1)

    pairs = [(prediction.float() / 3, target) for prediction, target in NUMBERS]
    whole = value_of(make, tmp_path / "whole", data=pairs)
    value_of(make, tmp_path / "left", stop=4, data=pairs)
    assert value_of(make, tmp_path / "left", resume="latest", data=pairs) == whole


@pytest.mark.parametrize("at", [Events.STARTED, Events.EPOCH_STARTED], ids=["at the start", "in each epoch"])
@pytest.mark.parametrize("base", ["metric", "collection", "wrapper"])
def test_a_tracker_has_all_its_steps_after_a_resume(tmp_path, base, at):
    bases = {
        "metric": lambda: MulticlassAccuracy(3),
        "collection": lambda: torchmetrics.MetricCollection([MulticlassAccuracy(3)]),
        "wrapper": lambda: wrappers.MinMaxMetric(MulticlassAccuracy(3)),
    }

    def build(folder):
        tracker = wrappers.MetricTracker(bases[base](), maximize=[True] if base == "collection" else True)
        engine = Engine(lambda engine, batch: batch, name="trainer")
        engine.add_event_handler(at, tracker.increment)  # fires again when a run resumes
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: tracker.update(*engine.state.output))
        return engine, tracker, Snapshot(engine, folder, tracker=tracker)

    engine, whole, _ = build(tmp_path / "whole")
    engine.run(NUMBERS, max_epochs=3)
    for stop in (3, 6, 8):
        engine, _, snapshot = build(tmp_path / f"{stop}")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda: (snapshot(), engine.interrupt()))
        engine.run(NUMBERS, max_epochs=3)
        engine, tracker, _ = build(tmp_path / f"{stop}")
        engine.run(NUMBERS, max_epochs=3, resume="latest")
        assert tracker.n_steps == whole.n_steps
        assert str(tracker.compute_all()) == str(whole.compute_all())


def test_an_attribute_that_cannot_be_saved_is_named(tmp_path):
    make = {"unsaved": lambda: {"a": [iter(())]}, "saved": list}
    engine = Engine(lambda engine, batch: batch, name="trainer")

    class Queues(Counted):
        def update(self, number):
            self.kept["a"].append(iter([number]))

        def compute(self):
            return torch.tensor(0.0)

    attach(Queues(make["unsaved"]), engine, "m", usage=RUNNING)
    attach(Counted(make["saved"]), engine, "other", usage=RUNNING)
    engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, tmp_path))
    with pytest.warns(UserWarning, match=r"cannot save .* that have changed: kept \(dict\); a resumed") as told:
        engine.run(WEIGHTS)
    assert len(told) == 1  # not for each file


def test_all_metrics_that_differ_are_named(tmp_path):
    def build(*names):
        collection = torchmetrics.MetricCollection({name: torchmetrics.SumMetric() for name in names})
        engine = Engine(lambda engine, batch: batch, name="trainer")
        attach(collection, engine, "m")
        return engine, Snapshot(engine, tmp_path)

    engine, snapshot = build("a", "b", "c")
    snapshot()
    engine, _ = build("c", "d")
    with pytest.raises(ValueError, match="d is not in the file, a is in the file only, b is in the file only"):
        engine.resume()


@pytest.mark.parametrize("name", KEPT)
def test_a_decoded_value_is_that_which_was_encoded(name):
    kept = KEPT[name]()
    for number in WEIGHTS:
        kept = add(kept, number)
    for value in (kept, [kept], {1: (kept, {"a": kept})}, deque([kept], maxlen=2)):
        again = decoded(encoded(value))
        assert type(again) is type(value)
        assert is_equal(encoded(again), encoded(value))
        assert getattr(again, "maxlen", None) == getattr(value, "maxlen", None)


@pytest.mark.parametrize("value", [object(), {"a": print}, nn.Linear(1, 1), numpy.array([None]), defaultdict(Holder)])
def test_what_a_file_cannot_contain_is_not_encoded(value):
    with pytest.raises(TypeError):
        encoded(value)
