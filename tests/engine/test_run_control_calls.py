"""Control calls: terminate, terminate_epoch, skip_iteration, interrupt and close, at every moment of a run."""

import pytest

from camshaft import Engine, Phase, record
from support.engines import CALLS, ITERATION, MOMENTS, Closing, E, collect, legal, names, standard
from support.steps import echo


def test_terminate_epoch_makes_the_next_epoch_start_fresh_data():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate_epoch())
    legal(engine, [1, 2, 3], max_epochs=2)
    assert stepped == [1, 2, 1, 2, 3]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("skip_completed", [False, True])
def test_terminate_fires_terminate_then_completed_unless_skipped(moment, skip_completed):
    engine = Engine(echo)
    engine.add_event_handler(moment, lambda engine: engine.terminate(skip_completed=skip_completed))
    one_epoch = standard(1, 1)
    ends = [E.TERMINATE] if skip_completed else [E.TERMINATE, E.COMPLETED]
    assert legal(engine, [1], max_epochs=2) == one_epoch[: one_epoch.index(moment) + 1] + ends


def test_terminate_epoch_completes_the_epoch_and_starts_the_next():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED(once=1), lambda engine: engine.terminate_epoch())
    first = [E.EPOCH_STARTED, *ITERATION[:3], E.TERMINATE_SINGLE_EPOCH, E.EPOCH_COMPLETED]
    assert legal(engine, [1, 2], max_epochs=2) == [E.STARTED, *first, *standard(1, 2)[1:]]


def test_terminate_epoch_may_skip_epoch_completed():
    engine = Engine(echo)
    engine.add_event_handler(E.EPOCH_STARTED(once=1), lambda engine: engine.terminate_epoch(skip_epoch_completed=True))
    assert legal(engine, [1, 2], max_epochs=2) == [
        E.STARTED,
        E.EPOCH_STARTED,
        E.TERMINATE_SINGLE_EPOCH,
        *standard(1, 2)[1:],
    ]


@pytest.mark.parametrize("moment", [E.GET_BATCH_COMPLETED, E.ITERATION_STARTED])
@pytest.mark.parametrize("process", [echo, [Phase("FORWARD", echo)]])
def test_skip_iteration_replaces_the_phases_and_counts(moment, process):
    engine = Engine(process)
    engine.add_event_handler(moment, lambda engine: engine.skip_iteration())
    outputs = collect(engine, E.ITERATION_SKIPPED, lambda engine: engine.state.output)
    skipped = [*ITERATION[:3], E.ITERATION_SKIPPED]
    assert legal(engine, [1, 2]) == [E.STARTED, E.EPOCH_STARTED, *skipped * 2, E.EPOCH_COMPLETED, E.COMPLETED]
    assert (engine.state.iteration, outputs) == (2, [None, None])


@pytest.mark.parametrize("moment", [E.EPOCH_STARTED, E.GET_BATCH_STARTED, E.ITERATION_COMPLETED, E.EPOCH_COMPLETED])
def test_skip_iteration_anywhere_else_is_an_error(moment):
    engine = Engine(echo)
    engine.add_event_handler(moment, lambda engine: engine.skip_iteration())
    with pytest.raises(RuntimeError, match="GET_BATCH_COMPLETED or ITERATION_STARTED"):
        engine.run([1])


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("strict", [False, True])
def test_interrupt_pauses_and_the_next_run_resumes_there(moment, strict):
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch), strict=strict), []
    handle = engine.add_event_handler(moment, lambda engine: engine.interrupt() or handle.remove())
    with record() as trace:
        engine.run([1, 2], max_epochs=2)
        assert names(trace)[-1] == "interrupt"
        engine.run()
    trace.assert_legal()
    whole = standard(2, 2)
    whole.insert(whole.index(moment) + 1, E.INTERRUPT)
    assert trace == whole
    assert stepped == [1, 2, 1, 2]


def eventful(stepped):
    """Return an engine that skips an iteration, ends an epoch early, and fires custom events in its step."""

    def step(engine, batch):
        engine.fire_event("grads_clipped")
        stepped.append(batch)

    engine = Engine(step, strict=True)
    engine.register_events("grads_clipped")
    engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: engine.skip_iteration())
    engine.add_event_handler(E.ITERATION_COMPLETED(once=6), lambda engine: engine.terminate_epoch())
    engine.add_event_handler(E.ITERATION_COMPLETED(once=11), lambda engine: engine.terminate())
    return engine


def test_interrupt_after_any_event_loses_and_repeats_nothing():
    limits, whole = {"max_epochs": 4, "epoch_length": 4}, []
    expected = names(legal(eventful(whole), Closing(3), **limits))
    controlled = {"iteration_skipped", "terminate_single_epoch", "terminate", "completed"}
    for index in (index for index, following in enumerate(expected[1:]) if following not in controlled):
        stepped, fired = [], []
        engine = eventful(stepped)
        for key in set(expected):
            engine.add_event_handler(
                key, lambda engine: fired.append(1) or (engine.interrupt() if len(fired) == index + 1 else None)
            )
        with record() as trace:
            engine.run(Closing(3), **limits)
            assert engine.current_run is not None
            engine.run()
        trace.assert_legal()
        assert [name for name in names(trace) if name != "interrupt"] == expected
        assert (stepped, trace.count(E.INTERRUPT)) == (whole, 1)


