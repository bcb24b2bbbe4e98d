"""The differences between camshaft and pytorch-ignite. Random programs avoid exactly these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from camshaft.testing import Data, Scenario
from camshaft.trace.log import RunRecord, TraceEvent
from support.ignite_parity import COUNTED_BY, CUSTOM, Ignite, Made, Program, Ran, Side, make_ours

DIFFERENCES: dict[str, Callable[[Side], bool]] = {}
"""By name: a predicate that is True if a program on camshaft's engine meets the difference. Each has its own test."""

TO_STOP = ("terminate", "terminate_epoch", "interrupt")
IN_ITERATION = {f"get_batch_{role}" for role in ("started", "completed")}
IN_ITERATION |= {"iteration_started", "iteration_completed", "dataloader_stop_iteration"}


COUNTED = {"started", "epoch_started", "epoch_completed", "completed", *COUNTED_BY, *IN_ITERATION}
COUNTED -= {"dataloader_stop_iteration"}
"""The events whose filters have a counter on ignite."""


def differs(predicate: Callable[[Side], bool]) -> Callable[[Side], bool]:
    DIFFERENCES[predicate.__name__] = predicate
    return predicate


def calls_at(side: Side, key: str, *whats: str) -> list[Made]:
    return [made for made in side.made if made.call.at == key and made.call.what in whats]


@differs
def a_control_call_in_the_step(side: Side) -> bool:
    """ignite fires ITERATION_COMPLETED first."""
    return any(made.in_step and made.call.what in TO_STOP for made in side.made)


@differs
def several_control_calls_at_once(side: Side) -> bool:
    """ignite applies all but terminate() one after another, the last of each kind; camshaft applies only one."""
    moments: dict[Any, set[Any]] = {}
    for made in side.made:
        if made.call.what in TO_STOP and made.call.at not in ("terminate", "completed"):
            moment = made.engine, made.run, made.index, made.in_step
            moments.setdefault(moment, set()).add((made.call.what, repr(made.call.value)))
    ended = [[what for what, _ in calls].count("terminate") for calls in moments.values()]
    return any(len(calls) > 1 and count != 1 for calls, count in zip(moments.values(), ended, strict=True))


@differs
def a_control_call_at_terminate_single_epoch(side: Side) -> bool:
    """ignite fires EPOCH_COMPLETED before it applies the call; another terminate_epoch() changes the skipped event."""
    return bool(calls_at(side, "terminate_single_epoch", *TO_STOP))


@differs
def terminate_at_interrupt(side: Side) -> bool:
    """ignite pauses nevertheless, and stops when it resumes."""
    return bool(calls_at(side, "interrupt", "terminate", "terminate_epoch"))


@differs
def terminate_at_terminate(side: Side) -> bool:
    """ignite lets the second call decide whether COMPLETED is skipped."""
    for made in calls_at(side, "terminate", "terminate"):
        events = side.runs[made.run].events[made.index :]
        completes = any((event.engine, event.event) == (made.engine, "completed") for event in events)
        if made.call.value == completes:
            return True
    return False


@differs
def terminate_epoch_at_started(side: Side) -> bool:
    """ignite raises after STARTED, camshaft in the call."""
    return bool(calls_at(side, "started", "terminate_epoch"))


@differs
def terminate_epoch_at_epoch_started(side: Side) -> bool:
    """ignite raises, camshaft ends the epoch."""
    return bool(calls_at(side, "epoch_started", "terminate_epoch"))


@differs
def terminate_epoch_at_exception_raised_before_an_epoch(side: Side) -> bool:
    """ignite does nothing, camshaft raises."""
    made = calls_at(side, "exception_raised", "terminate_epoch")
    return any(failed_at(side.runs[one.run].events[: one.index + 1]) == "started" for one in made)


@differs
def an_interrupt_at_dataloader_stop_iteration(side: Side) -> bool:
    """ignite fires GET_BATCH_STARTED once more when it resumes."""
    return bool(calls_at(side, "dataloader_stop_iteration", "interrupt"))


@differs
def set_data_in_a_run_without_data(side: Side) -> bool:
    """ignite accepts the data, camshaft refuses it."""
    has_none = {name for name, scenario in side.scenarios() if scenario.data is None}
    return any(made.engine in has_none and made.call.what == "set_data" for made in side.made)


