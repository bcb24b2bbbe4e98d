"""Tests of the values beside a progress bar."""

import gc
import weakref

import numpy
import pytest
import torch
from torch import nn

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, record
from camshaft.metrics import Accuracy
from support.steps import echo


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (1e-7, "1e-07"),
        (12, "12"),
        (123456, "123456"),
        (True, "True"),
        (float("nan"), "nan"),
        ("two\nlines", "two lines"),
        (torch.tensor(0.5), "0.5"),
        (torch.tensor([[3]]), "3"),
        (torch.zeros(2, 3), "of shape (2, 3)"),
        (torch.zeros(0), "of shape (0,)"),
        (numpy.float32(0.25), "0.25"),
        (numpy.zeros(4), "of shape (4,)"),
        ((torch.tensor(1.0), 0.333333), "(1, 0.3333)"),
        ({}, None),
    ],
)
def test_values_are_brief(log, value, shown):
    engine = Engine(lambda engine, batch: value, name="engine")
    log.bar.attach(engine, output_transform=lambda output: output)
    engine.run([1])
    assert log.lines == ["engine  1/1  100%" + (f"  output={shown}" if shown is not None else "")]


def test_metrics_output_and_attributes_stand_beside_the_bar(log):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    data = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(3)]
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()}, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=data)
    trainer.state.lr = 0.1
    log.bar.attach(trainer, metric_names=["loss"], output_transform=lambda out: {"loss": out}, state_attributes=["lr"])
    log.bar.attach(evaluator, metric_names="all")
    with record() as trace:
        trainer.run(data, max_epochs=1)
    trace.assert_legal()
    accuracy, loss = evaluator.state.metrics["accuracy"], trainer.state.output
    assert log.lines == [
        f"evaluator  3/3  100%  accuracy={accuracy:.4g}",
        f"trainer  3/3  100%  loss={float(loss):.4g}  lr=0.1",
    ]


def test_an_unknown_name_is_one_warning_after_the_first_epoch(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, metric_names=["los"], state_attributes=["rate"])
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(loss=1))
    with pytest.warns(UserWarning) as caught:
        engine.run([1], max_epochs=3)
    assert [str(warning.message) for warning in caught] == [
        "ProgressBar: trainer has no los and no rate to show; its metrics are loss"
    ]


def test_values_are_read_only_when_the_bar_is_drawn(log):
    reads = []
    engine = Engine(echo)
    log.bar.attach(engine, output_transform=reads.append)
    engine.run(range(20_000))
    assert 1 <= len(reads) < 2_000


def test_a_transform_that_fails_fails_the_run_and_closes_the_bar(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, output_transform=lambda output: output["loss"])
    with pytest.raises(TypeError):
        engine.run([1, 2])
    assert log.lines == ["trainer  1/2  50%"]


def test_no_output_and_no_engine_is_kept_alive(log):
    outputs = []

    def step(engine, batch):
        output = torch.zeros(3)
        outputs.append(weakref.ref(output))
        return output

    engine = Engine(step)
    log.bar.attach(engine, output_transform=lambda output: output)
    engine.run(range(3))
    alive = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert alive() is None
        assert [output() for output in outputs] == [None] * 3
    finally:
        gc.enable()
