"""Other costs: recording, checking, making engines and loops, short runs, importing, memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import ignite.engine

from benchmarks.iterations import IGNITE, by_engine, no_op
from benchmarks.timing import Figure, measure
from camshaft import DATA, Engine, Loop, Phase, record
from camshaft.compiler.writer import program_of

EVENTS = 4
"""The number of events of an iteration of a plain engine."""


def figures(rounds: int) -> Iterator[Figure]:
    """Yield every figure that is not about an iteration."""
    yield from _recording(rounds)
    yield from _checking(max(3, rounds // 3))
    yield from _making(rounds)
    yield from _short_runs(rounds)
    yield from _many_states(max(3, rounds // 3))
    yield from _importing(max(3, rounds // 3))
    yield from _memory()


def _recording(rounds: int) -> Iterator[Figure]:
    engine, strict = Engine(no_op), Engine(no_op, strict=True)
    plain = by_engine(engine)

    def recorded(n: int) -> None:
        with record():
            plain(n)

    n = 20_000
    found = measure({"plain": (plain, n), "recorded": (recorded, n), "strict": (by_engine(strict), n)}, rounds)
    yield Figure("recording a trace, an event", "us", [us / EVENTS for us in found.over("recorded", "plain")], 0.5)
    yield Figure(
        "live order check (strict), an event", "us", [us / EVENTS for us in found.over("strict", "plain")], 0.2
    )
    with record() as trace:
        plain(n)
    columns = (trace._run, trace._key, trace._count, trace._time)
    size = sum(len(column) * column.itemsize for column in columns) / len(trace)
    yield Figure("a recorded event", "bytes", [size], 48)


def _checking(rounds: int) -> Iterator[Figure]:
    with record() as trace:
        Engine(no_op).run(range(250_000))
    found = measure({"check": (lambda n: trace.assert_legal(), 1)}, rounds)
    seconds = [each * 1_000_000 / len(trace) for each in found.seconds["check"]]
    yield Figure("checking a trace of a million events", "s", seconds, 0.3)


def _making(rounds: int) -> Iterator[Figure]:
    def first(n: int) -> None:
        for _ in range(n):
            program_of.cache_clear()
            Engine(no_op)

    def again(n: int) -> None:
        for _ in range(n):
            Engine(no_op)

    found = measure({"first": (first, 20), "again": (again, 200)}, rounds)
    yield Figure("Engine(step), the first of its structure", "us", [s * 1e6 for s in found.seconds["first"]], 500)
    yield Figure("Engine(step), the loop cached", "us", [s * 1e6 for s in found.seconds["again"]], 50)


def _short_runs(rounds: int) -> Iterator[Figure]:
    engine, other = Engine(no_op), ignite.engine.Engine(no_op)
    batch = [0]

    def runs(any_engine: Any) -> Any:
        def run(n: int) -> None:
            for _ in range(n):
                any_engine.run(batch)

        return run

    def bare(n: int) -> None:
        for _ in range(n):
            for one in batch:
                no_op(None, one)

    contenders = {"bare": (bare, IGNITE), "camshaft": (runs(engine), IGNITE), "ignite": (runs(other), IGNITE)}
    found = measure(contenders, rounds)
    less = found.less_overhead("camshaft", "ignite", "bare")
    yield Figure("a run over one batch", "us", [s * 1e6 for s in found.seconds["camshaft"]])
    yield Figure("a run over one batch: less overhead than pytorch-ignite", "x", less, 5, bound=">=")


def _many_states(rounds: int) -> Iterator[Figure]:
    def build(states: int) -> None:
        program_of.cache_clear()
        phases = [Phase(f"S{number}") for number in range(states)]
        _ = Engine(Loop("EPOCH", Loop("ITERATION", *phases, over=DATA))).machine

    found = measure({"build": (lambda n: build(1000), 1)}, rounds)
    yield Figure("a loop of 1,000 states: declare, validate, compile, machine", "s", found.seconds["build"], 1.0)


def _importing(rounds: int) -> Iterator[Figure]:
    script = "import time, torch; t = time.perf_counter(); import camshaft; print(time.perf_counter() - t)"
    found = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        found.append(float(done.stdout) * 1000)
    yield Figure("import camshaft, beyond import torch", "ms", found, 80)


def _memory() -> Iterator[Figure]:
    engine = Engine(no_op)
    engine.run(range(1000))
    tracemalloc.start()
    engine.run(range(100_000))
    _, short = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    engine.run(range(1_000_000))
    _, long = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    yield Figure("peak memory of a million iterations, over that of 100,000", "kB", [(long - short) / 1000], 10)
