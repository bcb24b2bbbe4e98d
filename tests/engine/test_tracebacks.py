"""Tracebacks: no frame of camshaft is shown between a user's call and the user's function that raised."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

import camshaft
from camshaft import (
    DATA,
    Engine,
    Loop,
    Phase,
    create_supervised_evaluator,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
    record,
)
from camshaft.handlers import Checkpoint, CustomPeriodicEvent, EarlyStopping, LRScheduler, TerminateOnNan
from camshaft.metrics import Loss, attach
from support.engines import E
from support.steps import echo, no_op

PACKAGE = Path(camshaft.__file__).parent
FILE = Path(__file__)


def broken(*_, **__):
    raise ZeroDivisionError("broken")


def with_handler(event, *args, handler=broken):
    engine = Engine([Phase("FORWARD", echo)])
    engine.add_event_handler(event, handler, *args)
    return engine


def without_engine():
    broken()


def fires_by_hand(event):
    engine = Engine(lambda engine, batch: engine.fire_event("custom"))
    engine.register_events("custom")
    engine.add_event_handler(event("custom"), broken)
    return engine


def in_exception_raised(handler):
    def fail(engine, batch):
        raise OSError

    engine = Engine(fail)
    engine.add_event_handler(E.EXCEPTION_RAISED, handler)
    return engine


def nested():
    trainer = Engine(no_op)
    trainer.nest(with_handler(E.ITERATION_COMPLETED), on=E.EPOCH_COMPLETED, data=[1])
    return trainer


def deep_loops():
    body = Phase("ACT", broken)
    for number in range(20):
        body = Loop(f"LEVEL_{number}", body, times=1)
    return Engine(Loop("EPOCH", Loop("ITERATION", body, over=DATA)))


def periodic():
    engine, period = Engine(no_op), CustomPeriodicEvent(n_iterations=1)
    period.attach(engine)
    engine.add_event_handler(period.Events.ITERATIONS_1_COMPLETED, broken)
    return engine


def terminating():
    engine = with_handler(E.TERMINATE)
    engine.add_event_handler(E.STARTED, engine.terminate)
    return engine


def interrupting():
    engine = with_handler(E.INTERRUPT)
    engine.add_event_handler(E.STARTED, engine.interrupt)
    return engine


class Broken:
    def __iter__(self):
        broken()


class LaterBroken:
    def __iter__(self):
        yield 1
        broken()


class LongerThanItsLength:
    def __len__(self):
        return 1

    def __iter__(self):
        yield from (1, 2)
        broken()


MODEL = nn.Linear(2, 1)
PAIRS = [(torch.zeros(3, 2), torch.zeros(3, 1))]


class BrokenModel(nn.Linear):
    forward = broken


class BrokenOptimizer(torch.optim.SGD):
    def step(self, closure=None):
        broken()


class BrokenMetric(Loss):
    compute = broken


def trainer(model=MODEL, optimizer=None, loss=nn.functional.mse_loss, **options):
    optimizer = optimizer or torch.optim.SGD(model.parameters())
    return create_supervised_trainer(model, optimizer, loss, **options)


def measured(metric, output_transform=lambda output: output):
    engine = create_supervised_evaluator(MODEL)
    attach(metric, engine, "loss", output_transform)
    return engine


def scored(make):
    engine = Engine(no_op)
    engine.add_event_handler(E.EPOCH_COMPLETED, make(engine))
    return engine, [1]


def checkpoint(**options):
    return Checkpoint({"model": MODEL}, tempfile.mkdtemp(), **options)


def plateau():
    return torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD(MODEL.parameters()))


CASES = {
    "a handler": lambda: (with_handler(E.STARTED), [1]),
    "a handler without the engine": lambda: (with_handler(E.STARTED, handler=without_engine), [1]),
    "a handler with an argument": lambda: (with_handler(E.STARTED, 1), [1]),
    "a handler after the first call": lambda: (with_handler(E.ITERATION_COMPLETED, handler=at_iteration_2), [1, 2]),
    "a handler with a filter of counts": lambda: (with_handler(E.ITERATION_COMPLETED(every=2)), [1, 2]),
    "a handler with a filter of firings": lambda: (with_handler(E.DATALOADER_STOP_ITERATION(once=1)), [1]),
    "a handler with an event_filter": lambda: (with_handler(E.EPOCH_STARTED(event_filter=lambda *_: True)), [1]),
    "an event_filter": lambda: (with_handler(E.EPOCH_STARTED(event_filter=broken), handler=print), [1]),
    "a handler of a custom event": lambda: (fires_by_hand(camshaft.event), [1]),
    "a filtered handler of a custom event": lambda: (fires_by_hand(lambda key: camshaft.event(key, every=1)), [1]),
    "a handler of EXCEPTION_RAISED": lambda: (in_exception_raised(broken), [1]),
    "a handler of EXCEPTION_RAISED with the error": lambda: (in_exception_raised(lambda error: broken()), [1]),
    "a handler of TERMINATE": lambda: (terminating(), [1]),
    "a handler of INTERRUPT": lambda: (interrupting(), [1]),
    "a handler of a nested engine": lambda: (nested(), [1]),
    "a handler of a periodic event": lambda: (periodic(), [1]),
    "a step": lambda: (Engine(broken), [1]),
    "a phase": lambda: (Engine([Phase("FORWARD", broken)]), [1]),
    "a phase in deep loops": lambda: (deep_loops(), [1]),
    "a condition": lambda: (Engine([Phase("FORWARD", echo, when=broken)]), [1]),
    "the elements of a loop": lambda: (Engine(Loop("EPOCH", Loop("INNER", Phase("ACT", echo), over=broken))), None),
    "the end of a loop": lambda: (Engine(Loop("EPOCH", Phase("ACT", echo), until=broken)), None),
    "data as it is opened": lambda: (Engine(echo), Broken()),
    "data": lambda: (Engine(echo), LaterBroken()),
    "data beyond its length": lambda: (Engine(echo), LongerThanItsLength()),
    "prepare_batch": lambda: (trainer(prepare_batch=broken), PAIRS),
    "a model": lambda: (trainer(BrokenModel(2, 1)), PAIRS),
    "model_fn": lambda: (trainer(model_fn=broken), PAIRS),
    "model_transform": lambda: (trainer(model_transform=broken), PAIRS),
    "loss_fn": lambda: (trainer(loss=broken), PAIRS),
    "output_transform": lambda: (trainer(output_transform=broken), PAIRS),
    "an optimizer": lambda: (trainer(optimizer=BrokenOptimizer(MODEL.parameters())), PAIRS),
    "loss_fn in a closure": lambda: (trainer(optimizer=torch.optim.LBFGS(MODEL.parameters()), loss=broken), PAIRS),
    "a model that is evaluated": lambda: (create_supervised_evaluator(BrokenModel(2, 1)), PAIRS),
    "output_transform of an evaluator": lambda: (create_supervised_evaluator(MODEL, output_transform=broken), PAIRS),
    "loss_fn of chunks": lambda: (
        create_supervised_tbptt_trainer(nn.RNN(2, 1), torch.optim.SGD(MODEL.parameters()), broken, 1),
        [(torch.zeros(3, 1, 2), torch.zeros(3, 1, 1))],
    ),
    "output_transform of a metric": lambda: (measured(Loss(nn.functional.mse_loss), broken), PAIRS),
    "a metric as it is updated": lambda: (measured(Loss(broken)), PAIRS),
    "a metric as it is computed": lambda: (measured(BrokenMetric(nn.functional.mse_loss)), PAIRS),
    "a score for stopping": lambda: scored(lambda engine: EarlyStopping(2, broken, engine)),
    "a score for files": lambda: scored(lambda engine: checkpoint(score_function=broken, score_name="loss")),
    "a step for files": lambda: scored(lambda engine: checkpoint(global_step_transform=broken)),
    "a score for a schedule": lambda: scored(lambda engine: LRScheduler(plateau(), score_function=broken)),
    "an output that may be NaN": lambda: scored(lambda engine: TerminateOnNan(broken)),
}


def at_iteration_2(engine):
    if engine.state.iteration == 2:
        broken()


def run(engine, data):
    engine.run(data, max_epochs=1)


def run_longer(engine, data):
    engine.run(data, max_epochs=1, epoch_length=2)


def take_steps(engine, data):
    for _ in engine.steps(data, max_epochs=1):
        pass


def run_measured(engine, data):
    with record(handler_times=True, call_sites=True):
        engine.run(data, max_epochs=1)


def of_camshaft(entry):
    path = Path(str(entry.path))
    return PACKAGE in path.parents or entry.frame.f_globals.get("__name__") == "camshaft.loop"


@pytest.mark.filterwarnings("ignore:the data gives more batches than its length")
@pytest.mark.parametrize("start", [run, take_steps, run_measured])
@pytest.mark.parametrize("case", CASES)
def test_no_frame_of_camshaft_is_shown(case, start):
    engine, data = CASES[case]()
    if case == "a handler with a filter of firings":
        start = {run: run_longer}.get(start) or pytest.skip("it needs a longer epoch")
    with pytest.raises(ZeroDivisionError) as caught:
        start(engine, data)
    shown = [entry for entry in caught.traceback.filter(caught) if of_camshaft(entry)]
    assert [f"{entry.path}:{entry.name}" for entry in shown] == []
    in_ipython = [entry for entry in caught.traceback if not entry.frame.f_locals.get("__tracebackhide__")]
    assert [f"{entry.path}:{entry.name}" for entry in in_ipython if of_camshaft(entry)] == []


def test_few_frames_of_camshaft_lead_to_a_handler():
    engine = with_handler(E.ITERATION_COMPLETED, handler=at_iteration_2)
    with pytest.raises(ZeroDivisionError) as caught:
        engine.run([1, 2])
    assert [entry.name for entry in caught.traceback if of_camshaft(entry)] == ["run", "_drive", "_events"]


def test_an_error_of_camshaft_shows_the_line_of_the_call():
    engine = Engine(echo)
    for call in (lambda: engine.run(5), lambda: engine.fire_event("nothing"), lambda: engine.steps(5)):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert str(FILE) in {str(entry.path) for entry in caught.traceback.filter(caught)}
