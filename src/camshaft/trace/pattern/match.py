"""Matching: a pattern as an automaton (K. Thompson, 1968, "Regular expression search algorithm"), run over a trace.

The automaton is nondeterministic: the matcher keeps the set of all places that a match may have
reached, so the time is proportional to the length of the trace. Two things differ from regular expressions over text. A
step may match many events at once, namely a whole state or run, so the places after it wait for a later position. And
events not named by the pattern may be skipped anywhere.
"""

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

__all__ = ["Automaton", "Excerpt", "Matcher"]

MAX_PLACES = 100_000
"""The maximum size of a pattern after its repetitions are expanded."""

SHOWN_BEFORE = 2
"""The number of earlier events in a message, before the one that does not fit."""


class Automaton:
    """A pattern as places with two kinds of transitions between them (Thompson's construction).

    Attributes:
        steps: for each place, the atom leading away from it, and the next place; None if there is no atom.
        empty_steps: for each place, the places reached from it without any event.
        end: the place after the whole pattern.
        atoms: the atoms of the pattern, without those in brackets.
        inner: the automata of the patterns in brackets.
        takes_any: whether an atom can match events not named by the pattern.
    """

    def __init__(self, pattern: Choice) -> None:
        self.steps: list[tuple[Atom, int] | None] = []
        self.empty_steps: list[list[int]] = []
        self.end = self._add_once(pattern, self._add_place())
        self.atoms = {atom: None for step in self.steps if step for atom in (step[0], *step[0].others)}
        self.inner = {atom: Automaton(atom.inner) for atom in self.atoms if atom.inner is not None}
        self.takes_any = any(atom.kind in ("any", "not") for atom in self.atoms)

    def _add_place(self) -> int:
        if len(self.steps) == MAX_PLACES:
            raise PatternError(
                f"pattern: with its repetitions expanded it has over {MAX_PLACES:,} parts; use '*' or smaller counts"
            )
        self.steps.append(None)
        self.empty_steps.append([])
        return len(self.steps) - 1

    def _add_repeated(self, item: Item, place: int) -> int:
        """Add an item after a place, as often as it must and may be repeated; return the place after it."""
        for _ in range(item.least):
            place = self._add_once(item.unit, place)
        if item.most == 0:
            # A{0} names A, so A must not be skipped like an event without a name in the pattern. The copy cannot be
            # reached, but its atom is among the atoms.
            self._add_once(item.unit, self._add_place())
        if item.least == item.most:
            return place
        end = self._add_place()
        if item.most is None:
            first = self._add_place()
            self.empty_steps[place].append(first)
            self.empty_steps[self._add_once(item.unit, first)].append(first)
            place = first
        for _ in range((item.most or item.least) - item.least):
            self.empty_steps[place].append(end)
            place = self._add_once(item.unit, place)
        self.empty_steps[place].append(end)
        return end

    def _add_once(self, unit: Atom | Choice, place: int) -> int:
        """Add an atom or a choice after a place; return the place after it."""
        end = self._add_place()
        if isinstance(unit, Atom):
            self.steps[place] = (unit, end)
            return end
        for sequence in unit:
            here = self._add_place()
            self.empty_steps[place].append(here)
            for item in sequence:
                here = self._add_repeated(item, here)
            self.empty_steps[here].append(end)
        return end

    def closure(self, places: Iterable[int]) -> set[int]:
        """Return these places and all places reached from them by empty steps."""
        found = set(places)
        todo = list(found)
        while todo:
            for place in self.empty_steps[todo.pop()]:
                if place not in found:
                    found.add(place)
                    todo.append(place)
        return found


@attrs.frozen(eq=False)
class _Whole:
    """A whole stay in a state, or a whole run if ``state`` is None, by positions in the excerpt.

    Attributes:
        state: the name of the state.
        run: the number of the run.
        past: the position after its last event; None for a stay without its leaving event.
        inside: the first position inside, and the position after the last.
        span: the stay.
    """

    state: str | None
    run: int
    past: int | None
    inside: tuple[int, int]
    span: Span | None = None


