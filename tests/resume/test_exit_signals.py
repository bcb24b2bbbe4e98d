"""graceful_exit: real signals to this process and to child processes, on real training runs."""

import contextlib
import itertools
import logging
import random
import signal
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from camshaft import (
    DATA,
    BackpropEvents,
    Engine,
    Events,
    Loop,
    Phase,
    Snapshot,
    create_supervised_evaluator,
    create_supervised_trainer,
    event,
    graceful_exit,
    record,
)
from camshaft.engine.progress import resume_points
from camshaft.metrics import Accuracy
from support.learning import batches, classifier, same, sgd
from support.steps import no_op

SIGNALS = SIGTERM, SIGINT = signal.SIGTERM, signal.SIGINT


def raiser(number=SIGTERM):
    return lambda: signal.raise_signal(number)


def exit_code(trainer, *args, **kwargs):
    """Run the trainer in a block. Returns the exit code of the SystemExit that it raises; None without one."""
    try:
        with graceful_exit(trainer):
            trainer.run(*args, **kwargs)
    except SystemExit as error:
        return error.code
    return None


def fired(trace):
    return [event.event for event in trace]


# -- where a run is paused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(SIGTERM, 143), (SIGINT, 130)])
def test_a_signal_pauses_the_run_after_the_iteration(number, code):
    trainer = Engine(no_op, "trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED(once=5), raiser(number))
    with record() as trace:
        assert exit_code(trainer, range(4), max_epochs=3) == code
    assert fired(trace)[-2:] == ["iteration_completed", "interrupt"]
    assert trainer.state.iteration == 5
    assert "completed" not in fired(trace)
    trace.assert_legal()


def test_the_block_is_left_behind_what_follows_the_run():
    trainer, after = Engine(no_op), []
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    with pytest.raises(SystemExit), graceful_exit(trainer):
        state = trainer.run(range(4))
        after.append(state.iteration)
    assert after == [2]


def test_without_a_signal_nothing_is_changed():
    trainer = Engine(no_op)
    with record() as plain:
        trainer.run(range(3), max_epochs=2)
    trainer.close()
    with record() as trace:
        assert exit_code(trainer, range(3), max_epochs=2) is None
    assert fired(trace) == fired(plain)
    assert not any(trainer.handlers(key) for key in resume_points(trainer.loop))


def supervised():
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss(), name="trainer")
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()}, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=batches(shuffle=False))
    return trainer, model


def flat():
    return Engine(Loop("ITERATION", Phase("LEARN", no_op), over=DATA), "trainer"), None


def without_data():
    loop = Loop(
        "EPISODE", Phase("RESET", no_op), Loop("TIMESTEP", Phase("ACT", no_op), times=3), Phase("UPDATE", no_op)
    )
    return Engine(loop, "trainer"), None


