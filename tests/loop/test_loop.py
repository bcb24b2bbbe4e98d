"""The declaration: what it says, how it is changed, and what is refused when it is made."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref

import pytest
from hypothesis import given

from camshaft import DATA, Engine, Events, Loop, LoopError, Mark, Nested, Phase, Step, every
from camshaft.files import from_dict, to_dict
from camshaft.machine import LoopMachine
from camshaft.testing import loops
from support.steps import nothing


def standard(*body, **passes):
    return Loop("EPOCH", Loop("ITERATION", *body, over=DATA), **passes)


def names(loop):
    return [item.name for _, item in loop.walk()]


def test_events_default_each_by_itself_to_the_name_of_the_state():
    phase = Phase("CLIP", nothing, completed="clipped")
    assert (phase.started, phase.completed) == ("clip_started", "clipped")
    assert standard(phase).events.CLIP_STARTED.value == "clip_started"


def test_insert_replace_and_remove_return_new_loops():
    loop = standard(Phase("FORWARD", nothing), Phase("BACKWARD", nothing))
    clip = Phase("CLIP", nothing)
    assert names(loop.insert(clip, after="FORWARD")) == ["EPOCH", "ITERATION", "FORWARD", "CLIP", "BACKWARD"]
    assert names(loop.insert(clip, before="FORWARD")) == ["EPOCH", "ITERATION", "CLIP", "FORWARD", "BACKWARD"]
    assert names(loop.insert(clip, within="EPOCH"))[-1] == "CLIP"
    assert names(loop.insert(clip, before="ITERATION")) == ["EPOCH", "CLIP", "ITERATION", "FORWARD", "BACKWARD"]
    assert names(loop.remove("FORWARD")) == ["EPOCH", "ITERATION", "BACKWARD"]
    assert loop.replace("FORWARD", clip).find("CLIP") == clip
    assert names(loop) == ["EPOCH", "ITERATION", "FORWARD", "BACKWARD"]


def test_a_loop_says_what_it_is():
    loop = standard(Phase("FORWARD", nothing), Phase("OPTIM_STEP", nothing, when=every(4)), Mark("clipped"))
    evaluator = Engine(nothing, name="evaluator")
    loop = loop.evolve(nested=(Nested(evaluator, Events.EPOCH_COMPLETED(every=2)),))
    assert str(loop) == "\n".join(
        [
            "STARTED",
            "EPOCH",
            "  ITERATION  for each batch",
            "    FORWARD",
            "    OPTIM_STEP  when iteration % 4 == 0",
            "    CLIPPED",
            "  [evaluator] at EPOCH_COMPLETED(every=2)",
            "COMPLETED",
        ]
    )


REFUSED = {
    "two states of one name": (lambda: standard(Phase("A", nothing), Phase("A", nothing)), "two states are named A"),
    "a name that is not in capitals": (lambda: Phase("forward", nothing), "'forward': name a state in capitals"),
    "a reserved name": (lambda: Phase("STARTED", nothing), "STARTED: this name is taken"),
    "a counter that State needs": (
        lambda: Loop("BATCH", Phase("A", nothing), times=2),
        "state.batch, which is taken",
    ),
    "a phase that is no callable": (lambda: Phase("A", 3), "phase A: what it runs is 3, which is no callable"),
    "no way out": (lambda: Loop("A", Loop("B", Phase("C", nothing))), "no way out of the inner loop B; give it over="),
    "an unreachable body": (lambda: Loop("A", Phase("B", nothing), times=0), "times=0 makes its body unreachable"),
    "a cycle that does nothing": (lambda: Loop("A", until=lambda engine: True), "a cycle that does nothing"),
    "two ways to end": (lambda: Loop("A", Phase("B"), times=2, over=DATA), "over and times exclude each other"),
    "what cannot be iterated": (lambda: Loop("A", Phase("B"), over=3), "over=3 is not iterable"),
    "two loops over the data": (
        lambda: Loop("A", Loop("B", Phase("C"), over=DATA), Loop("D", Phase("E"), over=DATA)),
        "B and D both take the data",
    ),
    "one event for entering and leaving": (lambda: Phase("A", started="x", completed="x"), "fire the same event 'x'"),
    "a built-in event": (lambda: Phase("A", started="terminate"), "'terminate' is a built-in event"),
    "one event that leads two ways": (
        lambda: standard(Phase("A", started="s", when=every(2)), Phase("B", started="s")),
        "S would lead two ways before A",
    ),
    "a function where a state should be": (lambda: standard(nothing), r"wrap it: Phase\('NOTHING', nothing\)"),
    "every=0": (lambda: Phase("A", nothing, when=every(0)), r"every\(0\) never holds"),
    "an unknown neighbour": (lambda: standard(Phase("A")).insert(Phase("B"), after="C"), "there is no state C; it has"),
    "a place beside the whole": (lambda: standard(Phase("A")).insert(Phase("B"), after="EPOCH"), "outermost state"),
    "two places": (lambda: standard(Phase("A")).insert(Phase("B"), after="A", before="A"), "exclude each other"),
    "a neighbour elsewhere": (
        lambda: standard(Phase("A")).insert(Phase("B"), after="A", within="EPOCH"),
        "A is in ITERATION, not in EPOCH",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_lint_refuses(what):
    make, message = REFUSED[what]
    with pytest.raises(LoopError, match=message):
        make()


def test_lint_states_how_deep_loops_may_be_nested():
    loop = Loop("L0", Phase("P", nothing), times=1)
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
def test_every_place_of_a_loop_that_passed_lint_is_reachable_and_has_a_way_out(loop):
    machine = LoopMachine(loop)
    edges = {place: {row.dest for row in rows.values()} for place, rows in machine.table.items()}
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


@given(loops())
def test_a_declaration_survives_being_written_down(loop):
    written = to_dict(loop)
    read = from_dict(json.loads(json.dumps(written)))
    assert to_dict(read) == written
    assert str(LoopMachine(read)).count("->") == str(LoopMachine(loop)).count("->")
    assert LoopMachine(read).table.keys() == LoopMachine(loop).table.keys()


def test_a_loop_that_was_read_from_a_file_says_that_it_cannot_run():
    loop = from_dict(to_dict(Loop("A", Loop("B", Phase("C"), until=lambda engine: True))))
    with pytest.raises(RuntimeError, match="read from a file"):
        Engine(loop).run()


def test_an_opaque_step_and_phases_can_stand_together():
    log = []
    loop = standard(
        Step(lambda engine, batch: log.append(batch)), Phase("LOG", lambda engine, batch: log.append("log"))
    )
    Engine(loop).run([1, 2])
    assert log == [1, "log", 2, "log"]


def test_a_loop_that_nobody_refers_to_is_freed_without_the_garbage_collector():
    class Function:
        def __call__(self, engine, batch):
            return None

    gc.collect()
    gc.disable()
    try:
        function = Function()
        freed = weakref.ref(function)
        loop = Loop("EPOCH", Loop("ITERATION", Phase("ACT", function), over=DATA))
        longer = loop.insert(Phase("CLIP"), after="ACT")
        assert longer.data_loop is not None
        assert [item.name for _, item in longer.walk()] == ["EPOCH", "ITERATION", "ACT", "CLIP"]
        del function, loop, longer
        assert freed() is None
    finally:
        gc.enable()


def test_a_copied_loop_walks_through_itself():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("ACT"), over=DATA))
    assert loop.event_keys
    copied = copy.copy(loop)
    assert next(copied.walk())[1] is copied
    assert pickle.loads(pickle.dumps(loop)) == loop


NESTED_AT = [*Events, "clip_started", "saved"]


@pytest.mark.parametrize("moment", NESTED_AT, ids=str)
def test_the_text_of_a_loop_names_an_engine_nested_at_any_event(moment):
    inner, outer = Engine([Phase("FORWARD")], "inner"), Engine([Phase("CLIP")], "outer")
    outer.register_events("saved", within="RUN")
    outer.nest(inner, on=moment, data=[1])
    name = moment.name if isinstance(moment, Events) else moment.upper()
    assert next(line for line in str(outer.loop).splitlines() if "[inner]" in line).strip() == f"[inner] at {name}"


def test_an_outermost_loop_over_elements_ends_with_its_elements_in_its_machine():
    text = str(Engine(Loop("FOLD", Phase("SPLIT"), over=[1, 2])).machine)
    assert "FOLD_STARTED -> FOLD\n      if another element" in text
    assert "COMPLETED -> COMPLETED\n      if no element left" in text
