"""Patterns over traces: each element of the language, in both modes; errors; failures in words; and an oracle."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import DATA, Engine, EventEnum, Events, Loop, Mark, Phase, Trace, event, every, record
from camshaft.events import event_name
from camshaft.spans import span_events, spans
from camshaft.testing import Scenario, loops, scenarios
from camshaft.testing.pattern import PatternError, check
from support.steps import fires, nothing


def matches(trace, pattern, strict=False, indices=None):
    try:
        check(trace, pattern, strict, indices)
    except AssertionError:
        return False
    return True


def failure(trace, pattern, strict=False, indices=None):
    with pytest.raises(AssertionError) as caught:
        check(trace, pattern, strict, indices)
    assert type(caught.value) is AssertionError
    return str(caught.value).splitlines()


@pytest.fixture(scope="module")
def plain():
    """Two epochs of two iterations of the phases A and B."""
    engine = Engine([Phase("A", nothing), Phase("B", nothing)], name="trainer")
    with record() as trace:
        engine.run([1, 2], max_epochs=2)
    assert len(trace) == 39
    return trace


def make_nested():
    trainer, evaluator = Engine([Phase("A", nothing)], name="trainer"), Engine([Phase("X", nothing)], name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    return trainer, evaluator


@pytest.fixture(scope="module")
def nested():
    """Two epochs of one iteration, and an evaluator after each."""
    with record() as trace:
        make_nested()[0].run([1], max_epochs=2)
    return trace


# -- names ------------------------------------------------------------------------------------------------------------


def test_events_that_are_not_named_are_passed_over(plain):
    check(plain, "STARTED COMPLETED")
    check(plain, "STARTED EPOCH_STARTED EPOCH_COMPLETED EPOCH_STARTED EPOCH_COMPLETED COMPLETED")
    assert not matches(plain, "STARTED EPOCH_STARTED EPOCH_COMPLETED COMPLETED")
    assert not matches(plain, "EPOCH_STARTED EPOCH_STARTED EPOCH_COMPLETED EPOCH_COMPLETED")


def test_the_method_of_a_trace_does_the_same(plain):
    plain.assert_matches("STARTED EPOCH EPOCH COMPLETED", strict=True)
    with pytest.raises(AssertionError, match="trace does not match: STARTED EPOCH"):
        plain.assert_matches("STARTED EPOCH COMPLETED")


def test_an_event_alone_must_come_once(plain):
    check(plain, "COMPLETED")
    assert not matches(plain, "EPOCH_STARTED")
    assert not matches(plain, "TERMINATE")


def test_a_state_is_all_from_the_event_that_enters_it_to_the_one_that_leaves_it(plain):
    check(plain, "EPOCH EPOCH")
    check(plain, "STARTED EPOCH EPOCH COMPLETED", strict=True)
    check(plain, "ITERATION ITERATION ITERATION ITERATION")
    assert not matches(plain, "EPOCH")
    assert not matches(plain, "ITERATION ITERATION ITERATION")


def test_naming_a_state_names_its_two_events(plain):
    check(plain, "ITERATION ITERATION_STARTED ITERATION_COMPLETED ITERATION{2}")
    assert not matches(plain, "ITERATION{3}")


def test_an_event_goes_before_a_state_and_a_state_before_an_engine():
    loop = Loop("EPOCH", Phase("A", nothing, completed="x"), Phase("X", nothing), Phase("B", nothing))
    with record() as trace:
        Engine(loop, name="B").run()
    check(trace, "A_STARTED X X_STARTED X_COMPLETED", strict=False)
    check(trace, "STARTED EPOCH[A_STARTED X X[.{0}] B] COMPLETED", strict=True)
    check(trace, "B")
    assert not matches(trace, "B", strict=True)


def test_a_state_without_an_inside_is_its_one_event():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", nothing), Mark("loss_completed"), over=DATA))
    engine = Engine(loop, name="t")
    engine.register_events("grads_clipped", "seen_started")
    engine.add_event_handler(
        "loss_completed", lambda: [engine.fire_event(key) for key in ("grads_clipped", "seen_started")]
    )
    with record() as trace:
        engine.run([1])
    check(trace, "LOSS GRADS_CLIPPED SEEN")
    check(trace, "LOSS_COMPLETED GRADS_CLIPPED SEEN_STARTED")
    check(trace, "STARTED EPOCH[GET_BATCH ITERATION[A LOSS GRADS_CLIPPED SEEN]] COMPLETED", strict=True)


def test_names_of_members_and_odd_names():
    class Mine(EventEnum):
        ONE = 1

    engine = Engine(fires(Mine.ONE, "a-b c"), name="my engine")
    engine.register_events(Mine.ONE, "a-b c")
    with record() as trace:
        engine.run([1])
    check(trace, "Mine.ONE 'A-B C'")
    check(trace, '"Mine.ONE" "A-B C"')
    check(trace, "'my engine'['my engine':STARTED .* Mine.ONE . .*]")
    check(trace, "ITERATION[Mine.ONE . ]", strict=False)
    assert not matches(trace, "ITERATION[. Mine.ONE .]", strict=True)


def test_blanks_and_lines_do_not_count(plain):
    check(plain, "\n STARTED\n(EPOCH_STARTED ITERATION{ 2 , }\tEPOCH_COMPLETED){2}COMPLETED\n")
    check(plain, "STARTED(EPOCH[ITERATION*])*COMPLETED")


def test_free_states_that_overlap_are_whole_states():
    engine = Engine(fires("a_started", "c_started", "b", "a_completed", "c_completed"), name="t")
    engine.register_events("a_started", "a_completed", "b", "c_started", "c_completed")
    with record() as trace:
        engine.run([1])
    check(trace, "A")
    check(trace, "C")
    check(trace, "A[B]")
    check(trace, "A[C_STARTED B] C_COMPLETED")
    assert not matches(trace, "A C")
    assert not matches(trace, "A[C]")
    assert not matches(trace, "A_STARTED A_COMPLETED C")
    assert failure(trace, "A[C B]")[-1] == "  inside A, C was not left"


# -- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repeated", "counts"),
    [
        ("ITERATION*", range(6)),
        ("ITERATION+", range(1, 6)),
        ("ITERATION?", (0, 1)),
        ("ITERATION{3}", (3,)),
        ("ITERATION{0}", (0,)),
        ("ITERATION{2,}", range(2, 6)),
        ("ITERATION{,2}", range(3)),
        ("ITERATION{1,3}", (1, 2, 3)),
        ("(ITERATION ITERATION)*", (0, 2, 4)),
        ("(ITERATION? ITERATION)+", range(1, 6)),
        ("(ITERATION*)*", range(6)),
        ("(ITERATION?){3}", range(4)),
        ("(ITERATION{2}){1,2}", (2, 4)),
        ("(ITERATION | ITERATION ITERATION){2}", (2, 3, 4)),
    ],
)
def test_repetition(repeated, counts):
    for times in range(6):
        with record() as trace:
            Engine(Loop("EPOCH", Loop("ITERATION", times=times) if times else Mark("none")), name="t").run()
        if times == 0:
            repeated = repeated.replace("ITERATION", "NONE_")
            trace = none_of_them()
        assert matches(trace, f"STARTED EPOCH_STARTED {repeated} EPOCH_COMPLETED COMPLETED") is (times in counts)
        assert matches(trace, f"STARTED EPOCH_STARTED {repeated} EPOCH_COMPLETED COMPLETED", True) is (times in counts)
        repeated = repeated.replace("NONE_", "ITERATION")


def none_of_them():
    """A trace whose engine has a phase NONE_ that never runs."""
    with record() as trace:
        Engine(Loop("EPOCH", Phase("NONE_", nothing, when=lambda engine: False)), name="t").run()
    return trace


def test_choice(plain):
    check(plain, "STARTED (ITERATION | EPOCH_STARTED | EPOCH_COMPLETED)* COMPLETED")
    check(
        plain,
        "STARTED (EPOCH_STARTED | ITERATION_STARTED A_STARTED | B_STARTED B_COMPLETED EPOCH_COMPLETED?)* COMPLETED",
    )
    check(plain, "TERMINATE | STARTED EPOCH{2}")
    assert not matches(plain, "TERMINATE | STARTED EPOCH")


def test_any_event(plain):
    check(plain, ".{39}", strict=True)
    assert not matches(plain, ".{38}", strict=True)
    check(plain, "STARTED .{37} COMPLETED", strict=True)
    check(plain, "STARTED .* B_COMPLETED ITERATION_COMPLETED EPOCH_COMPLETED .* COMPLETED", strict=True)
    check(plain, ".* EPOCH .*", strict=True)
    assert not matches(plain, ".* B A .*", strict=True)


def test_any_event_may_be_one_that_is_passed_over_elsewhere(plain):
    check(plain, "(A_STARTED . B .)*")
    assert not matches(plain, "(A_STARTED . . B .)*")
    check(plain, "STARTED .{10} COMPLETED")
    assert not matches(plain, "STARTED .{38} COMPLETED")
    check(plain, "A B .*")
    assert not matches(plain, "B A .*")


def test_negation(plain):
    check(plain, "(!TERMINATE)*")
    check(plain, "(!TERMINATE){39}", strict=True)
    check(plain, "STARTED !(COMPLETED | EXCEPTION_RAISED)* COMPLETED", strict=True)
    check(plain, "!EPOCH EPOCH_STARTED? (EPOCH | !EPOCH)*")
    assert not matches(plain, "!STARTED .*", strict=True)
    assert not matches(plain, "(!B_STARTED)*")
    assert not matches(plain, "(!(TERMINATE | EPOCH))*", strict=True)


def test_negation_of_a_state_that_is_cut_short_takes_the_event_that_enters_it():
    engine = Engine(nothing, name="t")
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), engine.skip_iteration)
    with record() as trace:
        engine.run([1, 2])
    check(trace, "ITERATION !ITERATION")
    check(trace, ".* ITERATION GET_BATCH !ITERATION ITERATION_SKIPPED .*", strict=True)
    assert not matches(trace, "!ITERATION{2} ITERATION", strict=False)


def test_what_is_named_nought_times_may_not_come(plain):
    check(plain, "TERMINATE{0} STARTED")
    assert not matches(plain, "STARTED B{0}")
    assert not matches(plain, "STARTED (ITERATION[A]){0}")


# -- brackets ---------------------------------------------------------------------------------------------------------


def test_the_inside_of_a_state_is_a_pattern_of_its_own(plain):
    check(plain, "EPOCH[ITERATION{2}]{2}")
    check(plain, "STARTED EPOCH[ITERATION[A B]+]* COMPLETED")
    check(plain, "EPOCH_STARTED (ITERATION[A B] ITERATION[B]) EPOCH_COMPLETED EPOCH")
    assert not matches(plain, "EPOCH[ITERATION]{2}")
    assert not matches(plain, "EPOCH[ITERATION[B A]*]{2}")
    assert not matches(plain, "EPOCH[EPOCH_STARTED ITERATION* EPOCH_COMPLETED]{2}")


def test_names_in_brackets_do_not_count_outside_of_them(plain):
    check(plain, "EPOCH[B{2}] EPOCH_STARTED ITERATION{2} EPOCH_COMPLETED")
    check(plain, "ITERATION[A B]{3} ITERATION_STARTED A ITERATION_COMPLETED")
    assert not matches(plain, "ITERATION[A B]{3} ITERATION_STARTED A ITERATION_COMPLETED B?", strict=True)
    assert not matches(plain, "ITERATION[A]{3} ITERATION_STARTED B A ITERATION_COMPLETED")


def test_strict_is_strict_in_brackets(plain):
    check(plain, "STARTED EPOCH[(GET_BATCH ITERATION[A B])*]{2} COMPLETED", strict=True)
    assert not matches(plain, "STARTED EPOCH[ITERATION*]{2} COMPLETED", strict=True)
    assert not matches(plain, "STARTED EPOCH[(GET_BATCH ITERATION[B])*]{2} COMPLETED", strict=True)


def test_a_choice_of_insides(plain):
    check(plain, "(ITERATION[B A] | ITERATION[A A] | ITERATION[A B])*")
    engine = Engine([Phase("A", nothing, when=every(2)), Phase("B", nothing)], name="t")
    with record() as trace:
        engine.run([1, 2, 3, 4])
    check(trace, "(ITERATION[A{0} B] ITERATION[A B])*")
    assert not matches(trace, "ITERATION[A B]*")


# -- engines ----------------------------------------------------------------------------------------------------------


def test_names_mean_the_outermost_engine_and_the_others_are_passed_over(nested):
    check(nested, "STARTED (EPOCH_STARTED ITERATION EPOCH_COMPLETED){2} COMPLETED")
    check(nested, "STARTED EPOCH EPOCH COMPLETED")


def test_a_whole_run_is_named_by_its_engine(nested):
    check(nested, "STARTED (EPOCH evaluator){2} COMPLETED", strict=True)
    check(nested, "evaluator evaluator")
    check(nested, "trainer")
    check(nested, "trainer", strict=True)
    assert not matches(nested, "evaluator")
    assert not matches(nested, "STARTED (EPOCH evaluator | EPOCH) COMPLETED")
    assert not matches(nested, "STARTED EPOCH{2} COMPLETED", strict=True)


def test_the_inside_of_a_run_has_all_of_its_events(nested):
    check(nested, "(EPOCH evaluator[STARTED EPOCH[ITERATION[X]{2}] COMPLETED]){2}")
    check(nested, "evaluator[STARTED EPOCH COMPLETED]{2}", strict=False)
    check(nested, "trainer[STARTED (EPOCH evaluator[STARTED EPOCH COMPLETED]){2} COMPLETED]", strict=True)
    assert not matches(nested, "evaluator[EPOCH EPOCH]{2}")


def test_one_event_or_state_of_an_engine_wherever_it_is_nested(nested):
    check(nested, "evaluator:X{4}")
    check(nested, "EPOCH evaluator:STARTED evaluator:X evaluator:X EPOCH evaluator:STARTED evaluator : X{2} COMPLETED")
    check(nested, "trainer:EPOCH evaluator:ITERATION[X]{2} EPOCH evaluator:ITERATION{2}")
    assert not matches(nested, "evaluator:X{3}")
    assert not matches(nested, "evaluator:ITERATION[X X]{4}")


def test_what_is_nested_in_a_state_is_inside_of_it():
    trainer, evaluator = Engine([Phase("A", nothing)], name="trainer"), Engine([Phase("X", nothing)], name="evaluator")
    trainer.nest(evaluator, on="a_started", data=[1])
    with record() as trace:
        trainer.run([1, 2])
    check(trace, "STARTED EPOCH COMPLETED", strict=True)
    check(trace, "EPOCH[ITERATION[A[evaluator]]{2}]")
    check(trace, "ITERATION[A[evaluator:X]]{2}")
    check(trace, "evaluator{2}")
    check(trace, "A{2}")
    assert not matches(trace, "ITERATION[A evaluator]{2}")
    assert not matches(trace, "ITERATION[A[A{0}]]{2}", strict=True)


def test_any_event_is_one_of_a_nested_engine_only_where_that_is_not_passed_over(nested):
    assert not matches(nested, "STARTED EPOCH . EPOCH COMPLETED")
    check(nested, "STARTED EPOCH .{16} EPOCH .{16} COMPLETED", strict=True)
    check(nested, "STARTED .* evaluator COMPLETED")
    check(nested, "(!EXCEPTION_RAISED)*", strict=True)
    check(nested, "(!evaluator:EXCEPTION_RAISED)*", strict=True)
    assert not matches(nested, "(!evaluator:X)*", strict=True)
    assert not matches(nested, "(!evaluator)*")


def test_an_engine_that_is_nested_twice_over():
    engines = [Engine([Phase(name, nothing)], name=name.lower()) for name in "ABC"]
    for outer, inner in itertools.pairwise(engines):
        outer.nest(inner, on=Events.ITERATION_COMPLETED, data=[1])
    with record() as trace:
        engines[0].run([1])
    check(trace, "STARTED EPOCH[ITERATION b[EPOCH[ITERATION c[EPOCH[ITERATION[C]]]]]] COMPLETED")
    check(trace, "A b:B c:C")
    check(trace, "b[B c:C c:COMPLETED]")
    check(trace, "c")


def test_engines_that_ran_one_after_the_other_are_both_outermost():
    with record() as trace:
        Engine(nothing, name="one").run([1])
        Engine([Phase("A", nothing)], name="other").run([1])
    check(trace, "one other", strict=True)
    check(trace, "one[STARTED EPOCH COMPLETED] other[ITERATION[A]]")
    check(trace, "STARTED EPOCH COMPLETED STARTED EPOCH[ITERATION[A]] COMPLETED", strict=False)
    check(trace, "one:STARTED other:STARTED A")
    assert not matches(trace, "other one")


def test_engines_that_run_in_turn():
    first, second = Engine(nothing, name="first"), Engine(nothing, name="second")
    with record() as trace:
        for _ in zip(first.steps([1, 2]), second.steps([1, 2]), strict=True):
            pass
    check(trace, "STARTED STARTED EPOCH_STARTED EPOCH_STARTED .* COMPLETED COMPLETED", strict=True)
    check(trace, "first:EPOCH[ITERATION{2}] ")
    assert not matches(trace, "first second")


def test_an_engine_that_did_not_come_to_run_can_be_named():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine([Phase("X", nothing)], name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED(every=5), data=[1])
    with record() as trace:
        trainer.run([1])
    check(trace, "EPOCH evaluator? COMPLETED")
    check(trace, "EPOCH evaluator[X]* evaluator:X? COMPLETED")
    assert not matches(trace, "EPOCH evaluator COMPLETED")


def test_an_engine_that_did_not_come_to_run_in_a_trace_that_was_read(tmp_path):
    trainer = Engine(nothing, name="trainer")
    trainer.nest(Engine(nothing, name="evaluator"), on=Events.EPOCH_COMPLETED(every=5), data=[1])
    with record() as trace:
        trainer.run([1])
    trace.save(tmp_path / "run.jsonl")
    read = Trace.load(tmp_path / "run.jsonl")
    check(read, "EPOCH evaluator? COMPLETED")
    message = "column 1: evaluator did not run, so its events and states are not known; name it as a whole"
    with pytest.raises(PatternError, match=message):
        check(read, "evaluator:EPOCH")


# -- runs that end early ----------------------------------------------------------------------------------------------


def stopped(control, on="a_started", data=(1, 2), **limits):
    engine = Engine([Phase("A", nothing), Phase("B", nothing)], name="trainer")
    engine.add_event_handler(event(on, once=2), (lambda: 1 / 0) if control == "raise" else getattr(engine, control))
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        engine.run(list(data), **limits)
    return trace


def test_a_terminated_run():
    trace = stopped("terminate")
    check(trace, "STARTED EPOCH_STARTED ITERATION ITERATION_STARTED A_STARTED TERMINATE COMPLETED", strict=False)
    check(trace, "STARTED ITERATION !ITERATION TERMINATE COMPLETED")
    assert not matches(trace, "STARTED EPOCH .*")
    assert failure(trace, "STARTED EPOCH COMPLETED") == [
        "trace does not match: STARTED EPOCH COMPLETED",
        "    1  trainer STARTED 0",
        "  > 2  trainer EPOCH_STARTED 1",
        "  expected: EPOCH",
        "  EPOCH was cut short by event 15 trainer TERMINATE 1",
    ]


def test_a_terminated_epoch():
    trace = stopped("terminate_epoch", max_epochs=2)
    check(trace, "STARTED EPOCH{2} COMPLETED", strict=True)
    check(trace, "EPOCH[ITERATION ITERATION_STARTED TERMINATE_SINGLE_EPOCH] EPOCH[ITERATION{2}]")
    assert failure(trace, "EPOCH[ITERATION{2}]{2}") == [
        "trace does not match: EPOCH[ITERATION{2}]{2}",
        "  > 2  trainer EPOCH_STARTED 1",
        "  expected: EPOCH",
        "  inside EPOCH, ITERATION was cut short by event 15 trainer TERMINATE_SINGLE_EPOCH 1",
    ]


def test_a_skipped_iteration():
    trace = stopped("skip_iteration", on=Events.ITERATION_STARTED)
    check(trace, "EPOCH[ITERATION ITERATION_STARTED ITERATION_SKIPPED]")
    assert failure(trace, "STARTED ITERATION{2}") == [
        "trace does not match: STARTED ITERATION{2}",
        "     5  trainer ITERATION_STARTED 1",
        "    10  trainer ITERATION_COMPLETED 1",
        "  > 13  trainer ITERATION_STARTED 2",
        "  expected: ITERATION",
        "  ITERATION was cut short by event 14 trainer ITERATION_SKIPPED 2",
    ]


def test_a_failed_run():
    trace = stopped("raise")
    check(trace, "STARTED ITERATION ITERATION_STARTED !A EXCEPTION_RAISED")
    assert (
        failure(trace, "STARTED ITERATION*")[-1] == "  ITERATION was cut short by event 15 trainer EXCEPTION_RAISED 1"
    )


def test_a_run_that_was_interrupted_is_two():
    engine = Engine([Phase("A", nothing)], name="trainer")
    engine.add_event_handler("a_started", engine.interrupt)
    with record() as trace:
        engine.run([1])
        engine.run()
    check(trace, "STARTED EPOCH[GET_BATCH ITERATION[A[INTERRUPT]]] COMPLETED", strict=True)
    check(trace, "trainer trainer", strict=True)
    check(trace, "trainer[STARTED EPOCH_STARTED A_STARTED INTERRUPT] trainer[A_COMPLETED EPOCH_COMPLETED COMPLETED]")
    assert not matches(trace, "trainer")


def test_a_run_that_goes_on_is_no_whole_run():
    engine, found = Engine(nothing, name="trainer"), []
    with record() as trace:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: found.append(failure(trace, "trainer")))
        engine.run([1])
    assert found == [["trace does not match: trainer", "  > 1  trainer STARTED 0", "  expected: trainer"]]
    check(trace, "trainer")


def test_a_nested_run_that_failed():
    trainer, evaluator = make_nested()
    evaluator.add_event_handler("x_started", lambda: 1 / 0)
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        trainer.run([1])
    check(trace, "STARTED EPOCH evaluator[STARTED .* EXCEPTION_RAISED] EXCEPTION_RAISED", strict=True)
    assert not matches(trace, "EPOCH evaluator[EPOCH] EXCEPTION_RAISED")


# -- excerpts ---------------------------------------------------------------------------------------------------------


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
    assert failure(plain, "EPOCH", indices=range(1, 14))[-1] == "  EPOCH was not left"


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


# -- failures ---------------------------------------------------------------------------------------------------------


def test_the_furthest_event_is_shown_with_the_two_before_it_that_are_named(plain):
    assert failure(plain, "STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED") == [
        "trace does not match: STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED",
        "    13  trainer ITERATION_STARTED 2",
        "    18  trainer ITERATION_COMPLETED 2",
        "  > 19  trainer EPOCH_COMPLETED 1",
        "  expected: ITERATION",
    ]


def test_all_that_was_expected_is_shown_once_in_the_order_of_the_pattern(plain):
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
    engine = Engine(nothing, name="t")
    engine.add_event_handler(Events.ITERATION_STARTED, engine.interrupt)
    with record() as trace:
        engine.run([1])
        Engine(nothing, name="other").run([1])
    assert failure(trace, "t:EPOCH other") == [
        "trace does not match: t:EPOCH other",
        "  > 2  t EPOCH_STARTED 1",
        "  expected: t:EPOCH",
        "  t:EPOCH was not left",
    ]


# -- errors -----------------------------------------------------------------------------------------------------------

COUNTS = "write {n}, {n,}, {,m} or {n,m}, with n up to m"
UNIT = "a name, '.', '!' or '('"
NEGATION = "column 1: '!' takes a name, or a choice of names in parentheses: !A or !(A | B)"
STATES = "its states are EPOCH, GET_BATCH, ITERATION, A"
MISSING = "there is no event or state"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        # what cannot be read
        ("", f"column 1: the pattern ends where {UNIT} belongs"),
        ("  ", f"column 3: the pattern ends where {UNIT} belongs"),
        ("A |", f"column 4: the pattern ends where {UNIT} belongs"),
        ("| A", f"column 1: '|' stands where {UNIT} belongs"),
        ("A | | A", f"column 5: '|' stands where {UNIT} belongs"),
        ("()", f"column 2: ')' stands where {UNIT} belongs"),
        ("EPOCH[]", f"column 7: ']' stands where {UNIT} belongs"),
        ("*", f"column 1: '*' stands where {UNIT} belongs"),
        ("(A | {2})", f"column 6: '{{2}}' stands where {UNIT} belongs"),
        (": A", f"column 1: ':' stands where {UNIT} belongs"),
        ("(A (A)", "column 1: '(' is not closed; add ')'"),
        ("(A]", "column 1: '(' is not closed; add ')'"),
        ("A EPOCH[A", "column 8: '[' is not closed; add ']'"),
        ("A )", "column 3: ')' closes nothing; take it away"),
        ("A] A", "column 2: ']' closes nothing; take it away"),
        ("(A)[A]", f"column 4: '[' stands where {UNIT} belongs"),
        ("A{}", f"column 2: '{{}}' is no repetition; {COUNTS}"),
        ("A{,}", f"column 2: '{{,}}' is no repetition; {COUNTS}"),
        ("A{3,2}", f"column 2: '{{3,2}}' is no repetition; {COUNTS}"),
        ("A{x}", f"column 2: '{{x}}' is no repetition; {COUNTS}"),
        ("A{-1}", f"column 2: '{{-1}}' is no repetition; {COUNTS}"),
        ("A{2", f"column 2: '{{2' is no repetition; {COUNTS}"),
        ("A{9999999999}", f"column 2: '{{9999999999}}' is no repetition; {COUNTS}"),
        ("A**", "column 3: '*' repeats what is repeated already; put that in parentheses"),
        ("A+ ?", "column 4: '?' repeats what is repeated already; put that in parentheses"),
        ("A{2}{3}", "column 5: '{3}' repeats what is repeated already; put that in parentheses"),
        ("A - A", "column 3: '-' means nothing; put a name that has it in quotes"),
        ("A 5", "column 3: '5' means nothing; put a name that has it in quotes"),
        ("A 'A", 'column 3: "\'" is not closed'),
        ("A }", "column 3: '}' means nothing; put a name that has it in quotes"),
        ("!", "column 2: the pattern ends where a name belongs"),
        ("!.", "column 2: '.' stands where a name belongs"),
        ("!!A", "column 2: '!' stands where a name belongs"),
        ("!(A | )", "column 7: ')' stands where a name belongs"),
        ("!(A", NEGATION),
        ("!(A A)", NEGATION),
        ("!(A*)", NEGATION),
        ("!EPOCH[A]", NEGATION),
        ("!(EPOCH[A])", NEGATION),
        ("evaluator:", "column 11: the pattern ends where an event or a state belongs"),
        ("evaluator:(X)", "column 11: '(' stands where an event or a state belongs"),
        ("(" * 60 + "A" + ")" * 60, "column 51: parentheses and brackets are nested more than 50 deep; take some away"),
        # names that no engine has
        ("ITERTION", f"column 1: {MISSING} ITERTION in trainer; did you mean ITERATION?"),
        ("A iteration", f"column 3: {MISSING} iteration in trainer; did you mean ITERATION?"),
        ("'A-B'", f"column 1: {MISSING} A-B in trainer; {STATES}"),
        ("QQQ", f"column 1: {MISSING} QQQ in trainer; {STATES}"),
        ("evalator", f"column 1: {MISSING} evalator in trainer; did you mean evaluator?"),
        ("evalator:X", "column 1: there is no engine evalator; did you mean evaluator?"),
        ("QQQ:X", "column 1: there is no engine QQQ; recorded are trainer, evaluator"),
        ("evaluator:STARTD", f"column 1: {MISSING} STARTD in evaluator; did you mean STARTED?"),
        ("A X", f"column 3: {MISSING} X in trainer; it belongs to evaluator, so write evaluator:X"),
        ("EPOCH[X]", f"column 7: {MISSING} X in trainer; it belongs to evaluator, so write evaluator:X"),
        ("!X", f"column 2: {MISSING} X in trainer; it belongs to evaluator, so write evaluator:X"),
        ("evaluator[A]", f"column 11: {MISSING} A in evaluator; it belongs to trainer, so write trainer:A"),
        ("evaluator:EPOCH[A]", f"column 17: {MISSING} A in evaluator; it belongs to trainer, so write trainer:A"),
        ("evaluator:A", f"column 1: {MISSING} A in evaluator; its states are EPOCH, GET_BATCH, ITERATION, X"),
        ("evaluator:probe", f"column 1: {MISSING} probe in evaluator; its states are EPOCH, GET_BATCH, ITERATION, X"),
        ("A.A", f"column 1: {MISSING} A.A in trainer; put blanks around a dot that stands for an event"),
        ("STARTED[A]", "column 1: STARTED is one event, with no inside; brackets follow a state or an engine"),
        ("\n A\n  ITERTION", f"line 3, column 3: {MISSING} ITERTION in trainer; did you mean ITERATION?"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong_where_it_stands_and_what_to_do(nested, pattern, message):
    with pytest.raises(PatternError) as caught:
        check(nested, pattern)
    assert str(caught.value) == f"pattern, {message}"
    assert isinstance(caught.value, ValueError)


def test_a_pattern_that_is_too_large(plain, monkeypatch):
    monkeypatch.setattr("camshaft.testing.pattern.match.MAX_PLACES", 1000)
    message = "pattern: with its repetitions written out it has over 1,000 parts; use '*'"
    for pattern in ("(A{100}){100}", "EPOCH[A{999999999}]"):
        with pytest.raises(PatternError, match=re.escape(message)):
            check(plain, pattern)
    check(plain, "(A{,50} B?){,15}")


def test_a_name_of_several_outermost_engines_that_none_has():
    with record() as trace:
        for name in ("one", "other", "one"):
            Engine(nothing, name=name).run([1])
    with pytest.raises(PatternError, match="there is no event or state A in one and other; its states are EPOCH"):
        check(trace, "A")


# -- size -------------------------------------------------------------------------------------------------------------


def test_a_long_trace():
    engine = Engine([Phase("A", nothing), Phase("B", nothing)], name="trainer")
    with record() as trace:
        engine.run(range(250), max_epochs=10)
    check(trace, "STARTED (EPOCH_STARTED ITERATION{250} EPOCH_COMPLETED){10} COMPLETED")
    check(trace, "STARTED EPOCH[(GET_BATCH (ITERATION[B A] | ITERATION[A B]))*]{10} COMPLETED", strict=True)
    check(trace, "(.* A .* B .*)*")
    assert failure(trace, "STARTED .* ITERATION{9} EPOCH")[-2:] == [
        "  the trace ends after 20,031 events",
        "  expected: . | ITERATION",
    ]


# -- events only: the regular expressions of Python as an oracle ------------------------------------------------------

LETTERS = "abcd"


def trace_of(word):
    """A trace of custom events, one for each letter."""
    engine = Engine(nothing, name="t")
    engine.register_events(*LETTERS)
    with record() as whole:
        engine.run([1])
    made = Trace()
    made.runs = whole.runs
    made.segments = [[0, 0, len(word)]]
    for letter in word:
        made.append(0, letter, 1, 0.0)
    return made


repetitions = st.sampled_from(["", "*", "+", "?", "{2}", "{0}", "{,2}", "{1,}", "{1,2}"])
letters = st.sampled_from(LETTERS)


def extended(inner):
    grouped = st.tuples(inner, repetitions).map(lambda pair: (f"({pair[0][0]}){pair[1]}", f"(?:{pair[0][1]}){pair[1]}"))
    several = st.lists(inner, min_size=2, max_size=3)
    return (
        grouped
        | several.map(lambda pairs: tuple(" ".join(texts) for texts in zip(*pairs, strict=True)))
        | several.map(lambda pairs: tuple("(" + " | ".join(texts) + ")" for texts in zip(*pairs, strict=True)))
    )


atoms = (
    letters.map(lambda letter: (letter.upper(), letter))
    | st.just((".", "."))
    | letters.map(lambda letter: (f"!{letter.upper()}", f"[^{letter}]"))
    | st.lists(letters, min_size=1, max_size=2).map(
        lambda some: (f"!({' | '.join(some).upper()})", f"[^{''.join(some)}]")
    )
)
patterns = st.recursive(atoms, extended, max_leaves=5)


@given(patterns, st.text(LETTERS, max_size=7))
def test_a_strict_pattern_of_events_is_a_regular_expression(pattern, word):
    text, expression = pattern
    expected = re.fullmatch(expression.replace(" ", "").replace("{,", "{0,"), word) is not None
    assert matches(trace_of(word), text, strict=True) is expected


@given(patterns, st.text(LETTERS, max_size=7))
def test_a_pattern_of_events_passes_over_what_it_does_not_name(pattern, word):
    text, expression = pattern
    named = "".join(letter for letter in LETTERS if letter.upper() in text)
    over = f"[^{named}]*" if named else ".*"
    expression = re.sub(r"\[[^]]*\]|[a-d.]", lambda found: over + found[0], expression.replace(" ", ""))
    expected = re.fullmatch(expression.replace("{,", "{0,") + over, word) is not None
    assert matches(trace_of(word), text) is expected


# -- states and engines: sets of positions as an oracle ---------------------------------------------------------------


class Oracle:
    """Says where the matches of a pattern end, from where they begin, by the meaning of each operator."""

    def __init__(self, trace: Trace, strict: bool) -> None:
        self.rows = [(run, key) for run, key, _, _ in trace.rows()]
        self.runs = trace.runs
        self.strict = strict
        self.wholes = {(span.run, span.state, span.first): span for span in spans(trace) if span.last is not None}
        self.segments = trace.segments

    def names(self, node: Any) -> set[tuple[int, str]]:
        """What a pattern names outside of its brackets: pairs of run and key."""
        kind, *parts = node
        if kind == "event":
            return {(run, key) for run in self.engine(parts[0]) for key in [parts[1]]}
        if kind == "state":
            loops = ((run, span_events(self.runs[run].loop)) for run in self.engine(parts[0]))
            return {(run, key) for run, states in loops for key in states.get(parts[1], ())}
        if kind == "run":
            return {row for row in self.rows if row[0] in self.engine(parts[0])}
        return (
            set().union(*map(self.names, parts[0]))
            if kind in ("seq", "or", "not")
            else (self.names(parts[0]) if kind == "repeat" else set())
        )

    def engine(self, name: str) -> set[int]:
        return {run for run, record in enumerate(self.runs) if record.engine == name}

    def accepts(self, node: Any, within: set[int], first: int, past: int) -> bool:
        """Whether a pattern matches all events of a range, its names meaning some runs."""
        named = self.names(node)
        over = {at for at in range(first, past) if not self.strict and self.rows[at] not in named}

        def passed(starts: set[int]) -> set[int]:
            for at in range(first, past):
                if at in starts and at in over:
                    starts = starts | {at + 1}
            return starts

        def atom(node: Any, at: int) -> set[int]:
            kind, *parts = node
            run, key = self.rows[at]
            whose = (
                self.engine(parts[0]) & within
                if kind in ("event", "state") and parts[0] == "trainer"
                else (self.engine(parts[0]) if kind in ("event", "state", "run") else set())
            )
            if kind == "event":
                return {at + 1} if run in whose and key == parts[1] else set()
            if kind == "state":
                span = self.wholes.get((run, parts[1], at))
                fits = (
                    span is not None
                    and run in whose
                    and span.past <= past
                    and (parts[2] is None or self.accepts(parts[2], {run}, at + 1, span.last))
                )
                return {span.past} if fits else set()
            if kind == "run":
                ends = [end for number, start, end in self.segments if start == at < end and number in whose]
                return {end for end in ends if parts[1] is None or self.accepts(parts[1], whose & {run}, at, end)}
            visible = self.strict or run in within or (run, key) in named
            return {at + 1} if visible and not any(atom(other, at) for other in (parts[0] if parts else ())) else set()

        def ends(node: Any, starts: set[int]) -> set[int]:
            kind, *parts = node
            if kind == "seq":
                for part in parts[0]:
                    starts = ends(part, starts)
                return starts
            if kind == "or":
                return set().union(*(ends(part, starts) for part in parts[0]))
            if kind == "repeat":
                item, least, most = parts
                for _ in range(least):
                    starts = ends(item, starts)
                found = starts
                for _ in range((past - first + 1 if most is None else most) - least):
                    starts = ends(item, starts) - found
                    found = found | starts
                return found
            return set().union(*(atom(node, at) for at in passed(starts) if at < past))

        return past in passed(ends(node, {first}))


def text_of(node: Any) -> str:
    kind, *parts = node
    quoted = f"'{parts[0]}'" if kind in ("event", "state", "run") else ""
    if kind == "event":
        return event_name(parts[1]) if parts[0] == "trainer" else f"{quoted}:{event_name(parts[1])}"
    if kind == "state":
        name = parts[1] if parts[0] == "trainer" else f"{quoted}:{parts[1]}"
        return name if parts[2] is None else f"{name}[{text_of(parts[2])}]"
    if kind == "run":
        return quoted if parts[1] is None else f"{quoted}[{text_of(parts[1])}]"
    if kind == "any":
        return "."
    if kind == "repeat":
        item, least, most = parts
        return f"({text_of(item)}){{{least},{'' if most is None else most}}}"
    joined = (" " if kind == "seq" else " | ").join(map(text_of, parts[0]))
    return f"!({joined})" if kind == "not" else f"({joined})"


@st.composite
def trees(draw: Any, trace: Trace, engines: tuple[str, ...], depth: int) -> Any:
    """A pattern over the names of these engines."""
    kinds = ["event", "event", "state", "state", "any", "not"] + ["seq", "or", "repeat", "repeat"] * (depth > 0)
    kind = draw(st.sampled_from(kinds + ["run"] * ("trainer" in engines and len(engines) > 1)))
    engine = draw(st.sampled_from(engines))
    records = [record for record in trace.runs if record.engine == engine]
    inner = trees(trace, ("trainer",) if engine == "trainer" else (engine,), depth - 1)
    if kind == "event":
        return kind, engine, draw(st.sampled_from(sorted({key for one in records for key in one.loop.event_keys})))
    if kind == "state":
        states = sorted({state for one in records for state in span_events(one.loop)})
        return kind, engine, draw(st.sampled_from(states)), draw(st.none() | inner) if depth > 0 else None
    if kind == "run":
        return kind, engine, draw(st.none() | inner) if depth > 0 else None
    if kind == "any":
        return (kind,)
    if kind == "repeat":
        least, most = draw(st.sampled_from([(0, None), (0, None), (1, None), (0, 1), (2, 2), (0, 2)]))
        return kind, draw(trees(trace, engines, depth - 1)), least, most
    if kind == "not":
        parts = draw(st.lists(trees(trace, engines, 0), min_size=1, max_size=2))
        return kind, [part for part in parts if part[0] in ("event", "state", "run")] or [("event", engine, "started")]
    return kind, draw(st.lists(trees(trace, engines, depth - 1), min_size=2, max_size=3))


@st.composite
def covers(draw: Any, trace: Trace, first: int, past: int, passed: frozenset[str]) -> Any:
    """A pattern that follows the events of a trace one by one, but for some that it does not name; nearly always."""
    wholes = {span.first: span for span in spans(trace) if span.last is not None}
    segments = {start: (run, end) for run, start, end in trace.segments if first <= start < end <= past}
    parts: list[Any] = []
    at = first
    while at < past:
        engine, key = trace[at].engine, trace[at].event
        span, (run, end) = wholes.get(at), segments.get(at, (0, past + 1))
        kind = draw(st.sampled_from(["event", "event", "state", "state", "run", "any", "lost", "choice"]))
        if kind == "run" and at in segments and end - at < past - first:
            parts.append(("run", trace.runs[run].engine, draw(st.none() | covers(trace, at, end, passed))))
            at = end
        elif kind == "state" and span is not None and span.past <= past and key not in passed:
            inner = covers(trace, at + 1, span.past - 1, passed) if span.past - at > 2 else st.none()
            parts.append(("state", engine, span.state, draw(st.none() | inner)))
            at = span.past
        elif key not in passed and (kind != "lost" or draw(st.integers(0, 9))):
            one = ("any",) if kind == "any" else ("event", engine, key)
            parts.append(("or", [("not", [one]), one]) if kind == "choice" else one)
            at += 1
        else:
            at += 1
    if len(parts) > 2 and draw(st.booleans()):
        cut = draw(st.integers(1, len(parts) - 1))
        parts[:cut] = [("repeat", ("seq", parts[:cut]), draw(st.integers(0, 1)), draw(st.sampled_from([1, 2, None])))]
    return ("seq", parts) if parts else ("repeat", ("any",), 0, None)


@given(st.data(), scenarios(loops()), st.booleans())
def test_states_and_engines_match_as_their_meaning_says(data: Any, scenario: Scenario, strict: bool) -> None:
    trace = scenario.play().trace
    if not trace.runs or len(trace) > 150:
        return
    engines = tuple(dict.fromkeys(one.engine for one in trace.runs))
    keys = st.frozensets(st.sampled_from(sorted({one.event for one in trace})), max_size=0 if strict else 4)
    whole = keys.flatmap(lambda passed: covers(trace, 0, len(trace), passed))
    node = data.draw(trees(trace, engines, 3) | whole)
    outermost = {run for run, one in enumerate(trace.runs) if one.parent is None}
    expected = Oracle(trace, strict).accepts(node, outermost, 0, len(trace))
    assert matches(trace, text_of(node), strict) is expected
