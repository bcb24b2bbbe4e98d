"""Runs that end early, go on, are stepped, saved or interrupted at any moment."""

from __future__ import annotations

import gc
import signal
import time
from functools import partial

import pytest

from camshaft import DATA, Engine, EventEnum, EventOrderError, Events, Loop, LoopError, Phase, event, record
from camshaft.testing import call_at
from support.steps import nothing


def make(seen, name="trainer"):
    return Engine(lambda engine, batch: seen.append((engine.state.epoch, batch)), name=name)


# -- saving and loading -----------------------------------------------------------------------------------------------


def saved_at_every_event(data, epochs):
    """The state after each event of a run, with how many batches had been seen by then."""
    seen = []
    engine = make(seen)
    return [(one, len(seen), engine.state_dict()) for one in engine.steps(data, max_epochs=epochs)], seen


@pytest.mark.parametrize("index", range(len(saved_at_every_event("abc", 3)[0]) - 2))
def test_a_run_saved_at_any_event_goes_on_with_the_iteration_after(index):
    saved, uninterrupted = saved_at_every_event("abc", 3)
    one, done, state = saved[index]
    seen = []
    engine = make(seen)
    engine.load_state_dict(state)
    with record() as trace:
        engine.run("abc")
    trace.assert_legal()
    if one is Events.ITERATION_STARTED:
        done += 1  # this iteration was counted when the state was saved: the next one follows
    assert seen == uninterrupted[done:]
    assert (engine.state.epoch, engine.state.iteration) == (3, 9)


def test_a_loaded_run_needs_its_data_again():
    engine = Engine(nothing)
    engine.load_state_dict({"epoch": 1, "epoch_length": 3, "max_epochs": 2})
    with pytest.raises(ValueError, match="data=None needs epoch_length"):
        engine.run()


def test_a_filter_on_a_custom_event_counts_on_when_its_run_goes_on():
    counts = []
    engine = Engine(lambda engine, batch: engine.fire_event("custom"))
    engine.register_events("custom")
    engine.add_event_handler(event("custom", every=3), lambda engine: counts.append(engine.state.iteration))
    engine.run(range(4), max_epochs=1)
    engine.run(range(4), max_epochs=3)
    assert counts == [3, 6, 9, 12]


# -- limits of runs that go on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [(3, 6), (7, 4), (7, 7)])
@pytest.mark.parametrize("data", [range(8), None])
def test_a_paused_run_keeps_the_limits_that_it_is_given(first, then, data):
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    with record() as trace:
        engine.run(data, max_iters=first, epoch_length=8)
        engine.run(max_iters=then)
    assert engine.state.iteration == then
    trace.assert_legal()


def test_times_bounds_a_run_that_goes_on():
    engine = Engine(Loop("PASS_OVER", Phase("A", nothing), times=3))
    engine.add_event_handler(engine.loop.events.PASS_OVER_COMPLETED(once=1), engine.terminate)
    engine.run()
    assert engine.run(max_epochs=5).pass_over == 3


def test_a_run_that_goes_on_is_checked_like_a_new_one():
    engine = Engine(Loop("ROUND", Phase("A", nothing)))
    engine.run(max_epochs=1)
    with pytest.raises(ValueError, match="takes no data"):
        engine.run([1], max_epochs=2)


def test_a_run_that_failed_before_its_first_epoch_goes_on_with_its_limits():
    engine = Engine(nothing)
    with engine.add_event_handler(Events.STARTED, lambda: 1 / 0), pytest.raises(ZeroDivisionError):
        engine.run([1], max_epochs=2)
    assert engine.run().epoch == 2


# -- stepping ---------------------------------------------------------------------------------------------------------


def test_run_goes_on_where_stepping_was_left():
    engine = Engine(nothing)
    for one in engine.steps([1, 2, 3]):
        if one is Events.ITERATION_COMPLETED:
            break
    assert engine.state.iteration == 1
    assert engine.run().iteration == 3


def test_run_takes_over_from_whoever_steps():
    engine = Engine(nothing)
    steps = engine.steps([1, 2, 3])
    next(steps)
    assert engine.run().iteration == 3
    assert list(steps) == []


def test_steps_that_were_never_taken_leave_nothing_behind():
    engine = Engine(nothing)
    engine.steps([1, 2])
    assert engine.run([3]).batch == 3


def test_a_stepped_run_can_be_closed():
    engine = Engine(nothing)
    next(engine.steps([1, 2]))
    engine.close()
    assert engine.where == ()
    assert engine.run([1]).iteration == 1


def test_terminate_between_two_steps_takes_effect_at_the_next():
    engine = Engine(nothing)
    events = []
    for one in engine.steps([1, 2, 3]):
        events.append(one)
        if one is Events.ITERATION_STARTED:
            engine.terminate()
    assert events[-3:] == [Events.ITERATION_STARTED, Events.TERMINATE, Events.COMPLETED]


# -- failure ----------------------------------------------------------------------------------------------------------


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


