"""The location of a run, as the notes of exceptions show it."""

from __future__ import annotations

import pytest

from camshaft import Engine, EventEnum, Events, Phase
from support.engines import Breaks, E, fail
from support.steps import echo, fires, no_op


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
        (E.EPOCH_STARTED, "in trainer: EPOCH 1"),
        (E.EPOCH_COMPLETED, "in trainer: EPOCH 1"),
        ("grads_clipped", "in trainer: EPOCH 1 / ITERATION 1 / GRADS_CLIPPED"),
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
    assert caught.value.__notes__ == ["in evaluator: EPOCH 1 / ITERATION 1", "in trainer: EPOCH 1 / ITERATION 1"]


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
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: int("no number"))
    with pytest.raises(ValueError, match="no number") as caught:
        engine.run([1])
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert caught.value.__notes__ == ["in t: EPOCH 1 / ITERATION 1, at EXCEPTION_RAISED"]
