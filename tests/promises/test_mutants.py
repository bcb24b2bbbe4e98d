"""The tools catch mutants of the generated loop, of the code that drives it, and of traces.

A check that never fails proves nothing. ``make mutants`` judges all mutants of :mod:`mutants`. The tests here judge a
share of them, and all in ``make test-long``.
"""

from __future__ import annotations

import importlib
import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase as HypothesisPhase
from hypothesis import example, given, settings

import camshaft.engine.engine
from camshaft import Engine, EventOrderError, Phase, Trace, every, record
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, OpaqueStep
from camshaft.testing import Call, Data, Scenario, loops, return_batch, scenarios
from mutants.cases import families, traced
from mutants.driving import mutants_of_driving
from mutants.measure import Verdict, all_mutants, control_run, faults, judge, stale_reasons
from mutants.possible import is_possible
from mutants.source import ALONE, mutants_of
from mutants.tools import original
from mutants.traces import mutants_of_traces
from support.agreement import check_agreement
from support.edits import Edit, drop, mutate, replace, swap, twice
from support.thoroughness import repeats

# -- a share of the mutants that are made systematically --------------------------------------------------------------


def share(mutants: Iterator[Any], step: int) -> list[Verdict]:
    """Return the verdicts on some of each kind and on all known gaps of assert_legal; in a long run, on all mutants."""
    step = repeats(step, 1)
    kinds: dict[str, list[Any]] = {}
    for mutant in mutants:
        kinds.setdefault(mutant.kind, []).append(mutant)
    picked = [mutant for some in kinds.values() for mutant in some[step // 2 :: step] or some[:1]]
    picked += [mutant for some in kinds.values() for mutant in some if mutant.gap and mutant not in picked]
    return [judge(mutant) for mutant in picked]


def check(verdicts: list[Verdict]) -> None:
    assert [*faults(verdicts)] == []
    judged = [one for one in verdicts if one.compiles and one.harmless != ALONE]
    caught = [one for one in judged if one.caught]
    assert len(caught) > 0.8 * len(judged) > 0
    assert all(one.caught or one.harmless for one in judged)


def test_no_tool_rejects_the_unchanged_loop() -> None:
    assert [*control_run()] == []


@pytest.mark.parametrize("family", ["opaque", "declared", "folds", "episodes", "parts", "deep"])
def test_mutants_of_generated_source_are_caught(family: str) -> None:
    check(share(mutants_of(family, families()[family][0]), step=20))


def test_mutants_of_what_drives_the_loop_are_caught() -> None:
    check(share(mutants_of_driving(), step=5))


def test_mutants_of_traces_are_caught() -> None:
    check(share(mutants_of_traces(), step=20))


def test_there_are_many_mutants_and_no_stale_reasons() -> None:
    kinds = [mutant.kind.partition(":")[0] for mutant in all_mutants()]
    assert kinds.count("source") > 200
    assert kinds.count("trace") > 200
    assert len(kinds) - kinds.count("source") - kinds.count("trace") > 100
    assert len({mutant.name for mutant in all_mutants()}) == len(kinds)
    assert [*stale_reasons()] == []


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "no tool catches it, and no reason is given"),
        ({"harmless": "so", "caught": {"golden": "x"}}, "a reason says that it has no effect, but golden caught it"),
        (
            {"changes": {"x": "y"}, "caught": {"golden": "x"}},
            "neither assert_legal nor an equivalence check catches its change of order or counts",
        ),
        ({"holes": ["x"], "caught": {"two plays": "x"}}, "assert_legal accepts what the loop cannot do, in 'x'"),
        ({"gap": "so", "caught": {"two plays": "x"}}, "assert_legal no longer has this gap"),
        ({"alarms": ["x"], "caught": {"assert_legal": "x"}}, "assert_legal refuses what the loop can do, in 'x'"),
        ({"stale": "Run.request has no 'x'"}, "it can no longer be made, because Run.request has no 'x'"),
    ],
)
def test_a_broken_rule_is_named_and_fails_the_command(
    fields: dict[str, Any], fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = importlib.import_module("mutants.__main__")
    good = [
        Verdict("run: control", "fine", caught={"assert_legal": "x"}),
        Verdict("run: control", "equal", "it does the same"),
        Verdict("run: control", "unlike", gap="it passes", caught={"two plays": "x"}, holes=["x"]),
        Verdict("run: control", "unwritten", compiles=False),
    ]
    for name in ("all_mutants", "stale_reasons", "control_run"):
        monkeypatch.setattr(program, name, list)
    monkeypatch.setattr(program, "measured", lambda numbers: good)
    assert program.main() == 0
    assert "0 things are wrong" in capsys.readouterr().out
    monkeypatch.setattr(program, "measured", lambda numbers: [*good, Verdict("nesting", "bad", **fields)])
    assert program.main() == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 1
    assert fault in wrong[0]
    assert wrong[0].endswith(": bad")


@pytest.mark.parametrize("case", traced(), ids=str)
def test_a_trace_is_possible_if_a_loop_can_do_it(case: Any) -> None:
    trace = original(case).trace
    assert is_possible(trace)
    every = [*range(len(trace))]
    assert not is_possible(trace.rearranged(every[1:]))
    assert not is_possible(trace.rearranged([*every, every[-1]]))
    assert not is_possible(trace.rearranged([1, 0, *every[2:]]))


# -- mutants of any generated loop, on random programs -----------------------------------------------------------------

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
    "skip the guard of the last batch": replace("if state.iteration < fetcher.end_count: yield", "yield"),
    "skip the guard of every": lambda source: re.sub(r"if state\.iteration % \d+ == 0:", "if True:", source),
    "count an epoch twice": replace("state.epoch += 1", "state.epoch += 2"),
    "forget to count an iteration": replace(LOST, "state.iteration += state.iteration != 1 or state.epoch > 3\n"),
    "lose an iteration": replace(
        "            try:\n                            if GET_BATCH_COMPLETED",
        "            if state.iteration == 1: state.iteration += 1; continue\n                        try:\n"
        "                            if GET_BATCH_COMPLETED",
    ),
    "fetch from the old data": replace("if fetcher.must_refetch: break", "pass"),
    "keep the data of an epoch that was terminated": replace("fetcher.restart()", "pass"),
    "run on after terminate": replace("if ended.skip_completed: return", "pass"),
}
ONLY_WHAT_RUNS_SEES = {  # the order stays legal: the machine leaves data and skipped completions open
    "drop TERMINATE",
    "drop TERMINATE_SINGLE_EPOCH",
    "drop ITERATION_SKIPPED",
    "fetch from the old data",
    "keep the data of an epoch that was terminated",
    "run on after terminate",
}


