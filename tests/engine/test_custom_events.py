"""Custom events: the states and the order in which they may fire, and who fires them."""

from itertools import chain

import pytest

from camshaft import Engine, EventOrderError, Phase, record
from support.engines import CALLS, ITERATION, WITHIN, E, collect, fail, legal, names, traced
from support.steps import echo, fires


@pytest.mark.parametrize(
    "fired",
    [
        [],
        ["clip_started", "clip_completed"],
        ["backward_started", "backward_completed", "clip_started", "clip_completed"],
        ["clip_started", "clip_completed", "backward_started", "backward_completed"],
        ["clip_started", "clip_completed", "clip_started", "clip_completed"],
        ["backward_started", "clip_started", "clip_completed", "backward_completed"],
        ["backward_started", "clip_started", "backward_completed", "clip_completed"],
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_order_between_such_states_is_free(fired, strict):
    engine = Engine(fires(*fired), strict=strict)
    engine.register_events("clip_started", "clip_completed", "backward_started", "backward_completed")
    assert legal(engine, [1, 2]) == [
        E.STARTED,
        E.EPOCH_STARTED,
        *[*ITERATION[:3], *fired, E.ITERATION_COMPLETED] * 2,
        E.EPOCH_COMPLETED,
        E.COMPLETED,
    ]


@pytest.mark.parametrize("case", list(WITHIN))
def test_order_within_such_a_state_is_judged_afterwards(case):
    engine = Engine(fires(*WITHIN[case]), "trainer")
    engine.register_events("clip_started", "clip_completed")
    trace = traced(engine, [1, 2])
    assert names(trace)[-1] == "completed"
    with pytest.raises(EventOrderError, match=r"(?s)trainer.*EPOCH 1 / ITERATION 1.*expected: "):
        trace.assert_legal()


@pytest.mark.parametrize("strict", [False, True])
def test_a_custom_event_outside_its_loop_is_illegal(strict):
    engine = Engine(echo, strict=strict)
    engine.register_events("grads_clipped")
    engine.add_event_handler(E.EPOCH_COMPLETED, lambda engine: engine.fire_event("grads_clipped"))
    with record() as trace, pytest.raises(EventOrderError, match=r"(?s)GRADS_CLIPPED.*expected: "):
        engine.run([1])
        trace.assert_legal()


@pytest.mark.parametrize("left", ["terminate", "terminate_epoch", "failure"])
def test_a_terminate_or_a_failure_may_leave_an_entered_state(left):
    engine = Engine([Phase("FORWARD", fires("clip_started")), Phase("BACKWARD", fires("clip_completed"))])
    engine.register_events("clip_started", "clip_completed")
    engine.add_event_handler("forward_completed", fail if left == "failure" else CALLS[left])
    engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    assert legal(engine, [1, 2], max_epochs=2).count("clip_completed") == 0


@pytest.mark.parametrize("has_handler", [False, True])
def test_firing_a_placed_event_by_hand_is_an_error(has_handler):
    engine = Engine([Phase("BACKWARD", fires("grads_clipped"))], "trainer")
    engine.register_events("grads_clipped", after="BACKWARD")
    if has_handler:
        collect(engine, "grads_clipped")
    with pytest.raises((ValueError, EventOrderError), match=r"GRADS_CLIPPED.*place"):
        engine.run([1])


def test_the_order_of_free_events_in_a_step_is_observed():
    fired = [["first", "second"], ["second", "first"], ["second"]]

    def step(engine, batch):
        fires(*fired[batch])(engine, batch)

    engine = Engine(step)
    engine.register_events("first", "second")
    assert [name for name in names(legal(engine, [0, 1, 2])) if name in ("first", "second")] == list(chain(*fired))


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
