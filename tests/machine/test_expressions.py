"""The source of guards and effects does to a context what it says."""

import operator
import re
from itertools import chain

import pytest

from camshaft import DATA, Engine, Loop, Phase
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
from support.learning import Unsized

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


WORDS = re.compile(r"(\w+)(?: in (\w+))? (<|==|>) (\w+)")
COMPARE = {"<": operator.lt, "==": operator.eq, ">": operator.gt}
STAGES = Loop("STAGE", Loop("EPOCH", Loop("ITERATION", Phase("A"), over=DATA), times=2))


LOOPS = {"three": STAGES, "two": STAGES.body[0].evolve(times=None), "one": STAGES.body[0].body[0]}


@pytest.mark.parametrize("knows_length", [True, False])
@pytest.mark.parametrize("loop", LOOPS)
def test_guards_say_what_is_so(loop, knows_length):
    engine = Engine(LOOPS[loop])
    data = [1, 2, 3] if knows_length else Unsized([1, 2, 3])
    counters, entered, told = engine.loop.counters, {}, set()
    limits = ({"max_epochs": 2}, {"max_epochs": 3}) if loop != "one" else ({"max_iters": 2}, {"max_iters": 3})
    for event in chain.from_iterable(engine.steps(data, **limit) for limit in limits):
        key = getattr(event, "value", event)
        for name in counters:  # what each loop had counted when the loop around it began its pass
            if key == f"{name}_started":
                entered |= {inner: getattr(engine.state, inner) for inner in counters[counters.index(name) + 1 :]}
        if engine.current_run is None:  # the last event of the run
            continue
        place, context = engine.current_run.machine_position()
        for transition in engine.machine.table[place].values():
            for guard in transition.guards:
                words = WORDS.fullmatch(guard.text)
                if words is None or guard.test(context) is None:
                    continue
                counter, around, sign, bound = words.groups()
                bound = int(bound) if bound.isdigit() else getattr(engine.state, bound)
                if bound is None:
                    continue
                count = getattr(engine.state, counter) - (entered.get(counter, 0) if around else 0)
                assert guard.test(context) == COMPARE[sign](count, bound), (key, guard.text, count, bound)
                told.add((counter, around))
    assert len(told) == min(len(counters), 2)  # a live run does not tell the passes of loops in between
