"""Judging a recorded trace: each run by its machine, and how the runs lie in each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from camshaft.events import ANYWHERE, LAST_EVENTS, event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import CustomState
from camshaft.machine.checker import OrderChecker
from camshaft.machine.machine import LoopMachine
from camshaft.machine.search import unguarded_path
from camshaft.machine.transition_table import ENDS, Transition
from camshaft.trace.judge_nesting import NestingJudge
from camshaft.trace.log import TraceLog
from camshaft.trace.violations import Violation, violation_of

__all__ = ["judge", "violations"]


def judge(trace: TraceLog, loop: Loop | None = None) -> None:
    """Judge a trace: see :meth:`camshaft.Trace.assert_legal`. Takes time in proportion to its length."""
    __tracebackhide__ = True
    first = next(violations(trace, loop), None)
    if first is not None:
        raise EventOrderError(first.message)


def violations(trace: TraceLog, loop: Loop | None = None) -> Iterator[Violation]:
    """Everything that is wrong with a trace: see :meth:`camshaft.Trace.violations`.

    First what is wrong with single events, in their order; then with the ends of runs; then how they lie in each other.
    """
    __tracebackhide__ = True
    if loop is not None and not isinstance(loop, Loop):
        raise TypeError(f"judge by a Loop, such as engine.loop, not by {loop!r}")
    loops = [record.loop if loop is None or record.parent is not None else loop for record in trace.runs]
    machines = {id(each): LoopMachine(each) for each in {id(each): each for each in loops}.values()}
    runs = [_RunJudge(machines[id(each)], trace, run) for run, each in enumerate(loops)]
    for run, first, past in trace.blocks():
        one = runs[run]
        for error in one.follow(first, past):
            yield violation_of(trace, run, one.seen, one.where(), error)
    for run, one in enumerate(runs):
        try:
            one.end()
        except EventOrderError as error:
            yield violation_of(trace, run, one.seen, one.where(), error)
    yield from NestingJudge(trace).found()


class _RunJudge(OrderChecker):
    """Replays one run: path, guards, counters, end.

    After a violation it goes on where the event leads to. Of what was counted it then believes the recorded, once for
    each loop, where no event tells better. One event that is missing is one violation, not one more at each event
    that follows.
    """

    __slots__ = ("last_violation", "record", "run", "trace", "unverified")

    def __init__(self, machine: LoopMachine, trace: TraceLog, run: int) -> None:
        record = trace.runs[run]
        context = record.context.copy()
        if record.limits:
            context.max_epochs, context.max_iters = record.limits["max_epochs"], record.limits["max_iters"]
        context.counts = {item.name: 0 for _, item in machine.loop.walk() if isinstance(item, Loop)} | context.counts
        super().__init__(machine, record.engine, context, record.place)
        self.trace = trace
        self.run = run
        self.record = record
        self.last_violation: int | None = None  # the number of the last violation
        self.unverified: set[str] = set()  # the loops whose counts are not certain since then

    def follow(self, first: int, past: int) -> Iterator[EventOrderError]:
        """Take the events of the trace from ``first`` up to ``past``, and compare what was counted with each.

        It does what ``advance()`` does, without a call for each of a million events.

        Yields:
            What there is to say of each that is illegal or miscounted; ``seen`` is its number then.
        """
        context, counts, transition = self.context, self.context.counts, self.last_transition
        number = first
        for event, count in self.trace.keys_and_counts(first, past):
            number += 1
            following = transition.next_by_event.get(event)
            if following is None or (following.try_take is not None and not following.try_take(context)):
                self.last_transition, self.seen = transition, number
                if not self._takes_with_recorded_length(event):
                    yield self.error(event)
                    self._go_on(event, count)
                    transition = self.last_transition
                    continue
                following = transition.next_by_event[event]
            transition = following
            if counts[transition.loop] != count:
                self.last_transition, self.seen = transition, number
                if not self._is_unverified(transition.loop):
                    yield self._miscounted(count)
                    self._mark_counts_unverified()
                counts[transition.loop] = count
        self.last_transition, self.seen = transition, past

    def _miscounted(self, count: int) -> EventOrderError:
        loop = self.last_transition.loop
        what = f"{self.name} event #{self.seen} {event_name(str(self.last))} is miscounted"
        return EventOrderError(f"{what}\n  expected: {loop} {self.context.counts.get(loop, 0)}, not {count}")

    # -- after a violation -------------------------------------------------------------------------------------------

    def _go_on(self, event: str, count: int) -> None:
        """Go where an illegal event leads to, as if what is missing before it had come."""
        context, compiled = self.context, self.machine.compiled(self.context)
        for transition in self._way_past(event):
            transition.apply(context)
            context.entered -= {
                custom.name for custom in self.machine.loop.custom_states if self._is_left(custom, transition)
            }
            self.last_transition = compiled[transition.source].next_by_event[transition.event]
        self._mark_counts_unverified()
        loop = counter_loop_by_event(self.machine.loop).get(event)
        if loop is not None:
            context.counts[loop] = count
            self.unverified.discard(loop)

    def _way_past(self, event: str) -> list[Transition]:
        """The fewest transitions, whatever their guards say, the last of which is one of this event.

        Empty where it came twice, or belongs to no transition that leads anywhere; only its own where that cannot be
        reached from here.
        """
        table = self.machine.table
        if event == self.last and event not in table[self.place]:
            return []
        path = unguarded_path(table, event, self.place)
        if path is not None:
            return path
        anywhere = (transitions[event] for transitions in table.values() if event in transitions)
        return [*islice((transition for transition in anywhere if transition.dest != transition.source), 1)]

    def _is_left(self, custom: CustomState, transition: Transition) -> bool:
        """Whether a custom state must have been left when a transition is taken."""
        is_outside = not self.machine.table[transition.dest].keys() & set(custom.events)
        passed = custom.order[: custom.order.index(transition.event)] if transition.event in custom.order else ()
        return is_outside or custom.completed in passed

    def _mark_counts_unverified(self) -> None:
        """Hold nothing for certain that the events which are missing, or too many, may have changed."""
        self.last_violation = self.seen
        self.unverified = set(self.context.counts)
        self.context.passes = dict.fromkeys(self.context.passes)

    def _is_unverified(self, loop: str) -> bool:
        """Whether no event has told the count of a loop since the last violation."""
        if self.last_violation is None or loop not in self.unverified:
            return False
        self.unverified.discard(loop)
        counted, trace = counter_loop_by_event(self.machine.loop), self.trace
        between = (index for index in range(self.last_violation, self.seen - 1) if trace.run_of(index) == self.run)
        return all(counted.get(trace.key_of(index)) != loop for index in between)

    def _takes_with_recorded_length(self, event: str) -> bool:
        """Take an event that is refused because, since a violation, the length of an epoch was not learned rightly."""
        context, following, length = (
            self.context,
            self.last_transition.next_by_event.get(event),
            self.record.limits.get("epoch_length"),
        )
        if (
            self.last_violation is None
            or following is None
            or following.try_take is None
            or context.epoch_length == length
        ):
            return False
        learned, context.epoch_length = context.epoch_length, length
        if not following.try_take(context):
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
        if record.outcome is not None and ending != LAST_EVENTS[record.outcome]:
            last = event_name(self.last) if self.last else "nothing"
            expected = event_name(LAST_EVENTS[record.outcome])
            raise EventOrderError(f"{self.name} {record.outcome}, but ends with {last}\n  expected: {expected}")
        self._check_length()

    def _newest_first(self) -> Iterator[str]:
        """The events of this run, backwards."""
        trace = self.trace
        return (trace.key_of(index) for index in range(self.seen - 1, -1, -1) if trace.run_of(index) == self.run)

    def _ending(self) -> str | None:
        """The last event of the loop itself: handlers may fire custom events behind it."""
        aside = {event for custom in self.machine.loop.custom_states for event in custom.events}
        if self.last not in aside:
            return self.last
        return next((event for event in self._newest_first() if event not in aside), None)

    def _check_length(self) -> None:
        length, counted = self.record.limits.get("epoch_length"), self.context.epoch_length
        if self.context.has_data is None or counted == length or self.last_violation is not None:
            return
        if not self._has_just_learned(length):
            raise EventOrderError(f"{self.name} had {counted} iterations in an epoch\n  expected: {length}")

    def _has_just_learned(self, length: int | None) -> bool:
        """Whether it was stopped behind data that had ended for the first time, before an event could tell so."""
        loop, data_loop = self.machine.loop, self.machine.loop.data_loop
        if data_loop is None or data_loop is loop or loop.parent_of(data_loop.name).body[-1] is data_loop:
            return False  # no code of a user stands behind it
        fired = next((event for event in self._newest_first() if event not in ANYWHERE and event != "completed"), None)
        is_waiting = self.context.epoch_length is None and fired == "get_batch_started"
        return is_waiting and self.context.passes.get(data_loop.name) == length
