"""Measure: the verdicts of each tool on each mutant, and the conditions that they must meet.

- No tool catches the unchanged loop.
- ``assert_legal`` or the equivalence check catches every mutant that changes order or counts.
- ``assert_legal`` accepts exactly the traces that the loop can produce (:mod:`mutants.possible` runs it to find out).
- A mutant that no tool catches has a reason in ``HARMLESS``.

A known gap of ``assert_legal`` is listed in ``GAPS``, and printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import zip_longest

import attrs

from camshaft import Trace
from camshaft.compiler.writer import generate
from mutants import driving, source, traces
from mutants.cases import Case, families
from mutants.mutant import Mutant, StaleError, TraceMutant
from mutants.possible import is_possible
from mutants.tools import TOOLS, TRACE_TOOLS, catch, catch_in_trace, original, see

__all__ = ["Verdict", "all_mutants", "control_run", "faults", "judge", "measured", "stale_reasons"]

TOGETHER = {"assert_legal", "same run", "two plays"}
"""At least one of these must catch a mutant that changes order or counts: ``assert_legal`` and equivalence checks."""

COMPARED = 5
"""After ``assert_legal`` caught a mutant, its verdict is checked in this number of cases."""


@cache
def all_mutants() -> tuple[Mutant | TraceMutant, ...]:
    """Return every mutant, in a fixed order."""
    of_source = [mutant for family, (loop, _) in families().items() for mutant in source.mutants_of(family, loop)]
    return (*of_source, *driving.mutants_of_driving(), *traces.mutants_of_traces())


@attrs.define
class Verdict:
    """The verdict on a mutant.

    Attributes:
        kind, name, harmless, gap: the attributes of the mutant.
        tools: the tools that apply to it.
        caught: by tool: the name of the case in which it caught the mutant.
        compiles: False if the mutant does not compile, so that no tool judged it.
        is_endless: True if a run of it had to be stopped.
        changes: by case: the first difference of events, engines, counts, nesting or outcomes.
        rest: the other things that changed in other cases. A dict, to keep their order.
        holes: the cases in which ``assert_legal`` accepted a trace that the loop cannot produce.
        alarms: the cases in which it refused a trace that the loop can produce.
        stale: the reason why the mutant can no longer be made; empty otherwise.
    """

    kind: str
    name: str
    harmless: str | None = None
    gap: str | None = None
    tools: Sequence[str] = TOOLS
    caught: dict[str, str] = attrs.field(factory=dict)
    compiles: bool = True
    is_endless: bool = False
    changes: dict[str, str] = attrs.field(factory=dict)
    rest: dict[str, None] = attrs.field(factory=dict)
    holes: list[str] = attrs.field(factory=list)
    alarms: list[str] = attrs.field(factory=list)
    stale: str = ""

    @property
    def why_legal(self) -> tuple[str, str]:
        """The reason why ``assert_legal`` does not catch it: a general reason, and the particular one."""
        if self.holes:
            return "a gap of assert_legal", self.gap or self.holes[0]
        if self.changes:
            case, words = next(iter(self.changes.items()))
            fails = "EXCEPTION_RAISED" in words.partition(" instead of ")[0]
            return "a fault is legal anywhere" if fails else "another legal order", f"{words}, in {case!r}"
        if self.rest:
            return "order and counts unchanged", f"others are {', '.join(self.rest)}"
        return "nothing observable changes", self.harmless or "no reason is given"


# -- judging ----------------------------------------------------------------------------------------------------------


def judge(mutant: Mutant | TraceMutant) -> Verdict:
    """Let every tool judge a mutant in its cases, until it catches it."""
    verdict = Verdict(mutant.kind, mutant.name, mutant.harmless, mutant.gap)
    try:
        (_judge_trace if isinstance(mutant, TraceMutant) else _judge_run)(mutant, verdict)
    except StaleError as error:
        verdict.stale = str(error)
    return verdict


def _judge_run(mutant: Mutant, verdict: Verdict) -> None:
    """Run a mutant in all its cases, and let the tools judge the runs."""
    verdict.compiles = mutant.applied is not None
    if mutant.applied is None:
        return
    for case in mutant.cases:
        if len(verdict.caught) == len(TOOLS):
            return
        first = original(case)
        with mutant.applied():
            seen = see(case)
        verdict.is_endless |= seen.is_endless
        if (seen.events, seen.rest) == (first.events, first.rest):
            # with handlers at every event nothing changed: see whether something changes without them
            if "two plays" not in verdict.caught and catch("two plays", case, mutant.applied, seen):
                verdict.caught["two plays"] = case.name
                verdict.rest["a run without handlers"] = None
            continue
        for tool in TOOLS:
            if tool not in verdict.caught and catch(tool, case, mutant.applied, seen):
                verdict.caught[tool] = case.name
        if seen.events != first.events:
            _compare(verdict, case, first.trace, seen.trace)
        else:
            verdict.rest |= dict.fromkeys(name for name, value in seen.rest.items() if value != first.rest[name])


def _judge_trace(mutant: TraceMutant, verdict: Verdict) -> None:
    """Let the tools judge a changed trace."""
    verdict.tools = TRACE_TOOLS
    for tool in TRACE_TOOLS:
        if catch_in_trace(tool, mutant.case, mutant.trace):
            verdict.caught[tool] = mutant.case.name
    _compare(verdict, mutant.case, original(mutant.case).trace, mutant.trace)


def _compare(verdict: Verdict, case: Case, first: Trace, other: Trace) -> None:
    """Note the difference of two traces, and check the verdict of ``assert_legal`` on the second one."""
    verdict.changes[case.name] = _difference(first, other)
    if "assert_legal" in verdict.caught and len(verdict.changes) > COMPARED:
        return
    is_legal = not catch_in_trace("assert_legal", case, other)
    if is_legal != is_possible(other):
        (verdict.holes if is_legal else verdict.alarms).append(case.name)


def _difference(first: Trace, other: Trace) -> str:
    """Return the first difference of two traces in words."""
    for number, (one, two) in enumerate(zip_longest(first, other), 1):
        if one is None or two is None or str(one) != str(two):
            old, new = ("the end" if fired is None else str(fired) for fired in (one, two))
            return f"event {number} is {new} instead of {old}"
        if one.depth != two.depth:
            return f"event {number} {two} is nested {two.depth} deep instead of {one.depth}"
    changed = [(one.outcome, two.outcome) for one, two in zip(first.runs, other.runs, strict=False)]
    old, new = next((pair for pair in changed if pair[0] != pair[1]), ("what they were", "otherwise in each other"))
    return f"a run is {new} instead of {old}"


def _judge_number(number: int) -> Verdict:
    return judge(all_mutants()[number])


def measured(numbers: Sequence[int], workers: int | None = None) -> Iterator[Verdict]:
    """Yield the verdicts on the mutants with these numbers, in this order, judged by several processes."""
    workers = workers or min(os.cpu_count() or 1, 8)
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_judge_number, numbers, chunksize=8)


# -- conditions -------------------------------------------------------------------------------------------------------


def control_run() -> Iterator[str]:
    """Yield the faults that tools find in the unchanged loop. There must be none."""
    for family, (loop, cases) in families().items():
        for case in cases:
            if generate(case.scenario.loop).source != generate(loop).source:
                yield f"the source of the case is not the source that is mutated: {family}, {case.name}"
            with source.unmutated():
                seen = see(case)
            for tool in TOOLS:
                if catch(tool, case, source.unmutated, seen):
                    yield f"{tool} finds a fault in the unchanged loop: {family}, {case.name}"
            if not is_possible(seen.trace):
                yield f"is_possible() is False for a trace of the unchanged loop: {family}, {case.name}"


def faults(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Yield the conditions that verdicts do not meet. There must be none."""
    for one in verdicts:
        if one.stale:
            yield f"it can no longer be made, because {one.stale}: {one.name}"
        if one.stale or not one.compiles:
            continue
        if not one.caught and not one.harmless:
            yield f"no tool catches it, and no reason is given: {one.name}"
        if one.caught and one.harmless:
            yield f"a reason says that it has no effect, but {', '.join(one.caught)} caught it: {one.name}"
        if one.changes and not TOGETHER & one.caught.keys():
            yield f"neither assert_legal nor an equivalence check catches its change of order or counts: {one.name}"
        if one.holes and not one.gap:
            yield f"assert_legal accepts what the loop cannot do, in {one.holes[0]!r}: {one.name}"
        if one.gap and not one.holes:
            yield f"assert_legal no longer has this gap: remove it from GAPS: {one.name}"
        if one.alarms:
            yield f"assert_legal refuses what the loop can do, in {one.alarms[0]!r}: {one.name}"


def stale_reasons() -> Iterator[str]:
    """Yield the entries of HARMLESS and GAPS whose mutants do not exist."""
    names = {mutant.name for mutant in all_mutants()}
    for module in (source, driving, traces):
        for reasons in (module.HARMLESS, module.GAPS):
            yield from (
                f"a reason is given for a mutant that does not exist: {name}" for name in reasons.keys() - names
            )
