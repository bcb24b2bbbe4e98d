"""What handlers refer to resumes exactly: metrics, generators, modules and other objects with a state."""

from __future__ import annotations

import functools
import random
import warnings
import weakref
from collections import deque
from types import SimpleNamespace

import numpy
import pytest
import torch
import torchmetrics
from torch import nn
from torchmetrics import wrappers

from camshaft import Engine, Events, Phase, Snapshot
from camshaft.handlers import EarlyStopping
from camshaft.metrics import RUNNING, attach
from camshaft.resume.handler_parts import parts_of_handler
from support.steps import no_op

NUMBERS = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]  # every selection of them has another sum


class Holding:
    """A handler without ``state_dict()`` that updates a metric, which it holds somewhere."""

    def __init__(self, metric, keep):
        self.kept = keep(metric)
        self._metric = weakref.ref(metric)  # not searched

    def __call__(self, engine):
        self._metric().update(engine.state.batch)

    def method(self, engine):
        self(engine)


class Inner:
    def __init__(self, metric):
        self.metric = metric


class Slotted:
    __slots__ = ("metric",)

    def __init__(self, metric):
        self.metric = metric


class Saving(Holding):
    """A handler whose own ``state_dict()`` has what the metric's has: nothing."""

    def state_dict(self):
        return {"metric": self._metric().state_dict()}

    def load_state_dict(self, state):
        self._metric().load_state_dict(state["metric"])


def step_with(metric):
    def step(engine, batch):
        metric.update(batch)

    return step


def helped(metric):
    def help_out(number):
        metric.update(number)

    return lambda engine: help_out(engine.state.batch)


GLOBAL = torchmetrics.SumMetric()


def with_a_global(engine):
    GLOBAL.update(engine.state.batch)


class Running:
    def __init__(self, evaluator):
        self.evaluator = [evaluator]

    def method(self, engine):
        self.evaluator[0].run([engine.state.batch])


EVALUATOR = None


def run_the_global(engine):
    EVALUATOR.run([engine.state.batch])


METRICS = {
    "sum": torchmetrics.SumMetric,
    "extremes": lambda: wrappers.MinMaxMetric(torchmetrics.SumMetric()),
    "collection": lambda: torchmetrics.MetricCollection({"sum": torchmetrics.SumMetric()}),
    "composition": lambda: torchmetrics.SumMetric() + torchmetrics.MeanMetric(),
}

HANDLERS = {
    "attribute": lambda metric: Holding(metric, lambda one: one),
    "list": lambda metric: Holding(metric, lambda one: [one]),
    "dictionary": lambda metric: Holding(metric, lambda one: {"a": (one,)}),
    "queue": lambda metric: Holding(metric, lambda one: deque([one])),
    "own object": lambda metric: Holding(metric, Inner),
    "namespace": lambda metric: Holding(metric, lambda one: SimpleNamespace(a=one)),
    "own object with slots": lambda metric: Holding(metric, Slotted),
    "method": lambda metric: Holding(metric, Inner).method,
    "own state": lambda metric: Saving(metric, Inner),
    "method of own state": lambda metric: Saving(metric, Inner).method,
    "closure": lambda metric: lambda engine: metric.update(engine.state.batch),
    "function in a closure": helped,
    "argument of a partial": lambda metric: functools.partial(
        lambda one, engine: one.update(engine.state.batch), metric
    ),
    "partial of a method": lambda metric: functools.partial(Holding(metric, Inner).method),
    "module": lambda metric: functools.partial(
        lambda module, engine: module["m"].update(engine.state.batch), nn.ModuleDict({"m": metric})
    ),
    "step": step_with,
    "phase": lambda metric: [Phase("COUNT", step_with(metric))],
    "global": lambda metric: with_a_global,
}


def engine_with(handler):
    if isinstance(handler, list) or "step" in getattr(handler, "__qualname__", ""):
        return Engine(handler, name="trainer")
    engine = Engine(no_op, name="trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED, handler)
    return engine


def resumed_and_whole(build, folder, value, stop=4):
    """Return the value after a resumed run, which gives no warning, and that after a whole one."""
    engine, obj = build()
    torch.manual_seed(1)
    engine.run(NUMBERS, max_epochs=2)
    whole = str(value(engine, obj))
    engine, _ = build()
    snapshot = Snapshot(engine, folder)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda: (snapshot(), engine.interrupt()))
    torch.manual_seed(1)
    engine.run(NUMBERS, max_epochs=2)
    engine, obj = build()
    Snapshot(engine, folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="camshaft")
        engine.run(NUMBERS, max_epochs=2, resume="latest")
    return str(value(engine, obj)), whole


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("how", HANDLERS)
@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
def test_a_metric_of_a_handler_resumes_wherever_it_is(tmp_path, how, kind, monkeypatch):
    def build():
        metric = METRICS[kind]()
        monkeypatch.setitem(globals(), "GLOBAL", metric)
        return engine_with(HANDLERS[how](metric)), metric

    resumed, whole = resumed_and_whole(build, tmp_path, lambda engine, metric: metric.compute())
    assert resumed == whole