def test_the_last_event_in_a_handler_of_exception_raised():
    engine = Engine(lambda engine, batch: 1 / 0)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: engine.last_event_name)
    seen = []
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: seen.append(engine.last_event_name))
    with pytest.raises(ZeroDivisionError):
        engine.run([1])
    assert seen == [Events.EXCEPTION_RAISED]


def test_keyboard_interrupts_at_any_moment_leave_an_engine_that_can_run():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=range(20))
    for one in (Events.ITERATION_COMPLETED, Events.EXCEPTION_RAISED):
        trainer.add_event_handler(one, lambda *_: None)

    def interrupt(*_):
        raise KeyboardInterrupt

    interrupted = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # an interrupt in what others do at a collection would be lost
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


# -- nothing half done ------------------------------------------------------------------------------------------------


def test_a_union_with_one_bad_event_changes_nothing():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    with pytest.raises(ValueError, match="NOPE is not registered"):
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED | "nope", data=[1])
    assert trainer.loop.nested == ()
    assert trainer.handlers(Events.EPOCH_COMPLETED) == ()
    trainer.add_event_handler(Events.STARTED, nothing_to_do)
    with pytest.raises(ValueError, match="not attached to COMPLETED"):
        trainer.remove_event_handler(nothing_to_do, Events.STARTED | Events.COMPLETED)
    assert trainer.has_event_handler(nothing_to_do, Events.STARTED)


def nothing_to_do():
    """A handler that does nothing."""


def test_an_event_cannot_be_registered_again_in_another_way():
    engine = Engine([Phase("A", nothing)])
    engine.register_events("x", "y")
    for options in ({"order": "declared"}, {"within": "EPOCH"}, {"after": "A"}):
        with pytest.raises(ValueError, match="register"):
            engine.register_events("x", "y", **options)
    engine.register_events("x", "y")
    with pytest.raises(ValueError, match="fired by the loop EPOCH itself"):
        engine.register_events("a_started", within="EPOCH")


def test_states_cannot_take_the_names_of_built_in_places():
    engine = Engine(nothing)
    for options in ({}, {"after": "ITERATION"}):
        with pytest.raises(LoopError, match="GET_BATCH is the name of a built-in state"):
            engine.register_events("get_batch", **options)


def test_new_states_cannot_be_registered_while_a_run_is_under_way():
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda engine: engine.register_events("late"))
    with pytest.raises(RuntimeError, match="change its loop before run"):
        engine.run([1])


# -- nested engines and loops of other shapes -------------------------------------------------------------------------


def test_each_nested_run_is_one_of_its_own():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2], max_epochs=3)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED(once=1), evaluator.terminate)
    ends = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: ends.append(engine.state.iteration))
    trainer.run([1], max_epochs=3)
    assert ends == [2, 2, 2]


def test_data_that_can_be_read_once_cannot_be_nested():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    with pytest.raises(ValueError, match="evaluator would find the data used up at its second run"):
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=iter([1]))


def test_an_inner_loop_sees_what_the_phase_before_it_gave():
    seen = []
    inner = Loop("TIMESTEP", Phase("ACT", lambda engine, batch: seen.append(engine.state.output)), times=2)
    engine = Engine(Loop("EPISODE", Phase("RESET", lambda engine, batch: f"reset {engine.state.episode}"), inner))
    engine.run(max_epochs=2)
    assert seen == ["reset 1", "reset 1", "reset 2", "reset 2"]
    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ENCODE", lambda engine, batch: batch), inner, over=DATA)))
    seen.clear()
    engine.run([7])
    assert seen == [7, 7]


def test_until_is_asked_after_each_pass_a_skipped_one_too():
    asked = []

    def until(engine):
        asked.append(engine.state.episode)
        return engine.state.episode == 3

    engine = Engine(Loop("EPISODE", Phase("A", nothing), until=until))
    engine.add_event_handler("a_started", lambda engine: engine.terminate_epoch(skip_epoch_completed=True))
    engine.run()
    assert asked == [1, 2, 3]


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


class Unsized:
    """An iterable that does not tell its length."""

    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter(range(self.length))


@pytest.mark.parametrize("position", range(1, 7))
def test_a_run_resumes_in_an_epoch_that_is_longer_than_its_data(position):
    saved, seen, again = [], [], []
    engine = make(seen)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=position), lambda engine: saved.append(engine.state_dict())
    )
    engine.run([1, 2, 3], max_epochs=2, epoch_length=6)
    resumed = make(again)
    resumed.load_state_dict(saved[0])
    resumed.run([1, 2, 3])
    assert again == seen[position:]


def test_a_run_resumes_at_the_end_of_data_of_unknown_length():
    saved = []
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: saved.append(engine.state_dict()))
    engine.run(Unsized(3), max_epochs=2)
    resumed = Engine(nothing)
    resumed.load_state_dict(saved[0])
    state = resumed.run(Unsized(3))
    assert (state.epoch, state.iteration, state.epoch_length) == (2, 6, 3)


