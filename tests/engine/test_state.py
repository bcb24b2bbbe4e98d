"""The state of an engine: the attributes that number events, another state for an engine, and its text."""

from __future__ import annotations

import copy
import pickle

import pytest

from camshaft import DATA, BackpropEvents, Engine, EventEnum, Loop, Phase, State
from support.engines import E, collect, legal
from support.steps import echo, fires, no_op


class Rows(EventEnum):
    ROW = "row"
    PAGE = "page"


COUNTED = {
    E.STARTED: "epoch",
    E.EPOCH_STARTED: "epoch",
    E.GET_BATCH_STARTED: "iteration",
    E.GET_BATCH_COMPLETED: "iteration",
    E.ITERATION_STARTED: "iteration",
    E.ITERATION_COMPLETED: "iteration",
    E.ITERATION_SKIPPED: "iteration",
    E.EPOCH_COMPLETED: "epoch",
    E.COMPLETED: "epoch",
}


# -- numbers of events -------------------------------------------------------------------------------------------------


def test_events_of_the_standard_loop_are_numbered_by_its_counters():
    assert COUNTED == State.event_to_attr == State().event_to_attr == Engine(echo).state.event_to_attr
    assert repr(State.event_to_attr) == repr({event: State.event_to_attr[event] for event in State.event_to_attr})
    state = State(epoch=3, iteration=40)
    assert [state.get_event_attrib_value(event) for event in COUNTED] == [
        {"epoch": 3, "iteration": 40}[attribute] for attribute in COUNTED.values()
    ]


@pytest.mark.parametrize("event", [E.EPOCH_STARTED, E.EPOCH_STARTED(every=2), "epoch_started"], ids=repr)
def test_an_event_is_numbered_by_any_of_its_handles(event):
    ignite = pytest.importorskip("ignite.engine")
    for handle in (event, ignite.Events.EPOCH_STARTED, ignite.Events.EPOCH_STARTED(every=3)):
        assert handle in State.event_to_attr
        assert State.event_to_attr[handle] == "epoch"
        assert State(epoch=7).get_event_attrib_value(handle) == 7


@pytest.mark.parametrize(
    "event", [E.TERMINATE, E.TERMINATE_SINGLE_EPOCH, E.INTERRUPT, E.EXCEPTION_RAISED, E.DATALOADER_STOP_ITERATION]
)
def test_events_that_belong_to_no_pass_have_no_number(event):
    assert event not in Engine(echo).state.event_to_attr
    with pytest.raises(RuntimeError, match=f"{event.name}.* has no number in this state, which numbers STARTED, EPOCH"):
        State().get_event_attrib_value(event)


@pytest.mark.parametrize("event", ["abc", Rows.ROW, None, 5, E.STARTED | E.COMPLETED], ids=repr)
def test_what_is_no_event_of_the_engine_has_no_number(event):
    assert event not in State.event_to_attr
    with pytest.raises(RuntimeError, match="register events of your own with the engine first"):
        State().get_event_attrib_value(event)


def test_custom_events_are_numbered_by_the_attribute_that_is_registered():
    def step(engine, batch):
        engine.state.rows += 3
        engine.fire_event(Rows.ROW)
        engine.fire_event(Rows.PAGE)

    engine = Engine(step)
    engine.register_events(*Rows, event_to_attr={Rows.ROW: "rows"})
    assert engine.state.rows == engine.state.get_event_attrib_value(Rows.ROW) == 0
    seen = collect(engine, Rows.ROW(every=2), lambda engine: engine.state.get_event_attrib_value(Rows.ROW))
    pages = collect(engine, Rows.PAGE, lambda engine: engine.state.get_event_attrib_value(Rows.PAGE))
    legal(engine, range(4))
    assert seen == [6, 12]
    assert pages == [1, 2, 3, 4], "without an attribute, the number is that of the iteration"
    assert Rows.ROW not in State.event_to_attr
    assert not hasattr(Engine(step).state, "rows")


