"""Nested engines: they know their parent, finish before it, and are closed with it."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest

from camshaft import Engine, Events
from support.engines import ENDINGS, Closing, E, collect, legal, pair, standard
from support.steps import echo, no_op


@pytest.mark.parametrize("declared", [False, True], ids=["called", "nested"])
def test_the_evaluator_finishes_before_the_trainer_terminates(declared):
    trainer, evaluator = pair()
    if declared:
        trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1, 2])
    else:
        trainer.add_event_handler(E.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]) and None)
    evaluator.add_event_handler(E.ITERATION_STARTED(once=1), lambda engine: trainer.terminate())
    assert legal(trainer, [1], max_epochs=3) == [*standard(1, 1)[:-1], *standard(1, 2), E.TERMINATE, E.COMPLETED]


def test_a_running_engine_cannot_be_started_inside_itself():
    engine = Engine(echo, "trainer")

    @engine.on(E.ITERATION_STARTED)
    def again():
        for start in (engine.run, engine.steps):
            with pytest.raises(RuntimeError, match="trainer is running"):
                start([1])

    assert legal(engine, [1, 2]) == standard(1, 2)


def test_a_running_engine_cannot_be_started_by_one_inside_it():
    trainer, evaluator = pair()
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    evaluator.add_event_handler(E.STARTED, lambda: trainer.run([1]) and None)
    with pytest.raises(RuntimeError, match="trainer is running"):
        trainer.run([1])


def test_engines_run_inside_handlers_to_any_depth():
    engines = [Engine(echo, f"level {depth}") for depth in range(5)]
    for outer, inner in pairwise(engines):
        outer.add_event_handler(E.ITERATION_STARTED, lambda inner: inner.run([1]) and None, inner)
    parents = [collect(engine, E.ITERATION_STARTED, lambda engine: engine.parent) for engine in engines]
    trace = legal(engines[0], [1])
    assert parents == [[None], *[[engine] for engine in engines[:-1]]]
    assert [run.parent for run in trace.runs] == [None, 0, 1, 2, 3]
    assert all(engine.parent is None for engine in engines)


def test_parent_is_set_only_while_the_outer_engine_executes():
    trainer, evaluator = pair()
    seen = collect(evaluator, E.STARTED, lambda engine: engine.parent)
    for _ in trainer.steps([1]):
        evaluator.run([1])
    assert set(seen) == {None}
    trainer.add_event_handler(E.ITERATION_STARTED, lambda: evaluator.run([1]) and evaluator.close())
    evaluator.add_event_handler(E.ITERATION_STARTED, lambda engine: engine.interrupt())
    trainer.add_event_handler(E.ITERATION_COMPLETED, lambda: seen.append(evaluator.parent))
    trainer.run([1])
    assert seen[-2:] == [trainer, None]


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_nested_engines_close_whatever_ends_the_run_around_them(ending):
    trainer, evaluator = pair()
    data = Closing(3)
    trainer.add_event_handler(E.ITERATION_STARTED(once=1), lambda: evaluator.run(data, epoch_length=3) and None)
    evaluator.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: engine.interrupt())
    moment, action = ENDINGS[ending]
    if moment is not None:
        trainer.add_event_handler(moment, action)
    if ending == "swallowed failure":
        trainer.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    with suppress(ValueError, KeyboardInterrupt):
        trainer.run([1, 2])
    assert (data.opened, data.closed, evaluator.current_run) == (1, 1, None)


def test_each_nested_run_is_one_of_its_own():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2], max_epochs=3)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED(once=1), evaluator.terminate)
    ends = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: ends.append(engine.state.iteration))
    trainer.run([1], max_epochs=3)
    assert ends == [2, 2, 2]


def test_data_that_can_be_read_once_cannot_be_nested():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    with pytest.raises(
        ValueError,
        match="evaluator would find no data in its second run, because .* can be read only once: give a list",
    ):
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=iter([1]))


def test_engines_paused_in_each_other_resume_in_any_order():
    first, second = Engine(no_op, name="first"), Engine(no_op, name="second")
    first.add_event_handler(Events.ITERATION_STARTED(once=1), first.interrupt)
    second.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: first.run([1, 2]))
    second.add_event_handler(Events.ITERATION_COMPLETED(once=1), second.interrupt)
    second.run([1, 2])
    first.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: second.run())
    assert first.run().iteration == 2
    assert second.state.iteration == 2


def test_runs_that_went_on_are_not_kept():
    outer, inner = Engine(no_op, name="outer"), Engine(no_op, name="inner")
    inner.add_event_handler(Events.ITERATION_COMPLETED(once=1), inner.interrupt)
    outer.add_event_handler(Events.ITERATION_STARTED, lambda: inner.run([1, 2]))
    outer.add_event_handler(Events.ITERATION_COMPLETED, lambda: inner.run())
    kept = []

    @outer.on(Events.ITERATION_COMPLETED)
    def count_paused(engine):
        kept.append(len(engine.current_run.paused_children))

    outer.run(range(5))
    assert kept == [0] * 5


def test_a_nested_engine_that_paused_goes_on_with_the_data_it_has():
    outer, inner, seen = Engine(no_op, name="outer"), Engine(lambda engine, batch: seen.append(batch)), []
    outer.nest(inner, on=Events.ITERATION_COMPLETED, data=[1, 2])
    inner.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.set_data([7, 8]))
    inner.add_event_handler(Events.ITERATION_STARTED(once=2), inner.interrupt)
    outer.run([1, 2])
    assert seen == [1, 7]


def test_nesting_does_not_touch_the_data():
    class Loader:
        def __iter__(self):
            raise AssertionError("iterating draws random numbers and starts workers: not before the run")

    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=Loader())
    assert trainer.loop.nested[0].name == "evaluator"