class Excerpt:
    """The events of a trace to be compared with a pattern.

    A *position* counts the events of the excerpt from 0; an *index* counts those of the whole trace.

    Args:
        trace: the trace.
        indices: the indices of the events, ascending.
        strict: whether no event may be skipped.
    """

    def __init__(self, trace: TraceLog, indices: Sequence[int], strict: bool) -> None:
        self.trace = trace
        self.indices = indices
        self.strict = strict
        self.all_events = [(run, key) for run, key, _, _ in trace.raw_events()]
        self.events = [self.all_events[index] for index in indices]
        self.runs_of: dict[str, set[int]] = {}
        for run, record in enumerate(trace.runs):
            self.runs_of.setdefault(record.engine, set()).add(run)
        self.outermost = self._outermost()
        self.wholes: dict[int, list[_Whole]] = {}  # by their first position
        for span in spans(trace):
            first, last = self._position(span.first), self._position(span.last)
            past, inside = (None, (0, 0)) if first is None or last is None else (last + 1, (first + 1, last))
            if first is not None:
                self.wholes.setdefault(first, []).append(_Whole(span.state, span.run, past, inside, span))
        for run, *segment in trace.segments:
            if segment[1] > len(trace):
                continue  # an unfinished run is not whole
            first, past = (bisect_left(indices, index) for index in segment)
            if first < past:
                self.wholes.setdefault(first, []).append(_Whole(None, run, past, (first, past)))

    def _outermost(self) -> frozenset[int]:
        """Return the runs outside of all other runs of the excerpt; all runs if it has no events."""
        seen = {run for run, _ in self.events}
        nested: set[int] = set()
        # A run has a higher number than the run around it, so the outer one is classified already.
        for run, record in enumerate(self.trace.runs):
            if record.parent is not None and (record.parent in seen or record.parent in nested):
                nested.add(run)
        return frozenset(seen - nested if seen else range(len(self.trace.runs)))

    def _position(self, index: int | None) -> int | None:
        position = bisect_left(self.indices, index) if index is not None else len(self.indices)
        return position if position < len(self.indices) and self.indices[position] == index else None

    def describe(self, position: int, width: int = 0, gap: str = " ") -> str:
        """Return an event in words, with its number in the trace, from 1."""
        index = self.indices[position]
        return f"{index + 1:>{width}}{gap}{self.trace.event(index)}"

    def why_unfinished(self, whole: _Whole) -> str:
        """Return in words why a stay or a run is not complete here."""
        span = whole.span
        if span is None:
            return "did not end here"
        if span.last is None:
            for key, facts in FACTS.items():
                index = span.past - facts.is_inside
                if facts.ends and index < len(self.all_events) and self.all_events[index] == (span.run, key):
                    return f"was cut short by event {index + 1} {self.trace.event(index)}"
        return "was entered, but the event that leaves it is missing"


@attrs.frozen
class _Stop:
    """The end of a partial match: a position, and the places of the automaton reached there."""

    position: int
    places: set[int]


