"""Judge how runs are nested in each other.

If an engine runs inside a handler of another one, it begins and ends there. So in the trace all its events lie between
two consecutive events of the outer run. A run may also pause inside a handler, after an interrupt or while it is
stepped. Then it has several segments, and each of them must be nested like a whole run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import attrs

from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.machine.transition import READY
from camshaft.trace.log import END_UNKNOWN, TraceLog
from camshaft.trace.violations import Violation, violation_of

__all__ = []


@attrs.frozen
class _Misplaced:
    """A misplaced event.

    Attributes:
        index: the index of the event.
        other_run: the number of the other run involved; None if the event lies outside of all runs.
        where: its position relative to that run, in words.
        expected: the right position, in words.
    """

    index: int
    other_run: int | None
    where: str
    expected: str


class NestingJudge:
    """The judge of nesting: a nested run must lie inside a single event of its calling run.

    No event of the calling run may lie between the events of the nested run.
    """

    def __init__(self, trace: TraceLog) -> None:
        self.trace = trace
        self.fired = [0] * len(trace.runs)  # how many events each run has fired so far
        self.last: dict[int, int] = {}  # the index of each run's last event so far
        self.parent_fired_at_end: dict[int, int] = {}  # by run: the parent's events so far when its segment ended

    def violations(self) -> Iterator[Violation]:
        """Yield one violation for each pair of runs.

        Once two runs are interleaved wrongly, every further event of them would be reported too, and only the first
        one helps to find the cause.
        """
        trace = self.trace
        reported: set[frozenset[int | None]] = set()
        for misplaced in self._misplaced():
            index, where = misplaced.index, misplaced.where
            run = trace.run_of(index)
            pair = frozenset((run, misplaced.other_run))
            if pair not in reported:
                reported.add(pair)
                name = f"{trace.runs[run].engine} event #{index + 1} {event_name(trace.key_of(index))}"
                error = EventOrderError(f"{name} was fired {where}\n  expected: {misplaced.expected}")
                yield violation_of(trace, run, index + 1, where, error)

    def _misplaced(self) -> Iterator[_Misplaced]:
        """Yield every misplaced event.

        Segments nest like brackets, so a stack holds the open segments, the innermost last. Between two
        consecutive borders of segments, only the run of the innermost segment may fire. The loop goes from border to
        border, not from event to event, and stops earlier only at an event of another run.
        """
        trace, index = self.trace, 0
        upcoming = deque(segment for segment in trace.segments if segment[1] < segment[2])
        open_segments: list[list[int]] = []
        while index < len(trace):
            while open_segments and open_segments[-1][2] <= index:
                ended = open_segments.pop()[0]
                parent = trace.runs[ended].parent
                self.parent_fired_at_end[ended] = self.fired[parent] if parent is not None else 0
            while upcoming and upcoming[0][1] <= index:
                segment = upcoming.popleft()
                yield from self._misplaced_segment(segment, open_segments[-1] if open_segments else None)
                open_segments.append(segment)
            next_end = open_segments[-1][2] if open_segments else END_UNKNOWN
            next_start = upcoming[0][1] if upcoming else END_UNKNOWN
            past = min(next_end, next_start, len(trace))
            run = open_segments[-1][0] if open_segments else None
            foreign = index if run is None else trace.first_event_of_other_run(run, index, past)
            if foreign is not None:
                yield self._misplaced_event(foreign, run)
            if run is not None and foreign != index:
                self._add_fired(run, index, past if foreign is None else foreign)
            if foreign is not None:
                # Pass over all consecutive events of the foreign run: they are misplaced for the same reason.
                foreign_run = trace.run_of(foreign)
                past = trace.first_event_of_other_run(foreign_run, foreign, past) or past
                self._add_fired(foreign_run, foreign, past)
            index = past

    def _add_fired(self, run: int, first: int, past: int) -> None:
        self.fired[run] += past - first
        self.last[run] = past - 1

    def _misplaced_event(self, index: int, innermost: int | None) -> _Misplaced:
        """Describe an event outside of the segments of its run, or inside a run nested in it."""
        runs = self.trace.runs
        expected = f"no event of {runs[self.trace.run_of(index)].engine} at this point"
        if innermost is None:
            return _Misplaced(index, None, "outside of its run", f"{expected}, because none of its runs goes on here")
        engine = runs[innermost].engine
        return _Misplaced(index, innermost, f"inside {engine}", f"{expected}, because a run of {engine} goes on here")

    def _misplaced_segment(self, segment: list[int], outer: list[int] | None) -> Iterator[_Misplaced]:
        """Yield the faults at the beginning of a segment, given the innermost open segment there."""
        run, first, past = segment
        runs = self.trace.runs
        parent = runs[run].parent
        caller = runs[parent].engine if parent is not None else ""
        expected = "all events of a nested run inside one event of the run that called it"
        # If a run was paused before the recording began, any other engine may resume it. Its record then does not begin
        # at READY, and its position proves nothing.
        if runs[run].place == READY and parent is not None and (outer is None or outer[0] != parent):
            yield _Misplaced(first, parent, f"outside of {caller}, which called it", expected)
        if parent is not None and runs[parent].place == READY and not self.fired[parent]:
            yield _Misplaced(first, parent, f"before the first event of {caller}, which called it", expected)
        if outer is not None and past > outer[2]:
            last = min(outer[2], len(self.trace) - 1)
            yield _Misplaced(last, outer[0], f"outside of {runs[outer[0]].engine}, which called it", expected)
        # Only an interrupted run may resume in a later event of its caller.
        caller_went_on = (
            parent is not None
            and run in self.parent_fired_at_end
            and self.fired[parent] != self.parent_fired_at_end[run]
        )
        if caller_went_on and run in self.last and self.trace.key_of(self.last[run]) != "interrupt":
            yield _Misplaced(first, parent, f"outside of the event of {caller} that called it", expected)
