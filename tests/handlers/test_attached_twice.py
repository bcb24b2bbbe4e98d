"""Handlers with a state belong to one engine: a second attachment is refused, or each has a state of its own."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from camshaft import Engine, Events, event
from camshaft.engine.attachment import StatefulHandler
from camshaft.handlers import (
    EMA,
    BasicTimeProfiler,
    Checkpoint,
    CustomPeriodicEvent,
    EarlyStopping,
    HandlersTimeProfiler,
    LRScheduler,
    ModelCheckpoint,
    ProfilerRanges,
    ProgressBar,
    TimeLimit,
    Timer,
)
from support.learning import classifier, sgd


def engine(name):
    return Engine(lambda engine, batch: batch, name)


def at_an_event(handler, *args):
    """Return a function that attaches a handler, and returns a function that detaches it."""

    def attach(engine, on=Events.EPOCH_COMPLETED):
        return engine.add_event_handler(on, handler, *args).remove

    return handler, attach


def timer(folder):
    made = Timer()

    def attach(engine):
        made.attach(engine, step=Events.ITERATION_COMPLETED)
        calls = {Events.STARTED: made.reset, Events.COMPLETED: made.pause, Events.ITERATION_COMPLETED: made.step}
        return lambda: [engine.remove_event_handler(call, at) for at, call in calls.items()]

    return made, attach


def time_limit(folder):
    made = TimeLimit(1000)

    def attach(engine):
        before = {key: engine.handlers(key) for key in engine.loop.event_keys}
        made.attach(engine)
        added = [(key, one) for key in before for one in engine.handlers(key) if one not in before[key]]
        return lambda: [engine.remove_event_handler(one.function, key) for key, one in added]

    return made, attach


MODEL = nn.Linear(1, 1)
AT_EVENTS = {
    "EarlyStopping": lambda folder: at_an_event(EarlyStopping(2, lambda engine: 0.5, engine("stopped"))),
    "Checkpoint": lambda folder: at_an_event(Checkpoint({"model": MODEL}, folder)),
    "ModelCheckpoint": lambda folder: at_an_event(ModelCheckpoint(folder), {"model": MODEL}),
    "EMA": lambda folder: at_an_event(EMA(classifier())),
    "LRScheduler": lambda folder: at_an_event(LRScheduler(lr_scheduler.StepLR(sgd(classifier()), 1))),
}
MADE = AT_EVENTS | {"Timer": timer, "TimeLimit": time_limit}


@pytest.mark.parametrize("name", MADE)
def test_a_second_engine_is_refused(tmp_path, name):
    _, attach = MADE[name](tmp_path)
    first, second = engine("first"), engine("second")
    attach(first)
    with pytest.raises(ValueError, match=f"{name} is attached to first already, and its state would be that of second"):
        attach(second)
    assert not any(second.handlers(key) for key in second.loop.event_keys)


@pytest.mark.parametrize("name", MADE)
def test_the_same_event_twice_is_refused(tmp_path, name):
    _, attach = MADE[name](tmp_path)
    first = engine("first")
    attach(first)
    before = {key: len(first.handlers(key)) for key in first.loop.event_keys}
    with pytest.raises(ValueError, match=f"{name} is attached to .*first already"):
        attach(first)
    assert before == {key: len(first.handlers(key)) for key in first.loop.event_keys}


@pytest.mark.parametrize("name", MADE)
def test_after_it_was_detached_another_engine_may_have_it(tmp_path, name):
    _, attach = MADE[name](tmp_path)
    first, second = engine("first"), engine("second")
    for _ in range(2):
        attach(first)()
        attach(second)()


@pytest.mark.parametrize("name", MADE)
def test_when_its_engine_is_gone_another_may_have_it(tmp_path, name):
    _, attach = MADE[name](tmp_path)
    first = engine("first")
    attach(first)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None  # the handler keeps no engine in memory
    attach(engine("second"))


@pytest.mark.parametrize("name", AT_EVENTS)
def test_other_events_of_the_same_engine_are_free(tmp_path, name):
    _, attach = MADE[name](tmp_path)
    first = engine("first")
    attach(first)
    attach(first, Events.COMPLETED)
    attach(first, Events.EPOCH_COMPLETED(every=2))
    attach(first, Events.ITERATION_COMPLETED | Events.TERMINATE)
    for taken in (Events.TERMINATE, event(Events.EPOCH_COMPLETED, priority=3), Events.EPOCH_COMPLETED(every=2)):
        with pytest.raises(ValueError, match=f"{name} is attached to .* of first already, and would run twice"):
            attach(first, taken)
    with pytest.raises(ValueError, match="would run twice"):
        attach(first, Events.EPOCH_STARTED | Events.STARTED | Events.EPOCH_STARTED)
    assert not first.handlers(Events.STARTED)


def test_a_model_checkpoint_saves_the_same_objects_everywhere(tmp_path):
    first, handler = engine("first"), ModelCheckpoint(tmp_path, n_saved=1)
    first.add_event_handler(Events.EPOCH_COMPLETED, handler, {"model": MODEL})
    first.add_event_handler(Events.COMPLETED, handler, {"model": MODEL})
    with pytest.raises(ValueError, match="ModelCheckpoint is attached already, to save model: make another"):
        first.add_event_handler(Events.TERMINATE, handler, {"optimizer": sgd(MODEL)})


@pytest.mark.parametrize("name", ["EMA", "LRScheduler", "Timer"])
def test_an_attached_handler_can_be_copied_and_pickled(tmp_path, name):
    handler, attach = MADE[name](tmp_path)
    attach(engine("first"))
    engine("second").add_event_handler(Events.EPOCH_COMPLETED, copy.deepcopy(getattr(handler, "step", handler)))
    assert type(pickle.loads(pickle.dumps(Timer()))) is Timer


def test_every_handler_with_a_state_is_in_these_tables():
    import camshaft.handlers as box

    by_engine = {BasicTimeProfiler, CustomPeriodicEvent, HandlersTimeProfiler, ProfilerRanges, ProgressBar}
    for name in box.__all__:
        made = getattr(box, name)
        if isinstance(made, type) and (hasattr(made, "state_dict") or issubclass(made, StatefulHandler)):
            assert name in MADE, f"{name} has a state: attach it twice here"
    assert {one.__name__ for one in by_engine} <= set(box.__all__)


# -- handlers with a state for each engine -----------------------------------------------------------------------------


def test_two_engines_with_one_progress_bar_count_by_themselves(capsys):
    bar, first, second = ProgressBar(), engine("first"), engine("second")
    bar.attach(first)
    bar.attach(second)
    first.nest(second, on=Events.ITERATION_COMPLETED(once=2), data=[0] * 3)
    first.run([0] * 4)
    out = capsys.readouterr()
    lines = [line for line in (out.out + out.err).splitlines() if line]
    assert [line.split()[:2] for line in lines] == [["second", "3/3"], ["first", "4/4"]]


def test_two_engines_with_one_periodic_event_count_by_themselves():
    periodic, seen = CustomPeriodicEvent(n_iterations=2), []
    first, second = engine("first"), engine("second")
    for one in (first, second):
        periodic.attach(one)
        one.add_event_handler(
            periodic.Events.ITERATIONS_2_COMPLETED, lambda engine: seen.append((engine.name, engine.state.iteration))
        )
    first.nest(second, on=Events.ITERATION_COMPLETED(once=1), data=[0] * 3)
    first.run([0] * 4)
    assert seen == [("second", 2), ("first", 2), ("first", 4)]


@pytest.mark.parametrize("kind", [BasicTimeProfiler, HandlersTimeProfiler, ProfilerRanges])
def test_profilers_refuse_a_second_engine(kind):
    profiler = kind()
    first, second = engine("first"), engine("second")
    profiler.attach(first)
    profiler.attach(first)  # does nothing
    with pytest.raises(ValueError, match="already attached to an engine other than second"):
        profiler.attach(second)


def test_an_average_is_that_of_one_engine_alone():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema, trainer = EMA(model, decay=0.5), engine("trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, ema)
    with pytest.raises(ValueError, match="EMA is attached"):
        engine("other").add_event_handler(Events.ITERATION_COMPLETED, ema)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: nn.init.ones_(model.weight))
    trainer.run([0] * 2)
    assert torch.equal(ema.model.weight.detach(), torch.tensor([[0.5]]))