GENERATORS = {
    "torch": (lambda: torch.Generator().manual_seed(3), lambda g: torch.rand((), generator=g)),
    "Python": (lambda: random.Random(3), lambda g: g.random()),
    "NumPy": (lambda: numpy.random.default_rng(3), lambda g: g.random()),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_of_a_handler_resumes(tmp_path, kind):
    make, draw = GENERATORS[kind]

    def build():
        generator = make()
        engine = Engine(no_op, name="trainer")
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: setattr(engine.state, "drawn", draw(generator)))
        return engine, generator

    resumed, whole = resumed_and_whole(build, tmp_path, lambda engine, _: engine.state.drawn)
    assert resumed == whole


class Adversary:
    """A handler that trains a network of its own, which it thaws on the way."""

    def __init__(self, wrap):
        torch.manual_seed(0)
        self.network = wrap(nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.2), nn.Linear(3, 1)))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.8)
        for parameter in list(self.network.parameters())[:2]:
            parameter.requires_grad_(False)

    def __call__(self, engine):
        if engine.state.iteration == 3:
            self.network.requires_grad_(True)
        (self.network(torch.tensor([[engine.state.batch]])) ** 2).sum().backward()
        if engine.state.iteration % 3 == 0:  # a window of three gradients
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()


@pytest.mark.parametrize("stop", [2, 4, 6])
@pytest.mark.parametrize("wrap", [lambda one: one, nn.DataParallel], ids=["plain", "parallel"])
def test_a_module_and_optimizer_of_a_handler_resume(tmp_path, wrap, stop):
    def build():
        adversary, engine = Adversary(wrap), Engine(no_op, name="trainer")
        engine.add_event_handler(Events.ITERATION_COMPLETED, adversary)
        return engine, adversary

    resumed, whole = resumed_and_whole(build, tmp_path, lambda _, one: list(one.network.parameters()), stop)
    assert resumed == whole


class Stopper:
    """An object with a state that is no handler itself."""

    def __init__(self):
        self.calls = 0

    def step(self):
        self.calls += 1

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_an_object_with_a_state_that_a_handler_calls_resumes(tmp_path):
    def build():
        stopper, engine = Stopper(), Engine(no_op, name="trainer")
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: stopper.step())
        return engine, stopper

    resumed, whole = resumed_and_whole(build, tmp_path, lambda _, stopper: stopper.calls)
    assert resumed == whole == "12"


@pytest.mark.parametrize("how", ["closure", "attribute", "global", "two steps"])
def test_an_engine_that_a_handler_runs_resumes(tmp_path, how, monkeypatch):
    def build():
        trainer, evaluator = Engine(no_op, name="trainer"), Engine(lambda engine, batch: batch, name="evaluator")
        stopping = EarlyStopping(4, lambda engine: -trainer.state.iteration, trainer)
        evaluator.add_event_handler(Events.COMPLETED, stopping)
        attach(torchmetrics.SumMetric(), evaluator, "sum", usage=RUNNING)
        monkeypatch.setitem(globals(), "EVALUATOR", evaluator)
        outer = Engine(lambda engine, batch: evaluator.run([batch]), name="outer")
        handler = {
            "closure": lambda engine: evaluator.run([engine.state.batch]),
            "attribute": Running(evaluator).method,
            "global": run_the_global,
            "two steps": lambda engine: outer.run([engine.state.batch]),
        }[how]
        trainer.add_event_handler(Events.ITERATION_COMPLETED, handler)
        return trainer, evaluator

    resumed, whole = resumed_and_whole(build, tmp_path, lambda trainer, _: trainer.state.iteration, stop=3)
    assert resumed == whole == "5"


def found_in(function, *covered):
    ids = {id(one) for one in covered}
    tensors = {id(each) for one in covered if isinstance(one, nn.Module) for each in one.parameters()}
    return [(part.path, part.obj) for part in parts_of_handler(function, ids, tensors)]


def test_what_a_handler_merely_reads_is_not_saved():
    model, other = nn.Sequential(nn.Linear(1, 1)), nn.Linear(1, 1)
    optimizer, engine = torch.optim.SGD(model.parameters()), Engine(no_op)
    loader = torch.utils.data.DataLoader([1], generator=torch.Generator())
    metric = torchmetrics.SumMetric()
    assert found_in(lambda: (model, optimizer, engine, loader, metric), metric) == []
    holder = Inner(model[0])  # part of a named module
    assert found_in(lambda: holder, model) == []
    holder = Inner({"a": other})
    assert found_in(holder.__init__, model) == [(".metric['a']", other)]


def test_a_handler_that_refers_to_itself_is_searched_once():
    holder = Inner([])
    holder.metric.append(holder)
    holder.metric.append(metric := torchmetrics.SumMetric())
    assert found_in(holder.__init__) == [(".metric[1]", metric)]


class Odd(Stopper):
    def state_dict(self):
        return {"function": print}


class Failing(Stopper):
    def state_dict(self):
        raise RuntimeError("not now")


@pytest.mark.parametrize(("kind", "reason"), [(Odd, "builtins.print at"), (Failing, "not now")])
def test_a_part_that_cannot_be_saved_is_named(tmp_path, kind, reason):
    odd, engine = kind(), Engine(no_op, name="trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: odd.step())
    engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, tmp_path))
    with pytest.warns(UserWarning, match=rf"the state of trainer: .*<lambda>.odd is not in .*{reason}") as told:
        engine.run(NUMBERS)
    assert len(told) == 1 and len(list(tmp_path.iterdir())) == 2
