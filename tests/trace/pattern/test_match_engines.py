"""Patterns over nested engines, and over runs that end early."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from camshaft import Engine, Events, Phase, Trace, event, record
from camshaft.trace.pattern import PatternError, check
from support.patterns import failure, make_nested, matches
from support.steps import no_op

# -- engines -----------------------------------------------------------------------------------------------------------


def test_names_mean_the_outermost_engine(nested):
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
    trainer, evaluator = Engine([Phase("A", no_op)], name="trainer"), Engine([Phase("X", no_op)], name="evaluator")
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


def test_any_event_may_be_of_a_nested_engine_that_is_named(nested):
    assert not matches(nested, "STARTED EPOCH . EPOCH COMPLETED")
    check(nested, "STARTED EPOCH .{16} EPOCH .{16} COMPLETED", strict=True)
    check(nested, "STARTED .* evaluator COMPLETED")
    check(nested, "(!EXCEPTION_RAISED)*", strict=True)
    check(nested, "(!evaluator:EXCEPTION_RAISED)*", strict=True)
    assert not matches(nested, "(!evaluator:X)*", strict=True)
    assert not matches(nested, "(!evaluator)*")


def test_an_engine_that_is_nested_twice_over():
    engines = [Engine([Phase(name, no_op)], name=name.lower()) for name in "ABC"]
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
        Engine(no_op, name="one").run([1])
        Engine([Phase("A", no_op)], name="other").run([1])
    check(trace, "one other", strict=True)
    check(trace, "one[STARTED EPOCH COMPLETED] other[ITERATION[A]]")
    check(trace, "STARTED EPOCH COMPLETED STARTED EPOCH[ITERATION[A]] COMPLETED", strict=False)
    check(trace, "one:STARTED other:STARTED A")
    assert not matches(trace, "other one")


def test_engines_that_run_in_turn():
    first, second = Engine(no_op, name="first"), Engine(no_op, name="second")
    with record() as trace:
        for _ in zip(first.steps([1, 2]), second.steps([1, 2]), strict=True):
            pass
    check(trace, "STARTED STARTED EPOCH_STARTED EPOCH_STARTED .* COMPLETED COMPLETED", strict=True)
    check(trace, "first:EPOCH[ITERATION{2}] ")
    assert not matches(trace, "first second")


def test_an_engine_that_did_not_come_to_run_can_be_named():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine([Phase("X", no_op)], name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED(every=5), data=[1])
    with record() as trace:
        trainer.run([1])
    check(trace, "EPOCH evaluator? COMPLETED")
    check(trace, "EPOCH evaluator[X]* evaluator:X? COMPLETED")
    assert not matches(trace, "EPOCH evaluator COMPLETED")


def test_an_engine_that_never_ran_in_a_trace_that_was_read(tmp_path):
    trainer = Engine(no_op, name="trainer")
    trainer.nest(Engine(no_op, name="evaluator"), on=Events.EPOCH_COMPLETED(every=5), data=[1])
    with record() as trace:
        trainer.run([1])
    trace.save(tmp_path / "run.jsonl")
    read = Trace.load(tmp_path / "run.jsonl")
    check(read, "EPOCH evaluator? COMPLETED")
    message = (
        "column 1: evaluator did not run, so its events and states are not known; "
        "name only the engine, without brackets or a colon"
    )
    with pytest.raises(PatternError, match=message):
        check(read, "evaluator:EPOCH")


def stopped(control, on="a_started", data=(1, 2), **limits):
    engine = Engine([Phase("A", no_op), Phase("B", no_op)], name="trainer")
    engine.add_event_handler(event(on, once=2), (lambda: 1 / 0) if control == "raise" else getattr(engine, control))
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        engine.run(list(data), **limits)
    return trace


# -- runs that end early -----------------------------------------------------------------------------------------------


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
    engine = Engine([Phase("A", no_op)], name="trainer")
    engine.add_event_handler("a_started", engine.interrupt)
    with record() as trace:
        engine.run([1])
        engine.run()
    check(trace, "STARTED EPOCH[GET_BATCH ITERATION[A[INTERRUPT]]] COMPLETED", strict=True)
    check(trace, "trainer trainer", strict=True)
    check(trace, "trainer[STARTED EPOCH_STARTED A_STARTED INTERRUPT] trainer[A_COMPLETED EPOCH_COMPLETED COMPLETED]")
    assert not matches(trace, "trainer")


def test_a_run_that_goes_on_is_no_whole_run():
    engine, found = Engine(no_op, name="trainer"), []
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