def test_interrupt_in_a_step_goes_on_behind_the_step():
    engine = Engine(lambda engine, batch: engine.interrupt())
    with record() as trace:
        engine.run([1])
        engine.run()
    trace.assert_legal()
    assert trace == [
        E.STARTED,
        E.EPOCH_STARTED,
        *ITERATION[:3],
        E.INTERRUPT,
        E.ITERATION_COMPLETED,
        E.EPOCH_COMPLETED,
        E.COMPLETED,
    ]


def paused(data=(1, 2, 3), **limits):
    engine = Engine(echo)
    handle = engine.add_event_handler(
        E.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt() or handle.remove()
    )
    engine.run(data, **limits)
    return engine


def test_run_with_other_data_on_a_paused_engine_is_an_error():
    engine = paused()
    with pytest.raises(ValueError, match="paused"):
        engine.run([4, 5])
    assert engine.run().iteration == 3


def test_run_with_the_same_data_on_a_paused_engine_goes_on():
    data = [1, 2, 3]
    assert paused(data).run(data).iteration == 3


def test_close_drops_a_paused_run():
    data = Closing(3)
    engine = paused(data, epoch_length=3)
    assert data.closed == 0
    engine.close()
    assert data.closed == 1
    assert legal(engine, [4, 5]) == standard(1, 2)
    engine.close()


RIVALS = [call for call in CALLS if call != "set_data"]


def effects(*calls, apart=False):
    """Return the events and batches of a run with these calls at the start of iteration 2."""
    stepped = []
    engine = Engine(lambda engine, batch: stepped.append(batch))
    if apart:
        for call in calls:
            engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine, call: CALLS[call](engine), call)
    else:
        engine.add_event_handler(
            E.ITERATION_STARTED(once=2), lambda engine: [CALLS[call](engine) for call in calls] and None
        )
    with record() as trace:
        engine.run([1, 2, 3], max_epochs=2)
        if engine.current_run is not None:
            engine.run()
    trace.assert_legal()
    return names(trace), stepped


@pytest.mark.parametrize("apart", [False, True], ids=["one handler", "two handlers"])
@pytest.mark.parametrize(
    ("lower", "higher"), [(low, high) for index, high in enumerate(RIVALS) for low in RIVALS[index + 1 :]]
)
def test_of_several_control_calls_the_highest_wins(lower, higher, apart):
    assert effects(lower, higher, apart=apart) == effects(higher, lower, apart=apart) == effects(higher)


@pytest.mark.parametrize("call", RIVALS)
def test_a_control_call_in_a_handler_acts_after_the_firing(call):
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED(once=2), CALLS[call])
    rest = collect(engine, E.ITERATION_STARTED)
    engine.run([1, 2])
    assert rest == [1, 2]
    engine.close()


@pytest.mark.parametrize("call", ["terminate", "terminate_epoch", "interrupt"])
def test_a_control_call_in_a_step_acts_after_the_step(call):
    ended = []
    engine = Engine(lambda engine, batch: CALLS[call](engine) or ended.append(batch))
    taken = {"terminate": E.TERMINATE, "terminate_epoch": E.TERMINATE_SINGLE_EPOCH, "interrupt": E.INTERRUPT}[call]
    trace = legal(engine, [1, 2])
    assert names(trace)[:6] == names([E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], taken])
    assert ended == [1]


@pytest.mark.parametrize("call", ["terminate", "terminate_epoch"])
def test_a_control_call_in_a_phase_acts_after_the_phase(call):
    ended = []
    first = Phase("FIRST", lambda engine, batch: CALLS[call](engine) or ended.append("first"))
    trace = legal(Engine([first, Phase("SECOND", lambda engine, batch: ended.append("second"))]), [1, 2])
    assert ended == ["first"]
    assert trace.count("second_started") == 0


def test_terminate_on_an_engine_that_is_not_running_does_nothing():
    engine = Engine(echo)
    engine.terminate()
    assert legal(engine, [1]) == standard(1, 1)
    engine.terminate()
    assert legal(engine, [1]) == standard(1, 1)


def test_terminate_twice_does_nothing_more():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED, lambda engine: engine.terminate() or engine.terminate())
    assert legal(engine, [1, 2], max_epochs=2) == [E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], E.TERMINATE, E.COMPLETED]


@pytest.mark.parametrize("moment", [E.TERMINATE, E.COMPLETED])
def test_terminate_at_terminate_or_completed_does_nothing(moment):
    engine = Engine(echo)
    engine.add_event_handler(moment, lambda engine: engine.terminate(skip_completed=True))
    engine.add_event_handler(E.EPOCH_STARTED, lambda engine: engine.terminate())
    trace = legal(engine, [1])
    assert trace == [E.STARTED, E.EPOCH_STARTED, E.TERMINATE, E.COMPLETED]


def test_terminate_epoch_where_no_epoch_has_begun_is_an_error():
    engine = Engine(echo)
    with pytest.raises(RuntimeError, match="none has begun"):
        engine.terminate_epoch()
    engine.add_event_handler(E.STARTED, lambda engine: engine.terminate_epoch())
    with pytest.raises(RuntimeError, match="none has begun"):
        engine.run([1])
