"""Violations: the illegal events of a trace, described in words."""

from __future__ import annotations

from itertools import islice

import attrs

from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.trace.log import TraceLog

__all__ = ["Violation"]


@attrs.frozen
class Violation:
    """An illegal event of a trace, and the reason.

    Attributes:
        engine: the name of its engine.
        run: the number of its run, in ``trace.runs``.
        number: the position of the event in the trace, from 1; 0 if a run without events should have some.
        event: the key of the event; empty if there is none.
        where: the place of the run in words: ``EPOCH 1 / ITERATION 2 / after FORWARD``. For a wrongly nested run, its
            position relative to the other run: ``inside evaluator``.
        message: the text of the :class:`~camshaft.EventOrderError`: the events before, and the expected events.
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
"""The number of earlier events of the same engine in a message, before the illegal one."""


def violation_of(trace: TraceLog, run: int, number: int, where: str, error: EventOrderError) -> Violation:
    """Return an error as a violation.

    Args:
        trace: the trace.
        run: the number of the run.
        number: the position of the illegal event in the trace, from 1; 0 if the run has no events.
        where: the place of the run in words.
        error: the error, without the events before it.
    """
    event = trace.key_of(number - 1) if number else ""
    message = _in_context(trace, number - 1, str(error)) if number else str(error)
    return Violation(trace.runs[run].engine, run, number, event, where, message)


def _in_context(trace: TraceLog, index: int, error: str) -> str:
    """Return the error with the events before it, and the line of code that fired the last one."""
    first_line, *rest = error.splitlines()
    run = trace.run_of(index)
    before = (earlier for earlier in range(index - 1, -1, -1) if trace.run_of(earlier) == run)
    width = len(str(index + 1))
    shown = [
        f"{'  > ' if each == index else '    '}{each + 1:>{width}}  {event_name(trace.key_of(each))}"
        for each in (*reversed([*islice(before, SHOWN_BEFORE)]), index)
    ]
    site = trace.site_of(index)
    if site is not None:
        shown[-1] += f"  fired by {site}"
    return "\n".join([first_line, *shown, *rest])
