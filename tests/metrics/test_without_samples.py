"""Epochs without samples: a metric has no value then, which ends no run and leaves no old value."""

import logging
import math
import warnings

import attrs
import pytest
import torch
import torchmetrics
from torch import nn
from torch.optim import lr_scheduler
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.wrappers import BootStrapper, ClasswiseWrapper, MinMaxMetric

from camshaft import Engine, Events
from camshaft.handlers import Checkpoint, EarlyStopping, LRScheduler, ProgressBar, TensorBoardLogger
from camshaft.metrics import BATCH_WISE, EPOCH_WISE, RUNNING, RUNNING_EPOCH, Accuracy, Loss, RunningAverage, attach
from support.learning import classifier, sgd
from support.logged import scalars

BATCH = (torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2]))
EMPTY = (torch.empty(0, 3), torch.empty(0, dtype=torch.long))


def only(key):
    return lambda output: output[key]


METRICS = {
    "Accuracy": Accuracy,
    "Loss": lambda: Loss(nn.functional.cross_entropy),
    "RunningAverage": lambda: RunningAverage(Accuracy()),
    "torchmetrics": lambda: MulticlassAccuracy(3),
    "a matrix": lambda: MulticlassConfusionMatrix(3),
    "a collection": lambda: torchmetrics.MetricCollection([MulticlassPrecision(3), MulticlassRecall(3)]),
    "a sum of metrics": lambda: MulticlassPrecision(3) + MulticlassRecall(3),
    "by class": lambda: ClasswiseWrapper(MulticlassAccuracy(3, average=None)),
    "extremes": lambda: MinMaxMetric(MulticlassAccuracy(3)),
    "resampled": lambda: BootStrapper(MulticlassAccuracy(3), num_bootstraps=2),
}

WITHOUT = {
    "terminate_epoch at EPOCH_STARTED": (Events.EPOCH_STARTED, lambda engine: engine.terminate_epoch()),
    "terminate_epoch at GET_BATCH_STARTED": (Events.GET_BATCH_STARTED, lambda engine: engine.terminate_epoch()),
    "all skipped": (Events.ITERATION_STARTED, lambda engine: engine.skip_iteration()),
    "all skipped at GET_BATCH_COMPLETED": (Events.GET_BATCH_COMPLETED, lambda engine: engine.skip_iteration()),
}


def without_samples_in(epoch, how, data=BATCH):
    """Return an engine that has no samples in one epoch."""
    engine = Engine(lambda engine, batch: batch, name="trainer")
    at, call = WITHOUT[how]
    engine.add_event_handler(at, lambda engine: call(engine) if engine.state.epoch == epoch else None)
    return engine


def values_by_epoch(engine, name="m", epochs=3):
    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(engine.state.metrics.get(name)))
    engine.run([BATCH] * 2, max_epochs=epochs)
    assert engine.state.epoch == epochs
    return seen


@pytest.mark.parametrize("how", WITHOUT)
@pytest.mark.parametrize("metric", METRICS)
def test_an_epoch_without_samples_has_no_value(metric, how):
    engine = without_samples_in(2, how)
    attach(METRICS[metric](), engine, "m")
    with pytest.warns(
        UserWarning, match="^m of trainer has no value, because there were no samples, in EPOCH 2"
    ) as all_:
        before, empty, after = values_by_epoch(engine)
    assert len(all_) == 1
    assert before is not None and empty is None and after is not None


@pytest.mark.parametrize("how", WITHOUT)
@pytest.mark.parametrize("usage", [BATCH_WISE, RUNNING_EPOCH])
def test_no_value_of_the_epoch_before_is_left(usage, how):
    engine = without_samples_in(2, how)
    attach(Accuracy(), engine, "m", usage=usage)
    assert values_by_epoch(engine) == [0.75, None, 0.75]


@pytest.mark.parametrize("how", WITHOUT)
def test_a_value_of_the_whole_run_stays(how):
    engine = without_samples_in(2, how)
    attach(Accuracy(), engine, "m", usage=RUNNING)
    assert values_by_epoch(engine) == [0.75, 0.75, 0.75]


def test_a_value_of_the_last_epoch_stays_until_the_next_one():
    engine, seen = Engine(lambda engine, batch: batch), []
    attach(Accuracy(), engine, "m")
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.metrics.get("m")))
    engine.run([BATCH] * 2, max_epochs=2)
    assert seen == [None, None, 0.75, 0.75]


@pytest.mark.parametrize("usage", [EPOCH_WISE, BATCH_WISE, RUNNING_EPOCH, RUNNING])
@pytest.mark.parametrize("metric", ["Accuracy", "Loss", "RunningAverage"])
def test_batches_of_no_samples_are_no_samples(metric, usage):
    engine = Engine(lambda engine, batch: batch if engine.state.epoch > 1 else EMPTY, name="trainer")
    made = METRICS[metric]() if metric != "Loss" else Loss(lambda y_pred, y: (y_pred.sum() + y.sum()) * 1.0)
    attach(made, engine, "m", usage=usage)
    with pytest.warns(UserWarning, match="m of trainer has no value") as all_:
        empty, full = values_by_epoch(engine, epochs=2)
    assert empty is None and full is not None and len(all_) == 1


@pytest.mark.parametrize("usage", [EPOCH_WISE, BATCH_WISE, RUNNING_EPOCH, RUNNING])
def test_a_first_epoch_without_samples_has_no_value(usage):
    engine = without_samples_in(1, "all skipped")
    attach(MulticlassAccuracy(3), engine, "m", usage=usage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if usage is EPOCH_WISE else "error")
        first, second = values_by_epoch(engine, epochs=2)
    assert first is None and second is not None


