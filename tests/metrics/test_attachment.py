"""Tests of metrics on engines: their attachment, their times of computation, refused arguments."""

import subprocess
import sys

import pytest
import torch
import torchmetrics
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, event
from camshaft.metrics import (
    BATCH_WISE,
    EPOCH_WISE,
    RUNNING,
    RUNNING_EPOCH,
    Accuracy,
    Loss,
    RunningAverage,
    Usage,
    attach,
)
from support.learning import CLASSES
from support.scored import echo, everything, scored, seen_after_each_batch

# -- attaching ---------------------------------------------------------------------------------------------------------


def test_any_torchmetrics_metric_attaches_under_a_name():
    engine = echo()
    attach(torchmetrics.MeanMetric(), engine, "mean")
    attach(torchmetrics.MaxMetric(), engine, "max")
    metrics = engine.run([1.0, 2.0, 6.0]).metrics
    assert metrics == {"mean": 3.0, "max": 6.0}
    assert all(isinstance(value, float) for value in metrics.values())


def test_a_metric_collection_gives_its_values_under_one_name(model, data):
    collection = torchmetrics.MetricCollection([MulticlassAccuracy(CLASSES), MulticlassF1Score(CLASSES)])
    evaluator = create_supervised_evaluator(model, {"scores": collection})
    found = evaluator.run(data).metrics["scores"]
    expected = collection.clone()
    expected.reset()
    expected.update(*everything(model, data))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in expected.compute().items()}
    )


def test_a_metric_of_many_values_stays_a_tensor(model, data):
    evaluator = create_supervised_evaluator(model, {"each": MulticlassAccuracy(CLASSES, average="none")})
    assert evaluator.run(data).metrics["each"].shape == (CLASSES,)


@pytest.mark.parametrize(
    "transform",
    [
        lambda output: output["pair"],
        lambda output: list(output["pair"]),
        lambda output: {"y_pred": output["pair"][0], "y": output["pair"][1]},
    ],
    ids=["tuple", "list", "mapping"],
)
def test_output_transform_gives_arguments(transform):
    batch = {"pair": (torch.eye(3), torch.tensor([0, 1, 0])), "other": None}
    engine = echo()
    Accuracy().attach(engine, "accuracy", output_transform=transform)
    assert engine.run([batch]).metrics["accuracy"] == pytest.approx(2 / 3)


def test_output_transform_gives_one_value():
    engine = echo()
    attach(torchmetrics.SumMetric(), engine, "sum", lambda output: output["n"])
    assert engine.run([{"n": 2}, {"n": 5}]).metrics == {"sum": 7.0}


def test_metrics_of_a_trainer_start_anew_in_each_epoch(model, data):
    trainer = create_supervised_trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.5), nn.CrossEntropyLoss(), output_transform=lambda *made: made
    )
    losses, expected = [], []
    attach(torchmetrics.MeanMetric(), trainer, "loss", lambda output: output[3])
    trainer.add_event_handler(Events.EPOCH_STARTED, expected.clear)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: expected.append(engine.state.output[3].item()))

    @trainer.on(Events.EPOCH_COMPLETED)
    def compare(engine):
        assert engine.state.metrics["loss"] == pytest.approx(sum(expected) / len(expected))
        losses.append(engine.state.metrics["loss"])

    trainer.run(data, max_epochs=3)
    assert losses == sorted(set(losses), reverse=True)
    assert len(losses) == 3


def test_a_second_run_of_an_evaluator_starts_anew(model, data):
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    first = evaluator.run(data).metrics["accuracy"]
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    second = evaluator.run(data).metrics["accuracy"]
    assert second == pytest.approx((data.dataset.tensors[1] == 0).double().mean().item())
    assert first != second


def test_results_are_there_before_handlers_at_the_same_event(model, data):
    evaluator = create_supervised_evaluator(model)
    seen = []

    def see(engine):
        seen.append(dict(engine.state.metrics))

    evaluator.add_event_handler(Events.EPOCH_COMPLETED, see)  # attached before the metric
    evaluator.add_event_handler(event(Events.EPOCH_COMPLETED, priority=10), see)
    Accuracy().attach(evaluator, "accuracy")
    metrics = evaluator.run(data).metrics
    assert seen == [metrics, metrics]


def test_an_iteration_is_counted_before_handlers_at_its_end():
    engine, metric, seen = echo(), torchmetrics.SumMetric(), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(metric.compute().item()))
    attach(metric, engine, "sum")
    engine.run([1.0, 2.0, 3.0])
    assert seen == [1.0, 3.0, 6.0]


