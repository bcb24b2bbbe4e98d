"""Comparison of machine and generated loop: they must have the same events, counters, outcome and exception."""

from __future__ import annotations

from typing import Any

from hypothesis import note

from camshaft import Engine, Loop
from camshaft.testing import Play, Scenario
from support.reference import Reference


def outcome_of(play: Play) -> Any:
    """Return everything that is visible of a run from outside, except its events."""
    state, error = play.engine.state, play.error
    loops = [item.name.lower() for _, item in play.engine.loop.walk() if isinstance(item, Loop)]
    names = [*loops, "max_epochs", "max_iters", "epoch_length", "output", "batch"]
    final = {name: getattr(state, name) for name in names}
    raised = type(error), str(error), type(error.__context__) if error is not None else None
    return raised, play.is_paused, final, len(play.warned), play.handler_calls, play.function_calls


def check_agreement(scenario: Scenario) -> None:
    """Compare an engine that has a handler at every event with the walk through the machine."""
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
