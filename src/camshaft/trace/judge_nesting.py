"""Judge how runs are nested in each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.machine.transition_table import READY
from camshaft.trace.log import END_UNKNOWN, TraceLog
from camshaft.trace.violations import Violation, violation_of

__all__ = []


class NestingJudge:
    """Every run lies inside one event of the run that it was called from, and nothing of that falls between."""

    def __init__(self, trace: TraceLog) -> None:
        self.trace = trace
        self.fired = [0] * len(trace.runs)
        self.last: dict[int, int] = {}  # the index of each run's last event so far
        self.left: dict[int, int] = {}  # for a run that was left, how much the run around it had fired by then

    def found(self) -> Iterator[Violation]:
        """What lies wrongly: of each two runs the first event that does, as one that is astray has many beside it."""
        trace = self.trace
        known: set[frozenset[int | None]] = set()
        for index, other, where, expected in self._misplaced():
            run = trace.run_of(index)
            pair = frozenset((run, other))
            if pair not in known:
                known.add(pair)
                name = f"{trace.runs[run].engine} event #{index + 1} {event_name(trace.key_of(index))}"
                error = EventOrderError("\n".join([f"{name} fell {where}", *expected]))
                yield violation_of(trace, run, index + 1, where, error)

    def _misplaced(self) -> Iterator[_Misplaced]:
        """Go from one end of a segment to the next, with a stack of the runs around."""
        trace, index = self.trace, 0
        upcoming = deque(segment for segment in trace.segments if segment[1] < segment[2])
        around: list[list[int]] = []
        while index < len(trace):
            while around and around[-1][2] <= index:
                ended = around.pop()[0]
                parent = trace.runs[ended].parent
                self.left[ended] = self.fired[parent] if parent is not None else 0
            while upcoming and upcoming[0][1] <= index:
                segment = upcoming.popleft()
                yield from self._misplaced_segment(segment, around[-1] if around else None)
                around.append(segment)
            past = min(
                around[-1][2] if around else END_UNKNOWN, upcoming[0][1] if upcoming else END_UNKNOWN, len(trace)
            )
            run = around[-1][0] if around else None
            stranger = index if run is None else trace.first_event_of_other_run(run, index, past)
            if stranger is not None:
                yield self._misplaced_event(stranger, run)
            if run is not None and stranger != index:
                self._take(run, index, past if stranger is None else stranger)
            if stranger is not None:
                own = trace.run_of(stranger)
                past = trace.first_event_of_other_run(own, stranger, past) or past
                self._take(own, stranger, past)
            index = past

    def _take(self, run: int, first: int, past: int) -> None:
        self.fired[run] += past - first
        self.last[run] = past - 1

    def _misplaced_event(self, index: int, run: int | None) -> _Misplaced:
        runs = self.trace.runs
        where = "outside of its run" if run is None else f"inside {runs[run].engine}"
        return index, run, where, (f"  expected: none of {runs[self.trace.run_of(index)].engine} there",)

    def _misplaced_segment(self, segment: list[int], outer: list[int] | None) -> Iterator[_Misplaced]:
        run, first, past = segment
        runs = self.trace.runs
        parent = runs[run].parent
        caller = runs[parent].engine if parent is not None else ""
        if runs[run].place == READY and parent is not None and (outer is None or outer[0] != parent):
            yield first, parent, f"outside of {caller}, which called it", ()
        if parent is not None and runs[parent].place == READY and not self.fired[parent]:
            yield first, parent, f"before the first event of {caller}, which called it", ()
        if outer is not None and past > outer[2]:
            last = min(outer[2], len(self.trace) - 1)
            yield last, outer[0], f"outside of {runs[outer[0]].engine}, which called it", ()
        went_on = parent is not None and run in self.left and self.fired[parent] != self.left[run]
        if went_on and run in self.last and self.trace.key_of(self.last[run]) != "interrupt":
            yield first, parent, f"outside of the event of {caller} that called it", ()


_Misplaced = tuple[int, int | None, str, tuple[str, ...]]
"""An event that lies wrongly: its index, the other run that it should or should not lie in, where it fell, and what
was expected."""
