"""Functions that users give: those whose call would not run them are refused, and the wrapper's parameters count."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from unittest.mock import AsyncMock, MagicMock, Mock, call, create_autospec

import pytest
import torch
from torch import nn

from camshaft import DATA, Engine, Events, Loop, Phase, handlers
from camshaft.metrics import Loss
from camshaft.testing import call_at
from support.steps import echo, no_op, nothing_to_do

ran = []


async def coroutine(*_):
    ran.append("coroutine")


def generator(*_):
    ran.append("generator")
    yield


async def async_generator(*_):
    ran.append("async generator")
    yield


@torch.no_grad()
def generator_without_gradients(*_):
    yield


class Odd:
    async def method(self, *_):
        pass

    def generator(self, *_):
        yield

    @staticmethod
    async def static(*_):
        pass

    @classmethod
    def cls(cls, *_):
        yield

    added = functools.partialmethod(method, 1)


class OddCall:
    async def __call__(self, *_):
        pass


class OddPartialCall:
    __call__ = functools.partialmethod(generator)


class Inherits(OddCall):
    pass


class CallsObject:
    __call__ = OddCall()


FUNCTIONS = {
    "async def": coroutine,
    "generator": generator,
    "async generator": async_generator,
    "generator under no_grad": generator_without_gradients,
    "async lambda": lambda *_: (yield),
    "async method": Odd().method,
    "generator method": Odd().generator,
    "unbound method": Odd.generator,
    "static method": Odd.static,
    "static method of an object": Odd().static,
    "staticmethod itself": vars(Odd)["static"],
    "class method": Odd.cls,
    "partial method": Odd().added,
    "async __call__": OddCall(),
    "inherited __call__": Inherits(),
    "bound __call__": OddCall().__call__,
    "__call__ that is an object": CallsObject(),
    "__call__ that is a partial": OddPartialCall(),
    "partial": functools.partial(coroutine),
    "partial of partial of method": functools.partial(functools.partial(Odd().method, 1), 2),
    "partial of an object": functools.partial(OddCall()),
    "async mock": AsyncMock(),
}
"""Functions whose call only makes a coroutine or a generator."""


def marked(*_):
    return coroutine()


if sys.version_info >= (3, 12):
    FUNCTIONS["marked"] = inspect.markcoroutinefunction(marked)


def passing_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def batches(function):
    return Loop("EPOCH", Loop("ITERATION", Phase("A", function), over=DATA))


ROLES = {
    "handler": lambda function: Engine(no_op).add_event_handler(Events.STARTED, function),
    "handler of EXCEPTION_RAISED": lambda function: Engine(no_op).on(Events.EXCEPTION_RAISED)(function),
    "step": Engine,
    "phase": lambda function: Engine([Phase("A", function)]),
    "phase of a loop": batches,
    "when": lambda function: Phase("A", no_op, when=function),
    "until": lambda function: Loop("A", Phase("B", no_op), until=function),
    "event_filter": lambda function: Events.STARTED(event_filter=function),
    "transform of a metric": lambda function: Loss(nn.MSELoss()).attach(
        Engine(no_op), "loss", output_transform=function
    ),
    "score": lambda function: handlers.EarlyStopping(1, function, Engine(no_op)),
    "transform of a bar": lambda function: handlers.ProgressBar().attach(Engine(no_op), output_transform=function),
    "planted call": lambda function: call_at(Engine(no_op), Events.STARTED, function),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("odd", FUNCTIONS)
def test_a_function_whose_call_would_not_run_it_is_refused(odd, role):
    with pytest.raises(TypeError, match="a call would not run it; give a plain function"):
        ROLES[role](FUNCTIONS[odd])


@pytest.mark.parametrize("odd", [coroutine, async_generator, Odd().method, functools.partial(coroutine)])
def test_over_may_be_a_generator_function_and_nothing_else_odd(odd):
    def folds(engine):
        yield from "ab"

    seen = []
    loop = Loop("FOLD", Phase("A", lambda engine, batch: seen.append(engine.state.fold_item)), over=folds)
    Engine(loop).run(max_epochs=2)
    assert seen == ["a", "b"]
    with pytest.raises(TypeError, match="a call would not run it"):
        Loop("FOLD", Phase("A", no_op), over=odd)


# -- what shows only when it is called --------------------------------------------------------------------------------


class Lazy(nn.Module):
    def forward(self, *_):
        yield 1


@contextlib.contextmanager
def context(*_):
    yield


@contextlib.asynccontextmanager
async def async_context(*_):
    yield


@functools.singledispatch
def dispatched(first, *_):
    return coroutine()


RETURNS = {
    "lambda": lambda *_: coroutine(),
    "generator": lambda *_: generator(),
    "async generator": lambda *_: async_generator(),
    "wrapper": passing_on(coroutine),
    "wrapper of wrapper": passing_on(passing_on(generator)),
    "context manager": context,
    "asynchronous context manager": async_context,
    "cached": functools.lru_cache(generator),
    "module": Lazy(),
    "dispatched": dispatched,
    "mock": Mock(side_effect=coroutine),
}
"""Functions that return a coroutine or a generator that has not begun."""

USES = {
    "handler": lambda engine, function: engine.add_event_handler(Events.ITERATION_COMPLETED, function),
    "filtered handler": lambda engine, function: engine.add_event_handler(
        Events.ITERATION_COMPLETED(every=2), function
    ),
    "event_filter": lambda engine, function: engine.add_event_handler(
        Events.ITERATION_COMPLETED(event_filter=function), nothing_to_do
    ),
    "step": lambda engine, function: Engine(function, "trainer"),
    "phase": lambda engine, function: Engine([Phase("A", function)], "trainer"),
    "when": lambda engine, function: Engine([Phase("A", no_op, when=function)], "trainer"),
    "until": lambda engine, function: Engine(
        Loop("EPOCH", Loop("ITERATION", Loop("A", Phase("B", no_op), until=function), over=DATA)), "trainer"
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("odd", RETURNS)
def test_a_function_that_returns_what_has_not_run_is_an_error(odd, use):
    engine = Engine(no_op, "trainer")
    made = USES[use](engine, RETURNS[odd])
    trainer = made if isinstance(made, Engine) else engine
    with pytest.raises(TypeError, match="whose code has not run: give a function that runs it") as raised:
        trainer.run([1, 2])
    assert any("in trainer: EPOCH 1 / ITERATION" in note for note in raised.value.__notes__)
    assert not ran


def test_a_function_at_exception_raised_must_run_too():
    engine = Engine(lambda engine, batch: 1 / 0)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: coroutine())
    with pytest.raises(TypeError, match="returned a coroutine") as raised:
        engine.run([1])
    assert isinstance(raised.value.__context__, ZeroDivisionError)


def in_a_loop(function):
    @functools.wraps(function)
    def wrapper(*args):
        return asyncio.run(function(*args))

    return wrapper


def exhausting(function):
    @functools.wraps(function)
    def wrapper(*args):
        return [*function(*args)]

    return wrapper


def begun(*_):
    made = generator()
    next(made)
    return made


@pytest.mark.parametrize(
    "runs",
    [
        in_a_loop(coroutine),
        exhausting(generator),
        begun,
        lambda *_: ran.append(1),
        Mock(side_effect=lambda *_: ran.append(1)),
    ],
)
def test_a_function_that_does_run_is_accepted(runs):
    for process in (runs, [Phase("A", runs)], [Phase("A", no_op, when=runs)]):
        ran.clear()
        Engine(process).run([1, 2])
        assert len(ran) == 2
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, runs)
    engine.run([1, 2])
    assert len(ran) == 4
    ran.clear()


def test_a_generator_expression_is_a_value_like_any_other():
    engine, sums = Engine(lambda engine, batch: (x * x for x in batch)), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: sums.append(sum(engine.state.output)))
    engine.run([[1, 2], [3]])
    assert sums == [5, 9]


def test_after_its_first_call_a_function_is_called_directly():
    engine = Engine([Phase("A", echo, when=lambda engine: True)])
    engine.add_event_handler(Events.ITERATION_COMPLETED, nothing_to_do)
    engine.run([1])
    assert engine._namespace["a"] is echo
    assert engine._namespace["a_when"] is engine.loop.find("A").when
    engine.add_event_handler(Events.STARTED, print)
    assert "first_call" not in repr([handler.call for handler in engine.handlers(Events.ITERATION_COMPLETED)])


def test_a_handler_removed_by_its_own_first_call_stays_removed():
    engine, calls = Engine(no_op), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: (calls.append(1), handle.remove()))
    handle = engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: (calls.append(2), handle.remove()))
    engine.run([1, 2])
    assert calls == [1, 1]


# -- parameters -------------------------------------------------------------------------------------------------------

got = []


def with_logger(function):
    @functools.wraps(function)
    def wrapper(engine):
        return function(engine, "logger")

    return wrapper


def with_logger_last(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, "logger", **kwargs)

    return wrapper


def without_engine(function):
    @functools.wraps(function)
    def wrapper(engine):
        return function()

    return wrapper


def needs_nothing(function):
    @functools.wraps(function)
    def wrapper():
        return function("no engine")

    return wrapper


def bound(function):
    @functools.wraps(function)
    def wrapper(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    return wrapper


class Decorator:
    def __init__(self, function):
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def takes_engine(engine):
    got.append(("engine", engine))


def takes_none():
    got.append(("none",))


def takes_two(engine, logger):
    got.append(("two", engine, logger))


class Base:
    @torch.no_grad()
    def __call__(self):
        got.append(("none",))


class Methods(Base):
    @torch.no_grad()
    def none(self):
        got.append(("none",))

    @torch.no_grad()
    def engine(self, engine):
        got.append(("engine", engine))

    @bound
    def bound_none(self):
        got.append(("none",))

    @bound
    def bound_engine(self, engine):
        got.append(("engine", engine))

    @classmethod
    @passing_on
    def of_class(cls):
        got.append(("none",))


class CallWithoutGradients:
    @torch.no_grad()
    def __call__(self):
        got.append(("none",))


class CallWithoutGradientsWithEngine:
    @torch.no_grad()
    def __call__(self, engine):
        got.append(("engine", engine))


E = "the engine"
CALLED = [
    (with_logger(takes_two), ("two", E, "logger")),
    (with_logger_last(takes_two), ("two", E, "logger")),
    (without_engine(takes_none), ("none",)),
    (needs_nothing(takes_engine), ("engine", "no engine")),
    (passing_on(takes_engine), ("engine", E)),
    (passing_on(takes_none), ("none",)),
    (passing_on(passing_on(takes_none)), ("none",)),
    (passing_on(with_logger(takes_two)), ("two", E, "logger")),
    (passing_on(without_engine(takes_none)), ("none",)),
    (with_logger(passing_on(takes_two)), ("two", E, "logger")),
    (passing_on(needs_nothing(takes_engine)), ("engine", "no engine")),
    (passing_on(functools.partial(takes_two, logger=1)), ("two", E, 1)),
    (functools.partial(passing_on(takes_two), logger=1), ("two", E, 1)),
    (functools.partial(passing_on(takes_engine), 1), ("engine", 1)),
    (torch.no_grad()(takes_engine), ("engine", E)),
    (torch.no_grad()(takes_none), ("none",)),
    (torch.inference_mode()(takes_none), ("none",)),
    (Decorator(takes_none), ("none",)),
    (Decorator(takes_engine), ("engine", E)),
    (passing_on(Decorator(takes_none)), ("none",)),
    (Methods().none, ("none",)),
    (Methods().engine, ("engine", E)),
    (Methods().bound_none, ("none",)),
    (Methods().bound_engine, ("engine", E)),
    (Methods().of_class, ("none",)),
    (Methods.of_class, ("none",)),
    (Methods(), ("none",)),
    (CallWithoutGradients(), ("none",)),
    (CallWithoutGradientsWithEngine(), ("engine", E)),
    (passing_on(CallWithoutGradients()), ("none",)),
    (functools.lru_cache(takes_none), ("none",)),
    (functools.lru_cache(takes_engine), ("engine", E)),
]


@pytest.mark.parametrize("index", range(len(CALLED)))
@pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED(every=1)], ids=str)
def test_the_parameters_of_what_is_called_decide(index, event):
    handler, expected = CALLED[index]
    if hasattr(handler, "cache_clear"):
        handler.cache_clear()
    got.clear()
    engine = Engine(no_op)
    engine.add_event_handler(event, handler)
    engine.run([1])
    assert got == [tuple(engine if part == E else part for part in expected)]


@contextlib.contextmanager
def timing():
    yield


def test_a_decorator_of_contextlib_passes_arguments_on():
    engine = Engine(no_op)
    got.clear()
    for handler in (timing()(takes_none), timing()(takes_engine)):
        engine.add_event_handler(Events.STARTED, handler)
    engine.run([1])
    assert got == [("none",), ("engine", engine)]


@pytest.mark.parametrize("wrap", [passing_on, torch.no_grad(), Decorator])
def test_a_wrapped_handler_of_exception_raised_gets_the_error(wrap):
    def failing(engine, batch):
        raise ValueError("broken")

    for handler, expected in ((lambda error: seen.append([error]), 1), (lambda *both: seen.append(both), 2)):
        seen, engine = [], Engine(failing)
        engine.add_event_handler(Events.EXCEPTION_RAISED, wrap(handler))
        with pytest.raises(ValueError, match="broken") as raised:
            engine.run([1])
        assert [len(seen[0]), seen[0][-1]] == [expected, raised.value]


def test_an_argument_that_the_wrapper_takes_is_not_passed_on():
    def loud(function):
        @functools.wraps(function)
        def wrapper(*args, loudly, **kwargs):
            got.append(loudly)
            return function(*args, **kwargs)

        return wrapper

    got.clear()
    engine = Engine(no_op)
    engine.add_event_handler(Events.STARTED, loud(takes_none), loudly=True)
    engine.run([1])
    engine.add_event_handler(Events.COMPLETED, functools.partial(loud(takes_none), loudly=True), loudly=False)
    engine.run([1])
    assert got == [True, ("none",), True, ("none",), False, ("none",)]


def one(batch):
    pass


def three(engine, batch, more):
    pass


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Engine(lambda batch: batch), r"step: run .*<lambda>\(batch\) does not fit.*\(engine, batch\)"),
        (lambda: Engine(one), r"step: run one\(batch.*\) does not fit: it will be called with \(engine, batch\)"),
        (lambda: Engine(with_logger(three)), r"does not fit: it will be called with \(engine, batch\)"),
        (lambda: Engine(functools.partial(no_op, 1)), r"does not fit"),
        (lambda: Engine([Phase("CLIP", three)]), r"phase CLIP: run three\(engine, batch, more\) does not fit"),
        (lambda: Phase("CLIP", no_op, when=no_op), r"phase CLIP: when no_op.* does not fit.*with \(engine\)"),
        (lambda: Phase("CLIP", no_op, when=lambda: True), r"phase CLIP: when .* does not fit.*with \(engine\)"),
        (lambda: Loop("A", Phase("B", no_op), until=no_op), r"loop A: until no_op.* does not fit.*with \(engine\)"),
        (lambda: Loop("A", Phase("B", no_op), over=lambda: [1]), r"loop A: over .* does not fit.*with \(engine\)"),
    ],
)
def test_a_step_or_condition_that_cannot_be_called_is_refused_when_given(declare, message):
    with pytest.raises(TypeError, match=message):
        declare()


class Accepts:
    def __call__(self, engine, batch):
        return batch


@pytest.mark.parametrize(
    "step",
    [
        echo,
        lambda *args: args[1],
        lambda engine, batch=None, more=1: batch,
        functools.partial(three, more=1),
        torch.no_grad()(echo),
        with_logger_last(three),
        Accepts(),
        Accepts().__call__,
        passing_on(Accepts()),
        divmod,
        max,
        MagicMock(),
        create_autospec(echo),
        torch.compile(echo, backend="eager"),
    ],
)
def test_any_step_that_can_be_called_is_accepted(step):
    assert Engine(step).loop.find("STEP").run is step
    assert Phase("A", step).run is step


# -- objects that answer every attribute ------------------------------------------------------------------------------


class AnswersEverything:
    def __getattr__(self, name):
        return AnswersEverything()

    def __call__(self, *args):
        got.append(len(args))


@pytest.mark.parametrize("odd", [MagicMock(), Mock(), AnswersEverything(), call, MagicMock(spec=functools.partial)])
def test_an_object_that_answers_every_attribute_is_a_handler(odd):
    engine = Engine(no_op if odd is call else odd, "trainer")  # ``call`` is a tuple: a list of phases
    engine.add_event_handler(Events.ITERATION_COMPLETED, odd)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), odd)
    assert engine.run([1, 2]).iteration == 2
    assert all(isinstance(handler.name, str) for handler in engine.handlers(Events.ITERATION_COMPLETED))
    assert str(engine.loop) and repr(engine.loop) and str(engine.diagram(handlers=True))


@pytest.mark.parametrize("nothing", [[], (), MagicMock(), iter(())])
def test_a_handler_cannot_be_attached_to_no_event(nothing):
    with pytest.raises(TypeError, match="has no event"):
        Engine(no_op).add_event_handler(nothing, nothing_to_do)
