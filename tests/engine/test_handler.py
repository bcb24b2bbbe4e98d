"""Attachment of handlers: their arguments, and unions of events, which are attached to completely or not at all."""

from __future__ import annotations

import functools

import ignite.metrics
import pytest
import torch
import torchmetrics
from torch import nn

from camshaft import Engine, Events, Loop, Phase, Snapshot, handlers
from camshaft.metrics import Accuracy, Loss
from support.engines import E
from support.steps import echo, no_op, nothing_to_do


def test_the_engine_argument_goes_only_to_handlers_that_accept_it():
    engine, got = Engine(echo), []

    class Handler:
        def with_engine(self, engine):
            got.append(engine)

        def without(self):
            got.append("without")

    engine.add_event_handler(E.STARTED, lambda: got.append("none"))
    engine.add_event_handler(E.STARTED, lambda *args: got.append(args))
    engine.add_event_handler(E.STARTED, Handler().with_engine)
    engine.add_event_handler(E.STARTED, Handler().without)
    engine.add_event_handler(E.STARTED, lambda engine, x, y: got.append((engine, x, y)), 1, y=2)
    engine.add_event_handler(E.STARTED, lambda x, *, y: got.append((x, y)), 1, y=2)
    engine.run([1])
    assert got == ["none", (engine,), engine, "without", (engine, 1, 2), (1, 2)]


def test_a_union_with_one_bad_event_changes_nothing():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    with pytest.raises(ValueError, match="NOPE is not registered"):
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED | "nope", data=[1])
    assert trainer.loop.nested == ()
    assert trainer.handlers(Events.EPOCH_COMPLETED) == ()
    trainer.add_event_handler(Events.STARTED, nothing_to_do)
    with pytest.raises(ValueError, match="not attached to COMPLETED"):
        trainer.remove_event_handler(nothing_to_do, Events.STARTED | Events.COMPLETED)
    assert trainer.has_event_handler(nothing_to_do, Events.STARTED)


# -- what is no handler -----------------------------------------------------------------------------------------------

ATTACHED_BY_THEMSELVES = {
    "ProgressBar": handlers.ProgressBar,
    "Timer": handlers.Timer,
    "BasicTimeProfiler": handlers.BasicTimeProfiler,
    "HandlersTimeProfiler": handlers.HandlersTimeProfiler,
    "ProfilerRanges": handlers.ProfilerRanges,
    "CustomPeriodicEvent": lambda: handlers.CustomPeriodicEvent(n_epochs=2),
}


@pytest.mark.parametrize("name", ATTACHED_BY_THEMSELVES)
def test_an_object_with_attach_that_is_no_handler_names_attach(name):
    engine = Engine(no_op)
    for attach in (engine.add_event_handler, lambda event, handler: engine.on(event)(handler)):
        with pytest.raises(
            TypeError, match=rf"STARTED must be callable, and {name} is not: call its method \.attach\(engine, \.\.\.\)"
        ):
            attach(E.STARTED, ATTACHED_BY_THEMSELVES[name]())
    assert engine.handlers(E.STARTED) == ()


def test_each_method_that_attaches_is_named():
    class Logger:
        def attach_output(self, engine): ...

        def attach_weights(self, engine): ...

    with pytest.raises(TypeError, match=r"\.attach_output\(engine, \.\.\.\) or \.attach_weights\(engine, \.\.\.\)"):
        Engine(no_op).add_event_handler(E.STARTED, Logger())


@pytest.mark.parametrize(
    "name", [name for name in handlers.__all__ if isinstance(getattr(handlers, name), type)] + ["Snapshot", "Accuracy"]
)
def test_a_class_of_handlers_asks_for_an_instance(name):
    kind = {"Snapshot": Snapshot, "Accuracy": Accuracy}.get(name) or getattr(handlers, name)
    with pytest.raises(TypeError, match=rf"STARTED is the class {name}: give an instance, {name}\(\.\.\.\)"):
        Engine(no_op).add_event_handler(E.STARTED, kind)


