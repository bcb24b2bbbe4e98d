"""Tests of states that span n iterations or epochs: when they are entered and left, however a run continues."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import DATA, Engine, EventEnum, Events, Loop, LoopError, Phase, record
from camshaft.handlers import CustomPeriodicEvent
from support.steps import no_op


def attached(engine=None, **period):
    engine = Engine(no_op, "trainer") if engine is None else engine
    cpe = CustomPeriodicEvent(**period)
    cpe.attach(engine)
    return engine, cpe


def firings(engine, cpe, data=(1, 2, 3, 4), **limits):
    """Run an engine, and return the firings of the state's events with iteration and count. The trace must be legal."""
    fired = []

    def note(letter):
        return lambda: fired.append((letter, engine.state.iteration, getattr(engine.state, cpe.counter)))

    handlers = [engine.add_event_handler(event, note(letter)) for letter, event in zip("SC", cpe.Events, strict=True)]
    with record() as trace:
        engine.run(data, **limits)
    trace.assert_legal()
    for handler in handlers:
        handler.remove()
    return fired


def test_its_events_and_its_counter_have_the_known_names():
    engine, cpe = attached(n_iterations=1000)
    assert issubclass(cpe.Events, EventEnum)
    assert [(event.name, event.value) for event in cpe.Events] == [
        ("ITERATIONS_1000_STARTED", "iterations_1000_started"),
        ("ITERATIONS_1000_COMPLETED", "iterations_1000_completed"),
    ]
    assert engine.state.iterations_1000 == 0
    assert [event.name for event in CustomPeriodicEvent(n_epochs=10).Events] == [
        "EPOCHS_10_STARTED",
        "EPOCHS_10_COMPLETED",
    ]


def test_it_is_a_state_like_any_other():
    engine, cpe = attached(n_iterations=2)
    assert "EPOCH/ITERATION/ITERATIONS_2" in engine.machine.states
    assert "anywhere within RUN, in any order\n  ITERATIONS_2_STARTED -> ITERATIONS_2" in str(engine.machine)
    assert "ITERATIONS_2" in engine.diagram().text()
    with record() as trace:
        engine.run([1, 2, 3, 4])
    trace.assert_legal()
    assert trace.count(cpe.Events.ITERATIONS_2_COMPLETED) == 2


def test_iterations_are_counted_over_epochs():
    assert firings(*attached(n_iterations=3), max_epochs=2) == [
        ("S", 1, 1),
        ("C", 3, 1),
        ("S", 4, 2),
        ("C", 6, 2),
        ("S", 7, 3),
    ]


def test_epochs_too():
    assert firings(*attached(n_epochs=2), max_epochs=5) == [
        ("S", 0, 1),
        ("C", 8, 1),
        ("S", 8, 2),
        ("C", 16, 2),
        ("S", 16, 3),
    ]


