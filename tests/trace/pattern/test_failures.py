"""Patterns that do not match: the event shown, and the expected names."""

from __future__ import annotations

from camshaft import Engine, Events, record
from support.patterns import failure
from support.steps import no_op


def test_the_furthest_event_is_shown_with_two_named_before_it(plain):
    assert failure(plain, "STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED") == [
        "trace does not match: STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED",
        "    13  trainer ITERATION_STARTED 2",
        "    18  trainer ITERATION_COMPLETED 2",
        "  > 19  trainer EPOCH_COMPLETED 1",
        "  expected: ITERATION",
    ]


def test_what_was_expected_is_shown_in_the_order_of_the_pattern(plain):
    assert failure(plain, "EPOCH (TERMINATE | ITERATION* | (COMPLETED TERMINATE | 'TERMINATE' | ITERATION)+)") == [
        "trace does not match: EPOCH (TERMINATE | ITERATION* | (COMPLETED TERMINATE | 'TERMINATE' | ITERATION)+)",
        "    18  trainer ITERATION_COMPLETED 2",
        "    19  trainer EPOCH_COMPLETED 1",
        "  > 20  trainer EPOCH_STARTED 2",
        "  expected: TERMINATE | ITERATION | COMPLETED | 'TERMINATE' | the end",
    ]


def test_a_trace_that_ends_too_early(plain):
    assert failure(plain, "STARTED\n  EPOCH{2}  COMPLETED\n  (TERMINATE | .)") == [
        "trace does not match: STARTED EPOCH{2} COMPLETED (TERMINATE | .)",
        "    38  trainer EPOCH_COMPLETED 2",
        "    39  trainer COMPLETED 2",
        "  the trace ends after 39 events",
        "  expected: TERMINATE | .",
    ]


def test_strict_shows_the_event_that_nothing_accounts_for(plain):
    assert failure(plain, "STARTED EPOCH_STARTED ITERATION* EPOCH_COMPLETED .*", strict=True) == [
        "trace does not match: STARTED EPOCH_STARTED ITERATION* EPOCH_COMPLETED .*",
        "    1  trainer STARTED 0",
        "    2  trainer EPOCH_STARTED 1",
        "  > 3  trainer GET_BATCH_STARTED 0",
        "  expected: ITERATION | EPOCH_COMPLETED",
    ]


def test_a_first_event_that_does_not_fit_stands_alone(plain):
    assert failure(plain, "EPOCH_STARTED", strict=True) == [
        "trace does not match: EPOCH_STARTED",
        "  > 1  trainer STARTED 0",
        "  expected: EPOCH_STARTED",
    ]


def test_an_inside_that_does_not_match_says_where(plain):
    assert failure(plain, "STARTED EPOCH[ITERATION[A B] ITERATION[A B A]] EPOCH") == [
        "trace does not match: STARTED EPOCH[ITERATION[A B] ITERATION[A B A]] EPOCH",
        "    1  trainer STARTED 0",
        "  > 2  trainer EPOCH_STARTED 1",
        "  expected: EPOCH",
        "  inside EPOCH, inside ITERATION, at event 18 trainer ITERATION_COMPLETED 2; expected: A",
    ]
    assert failure(plain, "STARTED EPOCH[ITERATION[A]{2}]{2} COMPLETED", strict=True)[-1] == (
        "  inside EPOCH, at event 3 trainer GET_BATCH_STARTED 0; expected: ITERATION"
    )


def test_of_several_insides_the_one_that_went_furthest_is_shown(plain):
    furthest = "  inside ITERATION, at event 10 trainer ITERATION_COMPLETED 1; expected: A"
    for pattern in ("(ITERATION[B A] | ITERATION[A B A])*", "(ITERATION[A B A] | ITERATION[B A])*"):
        assert failure(plain, pattern)[-2:] == ["  expected: ITERATION | the end", furthest]
    assert failure(plain, "ITERATION[B A]")[-1] == "  inside ITERATION, at event 6 trainer A_STARTED 1; expected: B"


def test_an_inside_of_a_run_that_does_not_match_says_where(nested):
    assert failure(nested, "EPOCH evaluator[STARTED EPOCH COMPLETED TERMINATE] EPOCH") == [
        "trace does not match: EPOCH evaluator[STARTED EPOCH COMPLETED TERMINATE] EPOCH",
        "     2  trainer EPOCH_STARTED 1",
        "     9  trainer EPOCH_COMPLETED 1",
        "  > 10  evaluator STARTED 0",
        "  expected: evaluator",
        "  inside evaluator, at its end; expected: TERMINATE",
    ]
    assert failure(nested, "EPOCH evaluator[EPOCH[ITERATION[X X]*]] EPOCH")[-1] == (
        "  inside evaluator, inside EPOCH, inside ITERATION, at event 17 evaluator ITERATION_COMPLETED 1; expected: X"
    )


def test_a_state_that_the_end_of_the_trace_cuts_was_not_left():
    engine = Engine(no_op, name="t")
    engine.add_event_handler(Events.ITERATION_STARTED, engine.interrupt)
    with record() as trace:
        engine.run([1])
        Engine(no_op, name="other").run([1])
    assert failure(trace, "t:EPOCH other") == [
        "trace does not match: t:EPOCH other",
        "  > 2  t EPOCH_STARTED 1",
        "  expected: t:EPOCH",
        "  t:EPOCH was entered, but the event that leaves it is missing",
    ]
