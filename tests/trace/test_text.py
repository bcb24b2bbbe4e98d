"""Traces as text: the table of counts and the tree."""

from __future__ import annotations

import contextlib

import pytest

from camshaft import Events, record
from support.traces import make_pair, record_pair


def test_counts_and_the_table():
    trace = record_pair()
    assert trace.count(Events.ITERATION_COMPLETED) == 6
    assert trace.count(Events.ITERATION_COMPLETED, engine="evaluator") == 2
    assert trace.table().splitlines()[:3] == [
        "engine     event                      count",
        "trainer    STARTED                        1",
        "trainer    EPOCH_STARTED                  2",
    ]


def test_the_tree_shows_nesting_and_shows_alike_passes_once():
    trainer, _ = make_pair()
    with record() as trace:
        trainer.run([1, 2, 3], max_epochs=1)
    assert str(trace).splitlines() == [
        "trainer",
        "  STARTED 0",
        "  EPOCH_STARTED 1",
        "    GET_BATCH_STARTED 0",
        "    GET_BATCH_COMPLETED 0",
        "    ITERATION_STARTED 1",
        "    ITERATION_COMPLETED 1",
        "    ... and 2 more like this",
        "  EPOCH_COMPLETED 1",
        "    evaluator",
        "      STARTED 0",
        "      EPOCH_STARTED 1",
        "        GET_BATCH_STARTED 0",
        "        GET_BATCH_COMPLETED 0",
        "        ITERATION_STARTED 1",
        "        ITERATION_COMPLETED 1",
        "      EPOCH_COMPLETED 1",
        "      COMPLETED 1",
        "  COMPLETED 1",
    ]


@pytest.mark.parametrize("end", ["terminate", "terminate_epoch", "interrupt", "raise"])
def test_the_tree_of_a_run_that_ends_early_can_be_printed(end):
    trainer, _ = make_pair()
    stop = (lambda: 1 / 0) if end == "raise" else getattr(trainer, end)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), stop)
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        trainer.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert len(str(trace).splitlines()) > 5