def test_events_of_phases_and_loops_are_numbered_by_their_loop():
    loop = Loop("FOLD", Loop("ITERATION", Phase("BACKWARD", no_op), over=DATA))
    state = Engine(loop).state
    assert (
        state.event_to_attr[BackpropEvents.BACKWARD_COMPLETED]
        == state.event_to_attr["iteration_started"]
        == "iteration"
    )
    assert state.event_to_attr[E.STARTED] == state.event_to_attr[loop.started] == "fold"


@pytest.mark.parametrize("wrong", ["rows", [(Rows.ROW, "rows")], 5])
def test_event_to_attr_must_be_a_dictionary(wrong):
    with pytest.raises(ValueError, match="event_to_attr must be a dictionary from events to attributes, got "):
        Engine(echo).register_events(*Rows, event_to_attr=wrong)


# -- another state -----------------------------------------------------------------------------------------------------


def test_an_engine_takes_another_state():
    engine = Engine(fires(Rows.ROW))
    engine.register_events(*Rows, event_to_attr={Rows.ROW: "rows"})
    seen = collect(engine, E.ITERATION_COMPLETED(every=2))
    engine.run([1, 2, 3])
    state = engine.state = State(mine=5, epoch=7)
    assert engine.state is state
    assert state.rows == state.get_event_attrib_value(Rows.ROW) == 0
    assert legal(engine, [1, 2, 3], max_epochs=2).count(E.STARTED) == 1
    assert (state.epoch, state.iteration, state.mine) == (2, 6, 5)
    assert seen == [2, 2, 4, 6]


def test_a_state_that_is_made_by_hand_gets_the_counters_of_the_loop():
    engine = Engine(Loop("EPISODE", Phase("ACT", no_op)))
    engine.state = State()
    assert engine.state.episode == 0
    engine.run(max_epochs=2)
    assert engine.state.episode == engine.state.get_event_attrib_value("episode_completed") == 2


def test_a_run_that_is_not_over_keeps_its_state():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.run([1, 2, 3])
    with pytest.raises(RuntimeError, match=r"not over: assign another state before run\(\), or after close\(\)"):
        engine.state = State()
    engine.state = engine.state
    engine.close()
    engine.state = State()
    engine.run([1])


@pytest.mark.parametrize("wrong", [None, {}, State])
def test_a_state_must_be_a_state(wrong):
    with pytest.raises(TypeError, match=r"engine.state must be a State of camshaft, got .*: assign camshaft.State\(\)"):
        Engine(echo).state = wrong


def test_copies_of_a_state_number_the_same_events():
    engine = Engine(echo)
    engine.register_events("row", event_to_attr={"row": "rows"})
    engine.state.rows = 4
    for copied in (copy.deepcopy(engine).state, copy.copy(engine.state), pickle.loads(pickle.dumps(engine.state))):
        assert copied.get_event_attrib_value("row") == 4


# -- text --------------------------------------------------------------------------------------------------------------


def test_the_text_of_a_state_has_numbers_and_strings_and_the_classes_of_others():
    state = State(iteration=3, batch=[1, 2], output=0.5, metrics={"a": 1.0}, mine="text", flag=True)
    assert repr(state) == (
        "State:\n"
        "\titeration: 3\n"
        "\tepoch: 0\n"
        "\tepoch_length: <class 'NoneType'>\n"
        "\tmax_epochs: <class 'NoneType'>\n"
        "\tmax_iters: <class 'NoneType'>\n"
        "\toutput: 0.5\n"
        "\tbatch: <class 'list'>\n"
        "\tmetrics: <class 'dict'>\n"
        "\tdataloader: <class 'NoneType'>\n"
        "\tseed: <class 'NoneType'>\n"
        "\ttimes: <class 'dict'>\n"
        "\tmine: text\n"
        "\tflag: True\n"
    )
