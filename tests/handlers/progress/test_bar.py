"""Tests of progress bars: refused arguments, names of handlers, imports."""

import sys

import pytest

from camshaft import Engine, Events
from camshaft.handlers import ProgressBar
from support.steps import echo
from support.terminal import in_pipe


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metric_names": "loss"}, TypeError, r"metric_names must be a list of strings, or \"all\", got 'loss'"),
        ({"metric_names": [1]}, TypeError, r"metric_names must be a list of strings, .*, got \[1\]"),
        ({"state_attributes": "lr"}, TypeError, r"state_attributes must be a list of strings, got 'lr'"),
        ({"output_transform": "loss"}, TypeError, r"output_transform must be a function of state.output, got 'loss'"),
        ({"event_name": "unknown"}, ValueError, r"UNKNOWN is not registered in trainer"),
        ({"event_name": Events.EPOCH_STARTED | Events.COMPLETED}, TypeError, "is not an event"),
        (
            {"closing_event_name": Events.EPOCH_STARTED},
            ValueError,
            r"closing_event_name must be EPOCH_COMPLETED or COMPLETED .*, got .*EPOCH_STARTED.* around ITERATION",
        ),
        ({"closing_event_name": Events.EPOCH_COMPLETED(every=2)}, ValueError, r"must be EPOCH_COMPLETED or COMPLETED"),
        (
            {"event_name": Events.EPOCH_COMPLETED, "closing_event_name": Events.EPOCH_COMPLETED},
            ValueError,
            r"must be COMPLETED without a filter, got .* around EPOCH",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_attached(arguments, error, message):
    engine = Engine(echo, name="trainer")
    with pytest.raises(error, match=message):
        ProgressBar().attach(engine, **arguments)
    assert not any(engine.handlers(key) for key in engine.loop.event_keys)


@pytest.mark.parametrize("options", [{"persist": 1}, {"console": sys.stdout}])
def test_options_of_another_kind_are_refused(options):
    with pytest.raises(TypeError, match=f"ProgressBar: {next(iter(options))} must be .*, got"):
        ProgressBar(**options)


def test_only_an_engine_can_have_a_bar():
    with pytest.raises(TypeError, match="ProgressBar: engine must be an Engine, got None"):
        ProgressBar().attach(None)


def test_handlers_are_listed_under_the_name_of_the_bar():
    engine = Engine(echo)
    ProgressBar().attach(engine)
    names = [handler.name for handler in engine.handlers(Events.EPOCH_COMPLETED)]
    assert names == ["ProgressBar.fill", "ProgressBar.finish"]


def test_importing_the_handler_does_not_import_rich():
    done = in_pipe("print(sorted(name for name in sys.modules if name.split('.')[0] == 'rich'))")
    assert done.stdout == "[]\n"