def test_data_that_was_used_up_by_an_earlier_run_is_not_called_empty():
    engine, data = Engine(nothing), (number for number in range(3))
    engine.run(data, max_epochs=1)
    with pytest.warns(UserWarning, match="cannot be restarted"):
        engine.run(max_epochs=2)


class Source:
    """Data whose iterators say when they are closed, and fail to if told so."""

    def __init__(self, fails=False):
        self.closed = 0
        self.fails = fails

    def __iter__(self):
        try:
            yield from range(3)
        finally:
            self.closed += 1
            if self.fails:
                raise OSError("cannot close")


def test_steps_left_in_a_handler_are_closed_with_the_engine_around():
    outer, inner, source = Engine(nothing, name="outer"), Engine(nothing, name="inner"), Source()

    @outer.on(Events.ITERATION_STARTED)
    def step_a_little():
        for one in inner.steps(source):
            if one is Events.ITERATION_COMPLETED:
                break

    outer.run([1])
    assert source.closed == 1
    assert inner.where == ()


def test_stepping_left_at_the_last_event_ends_the_run():
    engine = Engine(nothing)
    for one in engine.steps([1, 2], max_epochs=1):
        if one is Events.COMPLETED:
            break
    assert engine.run([3, 4], max_epochs=2).epoch == 2
    assert engine.state.iteration == 4


def test_engines_that_pause_inside_each_other_can_be_gone_on_with_in_any_order():
    first, second = Engine(nothing, name="first"), Engine(nothing, name="second")
    first.add_event_handler(Events.ITERATION_STARTED(once=1), first.interrupt)
    second.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: first.run([1, 2]))
    second.add_event_handler(Events.ITERATION_COMPLETED(once=1), second.interrupt)
    second.run([1, 2])
    first.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: second.run())
    assert first.run().iteration == 2
    assert second.state.iteration == 2


def test_runs_that_went_on_are_not_kept():
    outer, inner = Engine(nothing, name="outer"), Engine(nothing, name="inner")
    inner.add_event_handler(Events.ITERATION_COMPLETED(once=1), inner.interrupt)
    outer.add_event_handler(Events.ITERATION_STARTED, lambda: inner.run([1, 2]))
    outer.add_event_handler(Events.ITERATION_COMPLETED, lambda: inner.run())
    kept = []
    outer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: kept.append(len(engine.active.children)))
    outer.run(range(5))
    assert kept == [0] * 5


def test_an_interrupt_from_data_as_it_ends_can_be_recorded():
    engine = Engine(nothing)

    class Data:
        def __iter__(self):
            yield from (1, 2)
            engine.interrupt()

    engine.run(Data())
    with record() as trace:
        engine.run()
    trace.assert_legal()
    assert engine.state.iteration == 2


def test_a_nested_engine_that_paused_goes_on_with_the_data_it_has():
    outer, inner, seen = Engine(nothing, name="outer"), Engine(lambda engine, batch: seen.append(batch)), []
    outer.nest(inner, on=Events.ITERATION_COMPLETED, data=[1, 2])
    inner.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.set_data([7, 8]))
    inner.add_event_handler(Events.ITERATION_STARTED(once=2), inner.interrupt)
    outer.run([1, 2])
    assert seen == [1, 7]


def run_over(engine, data, outer):
    engine.run(data)


def test_everything_is_closed_though_something_fails_to():
    outer = Engine(nothing, name="outer")
    inner = {name: Engine(nothing, name=name) for name in ("bad", "good")}
    sources = {"bad": Source(fails=True), "good": Source()}
    for name, engine in inner.items():
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt)
        outer.add_event_handler(Events.ITERATION_STARTED, partial(run_over, engine, sources[name]))
    with pytest.raises(OSError, match="cannot close"):
        outer.run([1])
    assert [source.closed for source in sources.values()] == [1, 1]
    assert all(engine.where == () for engine in inner.values())


def test_close_starts_over_though_the_data_fails_to_close():
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt)
    engine.run(Source(fails=True))
    with pytest.raises(OSError, match="cannot close"):
        engine.close()
    assert engine.run([1]).iteration == 1


def test_nesting_does_not_touch_the_data():
    class Loader:
        def __iter__(self):
            raise AssertionError("iterating draws random numbers and starts workers: not before the run")

    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=Loader())
    assert trainer.loop.nested[0].name == "evaluator"


def test_data_that_was_used_up_can_be_replaced_in_an_epoch_that_follows_a_terminated_one():
    engine = Engine(nothing)
    call_at(engine, Events.GET_BATCH_STARTED, engine.terminate_epoch, n=4)
    engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda: engine.set_data([7, 8]))
    with record() as trace:
        state = engine.run(iter([0, 1]), max_iters=3)
    assert state.iteration == 3
    assert state.batch == 7
    assert trace.count(Events.DATALOADER_STOP_ITERATION) == 1
    trace.assert_legal()
