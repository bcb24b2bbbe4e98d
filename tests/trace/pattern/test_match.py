"""Patterns over traces: names, operators and brackets, in both modes."""

from __future__ import annotations

import pytest

from camshaft import DATA, Engine, EventEnum, EventPoint, Events, Loop, Phase, every, record
from camshaft.trace.pattern import check
from support.patterns import failure, matches
from support.steps import fires, no_op

# -- names -------------------------------------------------------------------------------------------------------------


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


def test_a_state_is_all_from_entering_to_leaving_event(plain):
    check(plain, "EPOCH EPOCH")
    check(plain, "STARTED EPOCH EPOCH COMPLETED", strict=True)
    check(plain, "ITERATION ITERATION ITERATION ITERATION")
    assert not matches(plain, "EPOCH")
    assert not matches(plain, "ITERATION ITERATION ITERATION")


def test_naming_a_state_names_its_two_events(plain):
    check(plain, "ITERATION ITERATION_STARTED ITERATION_COMPLETED ITERATION{2}")
    assert not matches(plain, "ITERATION{3}")


def test_an_event_goes_before_a_state_and_a_state_before_an_engine():
    loop = Loop("EPOCH", Phase("A", no_op, completed="x"), Phase("X", no_op), Phase("B", no_op))
    with record() as trace:
        Engine(loop, name="B").run()
    check(trace, "A_STARTED X X_STARTED X_COMPLETED", strict=False)
    check(trace, "STARTED EPOCH[A_STARTED X X[.{0}] B] COMPLETED", strict=True)
    check(trace, "B")
    assert not matches(trace, "B", strict=True)


def test_a_state_without_an_inside_is_its_one_event():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", no_op), EventPoint("loss_completed"), over=DATA))
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
    assert failure(trace, "A[C B]")[-1] == "  inside A, C was entered, but the event that leaves it is missing"


# -- operators ---------------------------------------------------------------------------------------------------------


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
            Engine(Loop("EPOCH", Loop("ITERATION", times=times) if times else EventPoint("none")), name="t").run()
        if times == 0:
            repeated = repeated.replace("ITERATION", "NONE_")
            trace = none_of_them()
        assert matches(trace, f"STARTED EPOCH_STARTED {repeated} EPOCH_COMPLETED COMPLETED") is (times in counts)
        assert matches(trace, f"STARTED EPOCH_STARTED {repeated} EPOCH_COMPLETED COMPLETED", True) is (times in counts)
        repeated = repeated.replace("NONE_", "ITERATION")


def none_of_them():
    """Return the trace of an engine with a phase NONE_ that never runs."""
    with record() as trace:
        Engine(Loop("EPOCH", Phase("NONE_", no_op, when=lambda engine: False)), name="t").run()
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


def test_negation_of_a_state_cut_short_takes_its_entering_event():
    engine = Engine(no_op, name="t")
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


# -- brackets ----------------------------------------------------------------------------------------------------------


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
    engine = Engine([Phase("A", no_op, when=every(2)), Phase("B", no_op)], name="t")
    with record() as trace:
        engine.run([1, 2, 3, 4])
    check(trace, "(ITERATION[A{0} B] ITERATION[A B])*")
    assert not matches(trace, "ITERATION[A B]*")


# -- size --------------------------------------------------------------------------------------------------------------


def test_a_long_trace():
    engine = Engine([Phase("A", no_op), Phase("B", no_op)], name="trainer")
    with record() as trace:
        engine.run(range(250), max_epochs=10)
    check(trace, "STARTED (EPOCH_STARTED ITERATION{250} EPOCH_COMPLETED){10} COMPLETED")
    check(trace, "STARTED EPOCH[(GET_BATCH (ITERATION[B A] | ITERATION[A B]))*]{10} COMPLETED", strict=True)
    check(trace, "(.* A .* B .*)*")
    assert failure(trace, "STARTED .* ITERATION{9} EPOCH")[-2:] == [
        "  the trace ends after 20,031 events",
        "  expected: . | ITERATION",
    ]
