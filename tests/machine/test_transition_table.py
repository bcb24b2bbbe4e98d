"""The table of a loop with custom states is made as far as it is looked up."""

import pytest

from camshaft import DATA, Engine, EventOrderError, Loop, Phase, record
from camshaft.machine.checker import OrderChecker
from camshaft.machine.transition_table import TransitionTable


def with_free_events(number, *phases, **options):
    engine = Engine(Loop("EPOCH", Loop("ITERATION", *phases, over=DATA)))
    engine.register_events(*(f"mark_{each}" for each in range(number)), **options)
    return engine


@pytest.mark.parametrize("options", [{}, {"order": "declared"}, {"within": "RUN"}], ids=str)
def test_looking_up_one_transition_finds_that_of_the_row(options):
    engine = with_free_events(3, Phase("A"), **options)
    engine.register_events("b_started", "b_completed")
    table, looked_up = TransitionTable(engine.loop), TransitionTable(engine.loop)
    for place, row in table.table.items():
        for event in engine.loop.event_keys:
            found, expected = looked_up.find(place, event), row.get(event)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert (found.source, found.dest, found.effects) == (place, expected.dest, expected.effects)
                assert [guard.text for guard in found.guards] == [guard.text for guard in expected.guards]


def test_a_machine_has_the_same_places_and_transitions():
    engine = with_free_events(3, Phase("A"))
    table = TransitionTable(engine.loop)
    assert list(engine.machine.states) == list(table.paths) == list(table.table)
    for place in table.paths:
        assert set(engine.machine.get_triggers(place)) == set(table.table[place])


def test_there_is_no_place_inside_of_what_is_no_scope():
    table = TransitionTable(with_free_events(1).loop)
    for place in ("READY/MARK_0", "COMPLETED/MARK_0", "EPOCH/MARK_1", "NOWHERE"):
        assert place not in table.paths
        with pytest.raises(KeyError):
            table.paths[place]


def looked_up(number):
    """Return how many transitions the judge of a trace makes, for a loop with free events and as many phases."""
    engine = with_free_events(number, *(Phase(f"P{each}") for each in range(number)))
    engine.add_event_handler("p0_started", lambda: engine.fire_event("mark_0"))
    with record() as trace:
        engine.run([1, 2])
    made, own = [], TransitionTable.find
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransitionTable, "find", lambda *args: made.append(args) or own(*args))
        trace.assert_legal()
    return len(made), len(trace)


@pytest.mark.parametrize("number", [1, 10, 100])
def test_the_judge_looks_up_no_more_than_the_events_of_the_trace(number):
    made, events = looked_up(number)
    assert 0 < made <= events


def test_a_message_in_a_loop_with_many_free_events_says_what_is_missing():
    checker = OrderChecker(TransitionTable(with_free_events(200, Phase("A")).loop))
    for event in ("started", "epoch_started", "get_batch_started", "get_batch_completed", "iteration_started"):
        checker.advance(event)
    checker.advance("mark_7")
    with pytest.raises(EventOrderError, match="A_STARTED comes first"):
        checker.advance("a_completed")
