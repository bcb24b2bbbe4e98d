"""Paths through a machine: the search finds them, and the engine takes them exactly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from camshaft import DATA, BackpropEvents, Engine, Events, Loop, OpaqueStep, Phase, every
from camshaft.testing import FireEvents, loops, no_op, return_batch, transition_paths
from camshaft.testing.coverage import EventCoverage

DECLARED = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), Phase("OPTIM_STEP", when=every(3)), over=DATA))
OPAQUE = Engine(lambda engine, batch: None)
OPAQUE.register_events(*BackpropEvents)
EPISODES = Loop(
    "ROLLOUT",
    Loop("EPISODE", Phase("RESET"), Loop("TIMESTEP", Phase("ACT"), until=lambda engine: False), over=lambda engine: []),
    Phase("UPDATE", when=lambda engine: True),
)
NEVER = ["STARTED -- COMPLETED --> COMPLETED", "EPOCH -- EPOCH_COMPLETED --> after EPOCH"]
"""The transitions of a run whose limits are reached before it starts."""


def never_taken(paths):
    coverage = EventCoverage()
    with coverage.observing():
        for path in paths:
            path.play()
    return [line.strip() for line in coverage.report() if line.startswith("  ")]


@pytest.mark.parametrize("loop", [DECLARED, OPAQUE.loop], ids=["declared", "opaque"])
def test_the_paths_of_the_standard_loop_take_all_that_can_be_taken(loop):
    paths = transition_paths(loop)
    assert never_taken(paths) == NEVER
    assert len(paths) <= 12
    assert max(len(path.expected) for path in paths) < 40


def test_conditions_are_answered_as_a_path_needs():
    """Reach states that the loop's own conditions never allow."""
    assert never_taken(transition_paths(EPISODES)) == [
        "STARTED -- COMPLETED --> COMPLETED",
        "ROLLOUT/EPISODE/after RESET -- EPISODE_COMPLETED --> ROLLOUT/after EPISODE",
    ]


def test_pairs_bring_each_control_call_at_each_place():
    pairs = transition_paths(DECLARED, cover="pairs")
    calls = {(call.at, call.what) for path in pairs for call in path.calls}
    for what in ("terminate", "interrupt", "raise"):
        assert {at for at, made in calls if made == what} >= {
            "started",
            "epoch_started",
            "get_batch_started",
            "iteration_started",
            "forward_started",
            "forward_completed",
            "optim_step_completed",
            "epoch_completed",
        }
    taken = {pair for path in pairs for pair in zip(path.expected, path.expected[1:], strict=False)}
    assert ("forward_completed", "optim_step_started") in taken
    assert ("iteration_completed", "get_batch_started") in taken
    assert ("dataloader_stop_iteration", "get_batch_completed") in taken


@pytest.mark.parametrize("path", [*transition_paths(DECLARED), *transition_paths(DECLARED, "pairs")], ids=str)
def test_the_engine_goes_the_way_that_was_found(path):
    trace = path.play().trace
    assert trace == list(path.expected)
    trace.assert_legal()


@settings(max_examples=15)
@given(loops())
def test_the_engine_goes_the_ways_that_were_found_in_any_loop(loop):
    for _, item in loop.walk():
        if isinstance(getattr(item, "run", None), FireEvents):  # paths do not expect events fired by hand
            opaque = isinstance(item, OpaqueStep)
            loop = loop.replace(
                item.name, OpaqueStep(return_batch) if opaque else Phase(item.name, return_batch, item.when)
            )
    for path in transition_paths(loop):
        trace = path.play().trace
        assert trace == list(path.expected), path.python()
        trace.assert_legal()


def test_a_user_plays_them_on_an_engine_of_their_own():
    closed = []

    def make(loop, name):
        engine = Engine(loop, name)
        engine.add_event_handler(Events.COMPLETED, lambda: closed.append("completed"))
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: closed.append("failed"))
        return engine

    paths = transition_paths(Loop("EPOCH", Loop("ITERATION", OpaqueStep(no_op), over=DATA)))
    for path in paths:
        path.play(make)
    assert len(closed) == len(paths)


def test_there_are_two_things_to_cover():
    with pytest.raises(ValueError, match="cover must be 'transitions' or 'pairs', got 'states'"):
        transition_paths(DECLARED, cover="states")
