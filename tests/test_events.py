"""Events: their identity, and the names of built-in events and of the events of phases."""

import enum

import pytest

from camshaft import DATA, BackpropEvents, Engine, Loop, Phase
from camshaft.events import event_key
from support.engines import ClipEvents, E, collect, legal, names
from support.steps import echo, fires, no_op


class Numbers(enum.Enum):
    ONE = 1


class Plain(enum.Enum):
    CLIPPED = "grads_clipped"


def test_an_event_is_identified_by_its_value():
    engine = Engine(fires(Plain.CLIPPED, "grads_clipped", ClipEvents.GRADS_CLIPPED))
    engine.register_events(ClipEvents.GRADS_CLIPPED)
    seen = [collect(engine, handle) for handle in (ClipEvents.GRADS_CLIPPED, "grads_clipped", Plain.CLIPPED)]
    assert legal(engine, [1]).count("grads_clipped") == 3
    assert seen == [[1, 1, 1]] * 3
    assert all(map(engine.has_registered_events, (ClipEvents.GRADS_CLIPPED, "grads_clipped", Plain.CLIPPED)))


def test_a_value_that_is_not_a_string_goes_by_class_and_name():
    engine = Engine(fires("Numbers.ONE", Numbers.ONE))
    engine.register_events(Numbers.ONE)
    assert legal(engine, [1]).count(Numbers.ONE) == 2


def test_another_librarys_members_of_a_value_are_handles_for_it():
    ignite = pytest.importorskip("ignite.engine")
    engine = Engine(echo)
    seen = collect(engine, ignite.Events.ITERATION_COMPLETED)
    engine.add_event_handler(ignite.Events.EPOCH_COMPLETED | ignite.Events.COMPLETED, lambda: seen.append("end"))
    assert "iteration_completed" in names(legal(engine, [1, 2]))
    assert seen == [1, 2, "end", "end"]


def test_another_librarys_filters_work():
    ignite = pytest.importorskip("ignite.engine")
    engine = Engine(echo)
    seen = collect(engine, ignite.Events.ITERATION_COMPLETED(every=2))
    engine.run(range(5))
    assert seen == [2, 4]


def test_registering_a_value_that_a_phase_has_adds_a_handle():
    class Mine(enum.Enum):
        AFTER_BACKWARD = "backward_completed"

    engine = Engine([Phase("BACKWARD", no_op)])
    loop = engine.loop
    engine.register_events(Mine.AFTER_BACKWARD)
    seen = collect(engine, Mine.AFTER_BACKWARD)
    legal(engine, [1, 2])
    assert engine.loop == loop
    assert seen == [1, 2]


@pytest.mark.parametrize("event", ["epoch_completed", E.TERMINATE, enum.Enum("Mine", {"X": "started"}).X])
def test_registering_the_value_of_a_built_in_event_is_an_error(event):
    with pytest.raises(ValueError, match="built-in"):
        Engine(echo).register_events(event)


def test_started_and_completed_default_each_by_itself():
    loop = Loop(
        "EPOCH", Loop("ITERATION", Phase("CLIP", no_op), Phase("STEP_DOWN", no_op, started="going_down"), over=DATA)
    )
    assert (loop.find("CLIP").started, loop.find("CLIP").completed) == ("clip_started", "clip_completed")
    assert (loop.find("STEP_DOWN").started, loop.find("STEP_DOWN").completed) == ("going_down", "step_down_completed")
    assert event_key(loop.events.CLIP_COMPLETED) == "clip_completed"
    assert Loop("FOLD", Phase("FIT", no_op), completed="fold_done").started == "fold_started"
    engine = Engine(loop)
    assert collect(engine, loop.events.STEP_DOWN_COMPLETED) == []
    assert names(legal(engine, [1]))[5:9] == ["clip_started", "clip_completed", "going_down", "step_down_completed"]


def test_backprop_events_has_forward_backward_and_optim_step():
    states = ("FORWARD", "BACKWARD", "OPTIM_STEP")
    assert {member.name: member.value for member in BackpropEvents} == {
        f"{state}_{end}": f"{state}_{end}".lower() for state in states for end in ("STARTED", "COMPLETED")
    }
