"""The ways in which engines of pytorch-ignite violate their own event order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from camshaft.trace.log import TraceEvent
from support.ignite_differences import an_interrupt_at_dataloader_stop_iteration, set_data_in_a_run_without_data
from support.ignite_parity import Ignite, Program, Side

DISORDERS: dict[str, Callable[[Side], bool]] = {}
"""By name: a predicate that is True if a program made ignite violate its own order. Each has its own test."""


def leaves_its_order(predicate: Callable[[Side], bool]) -> Callable[[Side], bool]:
    DISORDERS[predicate.__name__] = predicate
    return predicate


@leaves_its_order
def an_epoch_that_is_completed_although_data_gave_out(side: Side) -> bool:
    """EPOCH_COMPLETED after DATALOADER_STOP_ITERATION."""
    return any(
        following.event == "epoch_completed"
        for event, following in in_pairs(side)
        if event.event == "dataloader_stop_iteration"
    )


@leaves_its_order
def an_epoch_without_batches(side: Side) -> bool:
    """EPOCH_COMPLETED after the first GET_BATCH_STARTED, if the length is unknown: ignite learns a length of 0."""
    return any(record.limits["epoch_length"] == 0 for run in side.runs for record in run.trace.runs)


@leaves_its_order
def a_get_batch_that_is_started_twice(side: Side) -> bool:
    """GET_BATCH_STARTED twice, after an interrupt at DATALOADER_STOP_ITERATION."""
    return an_interrupt_at_dataloader_stop_iteration(side)


@leaves_its_order
def an_exception_that_is_not_the_end(side: Side) -> bool:
    """EPOCH_COMPLETED, or a second one, after EXCEPTION_RAISED."""
    return any(event.event == "exception_raised" for event, _ in in_pairs(side))


@leaves_its_order
def batches_in_a_run_without_data(side: Side) -> bool:
    """GET_BATCH_STARTED after set_data() in a run that started without data."""
    return set_data_in_a_run_without_data(side)


@leaves_its_order
def max_iters_that_is_not_reached(side: Side) -> bool:
    """COMPLETED too early: ignite converts max_iters to max_epochs, and an epoch was short."""
    return any(
        record.limits["max_iters"]
        and record.limits["max_epochs"]
        and run.states[record.engine]["iteration"] < record.limits["max_iters"]
        for run in side.runs
        for record in run.trace.runs
    )


def in_pairs(side: Side) -> Iterator[tuple[TraceEvent, TraceEvent]]:
    """Yield every pair of consecutive events of one run of an engine."""
    for run in side.runs:
        last: dict[int, TraceEvent] = {}
        for index, fired in enumerate(run.events):
            number = run.trace.run_of(index)
            if number in last:
                yield last[number], fired
            last[number] = fired


def disorderly(disorder: Callable[[Side], bool], program: Program) -> Side:
    """Run a program that makes ignite violate its order in this way, and in no other."""
    theirs = Side(program, Ignite)
    assert [name for name, predicate in DISORDERS.items() if predicate(theirs)] == [disorder.__name__]
    return theirs
