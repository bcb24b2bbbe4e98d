"""Registration of custom events: at a place, in a declared order, or anywhere."""

from __future__ import annotations

import pytest

from camshaft import BackpropEvents, Engine, EventOrderError, Events, LoopError, Phase
from support.engines import ITERATION, ClipEvents, E, collect, legal, names, traced
from support.steps import echo, fires, no_op


def states_of(engine):
    return {state for place in engine.machine.states for state in place.split("/")}


@pytest.mark.parametrize("place", [{}, {"within": "EPOCH"}, {"order": "declared"}])
def test_registration_puts_a_state_into_loop_and_machine(place):
    engine = Engine(echo)
    assert not {"BACKWARD", "OPTIM_STEP"} & states_of(engine)
    assert "BACKWARD" not in str(engine.loop)
    engine.register_events(*BackpropEvents, **place)
    assert states_of(engine) >= {"FORWARD", "BACKWARD", "OPTIM_STEP"}
    assert all(
        state in str(engine.loop) and state in str(engine.machine) for state in ("FORWARD", "BACKWARD", "OPTIM_STEP")
    )
    assert all(each.value in engine.loop.event_keys for each in BackpropEvents)


def test_registration_puts_a_placed_event_into_the_loop():
    engine = Engine([Phase("BACKWARD", no_op), Phase("OPTIM_STEP", no_op)])
    assert engine.loop.find("GRADS_CLIPPED") is None
    assert "GRADS_CLIPPED" not in states_of(engine)
    engine.register_events(ClipEvents.GRADS_CLIPPED, after="BACKWARD")
    assert [path for path, item in engine.loop.walk() if item.name == "GRADS_CLIPPED"] == [
        ("EPOCH", "ITERATION", "GRADS_CLIPPED")
    ]
    assert "EPOCH/ITERATION/GRADS_CLIPPED" in engine.machine.states


def test_x_started_and_x_completed_put_the_state_x_into_iteration():
    engine = Engine(fires("clip_started", "clip_completed"))
    engine.register_events(ClipEvents.CLIP_STARTED, ClipEvents.CLIP_COMPLETED)
    inside = collect(engine, ClipEvents.CLIP_STARTED, lambda engine: engine.where)
    legal(engine, [1])
    assert "EPOCH/ITERATION/CLIP" in engine.machine.states
    assert inside == [("EPOCH", "ITERATION", "CLIP")]


@pytest.mark.parametrize("lone", ["clip_completed", "grads_clipped"])
def test_a_lone_event_is_a_state_entered_and_left_at_once(lone):
    engine = Engine(fires(lone, lone))
    engine.register_events(lone)
    inside = collect(engine, lone, lambda engine: engine.where[2:])
    legal(engine, [1, 2])
    assert inside == [("CLIP" if lone == "clip_completed" else "GRADS_CLIPPED",)] * 4


def test_within_puts_the_state_elsewhere():
    engine = Engine(echo)
    engine.register_events("validation_started", "validation_completed", within="EPOCH")
    engine.add_event_handler(E.EPOCH_STARTED, lambda engine: engine.fire_event("validation_started"))
    handle = engine.add_event_handler(
        E.ITERATION_COMPLETED(once=2), lambda engine: engine.fire_event("validation_completed")
    )
    assert "EPOCH/VALIDATION" in engine.machine.states
    legal(engine, [1, 2])
    handle.remove()
    with pytest.raises(EventOrderError, match=r"(?s)EPOCH_COMPLETED.*VALIDATION_COMPLETED"):
        traced(engine, [1, 2]).assert_legal()


def test_within_run_puts_the_state_around_the_outermost_loop():
    engine = Engine(echo)
    engine.register_events("warmed_up", within="RUN")
    engine.add_event_handler(E.STARTED, lambda engine: engine.fire_event("warmed_up"))
    assert names(legal(engine, [1]))[:3] == ["started", "warmed_up", "epoch_started"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            {"after": "BACKWARD"},
            ["backward_started", "backward_completed", "grads_clipped", "optim_step_started", "optim_step_completed"],
        ),
        (
            {"before": "BACKWARD"},
            ["grads_clipped", "backward_started", "backward_completed", "optim_step_started", "optim_step_completed"],
        ),
        (
            {"after": "OPTIM_STEP"},
            ["backward_started", "backward_completed", "optim_step_started", "optim_step_completed", "grads_clipped"],
        ),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_after_or_before_gives_an_event_a_place(where, expected, strict):
    engine = Engine([Phase("BACKWARD", no_op), Phase("OPTIM_STEP", no_op)], strict=strict)
    engine.register_events(ClipEvents.GRADS_CLIPPED, **where)
    counts = collect(engine, ClipEvents.GRADS_CLIPPED)
    iteration = [*ITERATION[:3], *expected, E.ITERATION_COMPLETED]
    assert legal(engine, [1, 2]) == [E.STARTED, E.EPOCH_STARTED, *iteration * 2, E.EPOCH_COMPLETED, E.COMPLETED]
    assert counts == [1, 2]


def test_after_takes_events_in_order_and_pairs_as_one_state():
    engine = Engine([Phase("BACKWARD", no_op)])
    engine.register_events("grads_clipped", "clip_started", "clip_completed", after="BACKWARD")
    assert names(legal(engine, [1]))[7:10] == ["grads_clipped", "clip_started", "clip_completed"]
    assert isinstance(engine.loop.find("CLIP"), Phase)


def test_after_a_loop_is_a_place_too():
    engine = Engine(echo)
    engine.register_events("validated", after="ITERATION")
    assert names(legal(engine, [1, 2]))[-3:] == ["validated", "epoch_completed", "completed"]


def test_an_event_cannot_be_registered_again_in_another_way():
    engine = Engine([Phase("A", no_op)])
    engine.register_events("x", "y")
    for options in ({"order": "declared"}, {"within": "EPOCH"}, {"after": "A"}):
        with pytest.raises(ValueError, match="register"):
            engine.register_events("x", "y", **options)
    engine.register_events("x", "y")
    with pytest.raises(ValueError, match="fired by the loop EPOCH itself"):
        engine.register_events("a_started", within="EPOCH")


def test_states_cannot_take_the_names_of_built_in_places():
    engine = Engine(no_op)
    for options in ({}, {"after": "ITERATION"}):
        with pytest.raises(LoopError, match="GET_BATCH is the name of a built-in state"):
            engine.register_events("get_batch", **options)


def test_new_states_cannot_be_registered_while_a_run_is_under_way():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda engine: engine.register_events("late"))
    with pytest.raises(RuntimeError, match="change its loop before run"):
        engine.run([1])
