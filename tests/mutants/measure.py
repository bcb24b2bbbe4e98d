"""Measuring: what each tool makes of each mutant, and what must hold of all of them.

What must hold: the loop as it is is caught by no tool; ``assert_legal`` or the equivalence check catches whatever
changes order or counts; ``assert_legal`` passes exactly what the loop can do, as letting it do so shows; and a mutant
that nobody catches has the reason written beside it. Where ``assert_legal`` is known to pass more than it should, that
is written down too, and printed.
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
"""What must catch every mutant that changes order or counts: ``assert_legal`` and the equivalence check."""

COMPARED = 5
"""In how many cases more it is looked at what ``assert_legal`` says of a mutant that it has caught."""


@cache
def all_mutants() -> tuple[Mutant | TraceMutant, ...]:
    """Every mutant."""
    of_source = [mutant for family, (loop, _) in families().items() for mutant in source.mutants_of(family, loop)]
    return (*of_source, *driving.mutants_of_driving(), *traces.mutants_of_traces())


@attrs.define
class Verdict:
    """What was found out about a mutant.

    Attributes:
        kind, name, harmless, gap: of the mutant.
        tools: those that apply to it.
        caught: by each tool that caught it, the case in which it did.
        compiles: whether there was anything to judge.
        is_endless: whether a run of it had to be stopped.
        changes: the cases in which events, engines, counts, nesting or outcomes changed, with the first difference.
        rest: what else changed in other cases.
        holes: cases in which ``assert_legal`` passed what the loop cannot do.
        alarms: cases in which it refused what the loop can do.
        stale: why it cannot be made any more.
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
        """Why ``assert_legal`` does not catch it, as far as that can be computed: in general, and here."""
        if self.holes:
            return "a gap of assert_legal", self.gap or self.holes[0]
        if self.changes:
            case, words = next(iter(self.changes.items()))
            fails = "EXCEPTION_RAISED" in words.partition(" instead of ")[0]
            return "a fault is legal anywhere" if fails else "another legal order", f"{words}, in {case!r}"
        if self.rest:
            return "order and counts unchanged", f"others are {', '.join(self.rest)}"
        return "nothing observable changes", self.harmless or "no reason is written beside it"


# -- judging ----------------------------------------------------------------------------------------------------------


def judge(mutant: Mutant | TraceMutant) -> Verdict:
    """Let every tool judge a mutant, each until it catches it."""
    verdict = Verdict(mutant.kind, mutant.name, mutant.harmless, mutant.gap)
    try:
        (_judge_trace if isinstance(mutant, TraceMutant) else _judge_run)(mutant, verdict)
    except StaleError as error:
        verdict.stale = str(error)
    return verdict


def _judge_run(mutant: Mutant, verdict: Verdict) -> None:
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
            # it does what the loop does, so that nothing is there to be caught; unless it takes somebody to hear it
            if "two plays" not in verdict.caught and catch("two plays", case, mutant.applied, seen):
                verdict.caught["two plays"] = case.name
                verdict.rest["what happens when nobody listens"] = None
            continue
        for tool in TOOLS:
            if tool not in verdict.caught and catch(tool, case, mutant.applied, seen):
                verdict.caught[tool] = case.name
        if seen.events != first.events:
            _compare(verdict, case, first.trace, seen.trace)
        else:
            verdict.rest |= dict.fromkeys(name for name, value in seen.rest.items() if value != first.rest[name])


def _judge_trace(mutant: TraceMutant, verdict: Verdict) -> None:
    verdict.tools = TRACE_TOOLS
    for tool in TRACE_TOOLS:
        if catch_in_trace(tool, mutant.case, mutant.trace):
            verdict.caught[tool] = mutant.case.name
    _compare(verdict, mutant.case, original(mutant.case).trace, mutant.trace)


def _compare(verdict: Verdict, case: Case, first: Trace, other: Trace) -> None:
    """See what ``assert_legal`` has to say of a trace that is another one, and whether that is so."""
    verdict.changes[case.name] = _difference(first, other)
    if "assert_legal" in verdict.caught and len(verdict.changes) > COMPARED:
        return
    is_legal = not catch_in_trace("assert_legal", case, other)
    if is_legal != is_possible(other):
        (verdict.holes if is_legal else verdict.alarms).append(case.name)


def _difference(first: Trace, other: Trace) -> str:
    """Where two traces part."""
    for number, (one, two) in enumerate(zip_longest(first, other), 1):
        if one is None or two is None or str(one) != str(two):
            old, new = ("the end" if event is None else str(event) for event in (one, two))
            return f"event {number} is {new} instead of {old}"
        if one.depth != two.depth:
            return f"event {number} {two} is nested {two.depth} deep instead of {one.depth}"
    changed = [(one.outcome, two.outcome) for one, two in zip(first.runs, other.runs, strict=False)]
    old, new = next((pair for pair in changed if pair[0] != pair[1]), ("what they were", "otherwise in each other"))
    return f"a run is {new} instead of {old}"


def _judge_number(number: int) -> Verdict:
    return judge(all_mutants()[number])


def measured(numbers: Sequence[int], workers: int | None = None) -> Iterator[Verdict]:
    """The verdicts on some mutants, by their numbers and in this order, worked out by several processes."""
    workers = workers or min(os.cpu_count() or 1, 8)
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_judge_number, numbers, chunksize=8)


# -- what must hold ---------------------------------------------------------------------------------------------------


def control_run() -> Iterator[str]:
    """What the tools find fault with in the loop as it is: nothing must be."""
    for family, (loop, cases) in families().items():
        for case in cases:
            if generate(case.scenario.loop).source != generate(loop).source:
                yield f"its source is not the one that is mutated: {family}, {case.name}"
            with source.unmutated():
                seen = see(case)
            for tool in TOOLS:
                if catch(tool, case, source.unmutated, seen):
                    yield f"{tool} finds fault with the loop as it is: {family}, {case.name}"
            if not is_possible(seen.trace):
                yield f"the loop is said not to be able to do what it did: {family}, {case.name}"


def faults(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Whatever must not be."""
    for one in verdicts:
        if one.stale:
            yield f"it cannot be made any more, as {one.stale}: {one.name}"
        if one.stale or not one.compiles:
            continue
        if not one.caught and not one.harmless:
            yield f"nobody catches it, and no reason is written beside it: {one.name}"
        if one.caught and one.harmless:
            yield f"a reason is written beside it, but it is caught by {', '.join(one.caught)}: {one.name}"
        if one.changes and not TOGETHER & one.caught.keys():
            yield f"it changes order or counts, and neither assert_legal nor the equivalence check sees it: {one.name}"
        if one.holes and not one.gap:
            yield f"assert_legal passes what the loop cannot do, in {one.holes[0]!r}: {one.name}"
        if one.gap and not one.holes:
            yield f"assert_legal has no gap there any more, so take it off the list: {one.name}"
        if one.alarms:
            yield f"assert_legal refuses what the loop can do, in {one.alarms[0]!r}: {one.name}"


def stale_reasons() -> Iterator[str]:
    """Reasons that are written for mutants that there are not."""
    names = {mutant.name for mutant in all_mutants()}
    for module in (source, driving, traces):
        for reasons in (module.HARMLESS, module.GAPS):
            yield from (
                f"a reason is written for a mutant that there is not: {name}" for name in reasons.keys() - names
            )
