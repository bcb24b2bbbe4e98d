"""Copies of engines: deep copies and pickles of idle engines work by themselves, everything else is refused."""

from __future__ import annotations

import copy
import functools
import gc
import multiprocessing
import pickle
import weakref

import pytest
from torch import nn

from camshaft import BackpropEvents, Engine, EventEnum, Events, Loop, Phase, event, every, record
from support.steps import echo, no_op


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


HOW = pytest.mark.parametrize("how", [copy.deepcopy, pickled])


class Owner:
    """An object as users write it: it holds its engine, and its methods are phases and handlers of it."""

    def __init__(self):
        self.model, self.calls = nn.Linear(1, 1), []
        self.engine = Engine([Phase("FORWARD", self.forward), Phase("STEP_EVERY", self.step, when=every(2))], "trainer")
        self.handle = self.engine.add_event_handler(Events.ITERATION_COMPLETED, self.log, 1, more=2)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), functools.partial(Owner.note, self))
        self.engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)

    def forward(self, engine, batch):
        assert engine is self.engine
        return id(self.model)

    def step(self, engine, batch):
        self.calls.append("step")

    def log(self, engine, one, more):
        assert engine is self.engine
        self.calls.append((one, more))

    def note(self):
        self.calls.append("note")

    def fail(self, error):
        self.calls.append("fail")


class ClipEvents(EventEnum):
    CLIP_STARTED = "clip_started"
    CLIP_COMPLETED = "clip_completed"


def fires(engine, batch):
    for one in (*ClipEvents, *BackpropEvents):
        engine.fire_event(one)


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self, *_):
        self.count += 1


def counts(engine):
    return [handler.function.count for key in engine.loop.event_keys for handler in engine.handlers(key)]


@HOW
def test_a_copy_refers_to_its_own_objects(how):
    owner = Owner()
    owner.engine.run([1, 2], max_epochs=2)
    made = how(owner)
    before = owner.calls[:]
    assert made.engine.run([1, 2], max_epochs=4).output == id(made.model) != id(owner.model)
    assert made.calls == before + before
    assert owner.calls == before and owner.engine.state.epoch == 2
    made.handle.remove()
    assert not made.engine.handlers(Events.ITERATION_COMPLETED)
    assert len(owner.engine.handlers(Events.ITERATION_COMPLETED)) == 1


@HOW
@pytest.mark.parametrize("part", ["handle", "log", "engine"])
def test_a_part_that_leads_to_its_engine_is_copied_with_it(how, part):
    made = how(getattr(Owner(), part))
    owner = made if part == "handle" else getattr(made, "__self__", None)
    engine = made if part == "engine" else owner.engine if part == "log" else None
    if part == "handle":
        made.remove()
        return
    owner = engine.loop.find("FORWARD").run.__self__
    engine.run([1, 2])
    assert owner.engine is engine and owner.calls == [(1, 2), "step", (1, 2)]


@HOW
def test_a_loop_that_leads_to_its_engine_is_copied_with_it(how):
    made = how(Owner().engine.loop)
    owner = made.find("FORWARD").run.__self__
    assert owner.engine.loop is made
    owner.engine.run([1, 2])
    assert owner.calls == [(1, 2), "step", (1, 2)]


@HOW
def test_everything_attached_is_in_the_copy(how):
    engine = Engine(fires, "trainer", strict=True)
    engine.register_events(*ClipEvents, order="declared")
    engine.register_events(*BackpropEvents)
    for one in (
        Events.STARTED,
        ClipEvents.CLIP_COMPLETED(every=2),
        event("backward_started", once=(1, 3), priority=3),
        Events.ITERATION_COMPLETED(after=1),
        Events.GET_BATCH_STARTED | BackpropEvents.FORWARD_COMPLETED,
    ):
        engine.add_event_handler(one, Counter())
    made, again = how(engine), how(how(engine))
    for each in (engine, made, again):
        with record() as trace:
            each.run([1, 2, 3], max_epochs=2)
        trace.assert_legal()
    assert counts(engine) == counts(made) == counts(again) != [0] * len(counts(engine))
    assert (made.name, made.strict, made.loop.custom_states) == (engine.name, True, engine.loop.custom_states)
    assert made.source() == engine.source()


@HOW
def test_a_declared_order_is_enforced_in_the_copy_by_itself(how):
    engine = Engine(no_op)
    engine.register_events(*ClipEvents, order="declared", within="RUN")
    made = how(engine)
    made.fire_event(ClipEvents.CLIP_STARTED)
    engine.fire_event(ClipEvents.CLIP_STARTED)
    for each in (engine, made):
        with pytest.raises(RuntimeError, match="declared order"):
            each.fire_event(ClipEvents.CLIP_STARTED)


@HOW
def test_a_copy_continues_where_the_original_stood(how):
    engine = Engine(echo, "trainer")
    engine.run([1, 2], max_epochs=2)
    made = how(engine)
    assert made.run(max_epochs=3).iteration == 6
    assert engine.run(max_epochs=5).iteration == 10
    assert made.last_event_name is Events.COMPLETED


