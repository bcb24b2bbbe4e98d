"""Deep copies and pickles of engines with camshaft's own handlers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from camshaft import Engine, Events, Snapshot
from camshaft.handlers import (
    BasicTimeProfiler,
    Checkpoint,
    ClipGradNorm,
    CustomPeriodicEvent,
    EarlyStopping,
    HandlersTimeProfiler,
    LRScheduler,
    ModelCheckpoint,
    ProfilerRanges,
    ProgressBar,
    TensorBoardLogger,
    TerminateOnNan,
    TimeLimit,
    Timer,
)

MODEL = nn.Linear(1, 1)


def number(engine, batch):
    return float(engine.state.iteration)


def score(engine):
    return engine.state.iteration


def scheduler():
    return torch.optim.lr_scheduler.StepLR(torch.optim.SGD(MODEL.parameters(), 0.1), 1)


def at(event, make):
    return lambda engine, folder: engine.add_event_handler(event, make(engine, folder))


def attached(make):
    return lambda engine, folder: make().attach(engine)


HANDLERS = {
    "EarlyStopping": at(Events.EPOCH_COMPLETED, lambda engine, folder: EarlyStopping(3, score, engine)),
    "TerminateOnNan": at(Events.ITERATION_COMPLETED, lambda engine, folder: TerminateOnNan()),
    "Checkpoint": at(Events.EPOCH_COMPLETED, lambda engine, folder: Checkpoint({"model": MODEL}, folder)),
    "ModelCheckpoint": lambda engine, folder: engine.add_event_handler(
        Events.EPOCH_COMPLETED, ModelCheckpoint(folder, "best"), {"model": MODEL}
    ),
    "LRScheduler": at(Events.EPOCH_COMPLETED, lambda engine, folder: LRScheduler(scheduler())),
    "ClipGradNorm": at(Events.ITERATION_COMPLETED, lambda engine, folder: ClipGradNorm([*MODEL.parameters()], 1.0)),
    "TimeLimit": attached(lambda: TimeLimit(1000)),
    "Timer": attached(Timer),
    "BasicTimeProfiler": attached(BasicTimeProfiler),
    "HandlersTimeProfiler": attached(HandlersTimeProfiler),
    "ProfilerRanges": attached(ProfilerRanges),
    "ProgressBar": attached(ProgressBar),
    "CustomPeriodicEvent": attached(lambda: CustomPeriodicEvent(n_iterations=2)),
    "Snapshot": lambda engine, folder: Snapshot(engine, folder, model=MODEL),
}


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.*:UserWarning")  # torch warns of any optimizer that was copied
@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("kind", HANDLERS)
def test_an_engine_with_a_handler_of_camshaft_can_be_copied(kind, has_run, how, tmp_path):
    engine = Engine(number, "trainer")
    HANDLERS[kind](engine, tmp_path)
    if has_run:
        engine.run([1, 2, 3])
    made, iterations = how(engine), engine.state.iteration
    names = [
        [handler.name for key in each.loop.event_keys for handler in each.handlers(key)] for each in (engine, made)
    ]
    assert names[0] == names[1]
    made.run([1, 2, 3], max_epochs=2)
    assert (made.state.iteration, engine.state.iteration) == (6, iterations)
    engine.run([1, 2, 3], max_epochs=2)


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
@pytest.mark.parametrize("profiler", [BasicTimeProfiler, HandlersTimeProfiler])
def test_a_copied_profiler_measures_its_own_engine(profiler, how):
    engine, measuring = Engine(number, "trainer"), profiler()
    measuring.attach(engine)
    made, other = how((engine, measuring))
    made.run([1, 2, 3])
    assert str(measuring.get_results()) != str(other.get_results())
    other.attach(made)
    with pytest.raises(ValueError, match="already attached"):
        other.attach(engine)


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_a_copied_periodic_event_is_the_same_event(how):
    engine, period = Engine(number, "trainer"), CustomPeriodicEvent(n_iterations=2)
    period.attach(engine)
    made, other = how((engine, period))
    assert [*other.Events] == [*period.Events]
    calls = []
    made.add_event_handler(other.Events.ITERATIONS_2_COMPLETED, lambda: calls.append(made.state.iteration))
    made.run(range(5))
    assert calls == [2, 4]


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_an_open_event_file_is_not_shared_with_a_copy(how, tmp_path):
    engine = Engine(number, "trainer")
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "training")
        with pytest.raises(TypeError, match=r"an engine with an open event file cannot be copied.*close\(\)"):
            how(engine)
    how(engine).run([1])
