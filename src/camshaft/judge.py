"""Judging a recorded trace: each run by its machine, and how the runs lie in each other."""

from __future__ import annotations

from collections import deque
from itertools import islice

from camshaft.events import event_name
from camshaft.loop import Loop
from camshaft.machine import EventOrderError, LoopMachine, OrderChecker
from camshaft.table import CONTROL, ENDS, READY
from camshaft.trace import OPEN, RunRecord, Trace

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
    machines = {id(each): LoopMachine(each) for each in {id(each): each for each in loops}.values()}
    runs = [_RunJudge(machines[id(each)], record) for each, record in zip(loops, trace.runs, strict=True)]
    for run, first, past in trace.stretches():
        try:
            runs[run].follow(trace, first, past)
        except EventOrderError as error:
            raise _in_context(trace, runs[run].seen - 1, error) from None
    for run, one in enumerate(runs):
        try:
            one.end(trace, run)
        except EventOrderError as error:
            raise (_in_context(trace, one.seen - 1, error) if one.last is not None else error) from None
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


class _RunJudge(OrderChecker):
    """Replays one run: path, guards, counters, end."""

    __slots__ = ("record",)

    def __init__(self, machine: LoopMachine, record: RunRecord) -> None:
        context = record.context.copy()
        if record.limits:
            context.max_epochs, context.max_iters = record.limits["max_epochs"], record.limits["max_iters"]
        context.counts = {item.name: 0 for _, item in machine.loop.walk() if isinstance(item, Loop)} | context.counts
        super().__init__(machine, record.engine, context, record.place)
        self.record = record

    def follow(self, trace: Trace, first: int, past: int) -> None:
        """Take the events of a trace from ``first`` up to ``past``, and compare what was counted with each.

        It does what ``advance()`` does, without a call for each of a million events.

        Raises:
            EventOrderError: the first that is illegal or miscounted; ``seen`` is its number.
        """
        __tracebackhide__ = True
        context, counts, move = self.context, self.context.counts, self.move
        number = first
        for event, count in trace.counted(first, past):
            number += 1
            following = move.then.get(event)
            if following is None or (following.refuse is not None and following.refuse(context)):
                self.move, self.seen = move, number
                raise self.error(event)
            move = following
            if counts[move.loop] != count:
                self.move, self.seen = move, number
                raise self._miscounted(count)
        self.move, self.seen = move, past

    def _miscounted(self, count: int) -> EventOrderError:
        loop = self.move.loop
        what = f"{self.name} event #{self.seen} {event_name(str(self.last))} is miscounted"
        return EventOrderError(f"{what}\n  expected: {loop} {self.context.counts.get(loop, 0)}, not {count}")

    def end(self, trace: Trace, run: int) -> None:
        """Judge the end of a run, by its number in the trace.

        Raises:
            EventOrderError: it is not one, or not the one that was recorded.
        """
        record = self.record
        if record.outcome == "paused" and self.place in ENDS:
            raise EventOrderError(f"{self.name} is said to have paused, but was over in {self.place}")
        if record.outcome == "paused" or (record.outcome is None and self.last is not None):
            return  # stepping was left there, or recording ended before the run did
        self.finish()
        if record.outcome is not None and self.last != LAST_EVENT[record.outcome]:
            last = event_name(self.last) if self.last else "nothing"
            expected = event_name(LAST_EVENT[record.outcome])
            raise EventOrderError(f"{self.name} {record.outcome}, but ends with {last}\n  expected: {expected}")
        length, counted = record.limits.get("epoch_length"), self.context.epoch_length
        if self.context.has_data is not None and counted != length and not self._has_just_learned(trace, run, length):
            raise EventOrderError(f"{self.name} had {counted} iterations in an epoch\n  expected: {length}")

    def _has_just_learned(self, trace: Trace, run: int, length: int | None) -> bool:
        """Whether it was stopped behind data that had ended for the first time, before an event could tell so."""
        loop, data_loop = self.machine.loop, self.machine.loop.data_loop
        if data_loop is None or data_loop is loop or loop.parent_of(data_loop.name).body[-1] is data_loop:
            return False  # no code of a user stands behind it
        own = (trace.key_of(index) for index in range(self.seen - 1, -1, -1) if trace.run_of(index) == run)
        fired = next((event for event in own if event not in CONTROL and event != "completed"), None)
        is_waiting = self.context.epoch_length is None and fired == "get_batch_started"
        return is_waiting and self.context.passes.get(data_loop.name) == length


class _Nesting:
    """Every run lies inside one event of the run that it was called from, and nothing of that falls between."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.fired = [0] * len(trace.runs)
        self.last: dict[int, int] = {}  # the index of each run's last event so far
        self.left: dict[int, int] = {}  # for a run that was left, how much the run around it had fired by then

    def check(self) -> None:
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
                self._check_segment(segment, around[-1] if around else None)
                around.append(segment)
            if not around:
                raise self._astray(index, ", outside of its run")
            run, past = around[-1][0], min(around[-1][2], upcoming[0][1] if upcoming else OPEN, len(trace))
            stranger = trace.stranger(run, index, past)
            if stranger is not None:
                raise self._astray(stranger, f" inside {trace.runs[run].engine}")
            self.fired[run] += past - index
            self.last[run] = past - 1
            index = past

    def _astray(self, index: int, where: str) -> EventOrderError:
        engine = self.trace.runs[self.trace.run_of(index)].engine
        return self._error(index, f"fell{where}\n  expected: none of {engine} there")

    def _check_segment(self, segment: list[int], outer: list[int] | None) -> None:
        run, first, past = segment
        runs = self.trace.runs
        record = runs[run]
        caller = runs[record.parent].engine if record.parent is not None else ""
        if record.place == READY and record.parent is not None and (outer is None or outer[0] != record.parent):
            raise self._error(first, f"fell outside of {caller}, which called it")
        if record.parent is not None and runs[record.parent].place == READY and not self.fired[record.parent]:
            raise self._error(first, f"fell before the first event of {caller}, which called it")
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
