"""Dispatch: which handlers run, even if some are added or removed during a firing."""

import pytest

from camshaft import Engine, Phase
from support.engines import E, collect
from support.steps import echo, fires, no_op


@pytest.mark.parametrize("filter", [{}, {"before": 100}])
def test_a_handler_added_during_a_firing_runs_from_the_next(filter):
    engine, seen = Engine(echo), []
    add = lambda engine: engine.add_event_handler(
        E.ITERATION_STARTED(**filter), lambda engine: seen.append(engine.state.iteration)
    )
    engine.add_event_handler(E.ITERATION_STARTED(once=2), add)
    engine.run(range(4))
    assert seen == [3, 4]


@pytest.mark.parametrize("filter", [{}, {"before": 100}])
def test_a_handler_removed_during_a_firing_does_not_run_again(filter):
    engine, seen = Engine(echo), []

    @engine.on(E.ITERATION_STARTED(once=2))
    def remove():
        handle.remove()

    handle = engine.add_event_handler(E.ITERATION_STARTED(**filter), lambda engine: seen.append(engine.state.iteration))
    after = collect(engine, E.ITERATION_STARTED)
    engine.run(range(4))
    assert (seen, after) == ([1], [1, 2, 3, 4])


def test_a_handler_may_remove_itself():
    engine, seen = Engine(echo), []

    @engine.on(E.ITERATION_STARTED)
    def once(engine):
        seen.append(engine.state.iteration)
        engine.remove_event_handler(once, E.ITERATION_STARTED)

    engine.run(range(3))
    assert seen == [1]


@pytest.mark.parametrize("later", ["forward_completed", "backward_started", E.ITERATION_COMPLETED, "grads_clipped"])
def test_a_handler_added_for_a_later_event_runs_this_iteration(later):
    engine, seen = Engine([Phase("FORWARD", no_op), Phase("BACKWARD", fires("grads_clipped"))]), []
    engine.register_events("grads_clipped")
    add = lambda engine: engine.add_event_handler(later, lambda engine: seen.append(engine.state.iteration))
    engine.add_event_handler(E.ITERATION_STARTED(once=2), add)
    engine.run(range(3))
    assert seen == [2, 3]
