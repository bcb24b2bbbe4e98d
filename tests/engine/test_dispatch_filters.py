"""Filters and unions of events: the firings at which a handler runs, also for custom events."""

import pytest

from camshaft import Engine, Loop, Phase, event, every
from camshaft.events import event_key
from support.engines import ClipEvents, E, collect, legal
from support.steps import echo, fires, no_op


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"every": 3}, [3, 6, 9]),
        ({"once": 4}, [4]),
        ({"once": [2, 9]}, [2, 9]),
        ({"before": 4}, [1, 2, 3]),
        ({"after": 7}, [8, 9, 10]),
        ({"after": 3, "before": 6}, [4, 5]),
        ({"every": 4, "before": 8}, [4]),
        ({"event_filter": lambda engine, count: count in (1, 7)}, [1, 7]),
    ],
)
def test_filters(filter, expected):
    engine = Engine(echo)
    seen = collect(engine, E.ITERATION_STARTED(**filter))
    assert legal(engine, range(5), max_epochs=2).count(E.ITERATION_STARTED) == 10
    assert seen == expected


def test_every_with_after_counts_from_the_first_after_it():
    engine = Engine(echo)
    seen = collect(engine, E.ITERATION_COMPLETED(every=5, after=8, before=25))
    engine.run(range(40))
    assert seen == [9, 14, 19, 24]


def test_a_filter_counts_what_its_event_counts():
    engine = Engine(echo)
    epochs = collect(engine, E.EPOCH_COMPLETED(every=2), lambda engine: engine.state.epoch)
    fetches = collect(engine, E.GET_BATCH_COMPLETED(every=4))
    skips = collect(engine, E.ITERATION_SKIPPED(once=5))
    engine.add_event_handler(E.ITERATION_STARTED(every=5), lambda engine: engine.skip_iteration())
    engine.run([1, 2, 3], max_epochs=4)
    assert (epochs, fetches, skips) == ([2, 4], [0, 4, 8], [5])


def test_filters_at_the_ends_of_a_run_count_the_outermost_loop():
    engine, counts = Engine(Loop("EPISODE", Phase("ACT", no_op))), []

    def note(engine, count):
        counts.append(count)
        return True

    seen = collect(engine, E.STARTED(event_filter=note) | E.COMPLETED(event_filter=note), lambda engine: "any")
    ends = collect(engine, E.COMPLETED(every=3) | E.COMPLETED(once=5), lambda engine: engine.state.episode)
    starts = collect(engine, E.STARTED(every=2) | E.STARTED(after=2), lambda engine: engine.state.episode)
    for limit in (3, 5, 6):
        legal(engine, max_epochs=limit)
    assert counts == [0, 3, 3, 5, 5, 6]
    assert (len(seen), ends, starts) == (6, [3, 5, 6], [0, 3, 5])


def test_every_is_due_before_anything_is_counted():
    engine = Engine(echo)
    every = collect(engine, E.GET_BATCH_STARTED(every=2))
    others = [{"every": 2, "before": 5}, {"every": 2, "after": 0}, {"before": 2}, {"after": 0}, {"once": 1}]
    others = [collect(engine, E.GET_BATCH_STARTED(**other)) for other in others]
    engine.run(range(5))
    assert every == [0, 2, 4]
    assert others == [[2, 4], [1, 3], [1], [1, 2, 3, 4], [1]]


def test_unions_attach_one_handler_to_each_of_their_events():
    engine = Engine(echo)
    union = E.STARTED | E.EPOCH_COMPLETED(every=2) | E.COMPLETED
    seen = collect(engine, union, lambda engine: (event_key(engine.last_event_name), engine.state.epoch))
    engine.run([1], max_epochs=3)
    assert seen == [("started", 0), ("epoch_completed", 2), ("completed", 3)]


def test_a_filter_counts_firings_of_custom_events():
    engine = Engine(fires("grads_clipped", "grads_clipped"))
    engine.register_events(ClipEvents.GRADS_CLIPPED)
    seen = collect(engine, ClipEvents.GRADS_CLIPPED(every=3))
    legal(engine, range(6))
    assert seen == [2, 3, 5, 6]


def test_an_event_of_a_phase_counts_its_own_firings():
    engine = Engine([Phase("STEP", no_op, when=every(3))])
    seen = collect(engine, event("step_completed", every=2))
    legal(engine, range(12))
    assert seen == [6, 12]


def test_own_firings_are_counted_since_the_attachment():
    engine, seen = Engine(fires("grads_clipped")), []
    engine.register_events("grads_clipped")
    late = event("grads_clipped", every=2)
    engine.add_event_handler(
        E.ITERATION_COMPLETED(once=3),
        lambda engine: engine.add_event_handler(late, lambda engine: seen.append(engine.state.iteration)),
    )
    engine.run(range(8))
    assert seen == [5, 7]


def test_own_firings_are_counted_anew_in_each_run():
    engine = Engine(fires("grads_clipped"))
    engine.register_events("grads_clipped")
    seen = collect(engine, event("grads_clipped", every=2))
    engine.run(range(3))
    engine.run(range(3))
    assert seen == [2, 2]


def test_own_firings_are_counted_on_in_a_run_that_was_paused():
    engine = Engine(fires("grads_clipped"))
    engine.register_events("grads_clipped")
    seen = collect(engine, event("grads_clipped", every=2))
    engine.add_event_handler(E.ITERATION_COMPLETED(once=3), lambda engine: engine.interrupt())
    engine.run(range(6))
    engine.run()
    assert seen == [2, 4, 6]


def test_own_firings_are_saved_with_the_state():
    def make():
        engine = Engine(fires("grads_clipped"))
        engine.register_events("grads_clipped")
        return engine, collect(engine, event("grads_clipped", every=2))

    engine, _ = make()
    engine.run(range(3))
    resumed, seen = make()
    resumed.load_state_dict(engine.state_dict())
    resumed.run(range(3), max_epochs=2)
    assert seen == [4, 6]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: E.TERMINATE(every=2), "TERMINATE"),
        (lambda: E.EXCEPTION_RAISED(once=2), "EXCEPTION_RAISED"),
        (lambda: E.ITERATION_STARTED(every=0), "every must be an integer of 1 or more, got 0"),
        (lambda: E.ITERATION_STARTED(after=5, before=5), "never due"),
        (lambda: E.ITERATION_STARTED(once=2, every=2), "mixes"),
        (lambda: E.ITERATION_STARTED(event_filter=lambda engine: True), r"\(engine, count\)"),
    ],
)
def test_a_filter_that_cannot_work_is_refused_when_it_is_attached(make, error):
    engine = Engine(echo)
    with pytest.raises((ValueError, TypeError), match=error):
        engine.add_event_handler(make(), print)
    assert not engine.has_event_handler(print)
