"""Enforced order: strict engines and declared orders refuse an illegal event as it fires."""

from __future__ import annotations

import pytest

from camshaft import Engine, EventOrderError, Phase, every, record
from support.engines import CALLS, WITHIN, Closing, E, collect, legal
from support.steps import fires, no_op


@pytest.mark.parametrize("case", list(WITHIN))
def test_a_strict_engine_enforces_everything_as_it_happens(case):
    engine = Engine(fires(*WITHIN[case]), "trainer", strict=True)
    engine.register_events("clip_started", "clip_completed")
    with pytest.raises(EventOrderError, match=r"(?s)trainer.*EPOCH 1 / ITERATION 1.*expected: "):
        engine.run([1, 2])
    assert engine.state.iteration == 1


def test_a_strict_engine_runs_what_is_legal():
    for call in CALLS.values():
        engine = Engine(
            [Phase("FORWARD", fires("clip_started", "clip_completed")), Phase("STEP", no_op, when=every(2))],
            strict=True,
        )
        engine.register_events("clip_started", "clip_completed")
        handle = engine.add_event_handler(
            E.ITERATION_STARTED(once=2), lambda engine, call: call(engine) or handle.remove(), call
        )
        with record() as trace:
            engine.run(Closing(3), max_epochs=3)
            if engine.current_run is not None:
                engine.run()
        trace.assert_legal()


DECLARED = ["clip_started", "clip_completed", "grads_clipped"]


@pytest.mark.parametrize("fired", [DECLARED, [], ["grads_clipped"], DECLARED[:2]])
def test_a_declared_order_allows_each_event_at_most_once_a_pass(fired):
    engine = Engine(fires(*fired))
    engine.register_events(*DECLARED, order="declared")
    assert legal(engine, [1, 2], max_epochs=2).count("grads_clipped") == 4 * fired.count("grads_clipped")


@pytest.mark.parametrize("has_handler", [False, True])
@pytest.mark.parametrize(
    "fired",
    [
        ["grads_clipped", "clip_started"],
        ["grads_clipped", "grads_clipped"],
        [*DECLARED, "clip_started"],
        ["clip_completed"],
    ],
)
def test_a_declared_order_is_enforced_as_it_happens(fired, has_handler):
    engine = Engine(fires(*fired), "trainer")
    engine.register_events(*DECLARED, order="declared")
    if has_handler:
        collect(engine, fired[-1])
    with pytest.raises(
        EventOrderError, match=rf"(?s)trainer event.* {fired[-1].upper()} .*EPOCH 1 / ITERATION 1.*expected: "
    ):
        engine.run([1])


def test_a_declared_order_holds_in_each_pass_of_its_loop():
    engine = Engine(fires("first", "second"))
    engine.register_events("first", "second", within="EPOCH", order="declared")
    with pytest.raises(EventOrderError, match=r"(?s)FIRST.*EPOCH 1 / ITERATION 2.*expected: "):
        engine.run([1, 2])
    engine.close()
    legal(engine, [1, 2], epoch_length=1, max_epochs=2)


def test_a_declared_order_names_what_is_missing():
    def step(engine, batch):
        engine.fire_event("a_started")
        engine.fire_event("b")

    engine = Engine(step, name="trainer")
    engine.register_events("a_started", "a_completed", "b", order="declared")
    with pytest.raises(EventOrderError) as caught:
        engine.run([1])
    assert str(caught.value).splitlines() == [
        "trainer event B is out of its declared order in EPOCH 1 / ITERATION 1",
        "  expected: A_COMPLETED",
        "  declared: A_STARTED, A_COMPLETED, B",
    ]
