"""as_ignite: handlers and loggers of pytorch-ignite take every event of camshaft, and log the same as on its engine."""

from __future__ import annotations

import copy
import io
from types import SimpleNamespace
from typing import Any

import ignite.engine
import pytest
import torch
from ignite import handlers as ih
from ignite.handlers.base_logger import BaseLogger, BaseOutputHandler
from torch import nn

import camshaft
from camshaft.compat import as_ignite

BACKPROP = {name: name.lower() for name in ("BACKWARD_STARTED", "BACKWARD_COMPLETED", "OPTIM_STEP_COMPLETED")}


def library(of: Any, wrap: Any) -> SimpleNamespace:
    """Return what a program imports from one of both libraries, and its own enums of events."""
    return SimpleNamespace(
        name=of.__name__,
        Engine=lambda step: wrap(of.Engine(step)),
        State=of.State,
        Events=of.Events,
        Rows=of.EventEnum("Rows", {"ROW": "row", "PAGE": "page"}),
        Backprop=of.EventEnum("Backprop", BACKPROP),
    )


THEIRS = library(ignite.engine, lambda engine: engine)
OURS = library(camshaft, as_ignite)


@pytest.fixture(autouse=True)
def attributes_of_ignite(monkeypatch):
    """Forget the attributes that tests register for all engines of pytorch-ignite."""
    monkeypatch.setattr(ignite.engine.State, "event_to_attr", dict(ignite.engine.State.event_to_attr))


EVENTS = {
    "built-in": lambda lib: lib.Events.EPOCH_COMPLETED,
    "of a batch": lambda lib: lib.Events.GET_BATCH_COMPLETED,
    "of the run": lambda lib: lib.Events.STARTED,
    "every": lambda lib: lib.Events.ITERATION_COMPLETED(every=2),
    "once": lambda lib: lib.Events.ITERATION_STARTED(once=[2, 5]),
    "before and after": lambda lib: lib.Events.ITERATION_STARTED(before=5, after=2),
    "event_filter": lambda lib: lib.Events.COMPLETED(event_filter=lambda engine, count: count == 2),
    "joined": lambda lib: lib.Events.EPOCH_STARTED | lib.Events.COMPLETED,
    "joined and filtered": lambda lib: lib.Events.EPOCH_COMPLETED(every=2) | lib.Events.ITERATION_STARTED(once=3),
    "custom": lambda lib: lib.Rows.ROW,
    "custom and filtered": lambda lib: lib.Rows.ROW(every=4),
    "custom and joined": lambda lib: lib.Rows.PAGE | lib.Events.EPOCH_COMPLETED | lib.Rows.ROW(once=2),
    "of backpropagation": lambda lib: lib.Backprop.BACKWARD_COMPLETED,
    "a string": lambda lib: "by_hand",
}
BY_NAME = pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)


def trainer(lib: Any) -> Any:
    """Return an engine with custom events that are numbered, whose state was replaced by hand."""

    def step(engine: Any, batch: Any) -> Any:
        engine.state.rows = engine.state.iteration * 2
        for event in (*lib.Rows, *lib.Backprop, "by_hand"):
            engine.fire_event(event)
        return batch

    engine = lib.Engine(step)
    engine.register_events(*lib.Rows, event_to_attr=dict.fromkeys(lib.Rows, "rows"))
    engine.register_events(
        *lib.Backprop, "by_hand", event_to_attr=dict.fromkeys((*lib.Backprop, "by_hand"), "iteration")
    )
    engine.state = lib.State(metrics={"a": 0.5})
    return engine


class Rows(BaseOutputHandler):
    """A log handler that keeps the number of each event, and the metrics."""

    def __call__(self, engine: Any, logger: Any, event_name: Any) -> None:
        step = self.global_step_transform(engine, event_name)
        logger.rows.append((event_name.name if hasattr(event_name, "name") else event_name, step))


class Logger(BaseLogger):
    """A logger that keeps rows."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> Rows:
        return Rows(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: it has no optimizer."""


@BY_NAME
def test_a_logger_logs_the_same_at_every_event(event):
    rows = []
    for lib in (THEIRS, OURS):
        engine, logger = trainer(lib), Logger()
        logger.attach_output_handler(engine, event(lib), tag="it", output_transform=lambda output: output)
        engine.run([1, 2, 3], max_epochs=2)
        rows.append(logger.rows)
    assert rows[0] == rows[1] != []


@BY_NAME
def test_a_log_handler_is_removed_from_every_event(event):
    for lib in (THEIRS, OURS):
        engine, logger = trainer(lib), Logger()
        handler = Rows("it", output_transform=lambda output: output)
        handle = logger.attach(engine, handler, event(lib))
        assert engine.has_event_handler(handler)
        handle.remove()
        engine.run([1, 2, 3], max_epochs=2)
        assert logger.rows == []
        assert not engine.has_event_handler(handler)


def number(output: Any) -> dict[str, Any]:
    return {"x": output or 0}


