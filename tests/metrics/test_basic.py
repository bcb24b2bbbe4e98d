"""Tests of Accuracy, Loss and RunningAverage, compared with plain computation, torchmetrics and pytorch-ignite."""

import subprocess
import sys

import ignite.engine
import ignite.metrics
import ignite.metrics.metric
import pytest
import torch
import torchmetrics
from torch import nn
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy

from camshaft import Events, create_supervised_evaluator
from camshaft.metrics import RUNNING, RUNNING_EPOCH, Accuracy, Loss, RunningAverage, attach
from support.learning import CLASSES
from support.scored import echo, everything, scored, seen_after_each_batch


def test_accuracy_and_loss_equal_torchmetrics_and_ignite(model, data):
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


@pytest.mark.parametrize(
    ("y_pred", "y", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(5), r"predictions of shape \(4, 3\) do not match labels of shape \(5,\)"),
        (torch.zeros(4), torch.zeros(5), r"predictions of shape \(4,\) do not match labels of shape \(5,\)"),
        (torch.full((4,), 0.3), torch.zeros(4), r"binary predictions must be 0 or 1: round them in output_transform"),
        (torch.full((4, 1), 0.3), torch.zeros(4), r"binary predictions must be 0 or 1: round them in output_transform"),
        (torch.zeros(1), torch.tensor(0), r"predictions of shape \(1,\) do not match labels of shape \(\)"),
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
        ValueError, match=r"loss_fn must return the mean over the batch, a scalar, got a tensor of shape \(4,\)"
    ):
        engine.run([(torch.zeros(4), torch.zeros(4))])


def test_importing_camshaft_imports_no_optional_library():
    code = "import sys, camshaft; print([m for m in ('torchmetrics', 'torchvision', 'hypothesis') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_running_average_goes_over_the_run_by_default():
    engine = echo()
    RunningAverage(alpha=0.5).attach(engine, "metric")
    assert seen_after_each_batch(engine, [1.0, 3.0], max_epochs=2) == [1.0, 2.0, 1.5, 2.25]


def test_running_average_of_tensors_keeps_their_shape():
    engine = echo()
    RunningAverage(alpha=0.5).attach(engine, "metric")
    engine.run([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])])
    assert torch.equal(engine.state.metrics["metric"], torch.tensor([2.0, 4.0], dtype=torch.float64))
