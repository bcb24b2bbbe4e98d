"""A metric object belongs to one engine and one name: a second attachment would mix the values, and is refused."""

import gc
import weakref

import pytest
import torch
import torchmetrics
from torchmetrics.classification import BinaryAccuracy, BinaryPrecision, BinaryRecall
from torchmetrics.wrappers import ClasswiseWrapper, MinMaxMetric

from camshaft import Engine, Events, create_supervised_evaluator
from camshaft.metrics import BATCH_WISE, EPOCH_WISE, RUNNING, Accuracy, RunningAverage, attach

RIGHT, WRONG = (torch.tensor([1]), torch.tensor([1])), (torch.tensor([1]), torch.tensor([0]))


def engine(name):
    return Engine(lambda engine, batch: batch, name)


def itself(metric):
    return metric


PAIRS = {  # two ways to attach one metric object
    "itself": (itself, itself),
    "in a collection": (itself, lambda metric: torchmetrics.MetricCollection({"one": metric})),
    "in two collections": (
        lambda metric: torchmetrics.MetricCollection({"one": metric}),
        lambda metric: torchmetrics.MetricCollection({"other": metric, "more": BinaryRecall()}),
    ),
    "as the source of an average": (itself, RunningAverage),
    "as the source of two averages": (RunningAverage, RunningAverage),
    "in a sum": (itself, lambda metric: metric + BinaryRecall()),
    "in two sums": (lambda metric: metric + 1, lambda metric: 2 * metric),
    "in a wrapper": (itself, MinMaxMetric),
    "in a wrapper first": (ClasswiseWrapper, itself),
    "deep inside": (
        lambda metric: torchmetrics.MetricCollection({"one": MinMaxMetric(metric + 1)}),
        lambda metric: RunningAverage(metric),
    ),
}
WHERE = {"two engines": ("accuracy", "accuracy"), "one engine": ("accuracy", "again")}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_metric_that_is_attached_already_is_refused(pair, where):
    metric, (first, second) = BinaryAccuracy(), PAIRS[pair]
    trainer = engine("trainer")
    other = trainer if where == "one engine" else engine("evaluator")
    one, another = WHERE[where]
    kept = attach(first(metric), trainer, one)
    handlers = sum(len(other.handlers(key)) for key in other.loop.event_keys)
    with pytest.raises(ValueError, match="the BinaryAccuracy.* is attached to trainer already, as 'accuracy', and "):
        attach(second(metric), other, another)
    assert sum(len(other.handlers(key)) for key in other.loop.event_keys) == handlers
    kept.remove()
    attach(second(metric), other, another)


@pytest.mark.parametrize("usages", [(EPOCH_WISE, BATCH_WISE), (RUNNING, EPOCH_WISE)])
def test_two_usages_of_one_metric_are_refused(usages):
    trainer, metric = engine("trainer"), Accuracy()
    metric.attach(trainer, "first", usage=usages[0])
    with pytest.raises(
        ValueError, match=r"as 'first', .* of 'second' of trainer: attach another one, such as metric.clo"
    ):
        metric.attach(trainer, "second", usage=usages[1])


@pytest.mark.parametrize("make", [Accuracy, BinaryAccuracy, lambda: RunningAverage(BinaryPrecision())])
@pytest.mark.parametrize("at", [Events.ITERATION_COMPLETED(once=2), Events.EPOCH_COMPLETED])
def test_a_clone_has_values_of_its_own(make, at):
    metric, trainer, evaluator = make(), engine("trainer"), engine("evaluator")
    attach(metric, trainer, "m")
    attach(metric.clone(), evaluator, "m")
    trainer.nest(evaluator, on=at, data=[WRONG] * 4)
    trainer.run([RIGHT] * 4)
    assert (trainer.state.metrics["m"], evaluator.state.metrics["m"]) == (1.0, 0.0)


def test_parts_that_are_copied_are_free():
    metric, trainer = BinaryAccuracy(), engine("trainer")
    attach(metric, trainer, "accuracy")
    attach(torchmetrics.wrappers.BootStrapper(metric, num_bootstraps=2), trainer, "resampled")
    attach(torchmetrics.MetricCollection([metric.clone(), BinaryRecall()]), trainer, "both")


def test_a_metric_is_free_when_its_engine_is_gone():
    metric, first = BinaryAccuracy(), engine("first")
    attach(metric, first, "accuracy")
    gone = weakref.ref(first)
    del first
    assert gone() is None  # at once: nothing of the metric keeps the engine
    attach(metric, engine("second"), "accuracy")


def test_a_metric_is_freed_with_its_engine():
    metric, first = BinaryAccuracy(), engine("first")
    attach(metric, first, "accuracy")
    gone = weakref.ref(metric)
    del metric, first
    gc.collect()
    assert gone() is None


def test_a_refused_metric_may_be_attached_later():
    metric, first, second = BinaryAccuracy(), engine("first"), engine("second")
    with attach(metric, first, "accuracy"):
        with pytest.raises(ValueError, match="attached to first already"):
            attach(metric, second, "accuracy")
        first.run([RIGHT])
    attach(metric, second, "accuracy")
    assert second.run([WRONG]).metrics == {"accuracy": 0.0}
    with pytest.raises(ValueError, match="attached to second already"):
        attach(metric, first, "accuracy")


def test_evaluators_made_with_the_same_metrics_have_their_own():
    model = torch.nn.Linear(1, 2)
    metrics = {"accuracy": Accuracy(), "same": Accuracy()}
    metrics["twice"] = metrics["same"]
    evaluators = [create_supervised_evaluator(model, metrics) for _ in range(2)]
    right = [(torch.ones(2, 1), model(torch.ones(2, 1)).argmax(1))] * 2
    wrong = [(x, 1 - y) for x, y in right]

    @evaluators[0].on(Events.ITERATION_COMPLETED(once=1))
    def evaluate_other():
        evaluators[1].run(wrong)

    assert evaluators[0].run(right).metrics == dict.fromkeys(metrics, 1.0)
    assert evaluators[1].state.metrics == dict.fromkeys(metrics, 0.0)
