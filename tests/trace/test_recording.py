"""Recording: a trace has the events of the right engines, and nothing else changes."""

from __future__ import annotations

import pytest

from camshaft import Engine, EventOrderError, Events, Phase, Trace, event, every, record
from support import path_of
from support.steps import no_op
from support.traces import make_pair

HERE = path_of(__file__)


def test_what_runs_outside_the_block_is_not_recorded():
    engine = Engine(no_op)
    with record() as trace:
        pass
    engine.run([1])
    assert len(trace) == 0
    assert str(trace) == "nothing was recorded"


def test_two_recorders_hear_the_same():
    with record() as outer, record() as inner:
        Engine(no_op).run([1, 2])
    assert outer == inner


def test_recording_changes_nothing():
    log = []
    engine = Engine(lambda engine, batch: log.append((batch, engine.where)))
    engine.run([1, 2])
    with record():
        engine.run([1, 2])
    assert log[:2] == log[2:]


def test_a_run_goes_on_in_the_same_record_after_an_interrupt():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    with record() as trace:
        engine.run([1, 2, 3])
        engine.run()
    assert len(trace.runs) == 1
    assert trace.count(Events.INTERRUPT) == 1
    assert trace.runs[0].outcome == "completed"
    trace.assert_legal()


@pytest.mark.parametrize("step", [no_op, [Phase("A", no_op), Phase("B", no_op, when=every(2))]])
@pytest.mark.parametrize("place", [Events.ITERATION_COMPLETED, Events.EPOCH_STARTED, Events.GET_BATCH_COMPLETED])
def test_a_record_that_begins_at_a_pause_is_legal(step, place):
    engine = Engine(step)
    engine.add_event_handler(
        event(place, once=1) if place is not Events.GET_BATCH_COMPLETED else place, engine.interrupt
    )
    engine.run([1, 2, 3], max_epochs=2)
    for handler in engine.handlers(place):
        engine.remove_event_handler(handler.function, place)
    with record() as trace:
        engine.run()
    assert trace.runs[0].place != "READY"
    trace.assert_legal()


def test_a_record_of_a_resumed_epoch_is_legal():
    engine = Engine(no_op)
    engine.load_state_dict(
        {"epoch": 1, "iteration": 2, "position": 2, "epoch_length": 3, "max_epochs": 2, "max_iters": None}
    )
    with record() as trace:
        engine.run([3, 4, 5])
    assert engine.state.iteration == 6
    trace.assert_legal()


def test_only_the_engines_that_are_named_are_recorded():
    trainer, evaluator = make_pair()
    with record(evaluator) as trace:
        trainer.run([1, 2], max_epochs=2)
    assert {event.engine for event in trace} == {"evaluator"}
    assert [run.parent for run in trace.runs] == [None, None]
    trace.assert_legal()
    cannot = "<object object at .* cannot be recorded: give an Engine, a Reporter, or an"
    with pytest.raises(TypeError, match=cannot), record(object()):
        pass


def test_call_sites_say_where_each_event_was_fired():
    def step(engine, batch):
        engine.fire_event("backward_completed")

    engine = Engine(step, name="trainer")
    engine.register_events("backward_started", "backward_completed")
    with record(call_sites=True) as trace:
        engine.run([1])
    line = step.__code__.co_firstlineno + 1
    assert trace[5].site == f"{HERE}:{line} in step"
    assert trace[0].site.endswith("of the generated epoch_loop")
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    assert f"  > 6  BACKWARD_COMPLETED  fired by {HERE}:{line} in step" in str(caught.value).splitlines()


def test_call_sites_of_faults_and_pauses_name_the_loop(tmp_path):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: 1 / 0)
    with record(call_sites=True) as trace, pytest.raises(ZeroDivisionError):
        engine.run([1])
    assert all(event.site for event in trace)
    trace.save(tmp_path / "run.jsonl")
    assert [event.site for event in Trace.load(tmp_path / "run.jsonl")] == [event.site for event in trace]