@differs
def data_that_cannot_be_restarted(side: Side) -> bool:
    """ignite continues with empty epochs, endlessly with max_iters; camshaft ends the run."""
    return any(run.warned for run in side.runs)


@differs
def max_iters_with_data_of_unknown_length(side: Side) -> bool:
    """ignite sets max_epochs when it learns the length."""
    records = [record for run in side.runs for record in run.trace.runs]
    return any(record.limits["max_iters"] and learned_length(record) for record in records)


@differs
def every_with_before_alone(side: Side) -> bool:
    """every=2, before=6 is 1, 3, 5 on ignite, and 2, 4 on camshaft."""
    filters = [(name, one.key, one.filter) for name, scenario in side.scenarios() for one in scenario.handlers]
    return any(
        filter is not None
        and (filter.every or 1) > 1
        and filter.before
        and filter.after is None
        and side.has(name, key)
        for name, key, filter in filters
    )


@differs
def a_filtered_event_that_fires_twice_at_one_count(side: Side) -> bool:
    """After terminate_epoch(), or by hand: on ignite both firings are due, on camshaft only the first one."""
    twice = {
        (name, key, count)
        for run in side.runs
        for (_, name, key, count), times in Counter(filter_counts(run)).items()
        if times > 1
    }
    return any(
        one.filter is not None and one.filter.event_filter is None and one.filter.next_due(count) == count
        for name, scenario in side.scenarios()
        for one in scenario.handlers
        for engine, key, count in twice
        if (engine, key) == (name, one.key)
    )


@differs
def a_filter_on_an_event_without_counter(side: Side) -> bool:
    """ignite raises when the event fires, camshaft counts the firings of the event."""
    filters = [(name, one.key, one.filter) for name, scenario in side.scenarios() for one in scenario.handlers]
    return any(filter is not None and key not in COUNTED and side.has(name, key) for name, key, filter in filters)


@differs
def a_failure_that_a_handler_observes(side: Side) -> bool:
    """On ignite any handler of EXCEPTION_RAISED suppresses the exception, on camshaft only one that returns True."""
    return any(not scenario.swallow and has_handler_of_exceptions(scenario) for name, scenario in failed(side))


@differs
def a_keyboard_interrupt_that_a_handler_suppresses(side: Side) -> bool:
    """ignite continues as if nothing had happened, camshaft raises it."""
    interrupts = {(made.engine, made.run) for made in side.made if made.call.value is KeyboardInterrupt}
    engines = {name for name, scenario in failed(side) if scenario.swallow}
    return any(name.startswith(engine) for name, _ in interrupts for engine in engines)


@differs
def a_failure_in_an_iteration_that_a_handler_suppresses(side: Side) -> bool:
    """ignite completes the epoch and continues, on camshaft the run is over."""
    return any(
        failed_at(run.events[: index + 1]) in IN_ITERATION
        for name, scenario in failed(side)
        for run in side.runs
        for index, event in enumerate(run.events)
        if scenario.swallow and (event.engine, event.event) == (name, "exception_raised")
    )


@differs
def a_run_again_after_a_failure(side: Side) -> bool:
    """On ignite the first further run does nothing, and returns None."""
    return any(run.error is not None and run.fired for run in side.runs[:-1])


@differs
def a_run_again_of_unknown_length(side: Side) -> bool:
    """If it starts from the beginning, ignite keeps the epoch_length of the earlier run."""
    return any(
        before.states["trainer"]["epoch_length"] and starts_anew(run) and run.trace.runs[0].context.epoch_length is None
        for before, run, _ in runs_again(side)
    )


@differs
def a_run_again_that_fetches_nothing(side: Side) -> bool:
    """If it starts from the beginning, ignite keeps the output of the earlier run."""
    return any(
        before.states["trainer"]["output"] is not None
        and starts_anew(run)
        and not {"get_batch_completed", "iteration_started"} & {event.event for event in run.events if not event.depth}
        for before, run, _ in runs_again(side)
    )


@differs
def a_run_again_that_is_refused(side: Side) -> bool:
    """ignite stores the new limit before it refuses the new epoch_length."""
    return any(
        isinstance(run.error, ValueError)
        and again[1].get("epoch_length") not in (None, before.states["trainer"]["epoch_length"])
        and len(again[1]) > 1
        for before, run, again in runs_again(side)
    )


