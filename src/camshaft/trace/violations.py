"""What is wrong with a trace."""

from __future__ import annotations

from itertools import islice

import attrs

from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.trace.log import TraceLog

__all__ = ["Violation"]


@attrs.frozen
class Violation:
    """What is wrong with the order of one event of a trace.

    Attributes:
        engine: the name of the engine that fired it.
        run: the number of its run, in ``trace.runs``.
        number: which event of the trace it is, from 1; 0 where a run that should have ended has none.
        event: its key; empty where there is none.
        where: where the run stood, in words: ``EPOCH 1 / ITERATION 2 / after FORWARD``; for a run that lies wrongly in
            another one, how it lies: ``inside evaluator``.
        message: what :class:`~camshaft.EventOrderError` says of it: what came before, and what was expected.
    """

    engine: str
    run: int
    number: int
    event: str
    where: str
    message: str

    def __str__(self) -> str:
        return self.message


SHOWN_BEFORE = 2
"""How many events of the same engine are shown before one that is illegal."""


def violation_of(trace: TraceLog, run: int, number: int, where: str, error: EventOrderError) -> Violation:
    """The violation by an event of a run, by its number; 0 where the run has none."""
    event = trace.key_of(number - 1) if number else ""
    message = _in_context(trace, number - 1, str(error)) if number else str(error)
    return Violation(trace.runs[run].engine, run, number, event, where, message)


def _in_context(trace: TraceLog, index: int, error: str) -> str:
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
