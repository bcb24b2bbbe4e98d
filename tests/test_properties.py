"""Machine and generated loop agree: the same random program gives the same events, counters, outcome and exception."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from hypothesis import given, note

from camshaft import Engine, Loop
from camshaft.testing import Play, Scenario, loops, scenarios
from reference import Reference


def outcome_of(play: Play) -> Any:
    """All that can be seen of a run from outside, besides its events."""
    state, error = play.engine.state, play.error
    loops = [item.name.lower() for _, item in play.engine.loop.walk() if isinstance(item, Loop)]
    names = [*loops, "max_epochs", "max_iters", "epoch_length", "output", "batch"]
    final = {name: getattr(state, name) for name in names}
    raised = type(error), str(error), type(error.__context__) if error is not None else None
    return raised, play.is_paused, final, len(play.warned), play.heard, play.worked


def check_agreement(scenario: Scenario) -> None:
    """Compare the engine with the walk through the machine, every event heard."""
    expected: list[Any] = []
    found: list[Any] = []

    def make(loop: Loop, name: str) -> Engine:
        engine = Engine(loop, name)
        loops = [item.name for _, item in loop.walk() if isinstance(item, Loop)]
        for event in loop.event_keys:

            def log(engine: Engine, *error: Any, event: str = event) -> None:
                found.append((name, event, tuple((loop, getattr(engine.state, loop.lower())) for loop in loops)))

            engine.add_event_handler(event, log)
        return engine

    reference = scenario.play(lambda loop, name: Reference(loop, name, expected))
    note(f"expected {expected}")
    engine = scenario.play(make)
    assert found == expected
    assert outcome_of(engine) == outcome_of(reference)


@given(scenarios(loops(), max_calls=3, evaluators=loops()))
def test_machine_and_generated_loop_agree(scenario: Scenario) -> None:
    check_agreement(scenario)


@given(scenarios(loops(), max_calls=3, evaluators=loops()))
def test_what_nobody_hears_changes_nothing(scenario: Scenario) -> None:
    reference = scenario.play(lambda loop, name: Reference(loop, name, []))
    assert outcome_of(scenario.play(recorded=False)) == outcome_of(reference)


@given(scenarios(loops(), max_calls=3, depth=2, evaluators=loops()))
def test_every_trace_is_legal(scenario: Scenario) -> None:
    scenario.play().trace.assert_legal()


def test_the_reference_knows_nothing_of_engine_and_codegen() -> None:
    tree = ast.parse((Path(__file__).parent / "reference.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in modules if name.startswith("camshaft")}
    rooms = {name if name.startswith("camshaft.engine") else ".".join(name.split(".")[:2]) for name in ours}
    assert rooms == {"camshaft.events", "camshaft.loop", "camshaft.machine", "camshaft.engine.state"}