@HOW
def test_a_copy_can_be_changed_before_its_first_run(how):
    made = how(Engine(fires))
    made.register_events(*ClipEvents)
    made.register_events(*BackpropEvents)
    made.add_event_handler(ClipEvents.CLIP_STARTED, Counter())
    assert str(made.machine) and made.diagram().text()
    made.fire_event(ClipEvents.CLIP_STARTED)
    made.run([1, 2])
    assert counts(made) == [3]


@HOW
def test_nested_engines_are_copied_with_the_engine_around_them(how):
    trainer, evaluator = Engine(echo, "trainer"), Engine(echo, "evaluator")
    evaluator.add_event_handler(Events.COMPLETED, Counter())
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    made = how(trainer)
    inner = made.loop.nested[0].engine
    with record() as trace:
        made.run([1], max_epochs=3)
    trace.assert_legal()
    assert inner is not evaluator
    assert (counts(inner), counts(evaluator)) == ([3], [0])
    assert made.handlers(Events.EPOCH_COMPLETED)[0].name == "run evaluator"


@HOW
def test_a_machine_is_copied_with_its_place(how):
    machine = Engine(no_op).machine
    machine.model.trigger("started")
    machine.compiled(machine.model.context)
    for made in (how(machine), copy.copy(machine)):
        assert (made.model.state, made.model.context) == (machine.model.state, machine.model.context)
        assert (str(made), made.get_triggers("STARTED")) == (str(machine), machine.get_triggers("STARTED"))
        assert made.model.trigger("epoch_started") and made.model.context.counts == {"EPOCH": 1}
    assert (machine.model.state, machine.model.context.counts) == ("STARTED", {})


def refused_now(engine):
    for how in (copy.deepcopy, pickled):
        with pytest.raises(RuntimeError, match=REFUSED):
            how(engine)
    engine.interrupt()


REFUSED = r"trainer has a run that is not over: copy or pickle the engine before run\(\), or after close\(\)"


@HOW
def test_an_engine_with_a_run_is_not_copied(how):
    engine = Engine(no_op, "trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED, refused_now)
    engine.run([1, 2])
    with pytest.raises(RuntimeError, match=REFUSED):  # paused
        how(engine)
    engine.close()
    how(engine)


def test_a_shallow_copy_is_refused_and_changes_nothing():
    engine = Engine(no_op, "trainer")
    with pytest.raises(TypeError, match=r"trainer cannot be copied with copy\.copy\(\).*use copy\.deepcopy\(\)"):
        copy.copy(engine)
    gc.collect()
    assert engine.run([1, 2]).iteration == 2


@HOW
def test_a_copy_outlives_its_original_and_is_freed_by_itself(how):
    engine = Engine(echo)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=1), Counter(), 1)
    made = how(engine)
    gone = weakref.ref(engine)
    del engine
    assert gone() is None
    made.run([1, 2])
    assert counts(made) == [2]
    unused, used = weakref.ref(how(made)), weakref.ref(made)
    del made
    assert (unused(), used()) == (None, None)


def test_what_cannot_be_pickled_is_named():
    engine = Engine(no_op)
    engine.add_event_handler(Events.STARTED, lambda engine: None)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(engine)
    copy.deepcopy(engine).run([1])


def run_handler(handler, results):
    handler.engine.run([1, 2])
    results.put(handler.calls)


def test_a_spawned_process_gets_a_handler_with_its_engine():
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=run_handler, args=(Owner(), results))
    process.start()
    process.join()
    assert results.get() == [(1, 2), "step", (1, 2)]


@HOW
@pytest.mark.parametrize(
    "thing",
    [
        Events.STARTED,
        Events.ITERATION_COMPLETED(every=3, after=2, priority=-1),
        Events.STARTED(event_filter=no_op),
        Events.STARTED | Events.COMPLETED(once=1) | "other",
        event("text", once=[1, 2]),
        Loop("EPISODE", Phase("ACT", no_op, when=every(2)), Loop("INNER", Phase("B", no_op), times=2)),
        Engine(no_op).loop,
    ],
    ids=str,
)
def test_events_and_loops_are_equal_to_their_copies(how, thing):
    assert how(thing) == thing == copy.copy(thing)
    assert str(how(thing)) == str(thing)


@HOW
def test_a_state_is_copied_with_all_its_attributes(how):
    engine = Engine(echo)
    engine.state.mine = [1]
    engine.run([1, 2])
    made = how(engine.state)
    assert str(made) == str(engine.state)
    assert (made.iteration, made.output, made.mine) == (2, 2, [1])
    made.mine.append(2)
    made.iteration = 7
    assert (engine.state.mine, engine.state.iteration) == ([1], 2)
    shallow = copy.copy(engine.state)
    shallow.iteration = 9
    assert engine.state.iteration == 2
