"""The search over a machine: breadth first, by keys, and with or without guards."""

import pytest

from camshaft import DATA, Loop, Phase, every
from camshaft.machine import Context, LoopMachine
from camshaft.machine.search import breadth_first, shortest_path, unguarded_path
from support.steps import no_op

LOOP = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", no_op), Phase("OPTIM_STEP", no_op, every(2)), over=DATA))


def events(path):
    return None if path is None else [transition.event for transition in path]


@pytest.fixture
def table():
    return LoopMachine(LOOP).table


def test_nearer_nodes_come_first():
    found = [*breadth_first(1, lambda n: (2 * n, 2 * n + 1) if n < 4 else (), key=lambda n: n)]
    assert found == [1, 2, 3, 4, 5, 6, 7]


def test_a_node_of_a_known_key_is_given_and_not_followed():
    found = [*breadth_first(0, lambda n: (n + 1, n + 1), key=lambda n: n % 3)]
    assert found == [0, 1, 1, 2, 2, 3, 3]


def test_a_limit_bounds_the_keys_that_are_followed():
    found = [*breadth_first(0, lambda n: (n + 1,), key=lambda n: n, limit=5)]
    assert found == [0, 1, 2, 3, 4, 5]


def test_a_shortest_path_ends_with_the_event(table):
    path = shortest_path(table, "forward_started", "READY", Context(max_epochs=1, epoch_length=2, has_data=False))
    assert events(path) == ["started", "epoch_started", "iteration_started", "forward_started"]


def test_a_shortest_path_obeys_guards(table):
    path = shortest_path(table, "optim_step_started", "READY", Context(max_epochs=1, epoch_length=2, has_data=False))
    assert events(path).count("iteration_started") == 2
    once = Context(max_epochs=1, epoch_length=1, has_data=False)
    assert shortest_path(table, "optim_step_started", "READY", once) is None


def test_a_path_without_guards_is_shorter(table):
    path = unguarded_path(table, "optim_step_started", "READY")
    assert events(path).count("iteration_started") == 1


def test_control_calls_are_taken_only_as_the_event_itself(table):
    path = unguarded_path(table, "terminate", "READY")
    assert events(path) == ["started", "terminate"]
    assert "interrupt" not in events(unguarded_path(table, "completed", "READY"))


@pytest.mark.parametrize("search", [shortest_path, lambda table, event, place, _: unguarded_path(table, event, place)])
def test_an_event_that_the_loop_does_not_have_is_not_found(table, search):
    assert search(table, "clip_started", "READY", Context(max_epochs=1)) is None