def test_a_class_whose_call_does_the_work_is_a_handler():
    made = []

    class Work:
        def __init__(self, engine):
            made.append(engine)

    engine = Engine(no_op)
    engine.add_event_handler(E.STARTED, Work)
    engine.run([1])
    assert made == [engine]


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (Accuracy, r"its method \.attach\(engine, name\)"),
        (lambda: Loss(nn.MSELoss()), r"its method \.attach\(engine, name\)"),
        (torchmetrics.MeanMetric, r"camshaft\.metrics\.attach\(metric, engine, name\)"),
        (lambda: ignite.metrics.Average(), r"its method \.attach\(engine, name\)"),
    ],
)
def test_a_metric_is_no_handler(make, call):
    with pytest.raises(TypeError, match=rf"STARTED is the metric \w+: call {call} instead"):
        Engine(no_op).add_event_handler(E.STARTED, make())


WEIGHT = nn.Parameter(torch.zeros(1))
OF_A_CHOSEN_EVENT = {
    "EarlyStopping": lambda: handlers.EarlyStopping(2, lambda engine: 1.0, Engine(no_op)),
    "TerminateOnNan": handlers.TerminateOnNan,
    "EMA": lambda: handlers.EMA(nn.Linear(1, 1)),
    "ClipGradNorm": lambda: handlers.ClipGradNorm([WEIGHT], 1.0),
    "ClipGradValue": lambda: handlers.ClipGradValue([WEIGHT], 1.0),
    "GradNorm": lambda: handlers.GradNorm([WEIGHT]),
    "Checkpoint": lambda: handlers.Checkpoint({"model": nn.Linear(1, 1)}, "folder"),
    "ModelCheckpoint": lambda: handlers.ModelCheckpoint("folder", "name"),
    "Snapshot": lambda: Snapshot(Engine(no_op), "folder"),
}


