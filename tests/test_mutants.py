"""A check that never fails proves nothing: each mutant of the generated loop, and of traces, is caught."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import Phase as HypothesisPhase
from hypothesis import example, given, settings

import camshaft.engine
from camshaft import Engine, EventOrderError, Phase, Trace, every, record
from camshaft.codegen import Program, generate
from camshaft.loop import DATA, Loop, Step
from camshaft.testing import Call, Data, Scenario, gives, loops, scenarios
from test_properties import check_agreement

Edit = Callable[[str], str]


def fires(name: str) -> str:
    return rf"^( *)if {name}(?P<unless>[^:\n]*): yield {name}$"


def drop(name: str) -> Edit:
    return lambda source: re.sub(fires(name), r"\1pass", source, flags=re.M)


def twice(name: str) -> Edit:
    return lambda source: re.sub(
        fires(name), rf"\1if {name}\g<unless>: (yield {name}); (yield {name})", source, flags=re.M
    )


def swap(first: str, second: str) -> Edit:
    names = {first: second, second: first}
    return lambda source: re.sub(
        rf"if ({first}|{second}): yield \1", lambda m: f"if {names[m[1]]}: yield {names[m[1]]}", source
    )


def replace(old: str, new: str) -> Edit:
    return lambda source: source.replace(old, new)


LOST = "state.iteration += 1\n"
MUTANTS: dict[str, Edit] = {
    **{f"drop {name}": drop(name) for name in ("STARTED", "EPOCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED")},
    **{f"drop {name}": drop(name) for name in ("ITERATION_COMPLETED", "EPOCH_COMPLETED", "COMPLETED", "TERMINATE")},
    **{f"drop {name}": drop(name) for name in ("TERMINATE_SINGLE_EPOCH", "ITERATION_SKIPPED")},
    **{f"{name} twice": twice(name) for name in ("STARTED", "EPOCH_STARTED", "ITERATION_STARTED")},
    **{f"{name} twice": twice(name) for name in ("ITERATION_COMPLETED", "EPOCH_COMPLETED", "COMPLETED")},
    "swap GET_BATCH_COMPLETED and ITERATION_STARTED": swap("GET_BATCH_COMPLETED", "ITERATION_STARTED"),
    "swap ITERATION_STARTED and ITERATION_COMPLETED": swap("ITERATION_STARTED", "ITERATION_COMPLETED"),
    "swap EPOCH_STARTED and EPOCH_COMPLETED": swap("EPOCH_STARTED", "EPOCH_COMPLETED"),
    "skip the guard of the limits": replace("while state.within_limits():", "while state.epoch < 3:"),
    "skip the guard of the last batch": replace(" and feed.expects_more()", ""),
    "skip the guard of every": lambda source: re.sub(r"if state\.iteration % \d+ == 0:", "if True:", source),
    "count an epoch twice": replace("state.epoch += 1", "state.epoch += 2"),
    "forget to count an iteration": replace(LOST, "state.iteration += state.iteration != 1 or state.epoch > 3\n"),
    "lose an iteration": replace(
        "            try:\n                            if GET_BATCH_COMPLETED",
        "            if state.iteration == 1: state.iteration += 1; continue\n                        try:\n"
        "                            if GET_BATCH_COMPLETED",
    ),
    "fetch from the old data": replace("if feed.stale: break", "pass"),
    "keep the data of an epoch that was terminated": replace("feed.restart()", "pass"),
    "run on after terminate": replace("if ended.skip_completed: return", "pass"),
}
ONLY_WHAT_RUNS_SEES = {  # the order of events stays legal: the machine leaves data and skipped completions open
    "drop TERMINATE",
    "drop TERMINATE_SINGLE_EPOCH",
    "drop ITERATION_SKIPPED",
    "fetch from the old data",
    "keep the data of an epoch that was terminated",
    "run on after terminate",
}


def mutate(edit: Edit) -> Callable[[Any], Program]:
    def mutant(loop: Any) -> Program:
        program = generate(loop)
        source = edit(program.source)
        shift = source.count("\n") - program.source.count("\n")
        lines = program.lines | {number + shift: line for number, line in program.lines.items() if shift}
        return attrs.evolve(program, source=source, code=compile(source, program.filename, "exec"), lines=lines)

    return mutant


STANDARD = Loop("EPOCH", Loop("ITERATION", Step(gives), over=DATA))
RARE = [  # what random programs seldom do: one call of each kind, where it has effect
    Scenario(STANDARD, Data(3), {"max_epochs": 2}, (Call(event, 2, *call),))
    for event, call in {
        "iteration_started": ("skip_iteration",),
        "get_batch_completed": ("set_data", Data(2)),
        "iteration_completed": ("terminate_epoch", False),
        "get_batch_started": ("terminate", True),
    }.items()
]


def property_holds() -> None:
    """The comparison of machine and generated loop, on random programs, without shrinking."""
    profile = settings(
        max_examples=400,
        phases=[HypothesisPhase.explicit, HypothesisPhase.generate],
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
    )
    test = given(scenarios(loops(), max_calls=3, depth=0))(check_agreement)
    for scenario in RARE:
        test = example(scenario)(test)
    profile(test)()


def test_the_unmutated_loop_is_not_caught() -> None:
    property_holds()


@pytest.mark.parametrize("name", MUTANTS)
def test_the_comparison_with_the_machine_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camshaft.engine, "generate", mutate(MUTANTS[name]))
    with pytest.raises(AssertionError):
        property_holds()


def trace_of(step: Any, strict: bool = False) -> Trace:
    with record() as trace, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Engine(step, strict=strict).run([1, 2, 3], max_epochs=2)
    return trace


def phases() -> list[Phase]:
    return [
        Phase("FORWARD", lambda engine, batch: batch),
        Phase("OPTIM_STEP", lambda engine, batch: None, when=every(2)),
    ]


@pytest.mark.parametrize("name", sorted(set(MUTANTS) - ONLY_WHAT_RUNS_SEES))
def test_assert_legal_and_a_strict_engine_catch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace_of(phases(), strict=True).assert_legal()
    monkeypatch.setattr(camshaft.engine, "generate", mutate(MUTANTS[name]))
    trace = trace_of(phases())
    with pytest.raises(EventOrderError):
        trace.assert_legal()
    if name != "count an epoch twice":  # a miscounted attribute of the state is in the trace, not in the order
        with pytest.raises(EventOrderError):
            trace_of(phases(), strict=True)


# -- traces -----------------------------------------------------------------------------------------------------------


def edited(trace: Trace, order: list[int]) -> Trace:
    """The trace of one run with its events in another order, some left out, some twice."""
    made = Trace()
    made.runs = trace.runs
    made.segments = [[0, 0, len(order)]]
    for index in order:
        event = trace[index]
        made.append(0, event.event, event.count, event.time)
    return made


def indices(trace: Trace) -> list[int]:
    return [index for index in range(len(trace)) if trace[index].event != "dataloader_stop_iteration"]


def test_a_trace_that_lost_any_one_event_is_illegal() -> None:
    trace = trace_of(phases())
    trace.assert_legal()
    for lost in indices(trace):  # whether data ran out is not for a trace to know, so that event may be missing
        with pytest.raises(EventOrderError):
            edited(trace, [index for index in range(len(trace)) if index != lost]).assert_legal()


def test_a_trace_with_any_one_event_twice_is_illegal() -> None:
    trace = trace_of(phases())
    for doubled in range(len(trace)):
        order = sorted([*range(len(trace)), doubled])
        with pytest.raises(EventOrderError):
            edited(trace, order).assert_legal()


def test_a_trace_with_any_two_neighbours_swapped_is_illegal() -> None:
    trace = trace_of(phases())
    for first in range(len(trace) - 1):
        order = [*range(first), first + 1, first, *range(first + 2, len(trace))]
        with pytest.raises(EventOrderError):
            edited(trace, order).assert_legal()


def test_a_truncated_trace_is_illegal_wherever_it_ends() -> None:
    trace = trace_of(phases())
    for length in range(len(trace)):
        with pytest.raises(EventOrderError):
            edited(trace, list(range(length))).assert_legal()


def test_a_trace_that_lost_a_whole_iteration_or_epoch_is_illegal() -> None:
    trace = trace_of(phases())
    starts = [index for index in range(len(trace)) if trace[index].event == "get_batch_started"]
    for start, end in itertools.pairwise(starts):
        with pytest.raises(EventOrderError):
            edited(trace, [*range(start), *range(end, len(trace))]).assert_legal()
    epochs = [index for index in range(len(trace)) if trace[index].event == "epoch_started"]
    with pytest.raises(EventOrderError):
        edited(trace, [*range(epochs[0]), *range(epochs[1], len(trace))]).assert_legal()