@BY_NAME
def test_the_tensorboard_logger_takes_every_event(event, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = []
    for lib in (THEIRS, OURS):
        engine, folder = trainer(lib), tmp_path / lib.name
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
        with ih.TensorboardLogger(log_dir=folder) as logger:
            logger.attach_output_handler(
                engine, event(lib), tag="it", output_transform=lambda output: {"x": output or 0}
            )
            logger.attach_opt_params_handler(engine, event(lib), optimizer=optimizer)
            engine.run([1, 2, 3], max_epochs=2)
        read = EventAccumulator(str(folder)).Reload()
        found.append({tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]})
    assert found[0] == found[1]
    assert set(found[0]) == {"it/x", "lr/group_0"}


@BY_NAME
def test_the_step_of_another_engine_takes_every_event(event):
    steps = []
    for lib in (THEIRS, OURS):
        engine = trainer(lib)
        engine.run([1, 2, 3], max_epochs=2)
        events = event(lib)
        events = events if type(events).__name__ in ("EventsList", "EventUnion") else [events]
        steps.append([ih.global_step_from_engine(engine, one)(None, None) for one in events])
    assert steps[0] == steps[1]


@pytest.mark.parametrize("name", ["TERMINATE", "INTERRUPT", "EXCEPTION_RAISED", "DATALOADER_STOP_ITERATION"])
def test_a_logger_refuses_what_has_no_number(name):
    for lib in (THEIRS, OURS):
        for event in (lib.Events[name], lib.Events[name] | lib.Events.COMPLETED, "unknown"):
            with pytest.raises(RuntimeError, match="Unknown event name"):
                Logger().attach_output_handler(trainer(lib), event, tag="it", output_transform=lambda output: output)


def test_phases_and_events_without_an_attribute_are_numbered_by_their_loop():
    engine = as_ignite(camshaft.Engine([camshaft.Phase("BACKWARD", lambda engine, batch: batch)]))
    engine.register_events("row", after="BACKWARD")
    logger = Logger()
    for event in (camshaft.BackpropEvents.BACKWARD_COMPLETED, engine.loop.events.BACKWARD_STARTED, "row"):
        logger.attach_output_handler(engine, event, tag="it", output_transform=lambda output: output)
    engine.run([1, 2])
    names = ("BACKWARD_STARTED", "BACKWARD_COMPLETED", "row")
    assert logger.rows == [(name, step) for step in (1, 2) for name in names]


BARS = [
    (lambda lib: lib.Events.ITERATION_COMPLETED, lambda lib: lib.Events.EPOCH_COMPLETED),
    (lambda lib: lib.Events.ITERATION_COMPLETED(every=2), lambda lib: lib.Events.EPOCH_COMPLETED),
    (lambda lib: lib.Events.ITERATION_STARTED(once=2), lambda lib: lib.Events.COMPLETED),
    (lambda lib: lib.Events.EPOCH_STARTED, lambda lib: lib.Events.COMPLETED),
    (lambda lib: lib.Events.EPOCH_COMPLETED, lambda lib: lib.Events.COMPLETED),
    (lambda lib: lib.Events.COMPLETED, lambda lib: lib.Events.EPOCH_COMPLETED),
    (lambda lib: lib.Events.ITERATION_COMPLETED, lambda lib: lib.Events.EPOCH_COMPLETED(every=2)),
    (lambda lib: lib.Events.TERMINATE, lambda lib: lib.Events.EPOCH_COMPLETED),
    (lambda lib: lib.Rows.ROW, lambda lib: lib.Events.EPOCH_COMPLETED),
]


@pytest.mark.parametrize(("event", "closing"), BARS)
def test_a_progress_bar_shows_the_same_at_every_event(event, closing):
    seen = []
    for lib in (THEIRS, OURS):
        engine, shown = trainer(lib), io.StringIO()
        bar = ih.ProgressBar(bar_format="{desc}[{n_fmt}/{total_fmt}]{postfix}", mininterval=0, file=shown, ascii=True)
        try:
            bar.attach(engine, event_name=event(lib), closing_event_name=closing(lib))
            engine.run([1, 2, 3], max_epochs=2)
        except ValueError:
            seen.append("refused")
        else:
            seen.append(shown.getvalue())
    assert seen[0] == seen[1] != ""


def test_events_registered_later_are_taken_too():
    engine = as_ignite(camshaft.Engine(lambda engine, batch: engine.fire_event("late")))
    engine.register_events("late", event_to_attr={"late": "lates"})
    logger = Logger()
    logger.attach_output_handler(engine, "late", tag="it", output_transform=lambda output: output)
    engine.run([1])
    assert logger.rows == [("late", 0)]


def test_a_copy_of_a_presented_engine_is_presented():
    engine = as_ignite(camshaft.Engine(lambda *_: None))
    engine.register_events("of_the_copy", event_to_attr={"of_the_copy": "copies"})
    copied = copy.deepcopy(engine)
    del engine
    assert isinstance(copied, ignite.engine.Engine)
    Logger().attach_output_handler(copied, "of_the_copy", tag="it", output_transform=lambda output: output)


def test_engines_of_ignite_log_as_before():
    as_ignite(camshaft.Engine(lambda *_: None))
    engine, logger = trainer(THEIRS), Logger()
    union = ignite.engine.Events.EPOCH_COMPLETED | ignite.engine.Events.COMPLETED
    logger.attach_output_handler(engine, union, tag="it", output_transform=lambda output: output)
    engine.run([1])
    assert logger.rows == [("EPOCH_COMPLETED", 1), ("COMPLETED", 1)]
