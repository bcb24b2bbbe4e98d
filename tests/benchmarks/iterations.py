"""The costs of an iteration: engines compared with a hand-written loop, and with pytorch-ignite."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import ignite.engine
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import Figure, Rounds, measure
from camshaft import BackpropEvents, Engine, Events, Phase

logging.getLogger("ignite").setLevel(logging.ERROR)

N = 50_000
IGNITE = 2_000
"""The number of iterations per round. pytorch-ignite runs fewer, because it takes longer."""


class HandState:
    """The state of a hand-written loop."""

    __slots__ = ("batch", "epoch", "iteration", "output")


def no_op(engine: Any, batch: Any) -> None:
    """Do nothing, as a step."""


def by_hand(step: Callable[[Any, Any], Any], *after: Callable[[Any], Any]) -> Callable[[int], None]:
    """Return a loop without an engine that also keeps iteration, batch and output on a state."""

    def run(n: int) -> None:
        state = HandState()
        state.iteration = 0
        for batch in range(n):
            state.iteration += 1
            state.batch = batch
            state.output = step(None, batch)
            for handler in after:
                handler(None)

    return run


def by_engine(engine: Engine) -> Callable[[int], None]:
    """Return a run of an engine of camshaft."""

    def run(n: int) -> None:
        engine.run(range(n), max_epochs=1)

    return run


def by_ignite(engine: Any) -> Callable[[int], None]:
    """Return a run of an engine of pytorch-ignite."""

    def run(n: int) -> None:
        engine.run(range(n), max_epochs=1)

    return run


def figures(rounds: int) -> Iterator[Figure]:
    """Yield every figure of an iteration."""
    yield from _nothing(rounds)
    yield from _ten_handlers(rounds)
    yield from _ten_rare(rounds)
    yield from _custom_events(rounds)
    yield from _declared(rounds)
    yield from _loader(rounds)


def _nothing(rounds: int) -> Iterator[Figure]:
    found = measure(
        {
            "hand": (by_hand(no_op), N),
            "camshaft": (by_engine(Engine(no_op)), N),
            "ignite": (by_ignite(ignite.engine.Engine(no_op)), IGNITE),
        },
        rounds,
    )
    yield Figure("step does nothing: of the hand-written loop", "x", found.ratio("camshaft", "hand"), 1.25)
    less = found.less_overhead("camshaft", "ignite", "hand")
    yield Figure("step does nothing: less overhead than pytorch-ignite", "x", less, 100, bound=">=")


def _handlers(number: int) -> list[Callable[[Any], None]]:
    def make() -> Callable[[Any], None]:
        return lambda engine: None

    return [make() for _ in range(number)]


def _ten_handlers(rounds: int) -> Iterator[Figure]:
    engine = Engine(no_op)
    for handler in _handlers(10):
        engine.add_event_handler(Events.ITERATION_COMPLETED, handler)
    found = measure({"hand": (by_hand(no_op, *_handlers(10)), N), "camshaft": (by_engine(engine), N)}, rounds)
    yield Figure("ten handlers: of the hand-written loop", "x", found.ratio("camshaft", "hand"), 1.5)


def _with_and_without(engine: Engine, other: Any, rounds: int) -> Rounds:
    """Measure an engine and one of pytorch-ignite, each together with an engine without handlers."""
    return measure(
        {
            "without": (by_engine(Engine(no_op)), N),
            "camshaft": (by_engine(engine), N),
            "ignite without": (by_ignite(ignite.engine.Engine(no_op)), IGNITE),
            "ignite": (by_ignite(other), IGNITE),
        },
        rounds,
    )


def _ten_rare(rounds: int) -> Iterator[Figure]:
    engine, other = Engine(no_op), ignite.engine.Engine(no_op)
    for handler in _handlers(10):
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=1000), handler)
        other.add_event_handler(ignite.engine.Events.ITERATION_COMPLETED(every=1000), handler)
    found = _with_and_without(engine, other, rounds)
    yield Figure("ten handlers every=1000: over the loop without", "us", found.over("camshaft", "without"), 0.3)
    less = found.less_over("camshaft", "without", "ignite", "ignite without")
    yield Figure("ten handlers every=1000: less than pytorch-ignite", "x", less, 80, bound=">=")


class GuideEvents(ignite.engine.EventEnum):  # type: ignore[misc]
    """The same custom events for pytorch-ignite."""

    BACKWARD_STARTED = "backward_started"
    BACKWARD_COMPLETED = "backward_completed"
    OPTIM_STEP_COMPLETED = "optim_step_completed"


def _custom_events(rounds: int) -> Iterator[Figure]:
    def step(engine: Any, batch: Any) -> None:
        engine.fire_event(BackpropEvents.BACKWARD_STARTED)
        engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
        engine.fire_event(BackpropEvents.OPTIM_STEP_COMPLETED)

    def other_step(engine: Any, batch: Any) -> None:
        engine.fire_event(GuideEvents.BACKWARD_STARTED)
        engine.fire_event(GuideEvents.BACKWARD_COMPLETED)
        engine.fire_event(GuideEvents.OPTIM_STEP_COMPLETED)

    engine, other = Engine(step), ignite.engine.Engine(other_step)
    engine.register_events(*BackpropEvents)
    other.register_events(*GuideEvents)
    found = _with_and_without(engine, other, rounds)
    yield Figure(
        "three custom events without handlers: over the step without", "us", found.over("camshaft", "without"), 0.45
    )
    less = found.less_over("camshaft", "without", "ignite", "ignite without")
    yield Figure("three custom events without handlers: less than pytorch-ignite", "x", less, 50, bound=">=")


def _declared(rounds: int) -> Iterator[Figure]:
    def by_hand_in_phases(n: int) -> None:
        state = HandState()
        state.iteration, state.output = 0, None
        for batch in range(n):
            state.iteration += 1
            state.batch = batch
            state.output = None
            output = no_op(None, batch)
            if output is not None:
                state.output = output
            output = no_op(None, batch)
            if output is not None:
                state.output = output
            output = no_op(None, batch)
            if output is not None:
                state.output = output

    phases = [Phase("FORWARD", no_op), Phase("BACKWARD", no_op), Phase("OPTIM_STEP", no_op)]
    found = measure({"hand": (by_hand_in_phases, N), "camshaft": (by_engine(Engine(phases)), N)}, rounds)
    yield Figure(
        "declared step, six events without handlers: of the hand-written loop",
        "x",
        found.ratio("camshaft", "hand"),
        1.2,
    )


def _loader(rounds: int) -> Iterator[Figure]:
    torch.manual_seed(0)
    images = TensorDataset(torch.randn(1024, 1, 16, 16), torch.arange(1024) % 10)
    loader = DataLoader(images, batch_size=16, num_workers=2, persistent_workers=True)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(engine: Any, batch: Any) -> torch.Tensor:
        images, labels = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    engine = Engine(step)

    def hand(n: int) -> None:
        state = HandState()
        state.iteration = 0
        for batch in loader:
            state.iteration += 1
            state.batch = batch
            state.output = step(None, batch)

    found = measure({"hand": (hand, len(loader)), "camshaft": (lambda n: engine.run(loader), len(loader))}, rounds)
    ratio = found.ratio("camshaft", "hand")
    yield Figure("DataLoader with two workers, small CNN: of the hand-written loop", "x", ratio, 1, bound="=")
