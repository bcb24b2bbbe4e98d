"""Every public metric and handler of pytorch-ignite gives the same on its own engine and on camshaft's.

Both get the same data and seed. Where the result differs, the README says what happens instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.engine
import pytest
import torch
from ignite import handlers as ih
from ignite import metrics as im
from torch import nn

import camshaft
from camshaft import record
from camshaft.compat import as_ignite
from support import tables
from support.ignite_box.handlers import saved, weights
from support.ignite_box.metrics import batches, classes
from support.ignite_box.table import IN_THE_BOX, UNTRIED, result, row_in_readme, table
from support.ignite_box.worlds import CASES, EVENTS, World, observe, ours, play, same

# -- what is not tried, and the table ----------------------------------------------------------------------------------


def test_every_public_name_is_tried_or_has_a_reason():
    assert set().union(*IN_THE_BOX.values()) == set(CASES) | set(UNTRIED)
    assert not set(CASES) & set(UNTRIED)


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_name_works_as_the_readme_says(name):
    assert result(name) == row_in_readme(name), observe(name)[1]


def test_the_table_in_the_readme_is_up_to_date():
    assert tables.written("ignite-box") == table(), tables.how_to_write("ignite-box")


def test_the_comparison_tells_different_results_apart():
    assert same([math.nan, {"a": torch.tensor([1.0, math.nan])}], [math.nan, {"a": torch.tensor([1.0, math.nan])}])
    assert not same({"a": torch.tensor([1.0])}, {"a": torch.tensor([1.0 + 1e-6])})
    assert not same([1], [1, 2])


class Stroke(camshaft.EventEnum):
    UP = "up"
    DOWN = "down"


class IgnitesStroke(ignite.engine.EventEnum):
    UP = "up"
    DOWN = "down"


def at_custom_events(engine: Any, events: Any, stroke: Any) -> Any:
    """Compute a metric at custom events that the step fires, and return its values."""
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


# -- more than one of them at once -------------------------------------------------------------------------------------


def test_a_metric_at_custom_events_gives_the_same():
    theirs = at_custom_events(
        ignite.engine.Engine(step_with_events(IgnitesStroke)), ignite.engine.Events, IgnitesStroke
    )
    assert len(set(theirs)) > 2
    for stroke in (Stroke, IgnitesStroke):
        assert at_custom_events(ours(step_with_events(stroke)), camshaft.Events, stroke) == theirs


def test_metrics_made_of_metrics_give_the_same():
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
    """Run a program with evaluation, early stopping, checkpoints and a learning rate schedule."""
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


def test_a_whole_program_gives_the_same(tmp_path):
    expected = supervised(ignite.engine, ignite.engine.Events, tmp_path / "theirs", lambda engine: engine)
    assert 1 < len(expected[0]) < 20, "it never stopped early, or at once"
    for number, events in enumerate(EVENTS):
        with record() as trace:
            found = supervised(camshaft, events, tmp_path / str(number), as_ignite)
        assert same(found, expected)
        trace.assert_legal()
        assert "saved_checkpoint" in {event.event for event in trace}