@given(n=st.integers(1, 7), length=st.integers(1, 6), epochs=st.integers(1, 4))
def test_it_is_entered_and_left_at_every_nth_pass(n, length, epochs):
    total = length * epochs
    found = firings(*attached(n_iterations=n), data=range(length), max_epochs=epochs)
    assert [fired[1:] for fired in found if fired[0] == "S"] == [((k + 1), k // n + 1) for k in range(0, total, n)]
    assert [fired[1:] for fired in found if fired[0] == "C"] == [(k, k // n) for k in range(n, total + 1, n)]
    found = firings(*attached(n_epochs=n), data=range(length), max_epochs=epochs)
    assert [fired[1:] for fired in found if fired[0] == "S"] == [(k * length, k // n + 1) for k in range(0, epochs, n)]
    assert [fired[1:] for fired in found if fired[0] == "C"] == [(k * length, k // n) for k in range(n, epochs + 1, n)]


def test_filters_count_how_often_it_was_entered():
    engine, cpe = attached(n_iterations=2)
    seen = []
    engine.add_event_handler(cpe.Events.ITERATIONS_2_COMPLETED(every=3), lambda: seen.append(engine.state.iteration))
    engine.run(range(6), max_epochs=2)
    assert seen == [6, 12]


def test_what_is_skipped_or_cut_short_leaves_it_in_time():
    engine, cpe = attached(n_iterations=2)
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), engine.skip_iteration)
    engine.add_event_handler(Events.ITERATION_STARTED(once=4), engine.terminate_epoch)
    assert firings(engine, cpe, max_epochs=2) == [
        ("S", 1, 1),
        ("C", 2, 1),
        ("S", 3, 2),
        ("C", 5, 2),  # the epoch ended in the fourth iteration, which is noticed when the fifth begins
        ("S", 5, 3),
        ("C", 6, 3),
        ("S", 7, 4),
        ("C", 8, 4),
    ]


def test_an_epoch_without_completion_leaves_it_with_the_next():
    engine, cpe = attached(n_epochs=1)
    engine.add_event_handler(
        Events.ITERATION_STARTED(once=2), lambda: engine.terminate_epoch(skip_epoch_completed=True)
    )
    assert firings(engine, cpe, max_epochs=2) == [("S", 0, 1), ("C", 2, 1), ("S", 2, 2), ("C", 6, 2)]


def test_it_stays_entered_over_a_pause():
    engine, cpe = attached(n_iterations=3)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    assert firings(engine, cpe) == [("S", 1, 1)]
    assert firings(engine, cpe, data=None) == [("C", 3, 1), ("S", 4, 2)]


@pytest.mark.parametrize("saved", [False, True])
def test_a_run_that_goes_on_enters_it_again_without_counting(saved):
    engine, cpe = attached(n_iterations=3)
    assert firings(engine, cpe, max_epochs=1) == [("S", 1, 1), ("C", 3, 1), ("S", 4, 2)]
    if saved:
        state = engine.state_dict()
        engine, cpe = attached(n_iterations=3)
        engine.load_state_dict(state)
    assert firings(engine, cpe, data=[1, 2, 3, 4], max_epochs=2) == [("S", 4, 2), ("C", 6, 2), ("S", 7, 3)]


def test_a_run_that_starts_anew_counts_anew():
    engine, cpe = attached(n_iterations=3)
    first = firings(engine, cpe)
    engine.close()
    assert firings(engine, cpe) == first


def test_several_in_one_engine_and_one_in_several():
    engine, two = attached(n_iterations=2)
    _, three = attached(engine, n_iterations=3)
    other = Engine(no_op, "other")
    two.attach(other)
    assert firings(other, two) == [("S", 1, 1), ("C", 2, 1), ("S", 3, 2), ("C", 4, 2)]
    assert firings(engine, three)[:2] == [("S", 1, 1), ("C", 3, 1)]
    assert (engine.state.iterations_2, engine.state.iterations_3) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "CustomPeriodicEvent: give n_iterations or n_epochs, and not both"),
        ({"n_iterations": 1, "n_epochs": 1}, "give n_iterations or n_epochs, and not both"),
        ({"n_iterations": 0}, "n_iterations must be an integer of 1 or more, got 0"),
        ({"n_epochs": 1.5}, "n_epochs must be an integer of 1 or more, got 1.5"),
        ({"n_epochs": True}, "n_epochs must be an integer of 1 or more, got True"),
    ],
)
def test_wrong_arguments_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        CustomPeriodicEvent(**arguments)


def test_a_loop_without_iterations_is_refused_and_left_as_it_is():
    engine = Engine(Loop("EPISODE", Phase("ACT", no_op)))
    with pytest.raises(ValueError, match="ITERATION_STARTED can never fire in the loop EPISODE"):
        CustomPeriodicEvent(n_iterations=2).attach(engine)
    assert not engine.loop.custom_states


@pytest.mark.parametrize("is_same", [True, False])
def test_a_second_one_of_a_length_is_refused(is_same):
    engine, cpe = attached(n_iterations=2)
    loop, handlers = engine.loop, [engine.handlers(key) for key in engine.loop.event_keys]
    with pytest.raises(LoopError, match="trainer already has a state ITERATIONS_2: use the events of that one"):
        (cpe if is_same else CustomPeriodicEvent(n_iterations=2)).attach(engine)
    assert engine.loop is loop
    assert [engine.handlers(key) for key in engine.loop.event_keys] == handlers
    assert firings(engine, cpe) == [("S", 1, 1), ("C", 2, 1), ("S", 3, 2), ("C", 4, 2)]


def test_a_state_of_that_name_is_refused():
    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ITERATIONS_2", started="a", completed="b"), over=DATA)))
    with pytest.raises(LoopError, match="two states are named ITERATIONS_2"):
        CustomPeriodicEvent(n_iterations=2).attach(engine)
