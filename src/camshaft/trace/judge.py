"""Judging a recorded trace: each run by its machine, and how the runs lie in each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from camshaft.events import event_name
from camshaft.loop.loop import Free, Loop, counters
from camshaft.machine.machine import EventOrderError, LoopMachine, OrderChecker
from camshaft.machine.transition_table import CONTROL, ENDS, READY, Row
from camshaft.trace.trace import OPEN, Trace, Violation

__all__ = ["judge", "violations"]

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
    first = next(violations(trace, loop), None)
    if first is not None:
        raise EventOrderError(first.message)


def violations(trace: Trace, loop: Loop | None = None) -> Iterator[Violation]:
    """Everything that is wrong with a trace: see :meth:`camshaft.Trace.violations`.

    First what is wrong with single events, in their order; then with the ends of runs; then how they lie in each other.
    """
    __tracebackhide__ = True
    if loop is not None and not isinstance(loop, Loop):
        raise TypeError(f"judge by a Loop, such as engine.loop, not by {loop!r}")
    loops = [record.loop if loop is None or record.parent is not None else loop for record in trace.runs]
    machines = {id(each): LoopMachine(each) for each in {id(each): each for each in loops}.values()}
    runs = [_RunJudge(machines[id(each)], trace, run) for run, each in enumerate(loops)]
    for run, first, past in trace.stretches():
        one = runs[run]
        for error in one.follow(first, past):
            yield _violation(trace, run, one.seen, one.where(), error)
    for run, one in enumerate(runs):
        try:
            one.end()
        except EventOrderError as error:
            yield _violation(trace, run, one.seen, one.where(), error)
    yield from _Nesting(trace).found()


def _violation(trace: Trace, run: int, number: int, where: str, error: EventOrderError) -> Violation:
    """The violation by an event of a run, by its number; 0 where the run has none."""
    event = trace.key_of(number - 1) if number else ""
    message = _in_context(trace, number - 1, str(error)) if number else str(error)
    return Violation(trace.runs[run].engine, run, number, event, where, message)


def _in_context(trace: Trace, index: int, error: str) -> str:
    """The error with the events before it, and where in the code the last one was fired."""
    first, *rest = error.splitlines()
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
    return "\n".join([first, *shown, *rest])


class _RunJudge(OrderChecker):
    """Replays one run: path, guards, counters, end.

    After a violation it goes on where the event leads to. Of what was counted it then believes the recorded, once for
    each loop, where no event tells better. One event that is missing is one violation, not one more at each event
    that follows.
    """

    __slots__ = ("doubted", "record", "run", "since", "trace")

    def __init__(self, machine: LoopMachine, trace: Trace, run: int) -> None:
        record = trace.runs[run]
        context = record.context.copy()
        if record.limits:
            context.max_epochs, context.max_iters = record.limits["max_epochs"], record.limits["max_iters"]
        context.counts = {item.name: 0 for _, item in machine.loop.walk() if isinstance(item, Loop)} | context.counts
        super().__init__(machine, record.engine, context, record.place)
        self.trace = trace
        self.run = run
        self.record = record
        self.since: int | None = None  # the number of the last violation
        self.doubted: set[str] = set()  # the loops whose counts are not certain since then

    def follow(self, first: int, past: int) -> Iterator[EventOrderError]:
        """Take the events of the trace from ``first`` up to ``past``, and compare what was counted with each.

        It does what ``advance()`` does, without a call for each of a million events.

        Yields:
            What there is to say of each that is illegal or miscounted; ``seen`` is its number then.
        """
        context, counts, move = self.context, self.context.counts, self.move
        number = first
        for event, count in self.trace.counted(first, past):
            number += 1
            following = move.then.get(event)
            if following is None or (following.refuse is not None and following.refuse(context)):
                self.move, self.seen = move, number
                if not self._takes_with_recorded_length(event):
                    yield self.error(event)
                    self._go_on(event, count)
                    move = self.move
                    continue
                following = move.then[event]
            move = following
            if counts[move.loop] != count:
                self.move, self.seen = move, number
                if not self._is_doubted(move.loop):
                    yield self._miscounted(count)
                    self._doubt()
                counts[move.loop] = count
        self.move, self.seen = move, past

    def _miscounted(self, count: int) -> EventOrderError:
        loop = self.move.loop
        what = f"{self.name} event #{self.seen} {event_name(str(self.last))} is miscounted"
        return EventOrderError(f"{what}\n  expected: {loop} {self.context.counts.get(loop, 0)}, not {count}")

    # -- after a violation -------------------------------------------------------------------------------------------

    def _go_on(self, event: str, count: int) -> None:
        """Go where an illegal event leads to, as if what is missing before it had come."""
        context, law = self.context, self.machine.law(self.context)
        for row in self._way_past(event):
            row.apply(context)
            context.entered -= {free.name for free in self.machine.loop.free if self._is_left(free, row)}
            self.move = law[row.source].then[row.event]
        self._doubt()
        loop = counters(self.machine.loop).get(event)
        if loop is not None:
            context.counts[loop] = count
            self.doubted.discard(loop)

    def _way_past(self, event: str) -> list[Row]:
        """The fewest transitions, whatever their guards say, the last of which is one of this event.

        Empty where it came twice, or belongs to no transition that leads anywhere; only its own where that cannot be
        reached from here.
        """
        table = self.machine.table
        if event == self.last and event not in table[self.place]:
            return []
        ways: dict[str, list[Row]] = {self.place: []}
        waiting = deque(ways)
        while waiting:
            place = waiting.popleft()
            if event in table[place]:
                return [*ways[place], table[place][event]]
            for row in table[place].values():
                if not row.is_control and row.dest not in ENDS and row.dest not in ways:
                    ways[row.dest] = [*ways[place], row]
                    waiting.append(row.dest)
        anywhere = (rows[event] for rows in table.values() if event in rows)
        return [*islice((row for row in anywhere if row.dest != row.source), 1)]

    def _is_left(self, free: Free, row: Row) -> bool:
        """Whether a custom state must have been left when a transition is taken."""
        is_outside = not self.machine.table[row.dest].keys() & set(free.events)
        passed = free.order[: free.order.index(row.event)] if row.event in free.order else ()
        return is_outside or free.completed in passed

    def _doubt(self) -> None:
        """Hold nothing for certain that the events which are missing, or too many, may have changed."""
        self.since = self.seen
        self.doubted = set(self.context.counts)
        self.context.passes = dict.fromkeys(self.context.passes)

    def _is_doubted(self, loop: str) -> bool:
        """Whether no event has told the count of a loop since the last violation."""
        if self.since is None or loop not in self.doubted:
            return False
        self.doubted.discard(loop)
        counted, trace = counters(self.machine.loop), self.trace
        between = (index for index in range(self.since, self.seen - 1) if trace.run_of(index) == self.run)
        return all(counted.get(trace.key_of(index)) != loop for index in between)

    def _takes_with_recorded_length(self, event: str) -> bool:
        """Take an event that is refused because, since a violation, the length of an epoch was not learned rightly."""
        context, following, length = self.context, self.move.then.get(event), self.record.limits.get("epoch_length")
        if self.since is None or following is None or following.refuse is None or context.epoch_length == length:
            return False
        learned, context.epoch_length = context.epoch_length, length
        if following.refuse(context):
            context.epoch_length = learned
            return False
        return True

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Judge the end of the run.

        Raises:
            EventOrderError: it is not one, or not the one that was recorded.
        """
        record = self.record
        if record.outcome == "paused" and self.place in ENDS:
            raise EventOrderError(f"{self.name} is said to have paused, but was over in {self.place}")
        if record.outcome == "paused" or (record.outcome is None and self.last is not None):
            return  # stepping was left there, or recording ended before the run did
        ending = self._ending()
        if ending != "interrupt":
            self.finish()
        if record.outcome is not None and ending != LAST_EVENT[record.outcome]:
            last = event_name(self.last) if self.last else "nothing"
            expected = event_name(LAST_EVENT[record.outcome])
            raise EventOrderError(f"{self.name} {record.outcome}, but ends with {last}\n  expected: {expected}")
        self._check_length()

    def _newest_first(self) -> Iterator[str]:
        """The events of this run, backwards."""
        trace = self.trace
        return (trace.key_of(index) for index in range(self.seen - 1, -1, -1) if trace.run_of(index) == self.run)

    def _ending(self) -> str | None:
        """The last event of the loop itself: handlers may fire custom events behind it."""
        aside = {event for free in self.machine.loop.free for event in free.events}
        if self.last not in aside:
            return self.last
        return next((event for event in self._newest_first() if event not in aside), None)

    def _check_length(self) -> None:
        length, counted = self.record.limits.get("epoch_length"), self.context.epoch_length
        if self.context.has_data is None or counted == length or self.since is not None:
            return
        if not self._has_just_learned(length):
            raise EventOrderError(f"{self.name} had {counted} iterations in an epoch\n  expected: {length}")

    def _has_just_learned(self, length: int | None) -> bool:
        """Whether it was stopped behind data that had ended for the first time, before an event could tell so."""
        loop, data_loop = self.machine.loop, self.machine.loop.data_loop
        if data_loop is None or data_loop is loop or loop.parent_of(data_loop.name).body[-1] is data_loop:
            return False  # no code of a user stands behind it
        fired = next((event for event in self._newest_first() if event not in CONTROL and event != "completed"), None)
        is_waiting = self.context.epoch_length is None and fired == "get_batch_started"
        return is_waiting and self.context.passes.get(data_loop.name) == length


