"""Tests of the timer: compared with pytorch-ignite's on sequences of calls, and driven by events of real runs."""

import time
from unittest import mock

import ignite.handlers.timing
import pytest
from hypothesis import given
from hypothesis import strategies as st

import camshaft.handlers.timing
from camshaft import Engine, Events, record
from camshaft.handlers import Timer


class Clock:
    """Clock that moves only on request."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


METHODS = ["reset", "pause", "resume", "step", "value"]


@given(
    average=st.booleans(),
    calls=st.lists(st.tuples(st.sampled_from(METHODS), st.integers(0, 1000).map(lambda ticks: ticks / 8))),
)
def test_any_sequence_of_calls_gives_what_ignite_gives(average, calls):
    clock = Clock()
    with (
        mock.patch.object(camshaft.handlers.timing, "perf_counter", clock),
        mock.patch.object(ignite.handlers.timing, "perf_counter", clock),
    ):
        ours, theirs = Timer(average), ignite.handlers.timing.Timer(average)
        for name, seconds in calls:
            clock.now += seconds
            got, expected = getattr(ours, name)(), getattr(theirs, name)()
            assert (got is ours) == (expected is theirs)
            if name == "value":
                assert got == expected
            assert (ours.total, ours.step_count, ours.running) == (theirs.total, theirs.step_count, theirs.running)
        assert ours.value() == theirs.value()


def timed_run(events, **run):
    """Run an engine on a clock of its own. Its step takes 2 s, and a fetch takes 5 s."""
    clock = Clock()

    def wait(seconds):
        clock.now += seconds

    def data():
        for _ in range(3):
            wait(5)
            yield None

    engine = Engine(lambda engine, batch: wait(2))
    with mock.patch.object(camshaft.handlers.timing, "perf_counter", clock), record() as trace:
        timer = Timer(average="step" in events)
        assert timer.attach(engine, **events) is timer
        wait(50)
        engine.run(data(), **run)
        wait(50)
        trace.assert_legal()
        return timer, timer.value()


def test_attached_without_more_it_measures_the_run():
    timer, value = timed_run({})
    assert (value, timer.total, timer.step_count, timer.running) == (3 * 7, 3 * 7, 0, False)


def test_attached_to_iterations_it_measures_the_mean_step():
    events = {"resume": Events.ITERATION_STARTED, "pause": Events.ITERATION_COMPLETED}
    timer, value = timed_run({**events, "step": Events.ITERATION_COMPLETED})
    assert timer.step_count == 3
    assert value == (5 + 3 * 2 + 2 * 0) / 3  # it starts at STARTED, so it includes the first fetch


def test_events_may_be_filtered_and_joined():
    timer, value = timed_run({"start": Events.ITERATION_STARTED(once=2), "pause": Events.COMPLETED | Events.TERMINATE})
    assert value == 2 + 5 + 2
    assert not timer.running


def test_a_failed_run_leaves_it_running():
    def fail(engine, batch):
        raise ZeroDivisionError

    for pause, is_running in ((Events.COMPLETED, True), (Events.COMPLETED | Events.EXCEPTION_RAISED, False)):
        engine = Engine(fail)
        timer = Timer().attach(engine, pause=pause)
        with pytest.raises(ZeroDivisionError):
            engine.run([1])
        assert timer.running is is_running


def test_real_time_passes():
    timer = Timer()
    time.sleep(0.02)
    assert timer.value() >= 0.02
    timer.pause()
    value = timer.value()
    assert timer.value() == value


def test_what_cannot_be_attached_is_refused():
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(TypeError, match="Timer: engine must be an Engine, got 3"):
        Timer().attach(3)
    with pytest.raises(ValueError, match="'lunch' is not registered|LUNCH is not registered"):
        Timer().attach(engine, resume=Events.EPOCH_STARTED, step="lunch")
    assert not any(engine.handlers(event) for event in (Events.STARTED, Events.COMPLETED, Events.EPOCH_STARTED))
