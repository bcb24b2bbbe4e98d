"""Events: their identity, and the names of built-in events and of the events of phases."""

import copy
import enum
import pickle

import pytest

from camshaft import DATA, BackpropEvents, CallableEvent, Engine, EventEnum, EventUnion, Loop, Phase, event
from camshaft.events import Filter, event_key
from camshaft.testing import Scenario
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


# -- filtered events and unions ----------------------------------------------------------------------------------------


class Mine(EventEnum):
    X = "x"
    OTHER = "another"


class Yours(EventEnum):
    X = "x"


FILTERED = [E.STARTED(every=2), E.STARTED(once=1, priority=3), E.STARTED(priority=1), event(E.STARTED)]


@pytest.mark.parametrize("filtered", FILTERED, ids=repr)
def test_a_filtered_event_is_equal_to_its_event(filtered):
    assert filtered == E.STARTED
    assert [filtered] == [E.STARTED]
    assert all(filtered == other for other in FILTERED)
    assert hash(filtered) == hash(E.STARTED)
    assert {filtered: 1}[E.STARTED] == {E.STARTED: 1}[filtered] == 1
    assert filtered in [E.STARTED]
    assert (filtered.name, filtered.value, filtered.key) == ("STARTED", "started", "started")
    assert filtered not in (E.COMPLETED, E.COMPLETED(every=2), "completed", None, 1)


def test_members_of_several_enums_differ():
    assert Mine.X != Yours.X
    assert Mine.X(every=2) != Yours.X(every=2)
    assert Mine.X not in ("x", "X", 1, None, Plain.CLIPPED)
    assert E.STARTED != enum.Enum("Plain", {"STARTED": "started"}).STARTED


def test_an_event_of_another_library_is_equal_by_its_value():
    ignite = pytest.importorskip("ignite.engine")
    for ours in (E.STARTED, E.STARTED(every=2)):
        for theirs in (ignite.Events.STARTED, ignite.Events.STARTED(every=3)):
            assert ours == theirs
            assert theirs == ours
        assert ours != ignite.Events.COMPLETED
        assert [ignite.Events.COMPLETED, ignite.Events.STARTED].index(ours) == 1
    assert Mine.OTHER != ignite.EventEnum("Theirs", {"OTHER": "other"}).OTHER


def test_a_filtered_string_is_an_event_of_that_name():
    filtered = event("x_started", every=2)
    assert filtered == "x_started"
    assert hash(filtered) == hash("x_started")
    assert (filtered.name, filtered.value) == ("X_STARTED", "x_started")
    assert (event(Numbers.ONE).name, event(Numbers.ONE).value) == ("ONE", 1)


def test_filters_that_differ_tell_declarations_apart():
    inner = Engine(echo, "inner")
    engines = [Engine(echo) for _ in range(3)]
    for engine, on in zip(engines, [E.EPOCH_COMPLETED(every=2), E.EPOCH_COMPLETED(every=2), E.EPOCH_COMPLETED]):
        engine.nest(inner, on=on, data=[1])
    loops = [engine.loop for engine in engines]
    assert loops[0].nested == loops[1].nested != loops[2].nested
    scenarios = [Scenario(loops[0], handlers=(event("started", every=every),)) for every in (1, 2)]
    assert scenarios[0] != scenarios[1]
    unions = [E.STARTED | E.COMPLETED(every=every) for every in (2, 2, 3)]
    assert unions[0] == unions[1] != unions[2]
    assert hash(unions[0]) == hash(unions[1])


def test_an_event_called_without_arguments_is_the_event():
    assert Mine.X() is Mine.X
    assert Mine.X(priority=0) is Mine.X
    filtered = Mine.X(every=2)
    assert filtered() is filtered


def test_a_call_of_a_filtered_event_replaces_what_it_gives():
    filtered = Mine.X(every=2, priority=5)
    assert filtered(once=3).parts == Mine.X(once=3, priority=5).parts
    assert filtered(priority=1).parts == event(filtered, priority=1).parts == Mine.X(every=2, priority=1).parts


def test_a_union_has_the_events_as_they_were_joined():
    every = Mine.X(every=2)
    union = every | E.COMPLETED | ("started" | Mine.OTHER)
    assert isinstance(union, EventUnion)
    assert len(union) == 4
    assert list(union) == [union[index] for index in range(4)] == [every, E.COMPLETED, "started", Mine.OTHER]
    assert union[0] is every
    assert union[1] is E.COMPLETED
    assert union[-1] is Mine.OTHER
    assert union[1:3] == (E.COMPLETED, "started")
    assert repr(union) == "<EventUnion X(every=2) | COMPLETED | STARTED | ANOTHER>"


def test_a_union_can_begin_empty():
    union = EventUnion()
    assert (len(union), list(union), repr(union)) == (0, [], "<EventUnion >")
    union |= E.COMPLETED
    union |= E.STARTED(once=1) | Mine.X
    assert list(union) == [E.COMPLETED, E.STARTED, Mine.X]
    with pytest.raises(TypeError, match="has no event"):
        Engine(echo).add_event_handler(EventUnion(), print)
    with pytest.raises(TypeError, match="5 is not an event"):
        E.STARTED | 5


@pytest.mark.parametrize("thing", [Mine.X, Mine.X(every=2), E.STARTED, E.STARTED(once=1, priority=2)], ids=repr)
def test_every_event_can_be_called_and_has_a_filter(thing):
    assert isinstance(thing, CallableEvent)
    assert isinstance(thing(every=3), CallableEvent)
    assert thing(every=3).filter == Filter(every=3)
    assert (thing.filter is None) == isinstance(thing, EventEnum)


@pytest.mark.parametrize("thing", [Mine.X(every=2), event("x", once=[1, 2]), E.STARTED | Mine.X(every=2)], ids=repr)
def test_filtered_events_and_unions_can_be_copied(thing):
    for copied in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert copied == thing
        assert repr(copied) == repr(thing)