def test_an_evaluator_without_samples_ends_no_training():
    trainer = Engine(lambda engine, batch: None, name="trainer")
    evaluator = Engine(lambda engine, batch: batch, name="evaluator")
    attach(Accuracy(), evaluator, "accuracy")
    evaluator.add_event_handler(
        Events.ITERATION_STARTED, lambda: evaluator.skip_iteration() if trainer.state.epoch == 2 else None
    )
    seen = []
    evaluator.add_event_handler(Events.COMPLETED, lambda: seen.append(dict(evaluator.state.metrics)))
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[BATCH])
    with pytest.warns(UserWarning, match="accuracy of evaluator has no value"):
        trainer.run([0], max_epochs=3)
    assert seen == [{"accuracy": 0.75}, {}, {"accuracy": 0.75}]


def test_a_metric_updated_by_hand_has_a_value():
    engine, metric = Engine(lambda engine, batch: None), torchmetrics.SumMetric()
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: metric.update(5.0))
    engine.register_events("never")
    attach(metric, engine, "m", usage=attrs.evolve(EPOCH_WISE, update="never"))
    assert engine.run([0, 1]).metrics == {"m": 5.0}


def test_a_metric_without_samples_cannot_be_computed():
    for metric in (Accuracy(), Loss(nn.functional.cross_entropy), RunningAverage()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns as well
            with pytest.raises(ValueError, match=f"{type(metric).__name__} has no (samples|values): call update"):
                metric.compute()


# -- what reads the metric ---------------------------------------------------------------------------------------------


def read_by(handler, epochs=3, name="accuracy", epoch=2):
    """Run an engine whose metric has no value in an epoch, with a handler of EPOCH_COMPLETED."""
    engine = without_samples_in(epoch, "all skipped")
    attach(Accuracy(), engine, name)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    with pytest.warns(UserWarning, match="accuracy of trainer has no value") as all_:
        engine.run([BATCH], max_epochs=epochs)
    assert [str(one.message).partition(",")[0] for one in all_] == ["accuracy of trainer has no value"]
    return engine


def accuracy(engine):
    return engine.state.metrics["accuracy"]


@pytest.mark.parametrize("options", [{"score_name": "accuracy"}, {"score_function": accuracy}])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_checkpoint_saves_nothing_then(tmp_path, caplog, options, epoch):
    handler = Checkpoint(
        {"model": nn.Linear(1, 1)},
        tmp_path,
        n_saved=None,
        global_step_transform=lambda engine, event: engine.state.epoch,
        **options,
    )
    with caplog.at_level(logging.WARNING):
        read_by(handler, epoch=epoch)
    assert sorted(int(path.name.split("_")[1]) for path in tmp_path.iterdir()) == sorted({1, 2, 3} - {epoch})
    assert caplog.messages == ["Checkpoint: the metric accuracy has no value, so there is no score"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_early_stopping_does_not_count_the_epoch(epoch):
    scores = []

    class Watched(EarlyStopping):
        def __call__(self, engine):
            super().__call__(engine)
            scores.append((self.counter, self.best_score))

    trainer = Engine(lambda engine, batch: None)
    read_by(Watched(5, accuracy, trainer), epoch=epoch)
    assert scores == ([(0, None), (0, 0.75), (1, 0.75)] if epoch == 1 else [(0, 0.75), (0, 0.75), (1, 0.75)])


def test_a_score_may_read_the_metrics_of_another_engine():
    evaluator = without_samples_in(1, "all skipped")
    attach(Accuracy(), evaluator, "accuracy")
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([BATCH]))
    stopping = EarlyStopping(2, lambda _: evaluator.state.metrics["accuracy"], trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, stopping)
    with pytest.warns(UserWarning, match="accuracy of trainer has no value"):
        trainer.run([0], max_epochs=5)
    assert trainer.state.epoch == 5 and stopping.counter == 0


@pytest.mark.parametrize(
    "read", [lambda engine: engine.state.metrics["acc"], lambda engine: {}[0], lambda engine: {}[(1, [])[0]]]
)
def test_a_name_that_does_not_exist_is_still_an_error(read):
    engine = Engine(lambda engine, batch: batch)
    attach(Accuracy(), engine, "other")
    engine.add_event_handler(Events.EPOCH_COMPLETED, EarlyStopping(1, read, engine))
    with pytest.raises(KeyError):
        engine.run([BATCH])


def test_a_scheduler_is_not_stepped_then():
    scheduler = lr_scheduler.ReduceLROnPlateau(sgd(classifier()), mode="max")
    read_by(LRScheduler(scheduler, accuracy))
    assert scheduler.last_epoch == 2 and math.isclose(scheduler.best, 0.75)


@pytest.mark.parametrize("names", ["all", "accuracy", ["accuracy"]])
def test_tensorboard_leaves_the_metric_out(tmp_path, names):
    engine = without_samples_in(2, "all skipped")
    attach(Accuracy(), engine, "accuracy")
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, Events.EPOCH_COMPLETED, "training", names)
        with pytest.warns(UserWarning, match="accuracy of trainer has no value"):
            engine.run([BATCH], max_epochs=3)
    assert [step for step, _ in scalars(tmp_path)["training/accuracy"]] == [1, 3]


@pytest.mark.parametrize("names", ["all", ["accuracy"]])
def test_a_progress_bar_does_without_it(names, capsys):
    engine = without_samples_in(2, "all skipped")
    attach(Accuracy(), engine, "accuracy")
    ProgressBar().attach(engine, metric_names=names)
    with pytest.warns(UserWarning, match="accuracy of trainer has no value") as all_:
        engine.run([BATCH], max_epochs=3)
    assert len(all_) == 1
