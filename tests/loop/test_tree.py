"""What can be read from the tree of a loop."""

from camshaft import DATA, CustomState, EventPoint, Loop, OpaqueStep, Phase
from support.steps import no_op

ITERATION = Loop("ITERATION", OpaqueStep(no_op), EventPoint("marked"), over=DATA)
LOOP = Loop("FOLD", Phase("SPLIT", no_op), Loop("EPOCH", ITERATION, times=2), times=3)


def test_walk_yields_every_state_with_its_path():
    assert [path for path, _ in LOOP.walk()] == [
        ("FOLD",),
        ("FOLD", "SPLIT"),
        ("FOLD", "EPOCH"),
        ("FOLD", "EPOCH", "ITERATION"),
        ("FOLD", "EPOCH", "ITERATION", "STEP"),
        ("FOLD", "EPOCH", "ITERATION", "MARKED"),
    ]
    assert next(item for _, item in LOOP.walk()) is LOOP


def test_find_gives_a_state_by_name():
    assert LOOP.find("ITERATION") is ITERATION
    assert LOOP.find("CLIP") is None


def test_the_loop_that_takes_data_is_found_at_any_depth():
    assert LOOP.data_loop is ITERATION
    assert ITERATION.data_loop is ITERATION
    assert Loop("EPISODE", Phase("ACT", no_op)).data_loop is None


def test_counters_are_attributes_of_the_state_outermost_first():
    assert LOOP.counters == ("fold", "epoch", "iteration")


def test_passes_say_what_a_loop_repeats_over():
    assert (LOOP.passes, ITERATION.passes) == (3, "data")
    assert Loop("A", Phase("B", no_op), until=lambda engine: True).passes == "until"
    assert Loop("A", Phase("B", no_op), over=[1]).passes == "over"
    assert Loop("A", Phase("B", no_op)).passes is None


def test_own_events_are_those_that_the_state_fires():
    assert ITERATION.own_events == ("iteration_started", "iteration_completed")
    assert LOOP.find("SPLIT").own_events == ("split_started", "split_completed")
    assert LOOP.find("MARKED").own_events == ("marked",)
    assert LOOP.find("STEP").own_events == ()


def test_event_keys_name_each_event_once():
    keys = LOOP.evolve(custom_states=(CustomState("X", None, "x_completed", "ITERATION"),)).event_keys
    assert len(set(keys)) == len(keys)
    assert keys[0] == "started"
    assert {"marked", "x_completed", "get_batch_started", "iteration_skipped", "exception_raised"} <= set(keys)
