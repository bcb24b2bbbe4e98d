"""Metrics on engines, against plain computation, torchmetrics' own classes, and pytorch-ignite."""

import subprocess
import sys

import ignite.engine
import ignite.metrics
import ignite.metrics.metric
import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MulticlassF1Score

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, event, record
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

SAMPLES, FEATURES, CLASSES = 50, 6, 3


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=8)  # the last batch has two samples


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)


def echo():
    """An engine whose output is its batch."""
    return Engine(lambda engine, batch: batch)


def everything(model, data):
    x, y = data.dataset.tensors
    return model(x).detach(), y


# -- Accuracy and Loss ----------------------------------------------------------------------------------------------


def test_accuracy_and_loss_equal_plain_computation_torchmetrics_and_ignite(model, data):
    criterion = nn.CrossEntropyLoss()
    own = {"accuracy": Accuracy(), "loss": Loss(criterion), "theirs": MulticlassAccuracy(CLASSES, average="micro")}
    metrics = create_supervised_evaluator(model, own).run(data).metrics

    scores, y = everything(model, data)
    assert metrics["accuracy"] == pytest.approx((scores.argmax(1) == y).double().mean().item())
    assert metrics["loss"] == pytest.approx(criterion(scores, y).item(), rel=1e-6)
    assert metrics["accuracy"] == metrics["theirs"]

    foreign = {"accuracy": ignite.metrics.Accuracy(), "loss": ignite.metrics.Loss(criterion)}
    expected = ignite.engine.create_supervised_evaluator(model, foreign).run(data).metrics
    assert metrics["accuracy"] == pytest.approx(expected["accuracy"])
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_binary_accuracy_equals_torchmetrics_and_ignite(data):
    generator = torch.Generator().manual_seed(2)
    batches = [(torch.rand(9, generator=generator), torch.randint(2, (9,), generator=generator)) for _ in range(4)]
    engine = echo()
    Accuracy().attach(engine, "own", output_transform=lambda output: (output[0].round(), output[1]))
    attach(BinaryAccuracy(), engine, "theirs")
    metrics = engine.run(batches).metrics
    foreign = ignite.engine.Engine(lambda engine, batch: (batch[0].round(), batch[1]))
    ignite.metrics.Accuracy().attach(foreign, "accuracy")
    assert metrics["own"] == metrics["theirs"]
    assert metrics["own"] == pytest.approx(foreign.run(batches).metrics["accuracy"])


@pytest.mark.parametrize("shape", [(9,), (9, 4)])
def test_predictions_of_one_class_are_binary_as_in_ignite(shape):
    generator = torch.Generator().manual_seed(2)
    batches = [
        (torch.rand(shape, generator=generator).round().unsqueeze(1), torch.randint(2, shape, generator=generator))
        for _ in range(4)
    ]
    engine, foreign = echo(), ignite.engine.Engine(lambda engine, batch: batch)
    Accuracy().attach(engine, "accuracy")
    ignite.metrics.Accuracy().attach(foreign, "accuracy")
    assert engine.run(batches).metrics["accuracy"] == pytest.approx(foreign.run(batches).metrics["accuracy"])


def test_accuracy_of_every_pixel_equals_ignite():
    generator = torch.Generator().manual_seed(3)
    batches = [
        (torch.randn(2, CLASSES, 4, 5, generator=generator), torch.randint(CLASSES, (2, 4, 5), generator=generator))
        for _ in range(3)
    ]
    engine, foreign = echo(), ignite.engine.Engine(lambda engine, batch: batch)
    Accuracy().attach(engine, "accuracy")
    ignite.metrics.Accuracy().attach(foreign, "accuracy")
    assert engine.run(batches).metrics["accuracy"] == pytest.approx(foreign.run(batches).metrics["accuracy"])


def test_loss_weighs_batches_by_their_size():
    engine = echo()
    Loss(nn.MSELoss()).attach(engine, "loss")
    batches = [(torch.full((3,), 2.0), torch.zeros(3)), (torch.zeros(1), torch.zeros(1))]
    assert engine.run(batches).metrics["loss"] == 3.0


def test_loss_takes_keyword_arguments_and_a_batch_size():
    def loss_fn(y_pred, y, scale):
        return scale * (y_pred - y).abs().mean()

    engine = echo()
    Loss(loss_fn, batch_size=lambda y: 10 * len(y)).attach(engine, "loss")
    batches = [(torch.ones(2), torch.zeros(2), {"scale": 4.0}), (torch.ones(1), torch.zeros(1), {"scale": 1.0})]
    assert engine.run(batches).metrics["loss"] == pytest.approx((4.0 * 20 + 1.0 * 10) / 30)


