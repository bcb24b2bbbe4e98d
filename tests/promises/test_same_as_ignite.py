"""What programs written for pytorch-ignite rely on, run on both engines: the same results."""

from __future__ import annotations

import inspect
import random
import time

import ignite.engine
import ignite.metrics
import numpy as np
import pytest
import torch
import torchmetrics
from ignite.engine.deterministic import DeterministicEngine
from torch import nn
from torch.utils.data import DataLoader

import camshaft.compat
import camshaft.metrics
from camshaft import Engine, Events
from camshaft.metrics import Accuracy, Loss, RunningAverage
from support.steps import no_op


@pytest.mark.parametrize("library", [ignite.engine, camshaft])
@pytest.mark.parametrize("skips", [True, False])
def test_should_terminate_is_told_until_the_next_run(library, skips):
    trainer, told = library.Engine(lambda engine, batch: None), []
    expected = "skip_completed" if skips else True
    assert trainer.should_terminate is False
    trainer.terminate(skips)
    assert trainer.should_terminate == expected
    trainer.add_event_handler(library.Events.STARTED, lambda engine: told.append(engine.should_terminate))
    trainer.add_event_handler(library.Events.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate(skips))
    trainer.add_event_handler(library.Events.TERMINATE, lambda engine: told.append(engine.should_terminate))
    trainer.run([1, 2, 3])
    assert told == [False, expected]
    assert trainer.should_terminate == expected


@pytest.mark.parametrize("library", [ignite.engine, camshaft])
def test_should_terminate_may_be_set(library):
    trainer = library.Engine(lambda engine, batch: None)

    @trainer.on(library.Events.ITERATION_COMPLETED)
    def solved(engine):
        trainer.should_terminate = engine.state.iteration == 2

    assert trainer.run([1, 2, 3, 4]).iteration == 2


@pytest.mark.parametrize("library", [ignite.engine, camshaft])
def test_metrics_that_are_set_between_runs_stay(library):
    trainer = library.Engine(no_op)
    trainer.state.metrics["before"] = 1.0
    trainer.run([1]).metrics["between"] = 2.0
    assert trainer.run([1]).metrics == {"before": 1.0, "between": 2.0}
    trainer.state.metrics["before"] = 3.0
    assert trainer.run([1]).metrics == {"before": 3.0, "between": 2.0}


@pytest.mark.parametrize("library", [ignite.engine, camshaft])
@pytest.mark.parametrize(
    ("first", "name", "second"),
    [
        ({"max_epochs": 2}, "max_epochs", {"max_epochs": 1}),
        ({"max_iters": 3}, "max_iters", {"max_iters": 2}),
        ({"max_iters": 3}, "max_iters", {"max_epochs": 1}),
        ({"max_epochs": 2}, "max_epochs", {"max_iters": 1}),
    ],
)
def test_a_limit_that_is_set_to_none_starts_over(library, first, name, second):
    trainer = library.Engine(no_op)
    trainer.run([1, 2], **first)
    setattr(trainer.state, name, None)
    state = trainer.run([1, 2], **second)
    assert (state.epoch, state.iteration) == (1, second.get("max_iters", 2))


@pytest.mark.parametrize("left", ["paused", "failed", "terminated"])
def test_a_run_that_is_not_over_starts_over_too(left):
    def end(engine):
        {"paused": engine.interrupt, "failed": lambda: 1 / 0, "terminated": engine.terminate}[left]()

    trainer, started = Engine(no_op), []
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), end)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    trainer.run([1, 2], max_epochs=4)
    trainer.add_event_handler(Events.STARTED, lambda: started.append(trainer.state.iteration))
    trainer.state.max_epochs = None
    assert trainer.run([1], max_epochs=2).iteration == 2
    assert started == [0]


@pytest.mark.parametrize("library", [ignite.engine, camshaft])
def test_times_include_the_handlers_of_the_event_itself(library):
    trainer, seen = library.Engine(no_op), []
    for event in (library.Events.EPOCH_COMPLETED, library.Events.COMPLETED):
        trainer.add_event_handler(event, lambda engine, name: seen.append(engine.state.times[name]), event.name)
        trainer.add_event_handler(event, lambda engine: time.sleep(0.1))
    times = trainer.run([1]).times
    assert 0 < seen[0] < times["EPOCH_COMPLETED"] - 0.09
    assert seen[1] < times["COMPLETED"] - 0.09
    assert times["COMPLETED"] > 0.19


# -- states that pytorch-ignite has saved ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ignite.engine.Engine, DeterministicEngine])
@pytest.mark.parametrize("limits", [{"max_epochs": 3}, {"max_iters": 9}])
@pytest.mark.parametrize("when", ["iteration_completed", "epoch_completed", "completed"])
def test_a_state_of_pytorch_ignite_is_loaded(make, limits, when):
    def run(engine, library, state=None):
        seen = []
        engine.add_event_handler(library.Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.iteration))
        if state is not None:
            engine.load_state_dict(state)
        engine.run(DataLoader(range(3)), **({} if state is not None and "max_iters" in limits else limits))
        return seen, engine.state.epoch

    saved, before = {}, make(no_op)
    once = {"iteration_completed": 4, "epoch_completed": 2, "completed": 3}[when]
    event = ignite.engine.Events[when.upper()]
    before.add_event_handler(event(once=once), lambda engine: saved.update(engine.state_dict()))
    run(before, ignite.engine)
    left = {"iteration_completed": 5, "epoch_completed": 7, "completed": 10}[when]
    if when == "completed":
        limits = {name: value + 3 for name, value in limits.items()}
        saved |= limits
        assert run(Engine(no_op), camshaft, saved)[0][:1] == [left]
    else:
        assert run(Engine(no_op), camshaft, saved) == ([*range(left, 10)], 3)


