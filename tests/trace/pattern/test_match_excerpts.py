"""Patterns over excerpts of traces."""

from __future__ import annotations

from camshaft import Events, Trace
from camshaft.trace.pattern import check
from support.patterns import failure, matches


def test_an_excerpt_is_matched_by_itself(nested):
    runs = [nested.run_of(index) for index in range(len(nested))]
    only = [index for index, run in enumerate(runs) if nested.runs[run].engine == "trainer"]
    check(nested, "STARTED EPOCH{2} COMPLETED", strict=True, indices=only)
    check(nested, "trainer", strict=True, indices=only)
    inner = [index for index, run in enumerate(runs) if nested.runs[run].engine == "evaluator"]
    check(nested, "(STARTED EPOCH[(GET_BATCH ITERATION[X]){2}] COMPLETED){2}", strict=True, indices=inner)
    check(nested, "evaluator{2}", strict=True, indices=inner)
    check(nested, "ITERATION{4}", indices=inner)
    check(nested, "trainer:EPOCH{0} X{4}", indices=inner)


def test_states_that_an_excerpt_cuts_are_not_whole(plain):
    check(plain, "EPOCH_STARTED ITERATION ITERATION_STARTED A_STARTED", indices=range(1, 14))
    check(plain, "ITERATION[B] .", indices=range(4, 11), strict=False)
    assert not matches(plain, "EPOCH", indices=range(1, 14))
    assert not matches(plain, "EPOCH", indices=range(2, 19))
    assert (
        failure(plain, "EPOCH", indices=range(1, 14))[-1]
        == "  EPOCH was entered, but the event that leaves it is missing"
    )


def test_a_selection_is_an_excerpt(nested):
    nested.select(engine="evaluator").assert_matches("(STARTED EPOCH COMPLETED){2}", strict=True)
    nested.select(event=[Events.STARTED, Events.COMPLETED]).assert_matches(
        "STARTED (evaluator:STARTED evaluator:COMPLETED){2} COMPLETED", strict=True
    )
    nested[:3].assert_matches("STARTED EPOCH_STARTED GET_BATCH_STARTED", strict=True)


def test_an_excerpt_of_nothing(nested):
    check(nested, "X? EPOCH*", strict=True, indices=[])
    assert failure(nested, "EPOCH", indices=[]) == [
        "trace does not match: EPOCH",
        "  the excerpt ends after 0 events",
        "  expected: EPOCH",
    ]


def test_a_trace_of_nothing_matches_what_may_be_nothing():
    check(Trace(), "(STARTED EPOCH[ITERATION evaluator:X])*")
    assert failure(Trace(), "STARTED EPOCH") == [
        "trace does not match: STARTED EPOCH",
        "  the trace ends after 0 events",
        "  expected: STARTED",
    ]
