"""The second argument of phases: the batch inside the loop over the data, else the element of the loop around them."""

from __future__ import annotations

import pytest

from camshaft import DATA, Engine, EventPoint, Loop, OpaqueStep, Phase


def noted(got, name="A"):
    return Phase(name, lambda engine, batch: got.append((name, batch)))


KINDS = {
    "a function": lambda engine: [1, 2, 3],
    "a generator function": lambda engine: (number for number in (1, 2, 3)),
    "a list": [1, 2, 3],
    "a range": range(1, 4),
    "a function that uses the engine": lambda engine: range(1, 4 + engine.state.iteration),
}


@pytest.mark.parametrize("over", KINDS.values(), ids=KINDS)
def test_a_phase_of_the_outermost_loop_gets_the_element(over):
    got = []
    Engine(Loop("EPISODE", noted(got), over=over)).run()
    assert got == [("A", 1), ("A", 2), ("A", 3)]


@pytest.mark.parametrize("over", KINDS.values(), ids=KINDS)
def test_a_phase_of_an_inner_loop_gets_the_element(over):
    got = []
    Engine(Loop("EPISODE", noted(got, "FIRST"), Loop("STEP_OF", noted(got), over=over), noted(got, "LAST"))).run()
    assert got == [("FIRST", None), ("A", 1), ("A", 2), ("A", 3), ("LAST", None)]


def test_an_opaque_step_gets_the_element_and_its_output_counts():
    engine = Engine(Loop("EPISODE", OpaqueStep(lambda engine, batch: 10 * batch), over=[1, 2]))
    outputs = []
    engine.add_event_handler("episode_completed", lambda: outputs.append(engine.state.output))
    engine.run()
    assert outputs == [10, 20]


def test_the_innermost_loop_with_elements_counts():
    got = []
    inner = Loop("CHUNK", noted(got, "B"), over=lambda engine: [engine.state.episode_item * 10])
    times = Loop("AGAIN", noted(got, "C"), times=1)
    Engine(Loop("EPISODE", noted(got), inner, times, noted(got, "D"), over=[1, 2])).run()
    assert got == [(name, number * factor) for number in (1, 2) for name, factor in zip("ABCD", (1, 10, 1, 1))]


def test_phases_around_and_inside_the_data():
    got = []
    chunk = Loop("CHUNK", noted(got, "C"), over=lambda engine: engine.state.batch)
    data = Loop("ITERATION", noted(got, "B"), chunk, EventPoint("mark"), over=DATA)
    Engine(Loop("FOLD", noted(got), Loop("EPOCH", data, times=1), noted(got, "D"), over="xy")).run(["pq"])
    assert got == [one for fold in "xy" for one in [("A", fold), ("B", "pq"), ("C", "pq"), ("C", "pq"), ("D", fold)]]


def test_loops_too_deep_for_one_function_pass_the_element_on():
    got = []
    loop = Loop("L0", noted(got), over=[7])
    for level in range(1, 20):
        loop = Loop(f"L{level}", loop, times=1) if level < 19 else Loop("L19", loop, over=[8])
    Engine(loop).run()
    deep = noted(got, "B")
    for level in range(20):
        deep = Loop(f"L{level}", deep, times=1)
    Engine(Loop("TOP", deep, over=[9])).run()
    assert got == [("A", 7), ("B", 9)]


def test_conditions_and_changes_of_the_element():
    got = []

    def change(engine, batch):
        engine.state.episode_item = -batch

    Engine(Loop("EPISODE", Phase("CHANGE", change), noted(got), over=[1, 2])).run()
    assert got == [("A", -1), ("A", -2)]