def skipping():
    trainer = Engine(no_op, "trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED(every=2), trainer.skip_iteration)
    return trainer, None


BUILT = {
    "supervised": (supervised, lambda: {"data": batches(), "max_epochs": 2}),
    "flat": (flat, lambda: {"data": range(5)}),
    "without data": (without_data, lambda: {"max_epochs": 3}),
    "skipping": (skipping, lambda: {"data": range(4), "max_epochs": 2}),
}


def uninterrupted(kind):
    build, arguments = BUILT[kind]
    trainer, model = build()
    with record() as trace:
        torch.manual_seed(0)
        trainer.run(**arguments())
    return trace, model


WHOLE = {kind: uninterrupted(kind) for kind in BUILT}


def events_before_pause(whole, trainer, at):
    """Return how many events of an uninterrupted run precede its pause, if the signal comes at event ``at``."""
    own = [index for index, item in enumerate(whole) if item.engine == trainer.name]
    for index, following in zip(own, [*own[1:], len(whole)], strict=True):
        if following > at and whole[index].event in resume_points(trainer.loop):
            return following
    raise AssertionError("a run ends at a resumable point")


@given(kind=st.sampled_from(sorted(BUILT)), where=st.floats(0, 1, exclude_max=True), number=st.sampled_from(SIGNALS))
@settings(max_examples=100)
def test_a_run_stops_at_the_next_boundary_and_can_be_resumed(kind, where, number):
    whole, expected = WHOLE[kind]
    build, arguments = BUILT[kind]
    trainer, model = build()
    at, firings = int(where * len(whole)), itertools.count()

    def send():
        if next(firings) == at:
            signal.raise_signal(number)

    for engine in (trainer, *(nested.engine for nested in trainer.loop.nested)):
        for key in set(engine.loop.event_keys) - {"interrupt", "exception_raised"}:
            engine.add_event_handler(event(key, priority=1), send)
    torch.manual_seed(0)
    with record() as part:
        assert exit_code(trainer, **arguments()) == 128 + number
    part.assert_legal()
    past = events_before_pause(whole, trainer, at)
    if past == len(whole):
        assert fired(part) == fired(whole)
        return
    assert fired(part) == [*fired(whole)[:past], "interrupt"]
    with record() as rest:
        trainer.run()
    assert fired(rest) == fired(whole)[past:]
    assert model is None or same(model, expected)


def test_a_nested_evaluator_finishes_before_the_block_leaves():
    trainer, _ = supervised()
    evaluator = trainer.loop.nested[0].engine
    evaluator.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    seen = []
    trainer.add_event_handler(Events.INTERRUPT, lambda: seen.append(evaluator.state.metrics["accuracy"]))
    with record() as trace:
        assert exit_code(trainer, batches(), max_epochs=3) == 143
    trace.assert_legal()
    assert [(item.engine, item.event) for item in trace][-3:] == [
        ("evaluator", "epoch_completed"),
        ("evaluator", "completed"),
        ("trainer", "interrupt"),
    ]
    assert len(seen) == 1


def test_a_run_that_ends_anyway_ends_before_the_block_leaves():
    trainer = Engine(no_op)
    trainer.add_event_handler(Events.COMPLETED, raiser())
    assert exit_code(trainer, range(3)) == 143
    assert trainer.current_run is None

    trainer = Engine(no_op)

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def stop(engine):
        signal.raise_signal(SIGTERM)
        engine.terminate()

    with record() as trace:
        assert exit_code(trainer, range(3)) == 143
    assert fired(trace)[-3:] == ["iteration_completed", "terminate", "completed"]
    trace.assert_legal()


def test_new_data_at_the_boundary_does_not_delay_the_pause():
    trainer = Engine(no_op)

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def swap(engine):
        signal.raise_signal(SIGTERM)
        engine.set_data([7, 7, 7])

    assert exit_code(trainer, range(3)) == 143
    assert (trainer.state.iteration, trainer.state.batch) == (2, 1)
    assert trainer.state.dataloader == [7, 7, 7]


def test_its_handlers_run_behind_all_others_at_the_boundaries():
    trainer, order = Engine(no_op), []
    with pytest.raises(SystemExit), graceful_exit(trainer):
        trainer.add_event_handler(event(Events.ITERATION_COMPLETED, priority=-1_000_000_000), order.append, "last")
        trainer.add_event_handler(Events.INTERRUPT, lambda: order.append("interrupt"))
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), raiser())
        trainer.run(range(3))
    assert order[-1] == "interrupt"
    assert [handler.name for handler in trainer.handlers(Events.ITERATION_COMPLETED)][-1] == "list.append"


def training(folder):
    model = classifier()
    optimizer = sgd(model)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss(), name="trainer")
    Snapshot(trainer, folder, model=model, optimizer=optimizer)
    return trainer, model


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iteration", [1, 6, 7, 11])
def test_new_objects_resume_exactly_from_the_snapshot(tmp_path, iteration):
    torch.manual_seed(3)
    whole, expected = training(tmp_path / "whole")
    whole.run(batches(), max_epochs=2)

    torch.manual_seed(3)
    trainer, _ = training(tmp_path / "left")

    trainer.add_event_handler(BackpropEvents.FORWARD_STARTED(once=iteration), raiser())
    assert exit_code(trainer, batches(), max_epochs=2) == 143
    assert len(list((tmp_path / "left").iterdir())) == 1

    random.seed(99)
    torch.manual_seed(99)
    trainer, model = training(tmp_path / "left")
    trainer.resume("latest")
    assert trainer.state.iteration == iteration
    trainer.run(batches(), max_epochs=2)
    assert same(model, expected)


# -- no run, failures --------------------------------------------------------------------------------------------------


def test_a_signal_after_the_snapshot_waits_for_the_next_boundary(tmp_path):
    trainer = Engine(lambda engine, batch: None, "trainer")
    Snapshot(trainer, tmp_path)
    between = event(Events.ITERATION_COMPLETED, once=2, priority=-1_500_000_000)
    trainer.add_event_handler(between, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit), graceful_exit(trainer):
        trainer.run(range(5))
    assert trainer.state.iteration == 3
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot_000001_iteration_3.pt"]


@pytest.mark.parametrize("number", SIGNALS)
def test_while_there_is_no_run_the_block_is_left_at_once(number):
    trainer, done = Engine(no_op), []
    with pytest.raises(SystemExit) as before, graceful_exit(trainer):
        signal.raise_signal(number)
        done.append("before")
    with pytest.raises(SystemExit) as between, graceful_exit(trainer):
        trainer.run(range(3))
        signal.raise_signal(number)
        done.append("between")
    assert (before.value.code, between.value.code, done) == (128 + number, 128 + number, [])


