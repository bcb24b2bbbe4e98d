"""Machine and generated loop agree: a random program gives the same events, counters, outcome and exception."""

from __future__ import annotations

import ast

from hypothesis import given

from camshaft.testing import Scenario, loops, scenarios
from support import ROOT
from support.agreement import check_agreement, outcome_of
from support.reference import Reference


@given(scenarios(loops(), max_calls=3, evaluators=loops()))
def test_machine_and_generated_loop_agree(scenario: Scenario) -> None:
    check_agreement(scenario)


@given(scenarios(loops(), max_calls=3, evaluators=loops()))
def test_events_without_handlers_change_nothing(scenario: Scenario) -> None:
    reference = scenario.play(lambda loop, name: Reference(loop, name, []))
    assert outcome_of(scenario.play(recorded=False)) == outcome_of(reference)


@given(scenarios(loops(), max_calls=3, depth=2, evaluators=loops()))
def test_every_trace_is_legal(scenario: Scenario) -> None:
    scenario.play().trace.assert_legal()


def test_the_reference_imports_no_engine_and_no_compiler() -> None:
    tree = ast.parse((ROOT / "tests" / "support" / "reference.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in modules if name.startswith("camshaft")}
    packages = {name if name.startswith("camshaft.engine") else ".".join(name.split(".")[:2]) for name in ours}
    assert packages == {"camshaft.events", "camshaft.loop", "camshaft.machine", "camshaft.engine.state"}
