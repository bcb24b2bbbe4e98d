"""Reporters in threads and generators."""

from __future__ import annotations

import contextvars
import threading

from camshaft import record
from camshaft.testing import Reporter
from support.reported import EVALUATED, FETCH, ITERATION, LOOP, epoch, make_engine, run, tell


def in_thread(call, *args):
    errors = []

    def guarded():
        try:
            call(*args)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert not errors


def test_a_loop_in_a_thread_is_heard_with_and_without_the_context():
    report = Reporter(LOOP, "by hand")
    events = run(epoch(2))
    with record() as alone, report:
        in_thread(tell, report, *events)
    with record() as trace, report:
        in_thread(contextvars.copy_context().run, tell, report, *events)
    assert alone == trace == events
    alone.assert_legal()
    trace.assert_legal()


def test_events_from_another_thread_belong_to_the_open_run():
    report = Reporter(LOOP, "by hand")
    with record() as trace, report:
        tell(report, "started", "epoch_started")
        in_thread(tell, report, *FETCH)
        tell(report, *ITERATION, "epoch_completed", "completed")
    trace.assert_legal()
    assert trace.count("get_batch_completed") == 1


def test_two_loops_in_two_threads_are_not_nested_in_each_other(pair):
    first, second = pair
    turn = threading.Barrier(2, timeout=60)

    def take_turns(report, events):
        for event in events:
            turn.wait()
            report(event)

    with record() as trace, record(first) as one, record(second) as other:
        contexts = contextvars.copy_context(), contextvars.copy_context()
        events = run(epoch(0)), EVALUATED
        threads = [
            threading.Thread(target=context.run, args=(take_turns, report, told))
            for context, report, told in zip(contexts, pair, events, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [run.parent for run in trace.runs] == [None, None]
    trace.assert_legal()
    one.assert_legal()
    other.assert_legal()


def test_a_generator_reports_as_it_is_asked_for_more():
    def batches(report):
        with report:
            tell(report, "started", "epoch_started")
            for number in range(3):
                report("iteration_started")
                yield number
                tell(report, *ITERATION[1:])
            tell(report, "epoch_completed", "completed")

    report, engine = Reporter(LOOP, "by hand"), make_engine()
    with record() as trace:
        for number in batches(report):
            if number == 1:
                engine.run([1])
    trace.assert_legal()
    assert [run.parent for run in trace.runs] == [None, 0]
    with record() as closed:
        asked = batches(report)
        next(asked)
        asked.close()
    assert closed == ["started", "epoch_started", "iteration_started", "exception_raised"]
    closed.assert_legal()
