"""New data for a run: by set_data() or by ``state.dataloader``, at any moment, alone or with another control call."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from camshaft import DATA, Engine, Loop, Phase, Snapshot, State, record
from support.engines import CALLS, MOMENTS, Closing, E, fail
from support.steps import echo, no_op

OLD, NEW = [1, 2, 3, 4], [10, 20, 30, 40]
GIVE = {
    "set_data": lambda engine, data: engine.set_data(data),
    "state.dataloader": lambda engine, data: setattr(engine.state, "dataloader", data),
}
OTHERS = [call for call in CALLS if call != "set_data"]
by_either_name = pytest.mark.parametrize("give", GIVE.values(), ids=GIVE)


def noting(at=None):
    """Return an engine and the batches of its steps."""
    stepped = []

    def step(engine, batch):
        stepped.append(batch)
        if at is not None and len(stepped) == 2:
            at(engine)

    return Engine(step), stepped


def events_of(engine, *args, **limits):
    """Run to the end, through all pauses. Returns the keys of all events."""
    with record() as trace:
        engine.run(*args, **limits)
        while engine.current_run is not None:
            engine.run()
    trace.assert_legal()
    return [event.event for event in trace]


def at_second(moment):
    """Return the event at its second firing, and how many batches were fetched by then."""
    n = 1 if moment in (E.STARTED, E.EPOCH_STARTED, E.EPOCH_COMPLETED) else 2
    fetched = {E.STARTED: 0, E.EPOCH_STARTED: 0, E.GET_BATCH_STARTED: 1, E.EPOCH_COMPLETED: 4}.get(moment, 2)
    return n, fetched


def once_at(engine, moment, n, *handlers):
    """Call these handlers at the n-th firing of an event, in this order."""
    fired = []

    def call(engine):
        fired.append(None)
        if len(fired) == n:
            for handler in handlers:
                handler(engine)

    engine.add_event_handler(moment, call)


@by_either_name
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda event: event.name)
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("turns", [1, -1], ids=["data first", "data last"])
def test_both_happen_new_data_and_another_call(give, moment, other, turns):
    if other == "skip_iteration" and moment not in (E.GET_BATCH_COMPLETED, E.ITERATION_STARTED):
        return
    if other == "terminate_epoch" and moment is E.STARTED:
        return
    n, fetched = at_second(moment)
    without, _ = noting()
    once_at(without, moment, n, CALLS[other])
    alone = events_of(without, OLD, max_epochs=2)
    engine, _ = noting()
    batches = []
    engine.add_event_handler(E.GET_BATCH_COMPLETED, lambda engine: batches.append(engine.state.batch))
    once_at(engine, moment, n, *[CALLS[other], lambda engine: give(engine, NEW)][::-turns])
    both = events_of(engine, OLD, max_epochs=2)
    effects = {"terminate", "terminate_single_epoch", "iteration_skipped", "interrupt"}
    assert [key for key in both if key in effects] == [key for key in alone if key in effects]
    if other == "terminate":
        assert both == alone
        events_of(engine, max_epochs=3)
    assert engine.state.dataloader is NEW
    assert batches[: fetched + 3] == [*OLD[:fetched], *NEW[:3]]


@by_either_name
@pytest.mark.parametrize("other", ["terminate", "terminate_epoch", "interrupt"])
@pytest.mark.parametrize("turns", [1, -1], ids=["data first", "data last"])
def test_both_happen_in_a_step_too(give, other, turns):
    def both(engine):
        for call in [lambda: give(engine, NEW), lambda: CALLS[other](engine)][::turns]:
            call()

    engine, stepped = noting(both)
    fired = events_of(engine, OLD, max_epochs=2)
    assert fired.count({"terminate_epoch": "terminate_single_epoch"}.get(other, other)) == 1
    if other == "terminate":
        engine.run(max_epochs=3)
    assert stepped[:5] == [1, 2, 10, 20, 30]


@by_either_name
def test_new_data_and_a_call_from_another_thread(give):
    def from_a_thread(engine):
        thread = threading.Thread(target=lambda: (engine.interrupt(), give(engine, NEW)))
        thread.start()
        thread.join()

    engine, stepped = noting(from_a_thread)
    engine.run(OLD)
    assert stepped == [1, 2]
    assert engine.run().iteration == 4
    assert stepped == [1, 2, 10, 20]


@by_either_name
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda event: event.name)
def test_new_data_during_a_pause(give, moment):
    engine, stepped = noting()
    n, fetched = at_second(moment)
    once_at(engine, moment, n, Engine.interrupt)
    engine.run(OLD, max_epochs=2)
    give(engine, [5])
    give(engine, NEW)
    engine.run()
    assert stepped[: fetched + 3] == [*OLD[:fetched], *NEW[:3]]


@by_either_name
@pytest.mark.parametrize("other", [None, "terminate", "terminate_epoch", "interrupt"])
def test_new_data_between_two_steps(give, other):
    engine, stepped = noting()
    steps = engine.steps(OLD, max_epochs=2)
    for event in steps:
        if event is E.ITERATION_COMPLETED and engine.state.iteration == 2:
            break
    if other is not None:
        CALLS[other](engine)
    give(engine, NEW)
    assert engine.state.dataloader is NEW
    for _ in steps:
        pass
    if other in ("terminate", "interrupt"):
        engine.run(max_epochs=2)
    assert stepped[:5] == [1, 2, 10, 20, 30]


@by_either_name
def test_new_data_at_interrupt_is_taken_when_the_run_continues(give):
    engine, stepped = noting(Engine.interrupt)
    engine.add_event_handler(E.INTERRUPT, lambda engine: give(engine, NEW))
    engine.run(OLD)
    engine.run()
    assert stepped == [1, 2, 10, 20]


@by_either_name
def test_new_data_from_inside_the_data(give):
    engine, stepped = noting()

    def data():
        yield 1
        give(engine, NEW)
        yield 2
        yield 3

    events_of(engine, data(), epoch_length=4)
    assert stepped == [1, 2, 10, 20]


@by_either_name
@pytest.mark.parametrize("at", [E.TERMINATE, E.COMPLETED, E.EXCEPTION_RAISED], ids=lambda event: event.name)
def test_new_data_as_a_run_ends_is_for_the_next_one(give, at):
    engine, stepped = noting({E.TERMINATE: Engine.terminate, E.EXCEPTION_RAISED: fail}.get(at))
    engine.add_event_handler(at, lambda *_: give(engine, NEW))
    engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    engine.run([1, 2])
    engine.run(max_epochs=2)
    assert stepped == [1, 2, 10, 20]


@by_either_name
def test_of_two_new_data_the_last_counts(give):
    engine, stepped = noting(lambda engine: (give(engine, [7]), give(engine, NEW)))
    engine.run(OLD)
    assert stepped == [1, 2, 10, 20]


@by_either_name
def test_new_data_starts_from_its_beginning_even_if_it_is_the_same(give):
    engine, stepped = noting(lambda engine: give(engine, OLD))
    engine.run(OLD)
    assert stepped == [1, 2, 1, 2]


@by_either_name
@pytest.mark.parametrize("call", [None, *OTHERS])
def test_the_iterator_of_replaced_data_is_closed(give, call):
    engine, data = Engine(no_op), Closing(4)
    once_at(engine, E.ITERATION_STARTED, 2, lambda engine: give(engine, NEW), *[CALLS[one] for one in [call] if one])
    events_of(engine, data, max_epochs=2, epoch_length=4)
    assert (data.opened, data.closed) == (1, 1)


@by_either_name
@pytest.mark.parametrize("moment", [E.ITERATION_COMPLETED, E.EPOCH_COMPLETED], ids=lambda event: event.name)
@pytest.mark.parametrize("other", [None, "interrupt", "terminate", "terminate_epoch"])
@pytest.mark.parametrize("how", ["state_dict", "snapshot"])
def test_a_run_saved_with_new_data_goes_on_with_its_first_batch(tmp_path, give, moment, other, how):
    def build(data):
        engine, stepped = noting()
        n, _ = at_second(moment)
        Snapshot(engine, tmp_path / data)
        once_at(engine, moment, n, lambda engine: give(engine, NEW), *[CALLS[one] for one in [other] if one])
        once_at(engine, moment, n, lambda engine: saved.append(engine.state_dict()), lambda engine: engine.snapshot())
        return engine, stepped

    saved = []
    left, stepped = build("left")
    fetched = at_second(moment)[1]
    left.run(OLD, max_epochs=3)
    if left.state.epoch < 3:
        left.run(max_epochs=3)
    resumed, again = noting()
    Snapshot(resumed, tmp_path / "left")
    if how == "snapshot":
        resumed.resume()
    else:
        resumed.load_state_dict(saved[0])
    resumed.run(NEW, max_epochs=3)
    if how == "snapshot" and other == "terminate":  # the snapshot repeats the call
        resumed.run(max_epochs=3)
    if how == "state_dict" and other in ("terminate", "terminate_epoch") and moment is E.ITERATION_COMPLETED:
        assert again[:2] == NEW[:2]  # a state dict knows of no call, so the epoch goes on
        return
    assert stepped == [*OLD[:fetched], *again]


# -- state.dataloader alone --------------------------------------------------------------------------------------------


def test_dataloader_assigned_before_the_first_run_is_its_data():
    engine, stepped = noting()
    engine.state.dataloader = [1, 2]
    assert engine.run(max_epochs=2).epoch_length == 2
    assert stepped == [1, 2, 1, 2]


def test_data_given_to_run_goes_before_assigned_data():
    engine, stepped = noting()
    engine.state.dataloader = [1, 2]
    engine.run([7])
    assert (stepped, engine.state.dataloader) == ([7], [7])


@pytest.mark.parametrize("limits", [{"max_epochs": 2}, {}], ids=["continued", "anew"])
def test_dataloader_assigned_between_two_runs(limits):
    engine, stepped = noting()
    engine.run([1, 2])
    engine.state.dataloader = NEW
    assert engine.run(**limits).epoch_length == (2 if limits else 4)
    assert stepped == [1, 2, *NEW[: 2 if limits else 4]]


def test_data_of_a_run_is_not_taken_by_a_run_that_starts_anew():
    engine = Engine(no_op)
    engine.run([1, 2])
    with pytest.raises(ValueError, match="data=None needs epoch_length"):
        engine.run()


def test_a_new_state_may_bring_its_data():
    engine, stepped = noting()
    engine.state = State(dataloader=[1, 2])
    engine.run(max_epochs=2)
    assert stepped == [1, 2, 1, 2]
    engine.state.dataloader = NEW
    engine.run(max_epochs=3)
    assert stepped[4:] == [10, 20]


def test_dataloader_of_a_loaded_run():
    engine, stepped = noting()
    engine.load_state_dict({"epoch": 1, "epoch_length": 2, "max_epochs": 2})
    engine.state.dataloader = [1, 2]
    engine.run()
    assert stepped == [1, 2]


def test_dataloader_assigned_in_a_phase_and_in_a_condition():
    stepped = []

    def assign(engine, *batch):
        if engine.state.iteration in (1, 3):
            engine.state.dataloader = [10 * engine.state.iteration] * 3
        return True

    engine = Engine([Phase("A", assign), Phase("B", lambda engine, batch: stepped.append(batch), when=assign)])
    engine.run(OLD)
    assert stepped == [1, 10, 10, 30]


def test_dataloader_of_a_trainer_assigned_by_its_evaluator():
    trainer, stepped = noting()
    evaluator = Engine(no_op, "evaluator")
    trainer.nest(evaluator, on=E.ITERATION_COMPLETED(once=2), data=[0])
    evaluator.add_event_handler(E.ITERATION_STARTED, lambda engine: setattr(engine.parent.state, "dataloader", NEW))
    trainer.run(OLD)
    assert stepped == [1, 2, 10, 20]
    assert evaluator.state.dataloader == [0]


@pytest.mark.parametrize("at", [E.DATALOADER_STOP_ITERATION, E.EPOCH_COMPLETED], ids=lambda event: event.name)
def test_data_is_switched_as_guides_of_ignite_do(at):
    engine, stepped = noting()
    engine.add_event_handler(at, lambda engine: setattr(engine.state, "dataloader", NEW))
    engine.run(iter([1, 2]), max_epochs=2, epoch_length=2)
    assert stepped == [1, 2, 10, 20]


BAD = {
    "None": (None, TypeError, "data is not iterable: None"),
    "a number": (5, TypeError, "data is not iterable: 5"),
    "empty": ([], ValueError, "data is empty"),
}


@by_either_name
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("moment", ["running", "paused", "idle"])
def test_data_that_gives_no_batch_is_refused(give, bad, moment):
    data, error, says = BAD[bad]
    engine = Engine(no_op)

    def refuses(engine):
        before = engine.state.dataloader
        with pytest.raises(error, match=says):
            give(engine, data)
        assert engine.state.dataloader is before

    if moment == "idle":
        if data is None and give is GIVE["state.dataloader"]:
            engine.state.dataloader = None  # there is no run that needs it
            return
        refuses(engine)
        return
    engine.add_event_handler(E.ITERATION_STARTED(once=2), refuses if moment == "running" else Engine.interrupt)
    engine.run(OLD)
    if moment == "paused":
        refuses(engine)
        engine.run()
    assert engine.state.iteration == 4


@by_either_name
@pytest.mark.parametrize(
    ("loop", "limits"),
    [(Loop("EPOCH", Loop("ITERATION", Phase("A"), over=DATA)), {"epoch_length": 2}), (Loop("ROUND", Phase("A")), {})],
    ids=["without data", "without a loop over data"],
)
def test_data_in_a_run_that_takes_none_is_refused(give, loop, limits):
    engine = Engine(loop)
    engine.add_event_handler(loop.started, lambda engine: give(engine, NEW))
    with pytest.raises(RuntimeError, match="has no run that takes data"):
        engine.run(**limits)
    assert engine.state.dataloader is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_copy_of_a_state_does_not_change_the_data_of_the_run(copied):
    engine, stepped = noting(lambda engine: setattr(copied(engine.state), "dataloader", NEW))
    engine.run(OLD)
    assert stepped == OLD


def test_the_state_of_an_engine_that_has_ended_is_no_longer_connected():
    for ending in (Engine.terminate, fail, Engine.skip_iteration):
        engine = Engine(echo)
        engine.add_event_handler(E.ITERATION_STARTED(once=2), ending)
        engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
        engine.run(OLD)
        engine.state.dataloader = None
        assert engine.state.dataloader is None


@pytest.mark.parametrize("call", [None, "interrupt", "terminate_epoch"])
@pytest.mark.parametrize("at", [1, 2, 4])
def test_data_assigned_in_an_epoch_of_unknown_length_waits_for_its_end(at, call):
    engine, seen = Engine(lambda engine, batch: seen.append(batch)), []
    engine.add_event_handler(E.ITERATION_COMPLETED(once=at), lambda: setattr(engine.state, "dataloader", [7, 8, 9]))
    if call is not None:
        engine.add_event_handler(E.ITERATION_COMPLETED(once=3), getattr(engine, call))
    with record() as trace:
        engine.run((number for number in range(4)), max_epochs=3)
        if call == "interrupt":
            engine.run()
    assert seen[:3] == [0, 1, 2]
    if call != "terminate_epoch":
        assert (engine.state.epoch_length, seen) == (4, [0, 1, 2, 3, 7, 8, 9, 7, 8, 9, 7, 8])
    trace.assert_legal()


def test_data_assigned_again_and_again_in_epochs_of_unknown_length_ends():
    engine = Engine(lambda engine, batch: None)

    @engine.on(E.ITERATION_COMPLETED(every=5))
    def restart():
        engine.state.dataloader = (number for number in range(5))

    state = engine.run((number for number in range(5)), max_epochs=4)
    assert (state.epoch, state.iteration, state.epoch_length) == (4, 20, 5)
