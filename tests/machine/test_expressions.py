"""The source of guards and effects does to a context what it says."""

import pytest

from camshaft import DATA, Loop
from camshaft.machine.context import Context, function
from camshaft.machine.expressions import (
    count_of,
    count_pass,
    learn_length,
    leave,
    none_entered,
    not_passed,
    passes_of,
    reset_passes,
    unless_none,
)

ITERATION = Loop("ITERATION", over=DATA)


def value(expression, context):
    return function([f"return {expression}"])(context)


def after(effects, context):
    function(effects)(context)
    return context


def test_counts_and_passes_are_read():
    context = Context(counts={"EPOCH": 3}, passes={"ITERATION": 2})
    assert value(count_of("EPOCH"), context) == 3
    assert value(count_of("FOLD"), context) == 0
    assert value(unless_none(passes_of(ITERATION), "passes < 3"), context) is True


def test_an_unknown_number_of_passes_is_unknown():
    assert value(unless_none(passes_of(ITERATION), "passes < 3"), Context(passes={"ITERATION": None})) is None


@pytest.mark.parametrize(("entered", "knows", "expected"), [((), True, True), (("X",), True, False), ((), False, None)])
def test_custom_states_that_are_entered(entered, knows, expected):
    assert value(none_entered({"X", "Y"}), Context(entered=set(entered), knows_entered=knows)) is expected


def test_a_declared_order_that_went_beyond():
    order = ("a", "b", "c")
    assert value(not_passed(order, 1), Context(order_positions={order: 1})) is True
    assert value(not_passed(order, 1), Context(order_positions={order: 2})) is False


def test_a_pass_is_counted_once_though_the_run_was_resumed_in_it():
    context = Context(counts={"EPOCH": 2}, passes={"EPOCH": 2}, resumed={"EPOCH"})
    assert after(count_pass("EPOCH"), context).counts == {"EPOCH": 2}
    assert after(count_pass("EPOCH"), context).counts == {"EPOCH": 3}


def test_passes_begin_anew_where_a_run_was_left():
    context = Context(position={"ITERATION": 4})
    assert after([reset_passes("ITERATION")], context).passes == {"ITERATION": 4}
    assert after([reset_passes("ITERATION")], context).passes == {"ITERATION": 0}


def test_states_are_left_and_lengths_learned():
    context = after([*leave({"X"}), learn_length(ITERATION)], Context(entered={"X", "Y"}, passes={"ITERATION": 7}))
    assert (context.entered, context.epoch_length) == ({"Y"}, 7)
    assert after([learn_length(ITERATION)], Context(epoch_length=3, passes={"ITERATION": 7})).epoch_length == 3
    assert leave(()) == []
