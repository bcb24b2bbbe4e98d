"""Mutants of recorded traces: an event, a pass, a run, a count or an outcome is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from camshaft import Trace
from camshaft.events import event_name
from camshaft.machine.transition import READY
from camshaft.trace.spans import spans
from mutants.cases import Case, traced
from mutants.mutant import TraceMutant
from mutants.tools import original

__all__ = ["mutants_of_traces"]

OUTCOMES = ("completed", "terminated", "interrupted", "failed", "paused")

HARMLESS: dict[str, str] = {}
"""By mutant: the reason why it has no observable effect."""

GAPS: dict[str, str] = {}
"""By mutant: an order that ``assert_legal`` accepts although the loop cannot fire it."""

RawEvent = tuple[int, str, int]
"""The number of the run, the key of the event, and the count."""


def mutants_of_traces() -> Iterator[TraceMutant]:
    """Yield all mutants of the traces of :func:`mutants.cases.traced`."""
    for case in traced():
        yield from _mutants_of(case)


def _mutants_of(case: Case) -> Iterator[TraceMutant]:
    trace = original(case).trace
    before = _identity(trace)
    for make in (single_events, whole_passes, ends, runs, counts, outcomes):
        for kind, what, edited in make(trace):
            if _identity(edited) != before:
                name = f"{case.name}: {what}"
                yield TraceMutant(f"trace: {kind}", name, case, edited, HARMLESS.get(name), GAPS.get(name))


def _identity(trace: Trace) -> Any:
    return [raw[:3] for raw in trace.raw_events()], trace.runs, trace.segments


Edited = tuple[str, str, Trace]
"""The kind of the edit, the edit in words, and the edited trace."""


def single_events(trace: Trace) -> Iterator[Edited]:
    """Yield traces in which one event is lost, doubled, swapped with the next one, or moved."""
    every = [*range(len(trace))]
    for index in every:
        others = every[:index] + every[index + 1 :]
        yield "event lost", f"{_shown(trace, index)} lost", trace.rearranged(others)
        yield "event doubled", f"{_shown(trace, index)} twice", trace.rearranged(sorted([*every, index]))
        if index + 1 < len(trace):
            order = [*every[:index], index + 1, index, *every[index + 2 :]]
            yield "neighbours swapped", f"{_shown(trace, index)} after the next one", trace.rearranged(order)
        place = (index * 7 + 3) % len(trace)
        if abs(place - index) > 1:
            order = [*others[:place], index, *others[place:]]
            yield "event moved", f"{_shown(trace, index)} moved to {place + 1}", trace.rearranged(order)


def whole_passes(trace: Trace) -> Iterator[Edited]:
    """Yield traces in which a whole pass of a loop, with its fetch, is lost or doubled."""
    every = [*range(len(trace))]
    for span in spans(trace):
        if span.last is None or span.last == span.first:
            continue
        first, past = span.first, span.last + 1
        fetches = ("get_batch_started", "get_batch_completed")
        while first > 0 and trace.run_of(first - 1) == span.run and trace.key_of(first - 1) in fetches:
            first -= 1
        name = f"{span.state} from {_shown(trace, span.first)}"
        yield "state lost", f"{name} lost", trace.rearranged(every[:first] + every[past:])
        yield "state doubled", f"{name} twice", trace.rearranged(every[:past] + every[first:])


def ends(trace: Trace) -> Iterator[Edited]:
    """Yield traces that end early, or begin late."""
    every = [*range(len(trace))]
    for length in range(1, len(trace)):
        yield "cut short", f"the first {length} events", trace.rearranged(every[:length])
    for first in range(1, len(trace), 3):
        yield "cut short", f"from {_shown(trace, first)} on", trace.rearranged(every[first:])


def runs(trace: Trace) -> Iterator[Edited]:
    """Yield traces in which an event belongs to another run, or a nested run is moved or lost."""
    raw = _raw_events(trace)
    every = [*range(len(trace))]
    numbers = range(len(trace.runs))
    for index, (run, key, count) in enumerate(raw):
        for other in numbers:
            if other != run and key in trace.runs[other].loop.event_keys:
                given = [*raw[:index], (other, key, count), *raw[index + 1 :]]
                what = f"{_shown(trace, index)} given to run {other + 1}"
                yield "in another run", what, _made(trace, given)
    for run in numbers:
        parent = trace.runs[run].parent
        if parent is None:
            continue
        own = [index for index in every if trace.run_of(index) == run]
        rest = [index for index in every if trace.run_of(index) != run]
        for place in range(len(rest)):
            order = [*rest[:place], *own, *rest[place:]]
            yield "nested run moved", f"run {run + 1} before {_shown(trace, rest[place])}", trace.rearranged(order)
        if trace.runs[run].place == READY:
            early = trace.rearranged([*own, *rest])
            early.segments = [[parent, 0, len(trace)], *(one for one in early.segments if one[0] != parent)]
            yield "nested run moved", f"run {run + 1} before STARTED of run {parent + 1}", early
        yield "nested run lost", f"run {run + 1} lost", trace.rearranged(rest)
        past = own[-1] + 1
        for split in range(own[0] + 1, past, 2) if past < len(trace) else ():
            order = [*every[:split], past, *every[split:past], *every[past + 1 :]]
            what = f"run {run + 1} from event {split + 1} on after the next event"
            yield "nested run moved", what, trace.rearranged(order)
    for run, record in enumerate(trace.runs):
        for parent in (None, *numbers[:run]):
            where = "none" if parent is None else f"run {parent + 1}"
            changed = _with_record(trace, run, parent=parent)
            yield "in another run", f"run {run + 1} said to be inside {where}", changed


def counts(trace: Trace) -> Iterator[Edited]:
    """Yield traces in which one count is wrong."""
    raw = _raw_events(trace)
    for index, (run, key, count) in enumerate(raw):
        for other in (count + 1, count - 1):
            changed = [*raw[:index], (run, key, other), *raw[index + 1 :]]
            yield "count changed", f"{_shown(trace, index)} with {other}", _made(trace, changed)


def outcomes(trace: Trace) -> Iterator[Edited]:
    """Yield traces in which a run has another outcome, or an event follows a fault."""
    for run, record in enumerate(trace.runs):
        for outcome in OUTCOMES:
            what = f"run {run + 1} said to be {outcome}"
            yield "wrong outcome", what, _with_record(trace, run, outcome=outcome)
        length = record.limits["epoch_length"]
        if length is not None:
            what = f"run {run + 1} said to have {length + 1} iterations in an epoch"
            yield "wrong outcome", what, _with_record(trace, run, limits=record.limits | {"epoch_length": length + 1})
    every = [*range(len(trace))]
    raw = _raw_events(trace)
    for index in every:
        run, key, count = raw[index]
        if key == "exception_raised":
            root = trace.runs[run].loop
            for what in ("completed", root.completed, root.started, "terminate"):
                follows = [*raw[: index + 1], (run, what, count), *raw[index + 1 :]]
                yield "after a fault", f"{event_name(what)} after {_shown(trace, index)}", _made(trace, follows)
            completes = [*raw[:index], (run, "completed", count), *raw[index + 1 :]]
            yield "after a fault", f"COMPLETED instead of {_shown(trace, index)}", _made(trace, completes)


# -- making traces ----------------------------------------------------------------------------------------------------


def _raw_events(trace: Trace) -> list[RawEvent]:
    return [(run, key, count) for run, key, count, _ in trace.raw_events()]


def _made(trace: Trace, raw: Iterable[RawEvent]) -> Trace:
    """Return a trace of the same runs with other events."""
    made = Trace()
    made.runs = trace.runs
    for number, (run, key, count) in enumerate(raw):
        made.append(run, key, count, float(number))
    return made.rearranged(range(len(made)))  # this computes the segments of the runs


def _with_record(trace: Trace, run: int, **changes: Any) -> Trace:
    """Return a trace with changed fields of a run's record."""
    made = trace.rearranged(range(len(trace)))
    made.segments = trace.segments
    made.runs = [
        attrs.evolve(record, **changes) if number == run else record for number, record in enumerate(trace.runs)
    ]
    return made


def _shown(trace: Trace, index: int) -> str:
    return f"event {index + 1} {trace[index]}"
