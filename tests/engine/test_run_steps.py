"""Runs in steps(): continued by run(), closed, ended by control calls, and left at any event."""

from __future__ import annotations

from camshaft import Engine, Events
from support.engines import Source
from support.steps import no_op


def test_run_goes_on_where_stepping_was_left():
    engine = Engine(no_op)
    for one in engine.steps([1, 2, 3]):
        if one is Events.ITERATION_COMPLETED:
            break
    assert engine.state.iteration == 1
    assert engine.run().iteration == 3


def test_run_takes_over_from_whoever_steps():
    engine = Engine(no_op)
    steps = engine.steps([1, 2, 3])
    next(steps)
    assert engine.run().iteration == 3
    assert list(steps) == []


def test_steps_that_were_never_taken_leave_nothing_behind():
    engine = Engine(no_op)
    engine.steps([1, 2])
    assert engine.run([3, 4]).batch == 4


def test_a_stepped_run_can_be_closed():
    engine = Engine(no_op)
    next(engine.steps([1, 2]))
    engine.close()
    assert engine.where == ()
    assert engine.run([1]).iteration == 1


def test_terminate_between_two_steps_takes_effect_at_the_next():
    engine = Engine(no_op)
    events = []
    for one in engine.steps([1, 2, 3]):
        events.append(one)
        if one is Events.ITERATION_STARTED:
            engine.terminate()
    assert events[-3:] == [Events.ITERATION_STARTED, Events.TERMINATE, Events.COMPLETED]


def test_steps_left_in_a_handler_are_closed_with_the_engine_around():
    outer, inner, source = Engine(no_op, name="outer"), Engine(no_op, name="inner"), Source()

    @outer.on(Events.ITERATION_STARTED)
    def step_a_little():
        for one in inner.steps(source):
            if one is Events.ITERATION_COMPLETED:
                break

    outer.run([1])
    assert source.closed == 1
    assert inner.where == ()


def test_stepping_left_at_the_last_event_ends_the_run():
    engine = Engine(no_op)
    for one in engine.steps([1, 2], max_epochs=1):
        if one is Events.COMPLETED:
            break
    assert engine.run([3, 4], max_epochs=2).epoch == 2
    assert engine.state.iteration == 4


def test_a_used_up_iterator_of_steps_does_not_hinder_a_run():
    engine = Engine(no_op)
    steps = engine.steps([1])
    for fired in steps:
        if fired is Events.COMPLETED:
            break
    assert engine.run([1, 2]).iteration == 2