@differs
def a_run_again_with_the_other_limit(side: Side) -> bool:
    """After a finished run, ignite refuses the other limit, camshaft starts from the beginning."""
    other = {"max_epochs": "max_iters", "max_iters": "max_epochs"}
    return any(
        run.error is None and any(before.states["trainer"][other[limit]] for limit in other if limit in again[1])
        for before, run, again in runs_again(side)
    )


@differs
def a_run_again_after_a_short_epoch(side: Side) -> bool:
    """If it continues after terminate_epoch(), its first epoch is also short on ignite."""
    for before, run, _ in runs_again(side):
        done, length = before.states["trainer"]["iteration"], before.states["trainer"]["epoch_length"]
        last = next((one for one in reversed(side.runs[: side.runs.index(run)]) if one.events), before)
        was_terminated = any((event.engine, event.event) == ("trainer", "terminate") for event in last.events)
        if run.events and not starts_anew(run) and not was_terminated and (done % length if length else done):
            return True
    return False


@differs
def a_run_again_of_a_paused_engine(side: Side) -> bool:
    """If it gets other data, ignite ignores the data, camshaft refuses it."""
    return any(before.is_paused for before, _, _ in runs_again(side))


@differs
def a_nested_engine_that_is_left_paused(side: Side) -> bool:
    """ignite resumes it in the next run of the outer engine, camshaft starts it from the beginning."""
    for number, run in enumerate(side.runs):
        outcomes = {record.engine: record.outcome for record in run.trace.runs}
        later = {event.engine for further in side.runs[number + 1 :] for event in further.events}
        if any(outcomes.get(name) == "interrupted" for name in later - {"trainer"}):
            return True
    return False


def learned_length(record: RunRecord) -> bool:
    return record.context.epoch_length is None and record.limits["epoch_length"] is not None


def all_events(side: Side) -> Iterator[TraceEvent]:
    return (event for run in side.runs for event in run.events)


def filter_counts(run: Ran) -> Iterator[tuple[int, str, str, int]]:
    """Yield for each event: the number of the run, the engine, the key, and the count of filters."""
    iterations: dict[int, int] = {}
    for index, fired in enumerate(run.events):
        number = run.trace.run_of(index)
        if fired.event == "iteration_started":
            iterations[number] = fired.count
        count = iterations[number] if fired.event in COUNTED_BY else fired.count
        yield number, fired.engine, fired.event, count


def failed(side: Side) -> Iterator[tuple[str, Scenario]]:
    return ((name, scenario) for name, scenario in side.scenarios() if side.has(name, "exception_raised"))


def has_handler_of_exceptions(scenario: Scenario) -> bool:
    keys = [*(handler.key for handler in scenario.handlers), *(call.at for call in scenario.calls)]
    return scenario.swallow or "exception_raised" in keys


def failed_at(events: list[TraceEvent]) -> str | None:
    """Return the last event that the engine of the last event fired, except custom events and interrupts."""
    passed_over = {"exception_raised", "interrupt", *CUSTOM}
    own = [event.event for event in events if event.engine == events[-1].engine]
    return next((key for key in reversed(own) if key not in passed_over), None)


def runs_again(side: Side) -> Iterator[tuple[Ran, Ran, tuple[Data | None, dict[str, int]]]]:
    """Yield for each further run: the previous run, the run, and its data and limits."""
    return zip(side.runs, side.runs[1:], side._program.again, strict=False)


def starts_anew(run: Ran) -> bool:
    return bool(run.events) and run.events[0].count == 0


def differences(side: Side) -> list[str]:
    return [name for name, predicate in DIFFERENCES.items() if predicate(side)]


def differing(difference: Callable[[Side], bool], program: Program, *others: Any) -> tuple[Side, Side]:
    """Run a program on both engines. Check that it meets this difference and the others, and no more."""
    ours = Side(program, make_ours)
    assert differences(ours) == [one.__name__ for one in (difference, *others)]
    theirs = Side(program, Ignite)
    assert ours.seen() != theirs.seen(), "nothing differs, so random programs need not avoid it"
    return ours, theirs