def test_a_trainer_reads_the_results_of_the_evaluator_nested_in_it(model, data):
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.5), nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss())})
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=data)
    seen = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(dict(evaluator.state.metrics)))
    trainer.run(data, max_epochs=2)
    assert [sorted(metrics) for metrics in seen] == [["accuracy", "loss"]] * 2
    assert seen[1]["loss"] < seen[0]["loss"]


def test_updating_keeps_no_graph(model, data):
    engine = Engine(lambda engine, batch: (model(batch[0]), batch[1]))
    loss = Loss(nn.CrossEntropyLoss())
    loss.attach(engine, "loss")
    engine.run(data)
    assert not loss.total.requires_grad


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_is_no_metric_is_refused():
    with pytest.raises(TypeError, match=r"metric must be a torchmetrics metric, got .*: give an instance"):
        attach(Accuracy, echo(), "accuracy")
    with pytest.raises(TypeError, match=r"metric must be a torchmetrics metric, got "):
        create_supervised_evaluator(nn.Linear(1, 1), {"accuracy": lambda y_pred, y: 0})


def test_a_second_metric_of_one_name_is_refused():
    engine = Engine(lambda engine, batch: batch, name="mine")
    attach(torchmetrics.SumMetric(), engine, "m")
    with pytest.raises(ValueError, match=r"mine already has a metric named 'm': give another name"):
        attach(torchmetrics.MaxMetric(), engine, "m")
    attach(torchmetrics.MaxMetric(), engine, "other")
    assert engine.run([1.0, 2.0]).metrics == {"m": 3.0, "other": 2.0}


@pytest.mark.parametrize(
    ("metric", "output", "kind"),
    [
        (Accuracy(), 0.5, r"float"),
        (RunningAverage(Accuracy()), 0.5, r"float"),
        (MulticlassAccuracy(3), torch.zeros(4, 3), r"Tensor of shape \(4, 3\)"),
        (torchmetrics.MetricCollection([MulticlassAccuracy(3)]), {"loss": 0.5}, r"dict of loss"),
        (Accuracy(), [1, 2, 3], r"list of 3"),
    ],
)
def test_arguments_that_do_not_fit_name_metric_and_output(metric, output, kind):
    engine = Engine(lambda engine, batch: output, "trainer")
    attach(metric, engine, "acc")
    says = (
        rf"{type(metric).__name__} 'acc' of trainer cannot be updated with state.output \({kind}\): .*output_transform="
    )
    with pytest.raises(TypeError, match=says) as raised:
        engine.run([0])
    assert isinstance(raised.value.__cause__, TypeError)


def test_so_is_what_output_transform_made_of_it():
    engine = Engine(lambda engine, batch: 0.5, "trainer")
    Accuracy().attach(engine, "acc", output_transform=lambda output: (output, output, output))
    with pytest.raises(
        TypeError, match=r"with the result of output_transform= \(tuple of 3\) for state.output \(float\): "
    ):
        engine.run([0])


def test_what_is_raised_inside_a_metric_stays_as_it_is():
    def loss_fn(y_pred, y):
        raise ZeroDivisionError("inside")

    engine = echo()
    Loss(loss_fn).attach(engine, "loss")
    with pytest.raises(ZeroDivisionError, match="inside") as raised:
        engine.run([(torch.zeros(4), torch.zeros(4))])
    assert raised.traceback[-1].name == "loss_fn"


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("metric", [Accuracy(), Loss(nn.MSELoss()), RunningAverage()])
def test_a_metric_without_samples_is_refused(metric):
    with pytest.raises(ValueError, match=r"has no (samples|values): call update\(\) before compute"):
        metric.compute()


# -- imports -----------------------------------------------------------------------------------------------------------


def test_an_evaluator_without_metrics_imports_no_torchmetrics():
    code = (
        "import sys, torch, camshaft; camshaft.create_supervised_evaluator(torch.nn.Linear(1, 1))"
        ".run([(torch.zeros(1, 1), torch.zeros(1))]); print('torchmetrics' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def direct_value(metric, batches):
    """Return the value of a metric updated with these batches directly, without an engine."""
    metric = metric.clone()
    metric.reset()
    for batch in batches:
        metric.update(*batch)
    return metric.compute().item()


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [MulticlassAccuracy(CLASSES), MulticlassF1Score(CLASSES), Accuracy()])
def test_each_usage_equals_torchmetrics_on_its_batches(model, data, metric):
    batches = scored(model, data)
    covered = {
        BATCH_WISE: [batches[n : n + 1] for n in range(len(batches))] * 2,
        RUNNING_EPOCH: [batches[: n + 1] for n in range(len(batches))] * 2,
        RUNNING: [(batches * 2)[: n + 1] for n in range(len(batches) * 2)],
        EPOCH_WISE: [None] * len(batches) + [batches] * len(batches),
    }
    for usage, parts in covered.items():
        engine = echo()
        attach(metric.clone(), engine, "metric", usage=usage)
        expected = [part and direct_value(metric, part) for part in parts]
        assert seen_after_each_batch(engine, batches, max_epochs=2) == expected