@pytest.mark.parametrize("name", OF_A_CHOSEN_EVENT)
def test_a_handler_without_attach_names_add_event_handler(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handler = OF_A_CHOSEN_EVENT[name]()
    with pytest.raises(AttributeError, match=rf"^{name} has no attach\(\): call engine\.add_event_handler\(event, "):
        handler.attach(Engine(no_op))
    assert not hasattr(handler, "attach")
    with pytest.raises(AttributeError, match=rf"'{name}' object has no attribute 'nonsense'"):
        handler.nonsense


# -- defaults ---------------------------------------------------------------------------------------------------------

got = []


def note(*args):
    got.append(args)


def with_engine_default(engine=None, n=3):
    note(engine, n)


def annotated(trainer: Engine | None = None):
    note(trainer)


def engine_and_option(engine, n=3):
    note(engine, n)


def keyword_only(*, n=3):
    note(n)


def none_by_keyword(*, n=None):
    note(n)


class Stepper:
    def step(self, closure=None):
        note(closure)

    def train(self, mode=True):
        note(mode)


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


ENGINE = "the engine"
DEFAULTS = {
    "a value of a loop": (lambda i=5: note(i), (), {}, (5,)),
    "two values of a loop": (lambda i=5, j=6: note(i, j), (), {}, (5, 6)),
    "a value of a loop after the engine": (lambda engine, i=5: note(engine, i), (), {}, (ENGINE, 5)),
    "another engine": (lambda engine="other": note(engine), (), {}, ("other",)),
    "a false value": (lambda i=0: note(i), (), {}, (0,)),
    "an engine by name": (with_engine_default, (), {}, (ENGINE, 3)),
    "an engine by annotation": (annotated, (), {}, (ENGINE,)),
    "an argument after the engine": (engine_and_option, (7,), {}, (ENGINE, 7)),
    "an argument in place of a default": (lambda i=5: note(i), (7,), {}, (7,)),
    "an argument by name in place of a default": (lambda i=5: note(i), (), {"i": 7}, (7,)),
    "a keyword": (keyword_only, (), {}, (3,)),
    "a keyword that is None": (none_by_keyword, (), {}, (None,)),
    "a method": (Stepper().train, (), {}, (True,)),
    "a partial": (functools.partial(lambda engine, i: note(engine, i), i=5), (), {}, (ENGINE, 5)),
    "a partial with a default left": (functools.partial(lambda a, i=5: note(a, i), 1), (), {}, (1, 5)),
    "a wrapper": (wrapped(lambda i=5: note(i)), (), {}, (5,)),
    "any arguments": (note, (), {}, (ENGINE,)),
}


@pytest.mark.parametrize("case", DEFAULTS)
def test_a_default_is_left_alone(case):
    handler, args, kwargs, expected = DEFAULTS[case]
    engine = Engine(no_op)
    engine.add_event_handler(E.STARTED, handler, *args, **kwargs)
    got.clear()
    engine.run([1])
    assert got == [tuple(engine if part == ENGINE else part for part in expected)]


def engine_and_error(engine, error="unknown"):
    note(engine, str(error))


def optional_error(engine, error=None):
    note(engine, str(error))


AT_A_FAILURE = {
    "the error alone": (lambda error, i=5: note(str(error), i), ("failed", 5)),
    "the engine by name": (engine_and_error, (ENGINE, "failed")),
    "an error that is None": (optional_error, (ENGINE, "failed")),
    "both with a default": (lambda engine, error, i=5: note(engine, str(error), i), (ENGINE, "failed", 5)),
}


@pytest.mark.parametrize("case", AT_A_FAILURE)
def test_a_default_is_left_alone_at_exception_raised(case):
    def fail(engine, batch):
        raise ValueError("failed")

    handler, expected = AT_A_FAILURE[case]
    engine = Engine(fail)
    engine.add_event_handler(E.EXCEPTION_RAISED, handler)
    got.clear()
    with pytest.raises(ValueError, match="failed"):
        engine.run([1])
    assert got == [tuple(engine if part == ENGINE else part for part in expected)]


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (lambda trainer=None: None, "trainer=None"),
        (lambda _=None: None, "_=None"),
        (Stepper().step, "closure=None"),
        (wrapped(lambda i=None: None), "i=None"),
        (torch.optim.SGD(nn.Linear(1, 1).parameters()).step, "closure=None"),
    ],
)
def test_none_as_a_default_must_tell_whether_it_is_for_the_engine(handler, name):
    with pytest.raises(TypeError, match=rf"does not tell whether {name} is for the engine: name it engine, or.*lambda"):
        Engine(no_op).add_event_handler(E.STARTED, handler)


def test_a_handler_of_exception_raised_that_would_lose_a_default_is_refused():
    with pytest.raises(TypeError, match=r"\(i=5\) does not fit EXCEPTION_RAISED.*and would lose a default"):
        Engine(no_op).add_event_handler(E.EXCEPTION_RAISED, lambda i=5: None)


LOSING = {
    "when": lambda: Phase("ACT", no_op, when=lambda i=5: i > 3),
    "run": lambda: Phase("ACT", lambda i=5, j=6: i),
    "until": lambda: Loop("EPOCH", Phase("ACT", no_op), until=lambda i=5: i > 3),
    "over": lambda: Loop("EPOCH", Phase("ACT", no_op), over=lambda i=5: range(i)),
    "step": lambda: Engine(lambda engine, i=5: i),
    "event_filter": lambda: Engine(no_op).add_event_handler(
        E.EPOCH_STARTED(event_filter=lambda engine, i=5: True), print
    ),
}


@pytest.mark.parametrize("argument", LOSING)
def test_a_function_that_would_lose_a_default_is_refused(argument):
    with pytest.raises(
        TypeError, match=rf"{argument}:? .*has the parameter i=5: it will be called with \(engine.*that default"
    ):
        LOSING[argument]()
