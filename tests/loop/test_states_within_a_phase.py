"""Custom states within a phase: its function may fire their events any number of times, other code may not."""

import pytest

from camshaft import DATA, Engine, EventOrderError, Loop, LoopError, Phase, record
from camshaft.loop.states import CustomState

FORWARD = CustomState("FORWARD", "forward_started", "forward_completed", "OPTIM_STEP")


def searching(*fired):
    """An engine whose OPTIM_STEP fires these events, between two phases that fire nothing."""

    def optim_step(engine, batch):
        for event in fired:
            engine.fire_event(event)

    body = Phase("PREPARE"), Phase("OPTIM_STEP", optim_step), Phase("REPORT")
    return Engine(Loop("EPOCH", Loop("ITERATION", *body, over=DATA), custom_states=(FORWARD,)), "trainer")


def run(engine, **limits):
    with record() as trace:
        engine.run([1, 2], **limits)
    return trace


def test_a_phase_may_enter_and_leave_them_as_often_as_it_likes():
    trace = run(searching(*["forward_started", "forward_completed"] * 3))
    trace.assert_legal()
    assert trace.count("forward_started") == 6
    assert [found.count for found in trace if found.event == "forward_started"] == [1, 1, 1, 2, 2, 2]


def test_they_stand_inside_of_the_phase_where_the_engine_is():
    engine, seen = searching("forward_started", "forward_completed"), []
    engine.add_event_handler("forward_started", lambda: seen.append(engine.where))
    run(engine)
    assert seen == [("EPOCH", "ITERATION", "OPTIM_STEP", "FORWARD")] * 2
    assert "EPOCH/ITERATION/OPTIM_STEP/FORWARD" in engine.machine.states
    assert "anywhere within OPTIM_STEP, in any order\n  FORWARD_STARTED -> FORWARD -> FORWARD_COMPLETED" in str(
        engine.machine
    )
    assert "    OPTIM_STEP\n      FORWARD  (wherever your code fires it)" in str(engine.loop)


def test_what_is_entered_must_be_left_before_the_phase_is():
    with pytest.raises(EventOrderError, match=r"OPTIM_STEP_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / .*FORWARD"):
        run(searching("forward_started")).assert_legal()


@pytest.mark.parametrize("place", ["prepare_started", "prepare_completed", "report_started", "iteration_started"])
def test_they_are_illegal_outside_of_it(place):
    engine = searching()
    engine.add_event_handler(place, lambda: engine.fire_event("forward_started"))
    with pytest.raises(EventOrderError, match="FORWARD_STARTED is illegal"):
        run(engine).assert_legal()
    engine.strict = True
    engine.close()
    with pytest.raises(EventOrderError, match="FORWARD_STARTED is illegal"):
        engine.run([1])


def test_a_declared_order_begins_anew_with_each_phase():
    fired = []
    engine = Engine([Phase("OPTIM_STEP", lambda engine, batch: [engine.fire_event(event) for event in fired])])
    engine.register_events("direction_found", "length_found", within="OPTIM_STEP", order="declared")
    fired[:] = ["direction_found", "length_found"]
    run(engine).assert_legal()
    fired[:] = ["length_found", "direction_found"]
    engine.close()
    with pytest.raises(EventOrderError, match="DIRECTION_FOUND is out of its declared order"):
        engine.run([1])


def test_a_terminated_run_leaves_them():
    engine = searching("forward_started")
    engine.add_event_handler("forward_started", engine.terminate)
    trace = run(engine)
    trace.assert_legal()
    assert trace.count("optim_step_completed") == 0


def test_a_scope_that_is_no_loop_or_phase_is_refused():
    with pytest.raises(LoopError, match="within='NOWHERE' is not a loop or phase in it; it has EPOCH, ITERATION, RUN"):
        Engine(lambda engine, batch: None).register_events("x", within="NOWHERE")


def test_what_belongs_to_the_run_is_left_by_its_end():
    engine = Engine(lambda engine, batch: None)
    engine.register_events("warm_up_started", "warm_up_completed", within="RUN")
    engine.add_event_handler("iteration_started", lambda: engine.fire_event("warm_up_started"))
    trace = run(engine, max_iters=1)
    trace.assert_legal()
    assert trace.count("warm_up_started") == 1


def test_an_event_of_two_loops_is_counted_by_the_inner_one():
    last = Phase("LAST_STEP", started="step_started", completed="step_completed")
    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("STEP"), over=DATA), last))
    with record() as trace:
        engine.run([1, 2, 3])
    trace.assert_legal()
    assert [found.count for found in trace if found.event == "step_started"] == [1, 2, 3, 3]


@pytest.mark.parametrize("place", ["started", "epoch_completed", "terminate", "completed", "exception_raised"])
@pytest.mark.parametrize("strict", [False, True])
def test_what_belongs_to_the_run_may_come_at_its_very_end_too(place, strict):
    def step(engine, batch):
        if place == "exception_raised":
            raise ArithmeticError
        if place == "terminate":
            engine.terminate()

    engine = Engine(step, strict=strict)
    engine.register_events("saved", "backup_started", "backup_completed", within="RUN")

    def save(engine, *error):
        for event in ("saved", "backup_started", "saved", "backup_completed"):
            engine.fire_event(event)
        return True

    engine.add_event_handler(place, save)
    trace = run(engine)
    trace.assert_legal()
    assert trace.count("saved") == 2 * trace.count(place) > 0
    assert not trace.violations()


def test_after_a_run_a_state_of_it_is_not_left_unentered():
    engine = Engine(lambda engine, batch: None)
    engine.register_events("backup_started", "backup_completed", within="RUN")
    engine.add_event_handler("completed", lambda: engine.fire_event("backup_completed"))
    with pytest.raises(EventOrderError, match="BACKUP_COMPLETED is illegal in COMPLETED"):
        run(engine).assert_legal()