class Matcher:
    """The comparison of a pattern, whole or in brackets, with the events of some runs.

    Args:
        excerpt: the events.
        automaton: the pattern.
        runs: the runs meant by names without an engine.
    """

    def __init__(self, excerpt: Excerpt, automaton: Automaton, runs: frozenset[int]) -> None:
        self.excerpt = excerpt
        self.automaton = automaton
        self.runs = runs
        self._named: dict[tuple[int, str], bool] = {}
        self._inner: dict[tuple[Atom, int], Matcher] = {}
        self._stops: dict[tuple[int, int], _Stop | None] = {}

    def judge(self) -> list[str]:
        """Return the lines of a failure message; none if the events match."""
        stop = self._match(0, len(self.excerpt.events))
        return self._explain(stop) if stop is not None else []

    def _match(self, first: int, past: int) -> _Stop | None:
        """Match the events at positions in ``[first, past)``; return None if they match, else the point of failure.

        Results are kept: several atoms may ask for the same inside, and the explanation of a failure asks again.
        """
        if (first, past) not in self._stops:
            self._stops[first, past] = self._run(first, past)
        return self._stops[first, past]

    def _run(self, first: int, past: int) -> _Stop | None:
        automaton, events, position = self.automaton, self.excerpt.events, first
        places = automaton.closure([0])
        stop = _Stop(position, places)
        # By position, the places reached there. An atom for a whole state leads to its next place only at the
        # end of the state. If no place is left here, the loop jumps to the nearest such position.
        pending: dict[int, set[int]] = {}
        while places or pending:
            position = position if places else min(pending)
            if position in pending:
                places = places | automaton.closure(pending.pop(position))
            stop = _Stop(position, places)
            if position == past:
                return None if automaton.end in places else stop
            is_named = self.excerpt.strict or self._is_named(events[position])
            if is_named or automaton.takes_any:
                for atom, next_place in filter(None, map(automaton.steps.__getitem__, places)):
                    for end in self._ends(atom, position, past):
                        pending.setdefault(end, set()).add(next_place)
            # An event not named by the pattern may be skipped: all places stay as they are.
            places = set() if is_named else places
            position += 1
        return stop

    def _ends(self, atom: Atom, position: int, past: int) -> list[int]:
        """Return the positions after the matches of an atom that begin at a position."""
        event = self.excerpt.events[position]
        if atom.kind in ("state", "run"):
            return [whole.past or 0 for whole in self._wholes(atom, position) if self._fits(atom, whole, past)]
        if atom.kind == "event":
            matches = self._names(atom, event)
        else:  # "." and "!": any event of the runs meant here, or any event named by the pattern
            matches = self.excerpt.strict or event[0] in self.runs or self._is_named(event)
            matches = matches and not any(self._ends(other, position, past) for other in atom.others)
        return [position + 1] if matches else []

    def _wholes(self, atom: Atom, position: int) -> list[_Whole]:
        """Return the stays or runs with the name of an atom, beginning at a position."""
        runs = self._runs(atom) if atom.kind in ("state", "run") else ()
        wholes = self.excerpt.wholes.get(position, ())
        return [whole for whole in wholes if whole.run in runs and whole.state == atom.state]

    def _fits(self, atom: Atom, whole: _Whole, past: int) -> bool:
        if whole.past is None or whole.past > past:
            return False
        return atom.inner is None or self._inside(atom, whole)._match(*whole.inside) is None

    def _inside(self, atom: Atom, whole: _Whole) -> Matcher:
        """Return the matcher of the pattern in the brackets of an atom, for the inside of a stay or a run."""
        key = atom, whole.run
        if key not in self._inner:
            self._inner[key] = Matcher(self.excerpt, self.automaton.inner[atom], frozenset((whole.run,)))
        return self._inner[key]

    def _runs(self, atom: Atom) -> frozenset[int] | set[int]:
        return self.runs if atom.engine is None else self.excerpt.runs_of.get(atom.engine, set())

    def _names(self, atom: Atom, event: tuple[int, str]) -> bool:
        return event[0] in self._runs(atom) and (atom.kind == "run" or event[1] in atom.keys)

    def _is_named(self, event: tuple[int, str]) -> bool:
        if event not in self._named:
            self._named[event] = any(self._names(atom, event) for atom in self.automaton.atoms)
        return self._named[event]

    # -- failures in words -------------------------------------------------------------------------------------------

    def _explain(self, stop: _Stop) -> list[str]:
        """Return the lines of a failure: the events before it, the expected names, and the reason if one is known."""
        excerpt, position = self.excerpt, stop.position
        earlier = range(position - 1, -1, -1)
        named = (each for each in earlier if excerpt.strict or self._is_named(excerpt.events[each]))
        is_at_end = position == len(excerpt.events)
        shown = [*reversed([*islice(named, SHOWN_BEFORE)]), *([] if is_at_end else [position])]
        width = len(str(excerpt.indices[shown[-1]] + 1)) if shown else 0
        lines = [f"  {'>' if each == position else ' '} {excerpt.describe(each, width, '  ')}" for each in shown]
        if is_at_end:
            what = "trace" if len(excerpt.events) == len(excerpt.trace) else "excerpt"
            lines.append(f"  the {what} ends after {position:,} event{'s' * (position != 1)}")
        lines.append(f"  expected: {self._expected(stop)}")
        reason = self._reason(stop, len(excerpt.events))
        return [*lines, f"  {reason}"] if reason else lines

    def _atoms(self, stop: _Stop) -> list[Atom]:
        steps = filter(None, map(self.automaton.steps.__getitem__, stop.places))
        return sorted({atom for atom, _ in steps}, key=lambda atom: atom.column)

    def _expected(self, stop: _Stop) -> str:
        texts = [atom.text for atom in self._atoms(stop)] + ["the end"] * (self.automaton.end in stop.places)
        return " | ".join(dict.fromkeys(texts))

    def _reason(self, stop: _Stop, past: int) -> str | None:
        """Return why a state or run at the stop does not match the atom of its name.

        Without this a message would say "> EPOCH_STARTED, expected: EPOCH". Of several reasons, the last one
        in the trace is returned, because most of the pattern fits before it.
        """
        reasons = []
        for atom in self._atoms(stop):
            for whole in self._wholes(atom, stop.position):
                inside = self._inside(atom, whole) if atom.inner is not None else None
                inner = inside._match(*whole.inside) if inside is not None else None
                if whole.past is None or whole.past > past:
                    reasons.append((stop.position, f"{atom.text} {self.excerpt.why_unfinished(whole)}"))
                elif inside is not None and inner is not None:
                    is_at_end = inner.position >= whole.past
                    where = "at its end" if is_at_end else f"at event {self.excerpt.describe(inner.position)}"
                    reason = inside._reason(inner, whole.inside[1]) or f"{where}; expected: {inside._expected(inner)}"
                    reasons.append((inner.position, f"inside {atom.text}, {reason}"))
        return max(reasons, key=lambda reason: reason[0])[1] if reasons else None
