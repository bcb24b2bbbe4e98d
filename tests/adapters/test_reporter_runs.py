"""Runs of reporters: their ends, and their resumption after an interrupt."""

from __future__ import annotations

import contextlib

import pytest

from camshaft import Engine, EventOrderError, Events, record
from camshaft.engine.run import executing
from camshaft.testing import Reporter
from support.reported import ITERATION, LOOP, PAUSED, REST, epoch, recorded, run, tell, verdict

# -- where a run ends --------------------------------------------------------------------------------------------------


def test_several_runs_of_one_reporter_are_judged_each():
    trace = recorded([*run(epoch(1)), *run(epoch(2), epoch(1))])
    trace.assert_legal()
    assert [record.outcome for record in trace.runs] == ["completed"] * 2
    assert [segment[1:] for segment in trace.segments] == [[0, 8], [8, 26]]
    assert verdict(recorded([*run(epoch(1)), *run(ITERATION)])).startswith("by hand event #10 ITERATION_STARTED is")


def test_a_run_without_an_end_is_illegal_when_its_block_is_left():
    with pytest.raises(EventOrderError) as caught:
        recorded(run(epoch(1), end=())).assert_legal()
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("by hand stops with event #7, after EPOCH 1")
    assert rest == [
        "    5  FORWARD_COMPLETED",
        "    6  ITERATION_COMPLETED",
        "  > 7  EPOCH_COMPLETED",
        "  expected: EPOCH_STARTED | COMPLETED | TERMINATE | INTERRUPT | EXCEPTION_RAISED",
    ]


def test_a_run_without_an_end_is_illegal_when_the_next_one_starts():
    trace = recorded([*run(epoch(1), end=()), *run(epoch(1))])
    assert [len(trace.runs), trace.segments[0][1:]] == [2, [0, 7]]
    assert verdict(trace).startswith("by hand stops with event #7, after EPOCH 1")


def test_events_outside_of_a_block_are_refused():
    report = Reporter(LOOP, "by hand")
    message = "^by hand: STARTED is reported outside of a with block; write `with reporter:` around the whole run, so "
    with record() as trace, pytest.raises(RuntimeError, match=message):
        report("started")
    with report:
        tell(report, *run(epoch(1)))
    with pytest.raises(RuntimeError, match="EPOCH_STARTED is reported outside of a with block"):
        report("epoch_started")
    assert len(trace) == 0


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, SystemExit])
def test_an_exception_that_leaves_the_block_is_the_last_event(error):
    report = Reporter(LOOP, "by hand")
    with record() as trace, pytest.raises(error), report:
        tell(report, "started", "epoch_started", "iteration_started")
        raise error
    assert trace == ["started", "epoch_started", "iteration_started", "exception_raised"]
    assert [record.outcome for record in trace.runs] == ["failed"]
    trace.assert_legal()
    with record() as again, report:
        tell(report, *run(epoch(1)))
    again.assert_legal()


def test_an_exception_reported_by_the_loop_is_reported_once():
    with record() as trace, pytest.raises(ArithmeticError), Reporter(LOOP) as report:
        try:
            tell(report, "started", "epoch_started")
            raise ArithmeticError
        except ArithmeticError:
            report(Events.EXCEPTION_RAISED)
            raise
    assert trace == ["started", "epoch_started", "exception_raised"]
    trace.assert_legal()


@pytest.mark.parametrize("events", [[], run(epoch(1))])
def test_an_exception_before_a_run_or_after_it_is_no_event_of_it(events):
    with record() as trace, pytest.raises(ArithmeticError), Reporter(LOOP) as report:
        tell(report, *events)
        raise ArithmeticError
    assert trace == events
    trace.assert_legal()


def test_an_exception_that_the_loop_takes_is_no_event_of_it():
    with record() as trace, Reporter(LOOP) as report:
        tell(report, "started", "epoch_started", *ITERATION[:2])
        with contextlib.suppress(ArithmeticError):
            raise ArithmeticError
        tell(report, *ITERATION[2:], "epoch_completed", "completed")
    trace.assert_legal()
    assert trace.count("exception_raised") == 0


# -- interrupt ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on_in_the_next_block():
    report = Reporter(LOOP, "by hand", max_epochs=1, epoch_length=1)
    with record() as trace:
        with report:
            tell(report, *PAUSED)
        assert trace.runs[0].outcome == "interrupted"
        trace.assert_legal()
        assert executing.get() is None
        with record() as between:
            Engine(lambda engine, batch: None).run([1])
        with report:
            tell(report, *REST)
    assert [run.outcome for run in trace.runs] == ["completed", "completed"]
    assert [run for run, *_ in trace.segments] == [0, 1, 0]
    assert trace.select(engine="by hand") == PAUSED + REST
    assert (report.state.epoch, report.state.iteration) == (1, 1)
    trace.assert_legal()
    between.assert_legal()


def test_an_interrupted_run_may_go_on_in_the_same_block_too():
    assert verdict(recorded(PAUSED + REST)) is None


def test_resuming_at_the_wrong_place_is_illegal():
    report = Reporter(LOOP, "by hand")
    with record() as trace:
        with report:
            tell(report, *PAUSED)
        with report:
            tell(report, "iteration_completed", "epoch_completed", "completed")
    assert verdict(trace).startswith(
        "by hand event #6 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / FORWARD"
    )


def test_an_interrupted_run_is_dropped_when_the_next_one_starts():
    report = Reporter(LOOP, "by hand")
    with record() as trace:
        with report:
            tell(report, *PAUSED)
        with report:
            tell(report, *run(epoch(1)))
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["interrupted", "completed"]


def test_an_interrupted_run_that_fails_when_it_goes_on_ends_there():
    report = Reporter(LOOP, "by hand")
    with record() as trace, contextlib.suppress(ArithmeticError):
        with report:
            tell(report, *PAUSED)
        with report:
            report("forward_completed")
            raise ArithmeticError
    assert trace == [*PAUSED, "forward_completed", "exception_raised"]
    trace.assert_legal()
