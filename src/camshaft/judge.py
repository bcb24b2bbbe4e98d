"""Judging a recorded trace: each run by its machine, and how the runs lie in each other."""

from __future__ import annotations

from collections import deque
from itertools import islice

from camshaft.events import event_name
from camshaft.loop import Loop
from camshaft.machine import EventOrderError, LoopMachine, OrderChecker
from camshaft.table import ENDS, READY
from camshaft.trace import RunRecord, Trace, counters

__all__ = ["judge"]

SHOWN_BEFORE = 2
"""How many events of the same engine are shown before one that is illegal."""

LAST_EVENT = {
    "completed": "completed",
    "terminated": "terminate",
    "interrupted": "interrupt",
    "failed": "exception_raised",
}
"""The event with which a run of each outcome ends."""


def judge(trace: Trace, loop: Loop | None = None) -> None:
    """Judge a trace: see :meth:`camshaft.Trace.assert_legal`. Takes time in proportion to its length."""
    __tracebackhide__ = True
    loops = [record.loop if loop is None or record.parent is not None else loop for record in trace.runs]
    laws = {id(each): (LoopMachine(each), counters(each)) for each in {id(each): each for each in loops}.values()}
    runs = [_RunJudge(*laws[id(each)], record) for each, record in zip(loops, trace.runs, strict=True)]
    last: dict[int, int] = {}
    for index, (run, key, count, _) in enumerate(trace.rows()):
        last[run] = index
        try:
            runs[run].take(index, key, count)
        except EventOrderError as error:
            raise _in_context(trace, index, error) from None
    for run, one in enumerate(runs):
        try:
            one.finish()
        except EventOrderError as error:
            raise (_in_context(trace, last[run], error) if run in last else error) from None
    _Nesting(trace).check()


def _in_context(trace: Trace, index: int, error: EventOrderError) -> EventOrderError:
    """The error with the events before it, and where in the code the last one was fired."""
    first, *rest = str(error).splitlines()
    run = trace.run_of(index)
    before = (number for number in range(index - 1, -1, -1) if trace.run_of(number) == run)
    width = len(str(index + 1))
    shown = [
        f"{'  > ' if number == index else '    '}{number + 1:>{width}}  {event_name(trace.key_of(number))}"
        for number in (*reversed([*islice(before, SHOWN_BEFORE)]), index)
    ]
    site = trace.site_of(index)
    if site is not None:
        shown[-1] += f"  fired by {site}"
    return EventOrderError("\n".join([first, *shown, *rest]))


class _RunJudge:
    """Replays one run: path, guards, counters, end."""

    def __init__(self, machine: LoopMachine, counted: dict[str, str], record: RunRecord) -> None:
        context = record.context.copy()
        if record.limits:
            context.max_epochs, context.max_iters = record.limits["max_epochs"], record.limits["max_iters"]
        self.record = record
        self.counted = counted
        self.checker = OrderChecker(machine, record.engine, context, record.place)
        self.last: str | None = None

    def take(self, index: int, event: str, count: int) -> None:
        """Take the next event, which was recorded with this count."""
        self.checker.seen = index
        self.checker.advance(event)
        self.last = event
        loop = self.counted[event]
        counted = self.checker.context.counts.get(loop, 0)
        if counted != count:
            what = f"{self.record.engine} event #{self.checker.seen} {event_name(event)} is miscounted"
            raise EventOrderError(f"{what}\n  expected: {loop} {counted}, not {count}")

    def finish(self) -> None:
        """Judge the end."""
        checker, record = self.checker, self.record
        if record.outcome == "paused" and checker.place in ENDS:
            raise EventOrderError(f"{record.engine} is said to have paused, but was over in {checker.place}")
        if record.outcome == "paused" or (record.outcome is None and self.last is not None):
            return  # stepping was left there, or recording ended before the run did
        checker.finish()
        if record.outcome is not None and self.last != LAST_EVENT[record.outcome]:
            last = event_name(self.last) if self.last else "nothing"
            expected = event_name(LAST_EVENT[record.outcome])
            raise EventOrderError(f"{record.engine} {record.outcome}, but ends with {last}\n  expected: {expected}")
        length, counted = record.limits.get("epoch_length"), checker.context.epoch_length
        if checker.context.has_data is not None and counted != length:
            raise EventOrderError(f"{record.engine} had {counted} iterations in an epoch\n  expected: {length}")


class _Nesting:
    """Every run lies inside one event of the run that it was called from, and nothing of that falls between."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.fired = [0] * len(trace.runs)
        self.last: dict[int, int] = {}  # the index of each run's last event so far
        self.left: dict[int, int] = {}  # for a run that was left, how much the run around it had fired by then

    def check(self) -> None:
        """Go through the events once, with a stack of the runs around each."""
        trace = self.trace
        upcoming = deque(segment for segment in trace.segments if segment[1] < segment[2])
        around: list[list[int]] = []
        for index, (run, *_) in enumerate(trace.rows()):
            while around and around[-1][2] <= index:
                ended = around.pop()[0]
                parent = trace.runs[ended].parent
                self.left[ended] = self.fired[parent] if parent is not None else 0
            while upcoming and upcoming[0][1] <= index:
                segment = upcoming.popleft()
                self._check_segment(segment, around[-1] if around else None)
                around.append(segment)
            if not around or around[-1][0] != run:
                inner = f" inside {trace.runs[around[-1][0]].engine}" if around else ", outside of its run"
                expected = f"none of {trace.runs[run].engine} there"
                raise self._error(index, f"fell{inner}\n  expected: {expected}")
            self.fired[run] += 1
            self.last[run] = index

    def _check_segment(self, segment: list[int], outer: list[int] | None) -> None:
        run, first, past = segment
        runs = self.trace.runs
        record = runs[run]
        caller = runs[record.parent].engine if record.parent is not None else ""
        if record.place == READY and record.parent is not None and (outer is None or outer[0] != record.parent):
            raise self._error(first, f"fell outside of {caller}, which called it")
        if outer is not None and past > outer[2]:
            raise self._error(
                min(outer[2], len(self.trace) - 1), f"fell outside of {runs[outer[0]].engine}, which called it"
            )
        went_on = record.parent is not None and run in self.left and self.fired[record.parent] != self.left[run]
        if went_on and self.trace.key_of(self.last[run]) != "interrupt":
            raise self._error(first, f"fell outside of the event of {caller} that called it")

    def _error(self, index: int, what: str) -> EventOrderError:
        trace = self.trace
        name = f"{trace.runs[trace.run_of(index)].engine} event #{index + 1} {event_name(trace.key_of(index))}"
        return _in_context(trace, index, EventOrderError(f"{name} {what}"))
