"""The rules for declarations: a loop is checked when it is created."""

from __future__ import annotations

import pytest
from hypothesis import given

from camshaft import DATA, Engine, Loop, LoopError, Phase, every
from camshaft.machine.machine import LoopMachine
from camshaft.testing import loops
from support.declared import standard
from support.steps import no_op

REFUSED = {
    "two states of one name": (lambda: standard(Phase("A", no_op), Phase("A", no_op)), "two states are named A"),
    "a name that is not in capitals": (
        lambda: Phase("forward", no_op),
        "'forward': the name must be a Python identifier in capitals",
    ),
    "a reserved name": (lambda: Phase("STARTED", no_op), "STARTED: this is the name of a built-in state"),
    "a counter that State needs": (
        lambda: Loop("BATCH", Phase("A", no_op), times=2),
        "state.batch, which has another use",
    ),
    "a phase without a callable": (lambda: Phase("A", 3), r"phase A: run must be a function \(engine, batch\), got 3"),
    "an inner loop that never ends": (
        lambda: Loop("A", Loop("B", Phase("C", no_op))),
        "the inner loop B would never end; give it over=",
    ),
    "an unreachable body": (
        lambda: Loop("A", Phase("B", no_op), times=0),
        "times must be an integer of 1 or more, got 0: otherwise its body is unreachable",
    ),
    "a loop that does nothing": (lambda: Loop("A", until=lambda engine: True), "its passes do nothing"),
    "two rules for its end": (lambda: Loop("A", Phase("B"), times=2, over=DATA), "over and times exclude each other"),
    "a value that cannot be iterated": (
        lambda: Loop("A", Phase("B"), over=3),
        "over must be DATA, an iterable, .*got 3",
    ),
    "two loops over the data": (
        lambda: Loop("A", Loop("B", Phase("C"), over=DATA), Loop("D", Phase("E"), over=DATA)),
        "B and D both have over=DATA",
    ),
    "one event for entering and leaving": (lambda: Phase("A", started="x", completed="x"), "are the same event 'x'"),
    "a built-in event": (lambda: Phase("A", started="terminate"), "'terminate' is a built-in event"),
    "one event with two transitions": (
        lambda: standard(Phase("A", started="s", when=every(2)), Phase("B", started="s")),
        "before A, S would have two transitions",
    ),
    "a function where a state should be": (lambda: standard(no_op), r"wrap it: Phase\('NO_OP', no_op\)"),
    "every=0": (lambda: Phase("A", no_op, when=every(0)), r"every\(n\): n must be an integer of 1 or more, got 0"),
    "an unknown neighbour": (lambda: standard(Phase("A")).insert(Phase("B"), after="C"), "there is no state C; it has"),
    "a place beside the outermost loop": (
        lambda: standard(Phase("A")).insert(Phase("B"), after="EPOCH"),
        "outermost state",
    ),
    "two places": (lambda: standard(Phase("A")).insert(Phase("B"), after="A", before="A"), "exclude each other"),
    "a neighbour elsewhere": (
        lambda: standard(Phase("A")).insert(Phase("B"), after="A", within="EPOCH"),
        "A is in ITERATION, not in EPOCH",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_declarations_are_refused(what):
    make, message = REFUSED[what]
    with pytest.raises(LoopError, match=message):
        make()


def test_the_error_states_how_deep_loops_may_be_nested():
    loop = Loop("L0", Phase("P", no_op), times=1)
    with pytest.raises(LoopError, match="deep; the limit is 40"):
        for depth in range(1, 60):
            loop = Loop(f"L{depth}", loop, times=1)


def test_a_wide_and_a_deep_loop_run():
    wide = Engine([Phase(f"P{number}", lambda engine, batch: batch) for number in range(1000)])
    assert wide.run([1, 2]).iteration == 2
    deep = Loop("L0", Phase("P", lambda engine, batch: engine.where), times=2)
    for depth in range(1, 38):
        deep = Loop(f"L{depth}", deep, times=1)
    engine = Engine(deep)
    state = engine.run()
    assert state.l0 == 2
    assert state.output == (*(f"L{depth}" for depth in range(37, -1, -1)), "P")


@given(loops())
def test_every_place_is_reachable_and_has_a_way_out(loop):
    machine = LoopMachine(loop)
    edges = {
        place: {transition.dest for transition in transitions.values()} for place, transitions in machine.table.items()
    }
    assert reachable(edges, "READY") == set(edges)
    backwards = {place: {source for source, dests in edges.items() if place in dests} for place in edges}
    assert reachable(backwards, "COMPLETED") >= set(edges) - {"FAILED"}


def reachable(edges, start):
    found, open_ = {start}, [start]
    while open_:
        new = edges[open_.pop()] - found
        found |= new
        open_ += new
    return found