class _Nesting:
    """Every run lies inside one event of the run that it was called from, and nothing of that falls between."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.fired = [0] * len(trace.runs)
        self.last: dict[int, int] = {}  # the index of each run's last event so far
        self.left: dict[int, int] = {}  # for a run that was left, how much the run around it had fired by then

    def found(self) -> Iterator[Violation]:
        """What lies wrongly: of each two runs the first event that does, as one that is astray has many beside it."""
        trace = self.trace
        known: set[frozenset[int | None]] = set()
        for index, other, where, expected in self._astray():
            run = trace.run_of(index)
            pair = frozenset((run, other))
            if pair not in known:
                known.add(pair)
                name = f"{trace.runs[run].engine} event #{index + 1} {event_name(trace.key_of(index))}"
                error = EventOrderError("\n".join([f"{name} fell {where}", *expected]))
                yield _violation(trace, run, index + 1, where, error)

    def _astray(self) -> Iterator[_Stray]:
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
                yield from self._segment_astray(segment, around[-1] if around else None)
                around.append(segment)
            past = min(around[-1][2] if around else OPEN, upcoming[0][1] if upcoming else OPEN, len(trace))
            run = around[-1][0] if around else None
            stranger = index if run is None else trace.stranger(run, index, past)
            if stranger is not None:
                yield self._stranger(stranger, run)
            if run is not None and stranger != index:
                self._take(run, index, past if stranger is None else stranger)
            if stranger is not None:
                own = trace.run_of(stranger)
                past = trace.stranger(own, stranger, past) or past
                self._take(own, stranger, past)
            index = past

    def _take(self, run: int, first: int, past: int) -> None:
        self.fired[run] += past - first
        self.last[run] = past - 1

    def _stranger(self, index: int, run: int | None) -> _Stray:
        runs = self.trace.runs
        where = "outside of its run" if run is None else f"inside {runs[run].engine}"
        return index, run, where, (f"  expected: none of {runs[self.trace.run_of(index)].engine} there",)

    def _segment_astray(self, segment: list[int], outer: list[int] | None) -> Iterator[_Stray]:
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


_Stray = tuple[int, int | None, str, tuple[str, ...]]
"""An event that lies wrongly: its index, the other run that it should or should not lie in, where it fell, and what
was expected."""