def test_accuracy_and_loss_are_torchmetrics_metrics():
    scores, y = torch.eye(3), torch.tensor([0, 1, 0])
    collection = torchmetrics.MetricCollection({"accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss())})
    collection.update(scores, y)
    values = collection.compute()
    assert values["accuracy"].item() == pytest.approx(2 / 3)
    assert values["loss"].item() == pytest.approx(nn.functional.cross_entropy(scores, y).item())
    assert Accuracy()(scores, y).item() == pytest.approx(2 / 3)


# -- attaching ------------------------------------------------------------------------------------------------------


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
def test_output_transform_gives_arguments_as_a_sequence_or_by_keyword(transform):
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


def test_an_iteration_is_counted_before_handlers_at_iteration_completed():
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


# -- refusals -------------------------------------------------------------------------------------------------------


def test_what_is_no_metric_is_refused():
    with pytest.raises(TypeError, match=r"is no torchmetrics metric: give an instance"):
        attach(Accuracy, echo(), "accuracy")
    with pytest.raises(TypeError, match=r"is no torchmetrics metric"):
        create_supervised_evaluator(nn.Linear(1, 1), {"accuracy": lambda y_pred, y: 0})


def test_a_second_metric_of_one_name_is_refused_and_the_first_works_on():
    engine = Engine(lambda engine, batch: batch, name="mine")
    attach(torchmetrics.SumMetric(), engine, "m")
    with pytest.raises(ValueError, match=r"mine has a metric named 'm' already: give another name"):
        attach(torchmetrics.MaxMetric(), engine, "m")
    attach(torchmetrics.MaxMetric(), engine, "other")
    assert engine.run([1.0, 2.0]).metrics == {"m": 3.0, "other": 2.0}


@pytest.mark.parametrize(
    ("y_pred", "y", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(5), r"predictions of shape \(4, 3\) do not fit labels of shape \(5,\)"),
        (torch.zeros(4), torch.zeros(5), r"predictions of shape \(4,\) do not fit labels of shape \(5,\)"),
        (torch.full((4,), 0.3), torch.zeros(4), r"binary predictions must be 0 or 1: round them in output_transform"),
        (torch.full((4, 1), 0.3), torch.zeros(4), r"binary predictions must be 0 or 1: round them in output_transform"),
        (torch.zeros(1), torch.tensor(0), r"predictions of shape \(1,\) do not fit labels of shape \(\)"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(y_pred, y, message):
    engine = echo()
    Accuracy().attach(engine, "accuracy")
    with pytest.raises(ValueError, match=message):
        engine.run([(y_pred, y)])


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
def test_arguments_that_do_not_fit_are_told_with_the_metric_and_the_output(metric, output, kind):
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
        TypeError, match=r"with what output_transform= makes \(tuple of 3\) of state.output \(float\): "
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


def test_a_loss_that_is_no_scalar_is_refused():
    engine = echo()
    Loss(nn.MSELoss(reduction="none")).attach(engine, "loss")
    with pytest.raises(
        ValueError, match=r"loss_fn gave a tensor of shape \(4,\): it must give the mean over the batch"
    ):
        engine.run([(torch.zeros(4), torch.zeros(4))])


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("metric", [Accuracy(), Loss(nn.MSELoss()), RunningAverage()])
def test_a_metric_without_samples_is_refused(metric):
    with pytest.raises(ValueError, match=r"has seen no (sample|value): update it before compute"):
        metric.compute()


# -- imports --------------------------------------------------------------------------------------------------------


def test_importing_camshaft_imports_no_metrics_vision_or_test_library():
    code = "import sys, camshaft; print([m for m in ('torchmetrics', 'torchvision', 'hypothesis') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_evaluator_without_metrics_imports_no_torchmetrics():
    code = (
        "import sys, torch, camshaft; camshaft.create_supervised_evaluator(torch.nn.Linear(1, 1))"
        ".run([(torch.zeros(1, 1), torch.zeros(1))]); print('torchmetrics' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- usage ----------------------------------------------------------------------------------------------------------


def scored(model, data):
    """Scores and labels of each batch."""
    return [(model(x).detach(), y) for x, y in data]


def own(metric, batches):
    """What torchmetrics makes of these batches by itself."""
    metric = metric.clone()
    metric.reset()
    for batch in batches:
        metric.update(*batch)
    return metric.compute().item()


def seen_after_each_batch(engine, data, name="metric", **limits):
    values = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: values.append(engine.state.metrics.get(name)))
    with record() as trace:
        engine.run(data, **limits)
    trace.assert_legal()
    return values


@pytest.mark.parametrize("metric", [MulticlassAccuracy(CLASSES), MulticlassF1Score(CLASSES), Accuracy()])
def test_each_usage_equals_torchmetrics_on_the_batches_that_it_covers(model, data, metric):
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
        expected = [part and own(metric, part) for part in parts]
        assert seen_after_each_batch(engine, batches, max_epochs=2) == expected


def test_a_collection_gives_the_numbers_of_its_metrics(model, data):
    batches = scored(model, data)
    accuracy, f1 = MulticlassAccuracy(CLASSES), MulticlassF1Score(CLASSES)
    collection = torchmetrics.MetricCollection({"accuracy": accuracy, "f1": f1})
    engine = echo()
    attach(collection, engine, "both", usage=RUNNING_EPOCH)
    assert seen_after_each_batch(engine, batches, "both") == [
        {"accuracy": own(accuracy, batches[: n + 1]), "f1": own(f1, batches[: n + 1])} for n in range(len(batches))
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
    assert seen == pytest.approx([sum(part) / len(part) for part in parts])  # anew at the second, fourth, sixth


def test_what_is_detached_changes_no_more_and_its_name_is_free_again(model, data):
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
    assert engine.state.metrics["metric"] == own(Accuracy(), batches)


def test_results_are_there_before_handlers_attached_earlier(model, data):
    engine, seen = echo(), []
    engine.add_event_handler(
        event(Events.EPOCH_COMPLETED, priority=10), lambda: seen.append(dict(engine.state.metrics))
    )
    Accuracy().attach(engine, "accuracy")
    engine.run(scored(model, data))
    assert seen == [{"accuracy": own(Accuracy(), scored(model, data))}]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (RUNNING, ignite.metrics.metric.RunningBatchWise()),
        (RUNNING_EPOCH, ignite.metrics.metric.SingleEpochRunningBatchWise()),
    ],
)
@pytest.mark.parametrize("alpha", [0.98, 0.5, 1.0])
def test_running_average_equals_ignite_of_outputs_and_of_a_metric(model, data, ours, theirs, alpha):
    batches = scored(model, data)
    outputs = [(scores.mean().item(), scores, y) for scores, y in batches]
    foreign = ignite.engine.Engine(lambda engine, batch: batch)
    ignite.metrics.RunningAverage(output_transform=lambda out: out[0], alpha=alpha).attach(foreign, "value", theirs)
    accuracy = ignite.metrics.Accuracy(output_transform=lambda out: out[1:])
    ignite.metrics.RunningAverage(accuracy, alpha=alpha).attach(foreign, "accuracy", theirs)
    expected = []
    foreign.add_event_handler(
        ignite.engine.Events.ITERATION_COMPLETED, lambda engine: expected.append(dict(engine.state.metrics))
    )
    foreign.run(outputs, max_epochs=2)

    engine, seen = echo(), []
    RunningAverage(alpha=alpha).attach(engine, "value", lambda out: out[0], ours)
    RunningAverage(Accuracy(), alpha).attach(engine, "accuracy", lambda out: out[1:], ours)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    engine.run(outputs, max_epochs=2)
    for name in ("value", "accuracy"):
        assert [each[name] for each in seen] == pytest.approx([each[name] for each in expected], rel=1e-12)


def test_running_average_goes_over_the_run_unless_it_is_said_otherwise():
    engine = echo()
    RunningAverage(alpha=0.5).attach(engine, "metric")
    assert seen_after_each_batch(engine, [1.0, 3.0], max_epochs=2) == [1.0, 2.0, 1.5, 2.25]


def test_running_average_of_tensors_keeps_their_shape():
    engine = echo()
    RunningAverage(alpha=0.5).attach(engine, "metric")
    engine.run([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])])
    assert torch.equal(engine.state.metrics["metric"], torch.tensor([2.0, 4.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: RunningAverage("loss"), TypeError, "src='loss' is no torchmetrics metric"),
        (lambda: RunningAverage(alpha=0), ValueError, "alpha=0 is not above 0 and at most 1"),
        (lambda: RunningAverage(alpha=1.5), ValueError, "alpha=1.5 is not above 0"),
        (lambda: Usage(1, 2, 3), TypeError, "1"),
        (lambda: attach(Accuracy(), echo(), "a", usage="running"), TypeError, "'running' is no Usage: give EPOCH_WISE"),
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