def test_the_random_states_of_a_deterministic_engine_are_set():
    def draws(engine):
        return random.random(), torch.rand(()).item(), np.random.rand()

    torch.manual_seed(0)
    before = DeterministicEngine(no_op)
    saved = before.run([1, 2], max_epochs=1) and before.state_dict()
    assert len(saved["rng_states"]) == 3
    engine, found = Engine(no_op), []
    engine.add_event_handler(Events.STARTED, lambda: found.append(draws(engine)))
    engine.load_state_dict(saved | {"max_epochs": 2})
    torch.rand(5)
    random.random()
    engine.run([1, 2])
    random.setstate(saved["rng_states"][0])
    torch.set_rng_state(saved["rng_states"][1])
    np.random.set_state(saved["rng_states"][2])
    assert found == [draws(engine)]


# -- metrics -----------------------------------------------------------------------------------------------------------


BATCHES = [(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)), torch.arange(4) % 3) for seed in range(3)]


@pytest.mark.parametrize(
    "metrics",
    [
        {"accuracy": ignite.metrics.Accuracy, "loss": lambda: ignite.metrics.Loss(nn.CrossEntropyLoss())},
        {"hits": lambda: ignite.metrics.TopKCategoricalAccuracy(2), "running": lambda: ignite.metrics.RunningAverage(
            ignite.metrics.Accuracy())},
        {"sum": lambda: ignite.metrics.Precision(average=False) + ignite.metrics.Recall(average=False)},
        {"mixed": torchmetrics.classification.MulticlassAccuracy(3, average="micro").clone, "own": Accuracy},
    ],
)  # fmt: skip
def test_metrics_of_any_library_are_given_to_an_evaluator(metrics):
    def values(make, classes=metrics):
        evaluator = make(nn.Identity(), metrics={name: metric() for name, metric in classes.items()})
        return evaluator.run(BATCHES).metrics

    found = values(camshaft.create_supervised_evaluator)
    if "mixed" in metrics:
        assert found["mixed"] == pytest.approx(found["own"])
        return
    expected = values(ignite.engine.create_supervised_evaluator)
    assert found.keys() >= metrics.keys()
    for name in metrics:
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(expected[name]))


@pytest.mark.parametrize("library", ["ignite", "camshaft"])
@pytest.mark.parametrize("src", ["", "accuracy", "transformed"])
def test_an_output_transform_is_given_to_the_metric(library, src):
    of, of_engine = (ignite.metrics, ignite.engine) if library == "ignite" else (camshaft.metrics, camshaft)
    if not src:
        metric, expected = of.RunningAverage(output_transform=lambda output: output[1].sum().item()), 3
    elif src == "accuracy":
        metric, expected = of.RunningAverage(of.Accuracy(output_transform=lambda output: output[:2])), 1
    else:
        metric, expected = of.Loss(lambda x, y: x.mean() - y.mean(), lambda output: (output[2], output[2]), len), 0
    engine = of_engine.Engine(lambda engine, batch: (nn.functional.one_hot(batch[1], 3).float(), batch[1], batch[0]))
    metric.attach(engine, "found")
    assert engine.run(BATCHES).metrics["found"] == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Accuracy, lambda **options: Loss(nn.MSELoss(), **options), RunningAverage])
def test_a_device_is_given_to_the_metric(kind):
    metric = kind(device="meta")
    assert {state.device.type for state in metric.metric_state.values()} == {"meta"}
    with pytest.raises(TypeError, match="output_transform must be a function of state.output, got 3"):
        kind(output_transform=3)


# -- arguments that camshaft.compat translates -------------------------------------------------------------------------


def test_arguments_of_trainers_and_evaluators_have_the_order_of_pytorch_ignite():
    library = camshaft.compat
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_fn = nn.CrossEntropyLoss()

    def prepare(batch, device, non_blocking):
        return batch

    trainer = library.create_supervised_trainer(
        model, optimizer, loss_fn, "cpu", False, prepare, lambda y: y, lambda x, y, p, loss: (p.dtype, loss.item()),
        False, "amp", True, 2, lambda model, x: model(x),
    )  # fmt: skip
    state = trainer.run(BATCHES, max_epochs=2)
    evaluator = library.create_supervised_evaluator(
        model, {"loss": ignite.metrics.Loss(loss_fn)}, "cpu", False, prepare, lambda y: y.float(),
        lambda x, y, p: (p, y), "amp", lambda model, x: model(x),
    )  # fmt: skip
    found = [state.output[0], evaluator.run(BATCHES).metrics["loss"]]
    assert found[0] is torch.bfloat16
    assert found[1] == pytest.approx(1.2, abs=0.5)
    assert isinstance(trainer, ignite.engine.Engine)
    names = {
        "create_supervised_trainer": ("model", "optimizer", "loss_fn", *camshaft.compat.TRAINER),
        "create_supervised_evaluator": ("model", *camshaft.compat.EVALUATOR),
    }
    for name, ours in names.items():
        assert ours == tuple(inspect.signature(getattr(ignite.engine, name)).parameters)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"deterministic": True}, "a Snapshot resumes a run exactly"),
        ({"amp_mode": "apex"}, "amp_mode='apex' is not available: give \"amp\" or None"),
        ({"scaler": True}, 'give amp_mode="amp" too'),
    ],
)
def test_arguments_that_have_no_counterpart_say_so(arguments, words):
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=words):
        camshaft.compat.create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss(), **arguments)