def test_a_collection_gives_the_numbers_of_its_metrics(model, data):
    batches = scored(model, data)
    accuracy, f1 = MulticlassAccuracy(CLASSES), MulticlassF1Score(CLASSES)
    collection = torchmetrics.MetricCollection({"accuracy": accuracy, "f1": f1})
    engine = echo()
    attach(collection, engine, "both", usage=RUNNING_EPOCH)
    assert seen_after_each_batch(engine, batches, "both") == [
        {"accuracy": direct_value(accuracy, batches[: n + 1]), "f1": direct_value(f1, batches[: n + 1])}
        for n in range(len(batches))
    ]


def test_custom_events_and_filters_say_when(model, data):
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), nn.CrossEntropyLoss())
    trainer.register_events("grads_clipped", after="BACKWARD")
    usage = Usage(event("grads_clipped", every=2), "grads_clipped", "grads_clipped")
    seen = []
    attach(torchmetrics.MeanMetric(), trainer, "loss", usage=usage)
    trainer.add_event_handler("grads_clipped", lambda: seen.append(trainer.state.metrics["loss"]))
    assert seen_after_each_batch(trainer, data, "loss") == seen
    losses = [nn.functional.cross_entropy(*batch).item() for batch in scored(model, data)]
    parts = [losses[:1], losses[1:2], losses[1:3], losses[3:4], losses[3:5], losses[5:6], losses[5:7]]
    assert seen == pytest.approx([sum(part) / len(part) for part in parts])  # reset at the second, fourth and sixth


def test_a_detached_metric_stays_and_its_name_is_free(model, data):
    engine = echo()
    handle = attach(MulticlassAccuracy(CLASSES), engine, "metric", usage=BATCH_WISE)
    batches = scored(model, data)
    engine.run(batches, max_iters=3)
    before = engine.state.metrics["metric"]
    handle.remove()
    assert not any(engine.handlers(key) for key in engine.loop.event_keys)
    engine.run(batches, max_iters=5)
    assert engine.state.metrics["metric"] == before
    engine.close()
    with attach(Accuracy(), engine, "metric"):
        engine.run(batches)
    assert engine.state.metrics["metric"] == direct_value(Accuracy(), batches)


def test_results_are_there_before_handlers_attached_earlier(model, data):
    engine, seen = echo(), []
    engine.add_event_handler(
        event(Events.EPOCH_COMPLETED, priority=10), lambda: seen.append(dict(engine.state.metrics))
    )
    Accuracy().attach(engine, "accuracy")
    engine.run(scored(model, data))
    assert seen == [{"accuracy": direct_value(Accuracy(), scored(model, data))}]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: RunningAverage("loss"), TypeError, "src must be a torchmetrics metric, got 'loss'"),
        (lambda: RunningAverage(alpha=0), ValueError, "alpha must be above 0 and at most 1, got 0"),
        (lambda: RunningAverage(alpha=1.5), ValueError, "alpha must be above 0 and at most 1, got 1.5"),
        (lambda: Usage(1, 2, 3), TypeError, "1"),
        (
            lambda: attach(Accuracy(), echo(), "a", usage="running"),
            TypeError,
            "usage must be a Usage, got 'running': give EPOCH_WISE",
        ),
        (
            lambda: attach(Accuracy(), echo(), "a", usage=Usage("x", "y", "z")),
            ValueError,
            "X is not registered in engine",
        ),
    ],
)
def test_wrong_usage_is_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()


def test_nothing_is_attached_when_one_of_the_events_is_unknown():
    engine = echo()
    with pytest.raises(ValueError, match="Z is not registered in engine"):
        attach(Accuracy(), engine, "a", usage=Usage(Events.STARTED, Events.ITERATION_COMPLETED, "z"))
    assert not any(engine.handlers(key) for key in engine.loop.event_keys)
