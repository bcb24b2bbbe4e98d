"""The judge of recorded traces: each run is checked by its machine, and then how the runs are nested.

The judge reports one violation for one cause. A missing event makes many later events unexpected, and all counts
wrong. Reporting those too would hide the cause. So after a violation the judge continues from the place after the
illegal event, and no longer relies on its counts: see :class:`_RunJudge`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from camshaft.events import ANYWHERE, LAST_EVENTS, event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import CustomState
from camshaft.machine.checker import OrderChecker
from camshaft.machine.search import unguarded_path
from camshaft.machine.transition import ENDS, Transition
from camshaft.machine.transition_table import TransitionTable
from camshaft.trace.legal_nesting import NestingJudge
from camshaft.trace.log import TraceLog
from camshaft.trace.violations import Violation, violation_of

__all__ = ["judge", "violations"]


def judge(trace: TraceLog, loop: Loop | None = None) -> None:
    """Raise an error for the first violation: see :meth:`camshaft.Trace.assert_legal`.

    The time is proportional to the length of the trace.
    """
    __tracebackhide__ = True
    first = next(violations(trace, loop), None)
    if first is not None:
        raise EventOrderError(first.message)


def violations(trace: TraceLog, loop: Loop | None = None) -> Iterator[Violation]:
    """Yield all violations of a trace: see :meth:`camshaft.Trace.violations`.

    First come illegal events, in their order, then wrong ends of runs, then wrong nesting.
    """
    __tracebackhide__ = True
    if loop is not None and not isinstance(loop, Loop):
        raise TypeError(f"loop must be a Loop, such as engine.loop, got {loop!r}")
    loops = [record.loop if loop is None or record.parent is not None else loop for record in trace.runs]
    # An evaluator runs once an epoch with the same loop: one machine serves all its runs.
    machines = {id(each): TransitionTable(each) for each in {id(each): each for each in loops}.values()}
    judges = [_RunJudge(machines[id(each)], trace, run) for run, each in enumerate(loops)]
    for run, first, past in trace.blocks():
        run_judge = judges[run]
        for error in run_judge.follow(first, past):
            yield violation_of(trace, run, run_judge.seen, run_judge.where(), error)
    for run, run_judge in enumerate(judges):
        try:
            run_judge.end()
        except EventOrderError as error:
            yield violation_of(trace, run, run_judge.seen, run_judge.where(), error)
    yield from NestingJudge(trace).violations()


class _RunJudge(OrderChecker):
    """The judge of one run: it replays path, guards, counters and end.

    After a violation it continues from the place after the illegal event. From then on every count is unverified.
    The first event with a count makes it certain again: the judge then takes the recorded count instead of reporting a
    difference. So one missing event is one violation, and not one more at each later event.
    """

    __slots__ = ("last_violation", "record", "run", "trace", "unverified")

    def __init__(self, machine: TransitionTable, trace: TraceLog, run: int) -> None:
        record = trace.runs[run]
        context = record.context.copy()
        # Limits may change while an engine runs, so those at the end of the run count. The length of an epoch is not
        # taken over: the events have to show it, and _check_length() compares.
        if record.limits:
            context.max_epochs, context.max_iters = record.limits["max_epochs"], record.limits["max_iters"]
        context.counts = {item.name: 0 for _, item in machine.loop.walk() if isinstance(item, Loop)} | context.counts
        super().__init__(machine, record.engine, context, record.place)
        self.trace = trace
        self.run = run
        self.record = record
        self.last_violation: int | None = None  # the number of the event of the last violation
        self.unverified: set[str] = set()  # the loops with uncertain counts since then

    def follow(self, first: int, past: int) -> Iterator[EventOrderError]:
        """Take the events with indices in ``[first, past)``, and compare the replayed count with each recorded one.

        It does the same as ``advance()``, but without a method call for each of a million events.

        Yields:
            An error for each illegal or miscounted event. At that moment ``seen`` is the number of the event.
        """
        context, counts, transition = self.context, self.context.counts, self.last_transition
        compiled = self.compiled
        number = first
        for event, count in self.trace.keys_and_counts(first, past):
            number += 1
            following = transition.next_by_event.get(event) or compiled.find(transition, event)
            if following is None or (following.try_take is not None and not following.try_take(context)):
                # Attributes are written only before methods read them: local variables are faster.
                self.last_transition, self.seen = transition, number
                if not self._try_take_with_recorded_length(event):
                    yield self.error(event)
                    self._recover(event, count)
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
        expected = f"  expected: {loop} {self.context.counts.get(loop, 0)}, got {count}"
        cause = f"  passes of {loop} are missing from the trace, or code changed state.{loop.lower()}"
        return EventOrderError("\n".join([what, expected, cause]))

    # -- after a violation -------------------------------------------------------------------------------------------

    def _recover(self, event: str, count: int) -> None:
        """Go to the place after an illegal event, as if the events missing before it had fired."""
        context = self.context
        for transition in self._transitions_through(event):
            transition.apply(context)
            # The missing events would have left some custom states. Those must not be reported as still entered later.
            context.entered -= {
                custom.name for custom in self.machine.loop.custom_states if self._must_be_left(custom, transition)
            }
            self.last_transition = self.compiled.at(transition.source, transition.event) or self.last_transition
        self._mark_counts_unverified()
        # The illegal event itself shows the count of its own loop.
        loop = counter_loop_by_event(self.machine.loop).get(event)
        if loop is not None:
            context.counts[loop] = count
            self.unverified.discard(loop)

    def _transitions_through(self, event: str) -> list[Transition]:
        """Return the shortest path of transitions up to and including this event, ignoring guards.

        Guards are ignored because they depend on counts, and these may be wrong after missing events.

        Returns:
            An empty list if the event was fired twice, or has no transition to another place: the run stays where it
            is. If the event cannot be reached from here, only its own transition.
        """
        table = self.machine.table
        if event == self.last and event not in table[self.place]:
            return []  # fired twice: a path to the event would lead through a whole further pass of the loop
        path = unguarded_path(table, event, self.place)
        if path is not None:
            return path
        of_event = (transitions[event] for transitions in table.values() if event in transitions)
        return [*islice((transition for transition in of_event if transition.dest != transition.source), 1)]

    def _must_be_left(self, custom: CustomState, transition: Transition) -> bool:
        """Return whether a custom state must have been left when a transition is taken."""
        is_outside = not self.machine.table[transition.dest].keys() & set(custom.events)
        earlier = custom.order[: custom.order.index(transition.event)] if transition.event in custom.order else ()
        return is_outside or custom.completed in earlier

    def _mark_counts_unverified(self) -> None:
        """Mark every count as unverified: missing or surplus events may have changed it."""
        self.last_violation = self.seen
        self.unverified = set(self.context.counts)
        self.context.passes = dict.fromkeys(self.context.passes)

    def _is_unverified(self, loop: str) -> bool:
        """Return whether no event has shown the count of a loop since the last violation.

        Asking makes the count certain: the judge takes the recorded count of the present event next. A second
        difference in the same loop is a violation of its own.
        """
        if self.last_violation is None or loop not in self.unverified:
            return False
        self.unverified.discard(loop)
        counter_loops, trace = counter_loop_by_event(self.machine.loop), self.trace
        between = (index for index in range(self.last_violation, self.seen - 1) if trace.run_of(index) == self.run)
        return all(counter_loops.get(trace.key_of(index)) != loop for index in between)

    def _try_take_with_recorded_length(self, event: str) -> bool:
        """Try to take a refused event once more, with the epoch length recorded at the end of the run.

        Data of unknown length show the length of an epoch when they end for the first time. If an iteration is lost
        before that, the judge learns a wrong length. Then the guards would refuse the end of every later epoch.

        Returns:
            True if the event was taken; False if nothing was changed.
        """
        context, length = self.context, self.record.limits.get("epoch_length")
        following = self.last_transition.next_by_event.get(event)
        if self.last_violation is None or following is None or following.try_take is None:
            return False
        if context.epoch_length == length:
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
            EventOrderError: the run may not end here, or it was recorded with another end.
        """
        record = self.record
        if record.outcome == "paused" and self.place in ENDS:
            raise EventOrderError(
                f"{self.name} was recorded as paused, but its run had ended in {self.place}\n"
                f"  expected: no event that ends a run before a pause"
            )
        if record.outcome == "paused" or (record.outcome is None and self.last is not None):
            return  # it was stepped and left there, or recording stopped before the run did
        last_event = self._last_loop_event()
        if last_event != "interrupt":
            self.finish()
        if record.outcome is not None and last_event != LAST_EVENTS[record.outcome]:
            last = event_name(self.last) if self.last else "no event"
            expected = event_name(LAST_EVENTS[record.outcome])
            raise EventOrderError(
                f"{self.name} was recorded as {record.outcome}, but its run ends with {last}\n  expected: {expected}"
            )
        self._check_length()

    def _newest_first(self) -> Iterator[str]:
        """Yield the keys of this run's events, from the last to the first."""
        trace = self.trace
        return (trace.key_of(index) for index in range(self.seen - 1, -1, -1) if trace.run_of(index) == self.run)

    def _last_loop_event(self) -> str | None:
        """Return the run's last built-in or declared event; handlers may fire custom events after it."""
        custom_events = {event for custom in self.machine.loop.custom_states for event in custom.events}
        if self.last not in custom_events:
            return self.last
        return next((event for event in self._newest_first() if event not in custom_events), None)

    def _check_length(self) -> None:
        """Compare the epoch length shown by the events with the recorded one."""
        length, counted = self.record.limits.get("epoch_length"), self.context.epoch_length
        # After a violation the events may show a wrong length. Reporting it too would be a second report of one cause.
        if self.context.has_data is None or counted == length or self.last_violation is not None:
            return
        if not self._stopped_before_length_was_shown(length):
            shown = "no length of an epoch" if counted is None else f"epochs of {counted} iterations"
            raise EventOrderError(f"{self.name}: the events of its run show {shown}\n  expected: epoch_length={length}")

    def _stopped_before_length_was_shown(self, length: int | None) -> bool:
        """Return whether the run stopped after the first end of its data, and before an event could show their length.

        Data of unknown length end while GET_BATCH_STARTED is the last event. The engine knows the length then. If a
        condition or a phase after the data loop stops the run, no later event shows the length.
        """
        loop, data_loop = self.machine.loop, self.machine.loop.data_loop
        if data_loop is None or data_loop is loop or loop.parent_of(data_loop.name).body[-1] is data_loop:
            return False  # nothing of the user's runs after the data loop
        last = next((event for event in self._newest_first() if event not in ANYWHERE and event != "completed"), None)
        is_fetching = self.context.epoch_length is None and last == "get_batch_started"
        return is_fetching and self.context.passes.get(data_loop.name) == length