def test_a_paused_run_is_no_run():
    trainer = Engine(no_op)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.interrupt)
    with pytest.raises(SystemExit), graceful_exit(trainer):
        trainer.run(range(3))
        signal.raise_signal(SIGTERM)
        pytest.fail("went on")


def test_an_evaluator_run_by_itself_is_left_at_once():
    trainer, evaluator = Engine(no_op, "trainer"), Engine(no_op, "evaluator")
    evaluator.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    with pytest.raises(SystemExit), graceful_exit(trainer):
        evaluator.run(range(4))
    assert evaluator.state.iteration == 2


def test_an_exception_that_leaves_the_block_leaves_as_it_is():
    trainer = Engine(no_op)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    with pytest.raises(ZeroDivisionError), graceful_exit(trainer):
        trainer.run(range(3))
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), graceful_exit(trainer):
        raise ZeroDivisionError


def test_a_run_that_fails_after_the_signal_leaves_with_its_error():
    def step(engine, batch):
        signal.raise_signal(SIGTERM)
        raise ZeroDivisionError

    trainer = Engine(step)
    with pytest.raises(ZeroDivisionError):
        exit_code(trainer, range(3))
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: True)
    assert exit_code(trainer, range(3)) == 143


def test_a_signal_while_the_run_fails_leaves_the_failure_as_it_is():
    def step(engine, batch):
        raise ZeroDivisionError

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: signal.raise_signal(SIGTERM))
    with pytest.raises(ZeroDivisionError):
        exit_code(trainer, range(3))


def test_a_later_run_in_the_block_stops_at_its_first_boundary():
    trainer = Engine(no_op)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    with pytest.raises(SystemExit), graceful_exit(trainer):
        trainer.run(range(9))
        trainer.run()
        assert trainer.state.iteration == 3
        trainer.close()
        trainer.run(range(9))
        assert trainer.state.iteration == 0
        assert trainer.last_event_name is Events.STARTED


# -- more than one signal ----------------------------------------------------------------------------------------------


def test_a_second_ctrl_c_ends_at_once():
    reached = []

    def step(engine, batch):
        signal.raise_signal(SIGINT)
        reached.append(1)
        signal.raise_signal(SIGINT)
        reached.append(2)

    with pytest.raises(KeyboardInterrupt) as raised:
        exit_code(Engine(step, "trainer"), range(3))
    assert reached == [1]
    assert raised.value.__notes__ == ["in trainer: EPOCH 1 / ITERATION 1"]


def test_sigterm_again_changes_nothing():
    def step(engine, batch):
        for number in (SIGTERM, SIGTERM, SIGINT, SIGTERM):
            signal.raise_signal(number)

    trainer = Engine(step)
    assert exit_code(trainer, range(3)) == 143
    assert trainer.state.iteration == 1


def test_one_line_says_what_came_and_what_will_happen(caplog, tmp_path):
    trainer = Engine(no_op, "trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), raiser(SIGINT))
    exit_code(trainer, range(3))
    stops = "SIGINT: trainer stops at the next resumable point"
    ends = "and the process exits with 130; a second Ctrl+C ends it at once"
    assert caplog.record_tuples == [("camshaft.trainer", logging.WARNING, f"{stops}, {ends}")]

    caplog.clear()
    trainer.close()
    Snapshot(trainer, tmp_path)
    exit_code(trainer, range(3))
    assert caplog.messages == [f"{stops}, saves a snapshot, {ends}"]

    caplog.clear()
    with contextlib.suppress(SystemExit), graceful_exit(trainer):
        signal.raise_signal(SIGTERM)
    assert caplog.messages == ["SIGTERM: no run of trainer is executing, exiting with 143"]


# -- stepping, threads -------------------------------------------------------------------------------------------------


def test_steps_end_alike_for_a_signal_in_or_between_them():
    for between in (False, True):
        trainer, seen = Engine(no_op), []
        if not between:
            trainer.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
        with pytest.raises(SystemExit) as left, graceful_exit(trainer):
            for handed_out in trainer.steps(range(4)):
                seen.append(handed_out)
                if between and handed_out == Events.ITERATION_STARTED and trainer.state.iteration == 2:
                    signal.raise_signal(SIGTERM)
        assert left.value.code == 143
        assert seen[-2:] == [Events.ITERATION_COMPLETED, Events.INTERRUPT]
        assert trainer.state.iteration == 2


def test_a_run_in_another_thread_is_paused_too():
    trainer, started = Engine(lambda engine, batch: started.set()), threading.Event()
    with pytest.raises(SystemExit) as left, graceful_exit(trainer):
        thread = threading.Thread(target=lambda: trainer.run([0], max_iters=10**9))
        thread.start()
        started.wait()
        signal.raise_signal(SIGTERM)
        thread.join()
    assert left.value.code == 143
    assert 0 < trainer.state.iteration < 10**9


def test_it_can_be_entered_only_in_the_main_thread():
    raised = []

    def enter():
        try:
            with graceful_exit(Engine(no_op)):
                pass
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=enter, name="Worker")
    thread.start()
    thread.join()
    assert raised == [
        "graceful_exit: Worker is not the main thread, and Python handles signals only there: "
        "enter the block in the main thread"
    ]


