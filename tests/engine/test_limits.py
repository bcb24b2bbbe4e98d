"""Limits of a run, and how a second call of run() continues it."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, Loop, Phase, record
from support.engines import ITERATION, RESTARTED, E, collect, legal, names, standard
from support.steps import echo, no_op


def test_max_iters_reached_inside_an_epoch_ends_as_terminate_does():
    trace = legal(Engine(echo), [1, 2, 3], max_iters=4)
    first = [E.EPOCH_STARTED, *ITERATION * 3, E.EPOCH_COMPLETED]
    assert trace == [E.STARTED, *first, E.EPOCH_STARTED, *RESTARTED, E.TERMINATE, E.COMPLETED]


def test_max_iters_reached_with_an_epoch_completes_the_run():
    assert names(legal(Engine(echo), [1, 2, 3], max_iters=6))[-2:] == ["epoch_completed", "completed"]


def test_run_again_goes_on_where_the_limits_allow_more():
    engine = Engine(echo)
    engine.run([1, 2], max_epochs=2)
    epochs = collect(engine, E.EPOCH_STARTED, lambda engine: engine.state.epoch)
    assert legal(engine, [1, 2], max_epochs=4) == standard(2, 2)
    assert (epochs, engine.state.iteration) == ([3, 4], 8)


def test_run_again_goes_on_where_max_iters_allows_more():
    engine = Engine(echo)
    engine.run([1, 2], max_iters=4)
    legal(engine, [1, 2], max_iters=6)
    assert (engine.state.epoch, engine.state.iteration) == (3, 6)


def test_run_again_starts_anew_when_the_run_was_done():
    engine = Engine(echo)
    engine.run([1, 2], max_epochs=2)
    assert legal(engine, [1, 2, 3], max_epochs=2) == standard(2, 3)
    assert (engine.state.epoch, engine.state.iteration, engine.state.epoch_length) == (2, 6, 3)
    assert legal(engine, [1, 2]) == standard(1, 2)


def test_run_again_after_terminate_goes_on_with_the_next_epoch():
    engine, data = Engine(echo), [1, 2, 3]
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate())
    engine.run(data, max_epochs=3)
    assert (engine.state.epoch, engine.state.iteration) == (1, 2)
    epochs = collect(engine, E.EPOCH_STARTED, lambda engine: engine.state.epoch)
    trace = legal(engine, data)
    assert trace.count(E.ITERATION_COMPLETED) == 6
    assert (epochs, engine.state.iteration) == ([2, 3], 8)


def test_run_again_after_data_ran_out_begins_the_next_epoch():
    engine = Engine(echo)
    with pytest.warns(UserWarning, match="restarted"):
        engine.run(iter([1, 2]), max_epochs=2, epoch_length=3)
    legal(engine, [1, 2, 3])
    assert (engine.state.epoch, engine.state.iteration) == (2, 5)


def test_run_again_after_a_failure_goes_on_with_the_next_epoch():
    engine = Engine(lambda engine, batch: 1 / batch)
    with pytest.raises(ZeroDivisionError):
        engine.run([1, 0, 1], max_epochs=2)
    assert legal(engine, [1, 1, 1]).count(E.EPOCH_STARTED) == 1
    assert (engine.state.epoch, engine.state.iteration) == (2, 5)


@pytest.mark.parametrize("limits", [{"max_epochs": 1}, {"max_iters": 3}])
def test_limits_below_what_is_done_are_an_error(limits):
    engine = Engine(echo)
    engine.run([1, 2], **{name: limit + 1 for name, limit in limits.items()})
    before = engine.state_dict()
    with pytest.raises(ValueError, match=r"(?s)max_.*close\(\)"):
        engine.run([1, 2], **limits)
    assert engine.state_dict() == before
    engine.close()
    assert engine.run([1, 2], **limits).iteration == (2 if "max_epochs" in limits else 3)


@pytest.mark.parametrize("stop", [Engine.interrupt, Engine.terminate])
@pytest.mark.parametrize(("first", "then"), [("max_epochs", "max_iters"), ("max_iters", "max_epochs")])
def test_changing_the_kind_of_limit_half_way_is_an_error(first, then, stop):
    engine, data = Engine(echo), [1, 2]
    with engine.add_event_handler(E.ITERATION_COMPLETED(once=1), stop):
        engine.run(data, **{first: 10})
    before = engine.state_dict()
    with pytest.raises(ValueError, match=rf"(?s){first}.*close\(\)"):
        engine.run(data, **{then: 10})
    assert engine.state_dict() == before
    engine.close()
    assert engine.run(data, **{then: 4}).iteration > 1


@pytest.mark.parametrize(("first", "then"), [(3, 6), (7, 4), (7, 7)])
@pytest.mark.parametrize("data", [range(8), None])
def test_a_paused_run_keeps_the_limits_that_it_is_given(first, then, data):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    with record() as trace:
        engine.run(data, max_iters=first, epoch_length=8)
        engine.run(max_iters=then)
    assert engine.state.iteration == then
    trace.assert_legal()


def test_times_bounds_a_run_that_goes_on():
    engine = Engine(Loop("PASS_OVER", Phase("A", no_op), times=3))
    engine.add_event_handler(engine.loop.events.PASS_OVER_COMPLETED(once=1), engine.terminate)
    engine.run()
    assert engine.run(max_epochs=5).pass_over == 3


def test_a_run_that_goes_on_is_checked_like_a_new_one():
    engine = Engine(Loop("ROUND", Phase("A", no_op)))
    engine.run(max_epochs=1)
    with pytest.raises(ValueError, match="takes no data"):
        engine.run([1], max_epochs=2)


def test_a_run_that_failed_early_goes_on_with_its_limits():
    engine = Engine(no_op)
    with engine.add_event_handler(Events.STARTED, lambda: 1 / 0), pytest.raises(ZeroDivisionError):
        engine.run([1], max_epochs=2)
    assert engine.run().epoch == 2
