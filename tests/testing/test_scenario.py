"""Scenarios: each play is the same, and the printed program does the same."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given

from camshaft import DATA, Engine, Loop, OpaqueStep, Phase, event
from camshaft.testing import (
    Call,
    Data,
    EveryNthTime,
    FireEvents,
    PlantedError,
    Scenario,
    loops,
    no_op,
    return_batch,
    scenarios,
)
from support.declared import NAMES, STANDARD


@given(scenarios(loops(), max_calls=3, evaluators=loops()))
def test_a_scenario_prints_a_program_that_does_the_same(scenario):
    played = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(scenario.python(), played)
    assert played["trace"] == scenario.play().trace


@given(scenarios(loops(), max_calls=3, evaluators=loops()))
def test_a_scenario_is_shown_as_the_python_that_makes_it(scenario):
    made = eval(re.sub(r"handlers=\(.*?\), nested", "nested", repr(attrs_without_handlers(scenario))), NAMES)
    assert made == attrs_without_handlers(scenario)


def attrs_without_handlers(scenario):
    inner = tuple((keys, attrs_without_handlers(one)) for keys, one in scenario.nested)
    return Scenario(
        scenario.loop, scenario.data, scenario.limits, scenario.calls, (), inner, scenario.swallow, scenario.resumes
    )


@given(scenarios(loops(), max_calls=2, evaluators=loops()))
def test_a_scenario_plays_the_same_each_time(scenario):
    first, second = scenario.play(), scenario.play()
    assert first.trace == second.trace
    assert (first.handler_calls, first.function_calls, repr(first.error)) == (
        second.handler_calls,
        second.function_calls,
        repr(second.error),
    )


def test_a_fault_inside_a_phase_is_part_of_the_program():
    scenario = Scenario(
        STANDARD,
        Data(3, "once"),
        {"max_epochs": 1},
        (Call("FORWARD", 2, "raise", PlantedError), Call("iteration_started", 1, "interrupt")),
        (event("iteration_completed", every=2, priority=1),),
    )
    assert scenario.python().splitlines() == [
        "from contextlib import suppress",
        "",
        "from camshaft import DATA, Engine, Loop, Phase, event, every, record",
        "from camshaft.testing import Call, CallAt, PlantedError, call_at, return_batch",
        "",
        "trainer = Engine(Loop(",
        '    "EPOCH",',
        "    Loop(",
        '        "ITERATION",',
        "        Phase(\"FORWARD\", CallAt(Call('FORWARD', 2, 'raise', PlantedError), return_batch)),",
        '        Phase("OPTIM_STEP", when=every(2)),',
        "        over=DATA,",
        "    ),",
        "), 'trainer')",
        "trainer.add_event_handler(event('iteration_completed', every=2, priority=1), lambda *_: None)",
        "call_at(trainer, 'iteration_started', lambda: trainer.interrupt(), n=1)",
        "with record() as trace, suppress(RuntimeError, ValueError, PlantedError):",
        "    trainer.run(iter([0, 1, 2]), max_epochs=1)",
        "    for _ in range(2):",
        "        if trainer.current_run is not None:",
        "            trainer.run()",
        "trace.assert_legal()",
    ]
    play = scenario.play()
    assert isinstance(play.error, PlantedError)
    assert play.function_calls == [("trainer", "FORWARD", 0), ("trainer", "FORWARD", 1)]
    assert play.trace.count("interrupt") == 1
    assert str(scenario) == "Data(3, 'once'), max_epochs=1, raise at FORWARD 2, interrupt at iteration_started 1"


def test_real_batches_are_taken_over_and_over():
    scenario = Scenario(
        Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA)), Data(3), batches=["a", "b"]
    )
    assert [batch for *_, batch in scenario.play().function_calls] == ["a", "b", "a"]
    assert "trainer.run([batches[i % len(batches)] for i in range(3)])" in scenario.python()


def test_an_exception_that_was_not_planted_leaves():
    def wrong(engine, batch):
        raise LookupError("not planned")

    with pytest.raises(LookupError):
        Scenario(Loop("EPOCH", Loop("ITERATION", OpaqueStep(wrong), over=DATA)), Data(1)).play()


def test_the_engine_is_made_as_the_user_makes_it():
    seen = []

    def make(loop, name):
        engine = Engine(loop, name)
        engine.add_event_handler("completed", lambda: seen.append(name))
        return engine

    inner = Scenario(Loop("EPISODE", Phase("A", no_op)))
    Scenario(STANDARD, Data(1), nested=((("epoch_started", "completed"), inner),)).play(make)
    assert seen == ["trainer_0", "trainer", "trainer_0"]


def test_conditions_start_anew_with_each_play():
    scenario = Scenario(Loop("EPISODE", Phase("A", no_op, EveryNthTime(2)), until=EveryNthTime(3)))
    assert [len(scenario.play().function_calls) for _ in range(3)] == [1, 1, 1]


def test_what_a_step_fires_by_hand_is_printed():
    assert (
        repr(OpaqueStep(FireEvents("x_started", "x_completed"))) == "OpaqueStep(FireEvents('x_started', 'x_completed'))"
    )
    assert FireEvents("a") == FireEvents("a") != FireEvents("b")
    assert hash(FireEvents("a")) == hash(FireEvents("a"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Call("STEP", 1, "teminate"), "what must be one of 'raise', 'terminate', "),
        (lambda: Call("STEP", 0, "terminate"), "n must be an integer of 1 or more, got 0"),
        (lambda: Call("STEP", 1, "raise"), "value must be an exception class if what is 'raise', got None"),
        (
            lambda: Scenario(Loop("EPOCH", Phase("ACT", no_op)), calls=(Call("AKT", 1, "terminate"),)),
            "AKT is neither an event of the loop EPOCH nor a state of it with a function",
        ),
    ],
)
def test_a_call_that_can_never_be_made_is_refused(make, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        make()
