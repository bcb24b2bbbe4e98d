"""The location of a run, as the notes of exceptions show it."""

from __future__ import annotations

import functools

import pytest

from camshaft import Engine, EventEnum, Events, Phase
from camshaft.testing import raise_at
from support.engines import Breaks, E, fail
from support.steps import echo, fires, no_op, nothing_to_do


def test_what_leaves_carries_a_note_that_says_where_the_loop_was():
    engine = Engine([Phase("FORWARD", no_op), Phase("BACKWARD", lambda engine, batch: 1 / batch)], "trainer")
    with pytest.raises(ZeroDivisionError) as caught:
        engine.run([1, 1, 1, 1, 0], epoch_length=3, max_epochs=2)
    assert caught.value.__notes__ == ["in trainer: EPOCH 2 / ITERATION 5 / BACKWARD"]


@pytest.mark.parametrize(
    ("place", "note"),
    [
        ("step", "in trainer: EPOCH 1 / ITERATION 1"),
        ("data", "in trainer: EPOCH 1 / GET_BATCH"),
        (E.STARTED, "in trainer: STARTED, in handler fail"),
        (E.EPOCH_STARTED, "in trainer: EPOCH 1, at EPOCH_STARTED, in handler fail"),
        (E.EPOCH_COMPLETED, "in trainer: EPOCH 1, at EPOCH_COMPLETED, in handler fail"),
        (E.ITERATION_COMPLETED(every=2), "in trainer: EPOCH 1 / ITERATION 2, at ITERATION_COMPLETED, in handler fail"),
        (
            E.EPOCH_STARTED(event_filter=fail),
            "in trainer: EPOCH 1, at EPOCH_STARTED, in event_filter of handler fail",
        ),
        (E.COMPLETED, "in trainer: COMPLETED, in handler fail"),
        (
            "grads_clipped",
            "in trainer: EPOCH 1 / ITERATION 1 / GRADS_CLIPPED, at GRADS_CLIPPED, in handler fail",
        ),
    ],
)
def test_the_note_names_each_kind_of_place(place, note):
    engine = Engine(fail if place == "step" else fires("grads_clipped"), "trainer")
    engine.register_events("grads_clipped")
    if place not in ("step", "data"):
        engine.add_event_handler(place, fail)
    with pytest.raises(ValueError, match="broken") as caught:
        engine.run(Breaks() if place == "data" else [1, 2])
    assert caught.value.__notes__ == [note]


def test_notes_of_nested_engines_go_from_inner_to_outer():
    trainer, evaluator = Engine(echo, "trainer"), Engine(fail, "evaluator")
    trainer.nest(evaluator, on=E.ITERATION_COMPLETED, data=[1])
    with pytest.raises(ValueError, match="broken") as caught:
        trainer.run([1])
    assert caught.value.__notes__ == [
        "in evaluator: EPOCH 1 / ITERATION 1",
        "in trainer: EPOCH 1 / ITERATION 1, at ITERATION_COMPLETED, in handler run evaluator",
    ]


def test_an_error_is_not_taken_for_an_earlier_one_in_another_place():
    class Custom(EventEnum):
        FOO = "foo"

    def step(engine, batch):
        if engine.state.iteration == 1:
            try:
                engine.fire_event(Custom.FOO)
            except ValueError:
                return
        raise ValueError("another")

    engine = Engine(step, name="t")
    engine.register_events(Custom.FOO)
    engine.add_event_handler(Custom.FOO, lambda: int("no number"))
    with pytest.raises(ValueError, match="another") as caught:
        engine.run([1, 2])
    assert caught.value.__notes__ == ["in t: EPOCH 1 / ITERATION 2"]


def test_the_note_of_a_step_that_raises_stop_iteration_says_where():
    with pytest.raises(RuntimeError) as caught:
        Engine(lambda engine, batch: next(iter(())), name="t").run([1])
    assert caught.value.__notes__ == ["in t: EPOCH 1 / ITERATION 1"]


def test_the_error_of_a_handler_of_exception_raised_says_where_too():
    engine = Engine(lambda engine, batch: 1 / 0, name="t")
    engine.add_event_handler(Events.EXCEPTION_RAISED, raise_another)
    with pytest.raises(ValueError, match="no number") as caught:
        engine.run([1])
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert caught.value.__notes__ == ["in t: EPOCH 1 / ITERATION 1, at EXCEPTION_RAISED, in handler raise_another"]


def test_of_several_handlers_the_one_that_raised_is_named():
    engine = Engine(no_op, name="t")
    for handler in (nothing_to_do, Saver().save, functools.partial(raise_another, None), nothing_to_do):
        engine.add_event_handler(E.EPOCH_COMPLETED, handler)
    with pytest.raises(ValueError, match="no number") as caught:
        engine.run([1])
    assert caught.value.__notes__ == ["in t: EPOCH 1, at EPOCH_COMPLETED, in handler raise_another"]
    engine.add_event_handler(E.EPOCH_COMPLETED(priority=1), Saver("no number").save)
    with pytest.raises(ValueError, match="no number") as caught:
        engine.run([1], max_epochs=2)
    assert caught.value.__notes__ == ["in t: EPOCH 2, at EPOCH_COMPLETED, in handler Saver.save"]


def test_an_error_that_leaves_a_handler_and_is_raised_again_by_the_step_keeps_the_handler():
    engine = Engine(fires("grads_clipped"), "t")
    engine.register_events("grads_clipped")
    engine.add_event_handler("grads_clipped", functools.partial(raise_another, None))
    with pytest.raises(ValueError, match="no number") as caught:
        engine.run([1])
    assert caught.value.__notes__ == [
        "in t: EPOCH 1 / ITERATION 1 / GRADS_CLIPPED, at GRADS_CLIPPED, in handler raise_another"
    ]


def test_one_error_in_two_runs_gets_the_note_of_each():
    error, engine = ValueError("the same"), Engine(no_op, name="t")
    raised_in = [Events.STARTED, Events.COMPLETED]
    for event in raised_in:
        with raise_at(engine, event, error=error), pytest.raises(ValueError, match="the same"):
            engine.run([1])
        engine.close()
    assert error.__notes__ == ["in t: STARTED, in handler planted fault", "in t: COMPLETED, in handler planted fault"]


def raise_another(error):
    int("no number")


class Saver:
    def __init__(self, number="1"):
        self.number = number

    def save(self):
        int(self.number)
