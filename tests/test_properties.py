"""Machine and generated loop agree: the same random program gives the same events, counters, outcome and exception."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Any

from hypothesis import given, note

from camshaft import Engine, record
from camshaft.loop import Loop
from programs import Program, World, make_data, programs
from reference import Reference


def outcome_of(engine: Any, program: Program) -> Any:
    """Run a program to its end, going on wherever it pauses."""
    try:
        for _ in range(program.runs):
            engine.run(make_data(program.data) if _ == 0 else None, **(program.limits if _ == 0 else {}))
            if not is_paused(engine):
                return "done"
        return "paused"
    except BaseException as error:
        if not isinstance(error, (KeyboardInterrupt, ValueError, RuntimeError)):
            raise
        return type(error), type(error.__context__) if program.swallow == "raise" else None


def is_paused(engine: Any) -> bool:
    return engine.active is not None if isinstance(engine, Engine) else engine.paused


def run_nested(engine: Any, program: Program) -> None:
    """Run an evaluator from the start, or go on with it where it paused."""
    if is_paused(engine):
        engine.run()
        return
    if isinstance(engine, Engine):
        engine.close()  # the reference always starts anew
    engine.run(make_data(program.data), **program.limits)


def final(engine: Any) -> Any:
    state = engine.state
    loops = [item.name.lower() for _, item in engine.loop.walk() if isinstance(item, Loop)]
    names = [*loops, "max_epochs", "max_iters", "epoch_length", "output", "batch"]
    return {name: getattr(state, name) for name in names}


class Side:
    """One of the two ways to run a program, with everything that can be seen from outside."""

    def __init__(self, program: Program, make: Any, all_heard: bool) -> None:
        self.events: list[Any] = []
        self.worlds: list[World] = []
        self.all_heard = all_heard
        self.make = make
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.engine = self.build(program, "trainer")
            self.outcome = outcome_of(self.engine, program)
        self.warned = len(caught)
        self.calls = [world.calls for world in self.worlds]

    def build(self, program: Program, name: str) -> Any:
        world = World(program)
        self.worlds.append(world)
        loop = world.build(program.loop)
        engine = self.make(loop, name, self.events)
        acted = {action.moment[1] for action in program.actions if action.moment[0] == "event"}
        for event in loop.event_keys if self.all_heard else acted:
            self.attach(engine, event, lambda engine, *error, event=event: world.reach(engine, "event", event))
        evaluator, inner = None, None
        for number, (event, own) in enumerate(program.nested):
            if evaluator is None or not program.shares:
                evaluator, inner = self.build(own, f"{name}.{number}"), own
            self.attach(engine, event, lambda engine, e=evaluator, p=inner: run_nested(e, p))
        if program.swallow is not None:
            self.attach(engine, "exception_raised", lambda engine, error: answer(program.swallow))
        return engine

    def attach(self, engine: Any, event: str, handler: Any) -> None:
        (engine.add if isinstance(engine, Reference) else engine.add_event_handler)(event, handler)

    def seen(self) -> Any:
        return self.outcome, final(self.engine), self.warned, self.calls


def answer(swallow: Any) -> Any:
    if swallow == "raise":
        raise RuntimeError("a handler of EXCEPTION_RAISED that raises")
    return swallow


def make_engine(loop: Loop, name: str, events: list[Any]) -> Engine:
    engine = Engine(loop, name)
    loops = [item.name for _, item in loop.walk() if isinstance(item, Loop)]
    for event in loop.event_keys:

        def log(engine: Engine, *error: Any, event: str = event) -> None:
            events.append((name, event, tuple((loop, getattr(engine.state, loop.lower())) for loop in loops)))

        engine.add_event_handler(event, log)
    return engine


def make_quiet_engine(loop: Loop, name: str, events: list[Any]) -> Engine:
    return Engine(loop, name)


def check_agreement(program: Program) -> None:
    expected = Side(program, Reference, all_heard=True)
    note(f"expected {expected.events}")
    found = Side(program, make_engine, all_heard=True)
    assert found.events == expected.events
    assert found.seen() == expected.seen()


@given(programs())
def test_machine_and_generated_loop_agree(program: Program) -> None:
    check_agreement(program)


@given(programs())
def test_what_nobody_hears_changes_nothing(program: Program) -> None:
    expected = Side(program, Reference, all_heard=False)
    found = Side(program, make_quiet_engine, all_heard=False)
    assert found.seen() == expected.seen()


@given(programs(depth=2))
def test_every_trace_is_legal(program: Program) -> None:
    with record() as trace:
        Side(program, make_quiet_engine, all_heard=False)
    trace.assert_legal()


def test_the_reference_knows_nothing_of_engine_and_codegen() -> None:
    tree = ast.parse((Path(__file__).parent / "reference.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name.startswith("camshaft")} == {
        "camshaft.loop",
        "camshaft.machine",
        "camshaft.table",
        "camshaft.state",
    }
