"""Matching: a pattern as an automaton (K. Thompson, 1968, "Regular expression search algorithm"), run over a trace."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import islice

import attrs

from camshaft.events import FACTS
from camshaft.exceptions import PatternError
from camshaft.trace.log import TraceLog
from camshaft.trace.pattern.parse import Atom, Choice, Item
from camshaft.trace.spans import Span, spans

__all__ = ["Automaton", "Events", "Matcher"]

MAX_PLACES = 100_000
"""How large a pattern may become when its repetitions are written out."""

SHOWN_BEFORE = 2
"""How many events are shown before the one that does not fit."""


class Automaton:
    """A pattern as places (Thompson's construction): atoms lead from one to another, joins lead on without events."""

    def __init__(self, pattern: Choice) -> None:
        self.steps: list[tuple[Atom, int] | None] = []
        self.delegates: list[list[int]] = []
        self.end = self._once(pattern, self._place())
        self.atoms = {atom: None for step in self.steps if step for atom in (step[0], *step[0].others)}
        self.inner = {atom: Automaton(atom.inner) for atom in self.atoms if atom.inner is not None}
        self.takes_any = any(atom.kind in ("any", "not") for atom in self.atoms)

    def _place(self) -> int:
        if len(self.steps) == MAX_PLACES:
            raise PatternError(f"pattern: with its repetitions written out it has over {MAX_PLACES:,} parts; use '*'")
        self.steps.append(None)
        self.delegates.append([])
        return len(self.steps) - 1

    def _repeat(self, item: Item, at: int) -> int:
        """Add an item behind a place; returns the place behind that."""
        for _ in range(item.least):
            at = self._once(item.unit, at)
        if item.most == 0:
            self._once(item.unit, self._place())  # nothing leads there, but what is named may not come
        if item.least == item.most:
            return at
        end = self._place()
        if item.most is None:
            first = self._place()
            self.delegates[at].append(first)
            self.delegates[self._once(item.unit, first)].append(first)
            at = first
        for _ in range((item.most or item.least) - item.least):
            self.delegates[at].append(end)
            at = self._once(item.unit, at)
        self.delegates[at].append(end)
        return end

    def _once(self, unit: Atom | Choice, at: int) -> int:
        end = self._place()
        if isinstance(unit, Atom):
            self.steps[at] = (unit, end)
            return end
        for sequence in unit:
            here = self._place()
            self.delegates[at].append(here)
            for item in sequence:
                here = self._repeat(item, here)
            self.delegates[here].append(end)
        return end

    def reach(self, places: Iterable[int]) -> set[int]:
        """These places, and all that joins lead to from there."""
        found = set(places)
        todo = list(found)
        while todo:
            for place in self.delegates[todo.pop()]:
                if place not in found:
                    found.add(place)
                    todo.append(place)
        return found


@attrs.frozen(eq=False)
class _Whole:
    """A stay in a state; or a run, where ``state`` is None. By positions in the excerpt.

    Attributes:
        past: just past its last event; None for a stay without its leaving event.
        inside: the first position inside, and the one past the last.
    """

    state: str | None
    run: int
    past: int | None
    inside: tuple[int, int]
    span: Span | None = None


class Events:
    """The events of a trace at some indices."""

    def __init__(self, trace: TraceLog, indices: Sequence[int], strict: bool) -> None:
        self.trace = trace
        self.indices = indices
        self.strict = strict
        self.all_rows = [(run, key) for run, key, _, _ in trace.raw_events()]
        self.raw_events = [self.all_rows[index] for index in indices]
        self.runs_of: dict[str, set[int]] = {}
        for run, record in enumerate(trace.runs):
            self.runs_of.setdefault(record.engine, set()).add(run)
        self.outermost = self._outermost()
        self.wholes: dict[int, list[_Whole]] = {}
        for span in spans(trace):
            first, last = self._position(span.first), self._position(span.last)
            past, inside = (None, (0, 0)) if first is None or last is None else (last + 1, (first + 1, last))
            if first is not None:
                self.wholes.setdefault(first, []).append(_Whole(span.state, span.run, past, inside, span))
        for run, *segment in trace.segments:
            if segment[1] > len(trace):
                continue  # a run that goes on is no whole run
            first, past = (bisect_left(indices, index) for index in segment)
            if first < past:
                self.wholes.setdefault(first, []).append(_Whole(None, run, past, (first, past)))

    def _outermost(self) -> frozenset[int]:
        """The runs that no other run of the excerpt is around; all runs where it has no events."""
        seen = {run for run, _ in self.raw_events}
        within: set[int] = set()
        for run, record in enumerate(self.trace.runs):  # a run comes after the one around it
            if record.parent is not None and (record.parent in seen or record.parent in within):
                within.add(run)
        return frozenset(seen - within if seen else range(len(self.trace.runs)))

    def _position(self, index: int | None) -> int | None:
        at = bisect_left(self.indices, index) if index is not None else len(self.indices)
        return at if at < len(self.indices) and self.indices[at] == index else None

    def describe(self, at: int, width: int = 0, gap: str = " ") -> str:
        """An event with its number in the trace, from 1."""
        return f"{self.indices[at] + 1:>{width}}{gap}{self.trace.event(self.indices[at])}"

    def cut(self, whole: _Whole) -> str:
        """Why a stay has no end, in words."""
        span = whole.span
        if span is not None and span.last is None:
            for key, facts in FACTS.items():
                index = span.past - facts.is_inside
                if facts.ends and index < len(self.all_rows) and self.all_rows[index] == (span.run, key):
                    return f"cut short by event {index + 1} {self.trace.event(index)}"
        return "not left"


_Stop = tuple[int, set[int]]
"""How far a pattern matched: up to which event, and the places of the automaton there."""


class Matcher:
    """A pattern, whole or in brackets, at work on the events of some runs."""

    def __init__(self, events: Events, automaton: Automaton, runs: frozenset[int]) -> None:
        self.events = events
        self.automaton = automaton
        self.runs = runs
        self._named: dict[tuple[int, str], bool] = {}
        self._inner: dict[tuple[Atom, int], Matcher] = {}
        self._stops: dict[tuple[int, int], _Stop | None] = {}

    def judge(self) -> list[str]:
        """What is wrong with all of the events, in lines; none where they match."""
        stop = self._match(0, len(self.events.raw_events))
        return self._explain(stop) if stop is not None else []

    def _match(self, first: int, past: int) -> _Stop | None:
        """Match the events from one position up to another; None where they do, else how far."""
        if (first, past) not in self._stops:
            self._stops[first, past] = self._run(first, past)
        return self._stops[first, past]

    def _run(self, first: int, past: int) -> _Stop | None:
        automaton, rows, at = self.automaton, self.events.raw_events, first
        places = automaton.reach([0])
        stop = (at, places)
        coming: dict[int, set[int]] = {}  # the places reached further on, behind what begins before
        while places or coming:
            at = at if places else min(coming)
            if at in coming:
                places = places | automaton.reach(coming.pop(at))
            stop = (at, places)
            if at == past:
                return None if automaton.end in places else stop
            named = self.events.strict or self._is_named(rows[at])
            if named or automaton.takes_any:
                for atom, behind in filter(None, map(automaton.steps.__getitem__, places)):
                    for end in self._ends(atom, at, past):
                        coming.setdefault(end, set()).add(behind)
            places = set() if named else places  # what is not named may be passed over
            at += 1
        return stop

    def _ends(self, atom: Atom, at: int, past: int) -> list[int]:
        """Where the matches of an atom end that begin with an event."""
        row = self.events.raw_events[at]
        if atom.kind in ("state", "run"):
            return [whole.past or 0 for whole in self._wholes(atom, at) if self._fits(atom, whole, past)]
        if atom.kind == "event":
            matches = self._names(atom, row)
        else:
            matches = self.events.strict or row[0] in self.runs or self._is_named(row)
            matches = matches and not any(self._ends(other, at, past) for other in atom.others)
        return [at + 1] if matches else []

    def _wholes(self, atom: Atom, at: int) -> list[_Whole]:
        """The stays or runs that begin with an event and have the name of an atom."""
        runs = self._runs(atom) if atom.kind in ("state", "run") else ()
        return [whole for whole in self.events.wholes.get(at, ()) if whole.run in runs and whole.state == atom.state]

    def _fits(self, atom: Atom, whole: _Whole, past: int) -> bool:
        if whole.past is None or whole.past > past:
            return False
        return atom.inner is None or self._inside(atom, whole)._match(*whole.inside) is None

    def _inside(self, atom: Atom, whole: _Whole) -> Matcher:
        """What matches the pattern in the brackets of an atom with the inside of a stay or a run."""
        key = atom, whole.run
        if key not in self._inner:
            self._inner[key] = Matcher(self.events, self.automaton.inner[atom], frozenset((whole.run,)))
        return self._inner[key]

    def _runs(self, atom: Atom) -> frozenset[int] | set[int]:
        return self.runs if atom.engine is None else self.events.runs_of.get(atom.engine, set())

    def _names(self, atom: Atom, row: tuple[int, str]) -> bool:
        return row[0] in self._runs(atom) and (atom.kind == "run" or row[1] in atom.keys)

    def _is_named(self, row: tuple[int, str]) -> bool:
        if row not in self._named:
            self._named[row] = any(self._names(atom, row) for atom in self.automaton.atoms)
        return self._named[row]

    # -- failures in words -------------------------------------------------------------------------------------------

    def _explain(self, stop: _Stop) -> list[str]:
        events, at = self.events, stop[0]
        named = (back for back in range(at - 1, -1, -1) if events.strict or self._is_named(events.raw_events[back]))
        shown = [*islice(named, SHOWN_BEFORE)][::-1] + [at] * (at < len(events.raw_events))
        width = len(str(events.indices[shown[-1]] + 1)) if shown else 0
        lines = [f"  {'>' if one == at else ' '} {events.describe(one, width, '  ')}" for one in shown]
        if at == len(events.raw_events):
            what = "trace" if len(events.raw_events) == len(events.trace) else "excerpt"
            lines.append(f"  the {what} ends after {at:,} event{'s' * (at != 1)}")
        lines.append(f"  expected: {self._expected(stop)}")
        reason = self._reason(stop, len(events.raw_events))
        return [*lines, f"  {reason}"] if reason else lines

    def _atoms(self, stop: _Stop) -> list[Atom]:
        steps = filter(None, map(self.automaton.steps.__getitem__, stop[1]))
        return sorted({atom for atom, _ in steps}, key=lambda atom: atom.column)

    def _expected(self, stop: _Stop) -> str:
        texts = [atom.text for atom in self._atoms(stop)] + ["the end"] * (self.automaton.end in stop[1])
        return " | ".join(dict.fromkeys(texts))

    def _reason(self, stop: _Stop, past: int) -> str | None:
        """Why a whole state or run that begins where the pattern stopped is not what it expects there."""
        reasons = []
        for atom in self._atoms(stop):
            for whole in self._wholes(atom, stop[0]):
                inside = self._inside(atom, whole) if atom.inner is not None else None
                inner = inside._match(*whole.inside) if inside is not None else None
                if whole.past is None or whole.past > past:
                    reasons.append((stop[0], f"{atom.text} was {self.events.cut(whole)}"))
                elif inside is not None and inner is not None:
                    place = f"at event {self.events.describe(inner[0])}" if inner[0] < whole.past else "at its end"
                    reason = inside._reason(inner, whole.inside[1]) or f"{place}; expected: {inside._expected(inner)}"
                    reasons.append((inner[0], f"inside {atom.text}, {reason}"))
        return max(reasons, key=lambda reason: reason[0])[1] if reasons else None