STANDARD = Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA))
RARE = [  # one effective call of each kind that random programs seldom make
    Scenario(STANDARD, Data(3), {"max_epochs": 2}, (Call(event, 2, *call),))
    for event, call in {
        "iteration_started": ("skip_iteration",),
        "get_batch_completed": ("set_data", Data(2)),
        "iteration_completed": ("terminate_epoch", False),
        "get_batch_started": ("terminate", True),
    }.items()
]


def property_holds(examples: int = 400) -> None:
    """Compare machine and generated loop on random programs, without shrinking."""
    profile = settings(
        max_examples=examples,
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
    property_holds(100)  # test_machine_and_generated_loop.py takes more examples


@pytest.mark.parametrize("name", MUTANTS)
def test_the_comparison_with_the_machine_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camshaft.engine.engine, "generate", mutate(MUTANTS[name]))
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
    monkeypatch.setattr(camshaft.engine.engine, "generate", mutate(MUTANTS[name]))
    trace = trace_of(phases())
    with pytest.raises(EventOrderError):
        trace.assert_legal()
    if name != "count an epoch twice":  # a wrong count of the state is in the trace, not in the order
        with pytest.raises(EventOrderError):
            trace_of(phases(), strict=True)


# -- traces -----------------------------------------------------------------------------------------------------------


def indices(trace: Trace) -> list[int]:
    return [index for index in range(len(trace)) if trace[index].event != "dataloader_stop_iteration"]


def test_a_trace_that_lost_any_one_event_is_illegal() -> None:
    trace = trace_of(phases())
    trace.assert_legal()
    for lost in indices(trace):  # a trace does not know whether data ran out, so this event may be missing
        with pytest.raises(EventOrderError):
            trace.rearranged([index for index in range(len(trace)) if index != lost]).assert_legal()


def test_a_trace_with_any_one_event_twice_is_illegal() -> None:
    trace = trace_of(phases())
    for doubled in range(len(trace)):
        order = sorted([*range(len(trace)), doubled])
        with pytest.raises(EventOrderError):
            trace.rearranged(order).assert_legal()


def test_a_trace_with_any_two_neighbours_swapped_is_illegal() -> None:
    trace = trace_of(phases())
    for first in range(len(trace) - 1):
        order = [*range(first), first + 1, first, *range(first + 2, len(trace))]
        with pytest.raises(EventOrderError):
            trace.rearranged(order).assert_legal()


def test_a_truncated_trace_is_illegal_wherever_it_ends() -> None:
    trace = trace_of(phases())
    for length in range(len(trace)):
        with pytest.raises(EventOrderError):
            trace.rearranged(range(length)).assert_legal()


def test_a_trace_that_lost_a_whole_iteration_or_epoch_is_illegal() -> None:
    trace = trace_of(phases())
    starts = [index for index in range(len(trace)) if trace[index].event == "get_batch_started"]
    for start, end in itertools.pairwise(starts):
        with pytest.raises(EventOrderError):
            trace.rearranged([*range(start), *range(end, len(trace))]).assert_legal()
    epochs = [index for index in range(len(trace)) if trace[index].event == "epoch_started"]
    with pytest.raises(EventOrderError):
        trace.rearranged([*range(epochs[0]), *range(epochs[1], len(trace))]).assert_legal()
