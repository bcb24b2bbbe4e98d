"""The order checker: it queries a live run if there is one, and otherwise allows both outcomes of a condition."""

from __future__ import annotations

import pytest

from camshaft import DATA, EventOrderError, Loop, Phase, every
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine


def test_a_check_uses_the_answers_of_a_live_run():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("RARE", when=lambda engine: True), over=DATA))
    answers = {"when": False, "batch": True}
    context = Context(max_epochs=1, ask=lambda question, item: answers[question])
    checker = OrderChecker(LoopMachine(loop), "engine", context)
    for event in ("started", "epoch_started", "get_batch_started", "get_batch_completed", "iteration_started"):
        checker.advance(event)
    with pytest.raises(EventOrderError, match="RARE_STARTED is illegal"):
        checker.advance("rare_started")
    checker.advance("iteration_completed")


def test_without_a_live_run_both_outcomes_are_allowed():
    loop = Loop(
        "EPOCH", Loop("ITERATION", Phase("RARE", when=lambda engine: True), Phase("ODD", when=every(2)), over=DATA)
    )
    machine = LoopMachine(loop)
    expected = machine.expected("EPOCH/ITERATION", Context(counts={"ITERATION": 1}))
    assert expected[:2] == ["rare_started", "iteration_completed"]
