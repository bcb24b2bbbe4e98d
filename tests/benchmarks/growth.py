"""The growth of costs with the number of handlers, states, events of a trace, and iterations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

import attrs

from benchmarks.iterations import by_engine, no_op
from benchmarks.timing import measure
from camshaft import DATA, Engine, Events, Loop, Phase, Trace, record
from camshaft.compiler.writer import program_of

__all__ = ["Growth", "growths"]


@attrs.frozen
class Growth:
    """The durations of an operation at several sizes.

    Attributes:
        name: the operation.
        of: the things whose number grows.
        seconds: the median duration, by their number.
    """

    name: str
    of: str
    seconds: dict[int, float]

    @property
    def slope(self) -> float:
        """The exponent of the growth, by least squares over the logarithms. 1 is linear."""
        sizes, times = map(math.log, self.seconds), map(math.log, self.seconds.values())
        return statistics.linear_regression(list(sizes), list(times)).slope


def growths(rounds: int) -> Iterator[Growth]:
    """Yield the growth of each operation, at four sizes."""
    yield _grown("100 iterations", "handlers of an event", (10, 100, 1_000, 10_000), _handlers, rounds)
    yield _grown("declare, validate, compile, machine", "states side by side", (125, 250, 500, 1_000), _states, rounds)
    yield _grown("check a trace", "events", (4_000, 40_000, 400_000, 1_200_000), _events, rounds)
    yield _grown("run", "iterations", (1_000, 10_000, 100_000, 1_000_000), _iterations, rounds)


Work = Callable[[int], object]


def _grown(name: str, of: str, sizes: tuple[int, ...], make: Callable[[int], Work], rounds: int) -> Growth:
    found = measure({str(size): (make(size), 1) for size in sizes}, rounds)
    return Growth(name, of, {size: statistics.median(found.seconds[str(size)]) for size in sizes})


def _handlers(size: int) -> Work:
    engine = Engine(no_op)
    for _ in range(size):
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: None)
    run = by_engine(engine)
    return lambda n: run(100)


def _states(size: int) -> Work:
    def build(n: int) -> None:
        program_of.cache_clear()
        phases = [Phase(f"S{number}") for number in range(size)]
        _ = Engine(Loop("EPOCH", Loop("ITERATION", *phases, over=DATA))).machine

    return build


def _events(size: int) -> Work:
    trace = _recorded(size)
    return lambda n: trace.assert_legal()


def _recorded(size: int) -> Trace:
    with record() as trace:
        Engine(no_op).run(range(size // 4 - 1))  # four events per iteration, and four around them
    return trace


def _iterations(size: int) -> Work:
    run = by_engine(Engine(no_op))
    return lambda n: run(size)
