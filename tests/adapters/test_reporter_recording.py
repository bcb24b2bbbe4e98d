"""Recordings of reporters: the reporter, the block and the line of each report."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest

from camshaft import EventOrderError, Trace, record
from camshaft.testing import Reporter
from support import path_of
from support.reported import (
    EVALUATED,
    FETCH,
    ITERATION,
    LOOP,
    PAUSED,
    REST,
    epoch,
    make_engine,
    recorded,
    run,
    tell,
    verdict,
)

HERE = path_of(__file__)


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_naming_reporters_records_them_alone(pair):
    trainer, evaluator = pair
    with record(evaluator) as some, record() as whole, record(trainer, evaluator) as both, trainer:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED)
        make_engine().run([1])
        tell(trainer, "completed")
    assert {event.engine for event in whole} == {"trainer", "evaluator", "engine"}
    assert list(map(str, both)) == [str(event) for event in whole if event.engine != "engine"]
    assert some == EVALUATED
    assert [run.parent for run in some.runs] == [None]
    for trace in (some, whole, both):
        trace.assert_legal()


def test_recording_a_reporter_is_a_block_of_it():
    report = Reporter(LOOP, "by hand")
    with record(report) as trace:
        tell(report, *run(epoch(1)))
    trace.assert_legal()
    with pytest.raises(ArithmeticError), record(report) as failed:
        tell(report, "started", "epoch_started")
        raise ArithmeticError
    assert failed == ["started", "epoch_started", "exception_raised"]
    failed.assert_legal()
    with record(report) as left:
        report("started")
    assert verdict(left).startswith("by hand stops with event #1, in STARTED")
    with pytest.raises(RuntimeError, match="outside of a with block"):
        report("started")


def test_an_inner_block_ends_only_what_began_in_it():
    report = Reporter(LOOP, "by hand")
    with record() as whole, report:
        tell(report, "started", "epoch_started")
        with record(report) as late, report:
            tell(report, *ITERATION)
        tell(report, "epoch_completed", "completed")
        with record(report) as left:
            report("started")
        tell(report, *run(epoch(1)))
    assert len(late) == 0, "it was recorded from the middle on"
    assert [run.outcome for run in whole.runs] == ["completed"] * 3
    assert verdict(whole) == verdict(left).replace("event #1,", "event #9,")


def test_an_exception_leaving_an_inner_block_is_no_outer_event():
    with record() as trace, Reporter(LOOP) as report:
        tell(report, "started", "epoch_started")
        with contextlib.suppress(ArithmeticError), report:
            raise ArithmeticError
        tell(report, "epoch_completed", "completed")
    trace.assert_legal()
    assert trace.count("exception_raised") == 0


def test_recorders_that_begin_between_two_runs_hear_the_second():
    with record() as first, Reporter(LOOP) as report:
        tell(report, *run(epoch(1)))
        with record() as second:
            tell(report, *run(epoch(2)))
    assert len(first) == len(second) + 8
    first.assert_legal()
    second.assert_legal()


@pytest.mark.parametrize(
    ("rest", "wrong"),
    [(REST, None), (REST[1:], "by hand event #1 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1")],
)
def test_a_run_interrupted_before_recording_is_judged_from_there(rest, wrong):
    report = Reporter(LOOP, "by hand")
    with report:
        tell(report, *PAUSED)
    with record() as trace, report:
        tell(report, *rest)
    assert trace == rest
    assert (verdict(trace) or "").startswith(wrong or "")
    assert (verdict(trace) is None) == (wrong is None)


def test_a_reporter_keeps_no_trace_alive():
    report = Reporter(LOOP)
    with record() as trace, report:
        tell(report, *run(epoch(1)))
    gone = weakref.ref(trace)
    del trace
    gc.collect()
    assert gone() is None


def test_a_trace_is_saved_and_judged_by_the_loop_it_carries(tmp_path, pair):
    trainer, evaluator = pair
    with record(call_sites=True) as trace, trainer, evaluator:
        tell(trainer, "started", *epoch(2, FETCH))
        tell(evaluator, *EVALUATED)
        tell(trainer, "completed")
    trace.save(tmp_path / "run.jsonl")
    read = Trace.load(tmp_path / "run.jsonl")
    assert read == trace
    assert [event.site for event in read] == [event.site for event in trace]
    assert [run.context.has_data for run in read.runs] == [None, None]
    read.assert_legal()
    recorded(run(epoch(1)), max_epochs=2).save(tmp_path / "short.jsonl")
    assert "[epoch == max_epochs] does not hold" in verdict(Trace.load(tmp_path / "short.jsonl"))


def plain_loop(report):
    report("started")
    report("epoch_started")
    raise ArithmeticError


def line(offset, function="plain_loop"):
    return f"{HERE}:{plain_loop.__code__.co_firstlineno + offset} in {function}"


@pytest.fixture(autouse=True)
def in_the_repository(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


def failing(trace):
    """Return the sites of the plain loop's two events, and the function with the site of its failure."""
    *sites, last = [event.site for event in trace]
    return sites, last.split(":")[0], last.rpartition(" in ")[2]


# -- call sites --------------------------------------------------------------------------------------------------------


def test_call_sites_name_the_line_of_the_user():
    report = Reporter(LOOP)
    here = HERE, "test_call_sites_name_the_line_of_the_user"
    with record(call_sites=True) as trace, contextlib.suppress(ArithmeticError), report:
        plain_loop(report)
    assert failing(trace) == ([line(1), line(2)], *here)
    with contextlib.suppress(ArithmeticError), record(report, call_sites=True) as trace:
        plain_loop(report)
    assert failing(trace) == ([line(1), line(2)], *here)


def test_call_sites_in_the_fixture_of_the_plugin(event_trace):
    report = Reporter(LOOP)
    with contextlib.suppress(ArithmeticError), event_trace(report, call_sites=True) as trace:
        plain_loop(report)
    here = HERE, "test_call_sites_in_the_fixture_of_the_plugin"
    assert failing(trace) == ([line(1), line(2)], *here)


def test_an_illegal_event_is_shown_with_the_line_that_reported_it():
    def wrong(report):
        report("started")
        report("iteration_started")

    with record(call_sites=True) as trace, Reporter(LOOP, "by hand") as report:
        wrong(report)
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    place = f"{HERE}:{wrong.__code__.co_firstlineno + 2} in wrong"
    assert f"  > 2  ITERATION_STARTED  fired by {place}" in str(caught.value).splitlines()
