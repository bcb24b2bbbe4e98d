"""Metrics on engines, against plain computation, torchmetrics' own classes, and pytorch-ignite."""

import subprocess
import sys

import ignite.engine
import ignite.metrics
import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MulticlassF1Score

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, event
from camshaft.metrics import Accuracy, Loss, attach

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
    ],
)
def test_predictions_that_do_not_fit_are_refused(y_pred, y, message):
    engine = echo()
    Accuracy().attach(engine, "accuracy")
    with pytest.raises(ValueError, match=message):
        engine.run([(y_pred, y)])


def test_a_loss_that_is_no_scalar_is_refused():
    engine = echo()
    Loss(nn.MSELoss(reduction="none")).attach(engine, "loss")
    with pytest.raises(
        ValueError, match=r"loss_fn gave a tensor of shape \(4,\): it must give the mean over the batch"
    ):
        engine.run([(torch.zeros(4), torch.zeros(4))])


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("metric", [Accuracy(), Loss(nn.MSELoss())], ids=["Accuracy", "Loss"])
def test_a_metric_without_samples_is_refused(metric):
    with pytest.raises(ValueError, match=r"has seen no sample: update it before compute"):
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
