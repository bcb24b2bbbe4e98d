"""Simplified pictures: the overview shows the well-known states and folds large loops."""

from __future__ import annotations

from camshaft import DATA, Loop, Phase
from support.diagrams import make, words


def test_the_overview_has_the_states_that_everyone_knows():
    shown = words(make().diagram())
    known = ["STARTED", "EPOCH", "ITERATION", "BACKWARD", "OPTIM_STEP", "COMPLETED"]
    assert set(known) <= set(shown)
    assert "GET_BATCH" not in shown
    assert "GET_BATCH" in words(make().diagram("full"))


def test_two_hundred_states_are_folded():
    loop = Loop("EPOCH", Loop("ITERATION", *[Phase(f"P{number}") for number in range(200)], over=DATA))
    shown = words(loop.diagram())
    assert {"P0", "P199", "189 more", "P8 … P196"} <= set(shown)
    assert "P100" not in shown
    assert "P100" in words(loop.diagram("full"))


def test_a_deep_nesting_is_folded():
    loop = Loop("L12", Phase("A"), times=2)
    for depth in range(11, -1, -1):
        loop = Loop(f"L{depth}", loop, times=2)
    shown = words(loop.diagram())
    assert "L5" in shown
    assert "L8" not in shown
    assert any("states" in word for word in shown)