def test_what_is_no_engine_is_refused():
    refused = pytest.raises(
        TypeError, match=r"^graceful_exit: engine must be an Engine, got <function no_op.*>: give the one whose run"
    )
    with refused, graceful_exit(no_op):
        pass


# -- previous handlers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["quietly", "with a signal", "with an error"])
@pytest.mark.parametrize("previous", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler, lambda *_: None])
def test_handlers_that_were_there_before_are_put_back(previous, how):
    trainer = Engine(no_op)
    before = {number: signal.signal(number, previous) for number in SIGNALS}
    try:
        with contextlib.suppress(SystemExit, ZeroDivisionError), graceful_exit(trainer):
            assert signal.getsignal(SIGTERM) is not previous
            if how == "with a signal":
                signal.raise_signal(SIGTERM)
            if how == "with an error":
                raise ZeroDivisionError
        assert {signal.getsignal(number) for number in before} == {previous}
        assert not any(trainer.handlers(key) for key in resume_points(trainer.loop))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- nested blocks -----------------------------------------------------------------------------------------------------


def test_blocks_of_the_same_engine_are_one(caplog):
    trainer = Engine(no_op, "trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    with record() as trace, pytest.raises(SystemExit) as outer, graceful_exit(trainer):
        inner = exit_code(trainer, range(4))
    assert (inner, outer.value.code) == (143, 143)
    assert len(caplog.messages) == 1
    assert fired(trace)[-2:] == ["iteration_completed", "interrupt"]
    trace.assert_legal()


def test_a_block_left_before_the_signal_does_not_answer(caplog):
    first, second = Engine(no_op, "first"), Engine(no_op, "second")
    first.add_event_handler(Events.EPOCH_STARTED(once=2), raiser())
    with pytest.raises(SystemExit), graceful_exit(second):
        with graceful_exit(first):
            first.run(range(2))
        first.run(range(2), max_epochs=2)
        pytest.fail("went on")
    assert caplog.messages == ["SIGTERM: no run of second is executing, exiting with 143"]


@pytest.mark.parametrize("turned_round", [False, True])
def test_of_two_engines_in_turn_the_second_does_not_train(turned_round):
    first, second = Engine(no_op, "first"), Engine(no_op, "second")
    first.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    outer, inner = (second, first) if turned_round else (first, second)
    with pytest.raises(SystemExit) as left, graceful_exit(outer), graceful_exit(inner):
        first.run(range(4))
        second.run(range(4))
    assert left.value.code == 143
    assert (first.state.iteration, second.state.iteration) == (2, 0)


@pytest.mark.parametrize("turned_round", [False, True])
def test_of_two_nested_engines_the_outer_one_is_paused(turned_round, caplog):
    trainer, evaluator = Engine(no_op, "trainer"), Engine(no_op, "evaluator")
    trainer.nest(evaluator, on=Events.ITERATION_COMPLETED, data=range(3))
    evaluator.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())
    outer, inner = (evaluator, trainer) if turned_round else (trainer, evaluator)
    with record() as trace, pytest.raises(SystemExit), graceful_exit(outer), graceful_exit(inner):
        trainer.run(range(4))
    assert [(item.engine, item.event) for item in trace][-2:] == [("evaluator", "completed"), ("trainer", "interrupt")]
    assert [message.split(" stops")[0] for message in caplog.messages] == ["SIGTERM: trainer"]
    trace.assert_legal()


def test_a_block_inside_another_run_ends_the_run_around_it():
    inner = Engine(no_op, "inner")
    inner.add_event_handler(Events.ITERATION_STARTED(once=2), raiser())

    def fold(engine, batch):
        with graceful_exit(inner):
            inner.run(range(4))
        pytest.fail("the fold went on")

    outer = Engine([Phase("FOLD", fold)], "outer")
    with record() as trace:
        assert exit_code(outer, range(3)) == 143
    assert [(item.engine, item.event) for item in trace][-2:] == [("inner", "interrupt"), ("outer", "exception_raised")]
    trace.assert_legal()
