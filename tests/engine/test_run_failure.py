"""Failures: EXCEPTION_RAISED fires once, the exception is raised or swallowed, and everything is closed."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from functools import partial

import pytest
from torch.utils.data import DataLoader

from camshaft import DATA, Engine, Events, Loop, Phase, event, record
from support.engines import CALLS, ENDINGS, ITERATION, MOMENTS, Breaks, Closing, E, Source, fail, legal, names
from support.steps import echo, fires, no_op


@pytest.mark.parametrize("place", ["step", "data", "event_filter", *MOMENTS, E.COMPLETED])
def test_an_exception_fires_exception_raised_once_and_leaves(place):
    engine = Engine(fail if place == "step" else echo)
    if isinstance(place, Events):
        engine.add_event_handler(place, fail)
    if place == "event_filter":
        engine.add_event_handler(E.ITERATION_STARTED(event_filter=fail), print)
    raised = []
    engine.add_event_handler(E.EXCEPTION_RAISED, lambda engine, error: raised.append(error))
    with record() as trace, pytest.raises(ValueError, match="broken") as caught:
        engine.run(Breaks() if place == "data" else [1, 2], epoch_length=2)
    trace.assert_legal()
    assert raised == [caught.value]
    assert names(trace)[-1] == "exception_raised"
    assert trace.count(E.EXCEPTION_RAISED) == 1


@pytest.mark.parametrize("filter", [{}, {"event_filter": lambda engine, count: True}])
def test_an_exception_is_swallowed_when_a_handler_returned_true(filter):
    engine = Engine(fail)
    for answer in (None, True, "noted"):
        engine.add_event_handler(E.EXCEPTION_RAISED(**filter), lambda error, answer: answer, answer)
    with record() as trace:
        assert engine.run([1]) is engine.state
    trace.assert_legal()
    assert trace == [E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], E.EXCEPTION_RAISED]


def test_the_error_of_a_handler_of_exception_raised_leaves():
    engine = Engine(fail)

    @engine.on(E.EXCEPTION_RAISED)
    def worse(error):
        raise KeyError("worse")

    with record() as trace, pytest.raises(KeyError, match="worse") as caught:
        engine.run([1])
    assert str(caught.value.__context__) == "broken"
    assert trace.count(E.EXCEPTION_RAISED) == 1
    assert engine.current_run is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_keyboard_interrupt_and_its_kind_always_leave(kind):
    engine, raised = Engine(echo), []

    @engine.on(E.ITERATION_STARTED)
    def stop():
        raise kind

    engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: raised.append(error) or True)
    with record() as trace, pytest.raises(kind):
        engine.run([1])
    trace.assert_legal()
    assert len(raised) == 1


def test_an_exception_in_a_nested_engine_fails_both():
    trainer, evaluator = Engine(echo, "trainer"), Engine(fail, "evaluator")
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    with record() as trace, pytest.raises(ValueError, match="broken"):
        trainer.run([1])
    trace.assert_legal()
    assert (trace.count(E.EXCEPTION_RAISED, "trainer"), trace.count(E.EXCEPTION_RAISED, "evaluator")) == (1, 1)
    evaluator.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    assert names(legal(trainer, [1]))[-1] == "completed"


@pytest.mark.parametrize("call", list(CALLS))
def test_control_calls_in_failed_do_nothing(call):
    engine = Engine(lambda engine, batch: 1 / batch)

    @engine.on(E.EXCEPTION_RAISED)
    def control(engine, error):
        if call != "skip_iteration":
            CALLS[call](engine)
        return True

    trace = legal(engine, [1, 0])
    assert names(trace)[-2:] == ["iteration_started", "exception_raised"]
    assert engine.should_terminate == (call == "terminate")
    assert not (engine.should_interrupt or engine.should_terminate_single_epoch)
    assert names(legal(engine, [1, 1]))[-1] == "completed"


def test_wrong_calls_raise_where_they_are_made():
    engine, caught = Engine(fires("not_there")), []
    engine.add_event_handler(E.EXCEPTION_RAISED, caught.append)
    with pytest.raises(ValueError, match="NOT_THERE") as error:
        engine.run([1])
    assert caught == [error.value]
    assert "step" in [frame.name for frame in error.traceback]


def test_a_step_that_raises_stop_iteration_leaves_as_runtime_error():
    with pytest.raises(RuntimeError) as caught:
        Engine(lambda engine, batch: next(iter([]))).run([1])
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("ending", list(ENDINGS))
@pytest.mark.parametrize("over", ["data", "inner loop"])
def test_whatever_ends_a_run_closes_the_iterators_it_opened(ending, over):
    data = Closing(4)
    inner = Loop("CHUNK", Phase("ACT", no_op, started="act_started"), over=lambda engine: iter(data))
    engine = Engine(echo) if over == "data" else Engine(Loop("EPOCH", Loop("ITERATION", inner, over=DATA)))
    moment, action = ENDINGS[ending]
    if moment is not None:
        engine.add_event_handler(moment if over == "data" else event("act_started", once=2), action)
    if ending == "swallowed failure":
        engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    try:
        engine.run(data if over == "data" else [1], epoch_length=3)
    except (ValueError, KeyboardInterrupt) as error:
        error.__traceback__ = None
    assert data.opened == data.closed > 0


def test_whatever_ends_a_run_stops_the_workers_of_a_data_loader():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate())
    engine.run(DataLoader(range(8), num_workers=1, multiprocessing_context="fork"))
    assert multiprocessing.active_children() == []


def test_the_last_event_in_a_handler_of_exception_raised():
    engine = Engine(lambda engine, batch: 1 / 0)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: engine.last_event_name)
    seen = []
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: seen.append(engine.last_event_name))
    with pytest.raises(ZeroDivisionError):
        engine.run([1])
    assert seen == [Events.EXCEPTION_RAISED]


def test_an_engine_can_run_again_after_any_keyboard_interrupt():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=range(20))
    for one in (Events.ITERATION_COMPLETED, Events.EXCEPTION_RAISED):
        trainer.add_event_handler(one, lambda *_: None)

    def interrupt(*_):
        raise KeyboardInterrupt

    interrupted = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # a KeyboardInterrupt in a finalizer would be lost
    try:
        for number in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + number * 1e-6)
                trainer.run(range(50), max_epochs=100)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            time.sleep(0)
            trainer.close()
            evaluator.close()
            assert trainer.parent is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert interrupted > 200
    with record() as trace:
        trainer.run([1, 2])
    trace.assert_legal()


def run_over(engine, data, outer):
    engine.run(data)


def test_everything_is_closed_though_something_fails_to():
    outer = Engine(no_op, name="outer")
    inner = {name: Engine(no_op, name=name) for name in ("bad", "good")}
    sources = {"bad": Source(fails=True), "good": Source()}
    for name, engine in inner.items():
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt)
        outer.add_event_handler(Events.ITERATION_STARTED, partial(run_over, engine, sources[name]))
    with pytest.raises(OSError, match="cannot close"):
        outer.run([1])
    assert [source.closed for source in sources.values()] == [1, 1]
    assert all(engine.where == () for engine in inner.values())


def test_close_starts_over_though_the_data_fails_to_close():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt)
    engine.run(Source(fails=True))
    with pytest.raises(OSError, match="cannot close"):
        engine.close()
    assert engine.run([1]).iteration == 1
