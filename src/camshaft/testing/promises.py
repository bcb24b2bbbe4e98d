"""What an engine promises about calls and handlers at each event, derived from the documentation and not from its code.

:class:`camshaft.testing.EngineStateMachine` tries these promises on a running engine.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import attrs

from camshaft.control import CALLS
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.events import ENDS_A_RUN, Filter, FilteredEvent
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA

__all__ = [
    "AFTER_ALL_HANDLERS",
    "EVENT_OF_CALL",
    "PROMISES_WHILE_IDLE",
    "PROMISES_WHILE_PAUSED",
    "Promise",
    "RecordingHandler",
    "Turn",
    "any_length_of_data",
    "expect_refusal",
    "is_due",
    "promises_at",
]

Promise = Literal["done", "nothing", "refused"]
"""The result of a call: it takes effect, it has no effect, or it raises an error."""

EVENT_OF_CALL = {made.call: key for key, made in reversed(CALLS.items())} | {"fault": "exception_raised"}
"""The event of each call, in rising rank. Of several pending calls, the last one in this order takes effect."""

PROMISES_WHILE_IDLE: dict[str, Promise] = {
    "terminate": "nothing",
    "terminate_epoch": "refused",
    "skip_iteration": "refused",
}
"""The results of control calls while no run is under way."""

PROMISES_WHILE_PAUSED: dict[str, Promise] = {"terminate": "nothing"}
"""The results of control calls while a run is paused. The results of other calls are not promised."""


def promises_at(loop: Loop, key: str) -> dict[str, Promise]:
    """Return the promised results of the calls that a handler of an event can make.

    Args:
        loop: the loop of the engine.
        key: the key of the event.

    Returns:
        By the name of the call: its result. A call is missing if nothing is promised about it at this event.
    """
    data_loop = loop.data_loop
    found: dict[str, Promise] = {"run": "refused", "close": "refused"}
    if key != "exception_raised":
        can_skip = data_loop is not None and key in ("get_batch_completed", data_loop.started)
        found |= {"fault": "done", "skip_iteration": "done" if can_skip else "refused"}
    if key in ENDS_A_RUN:
        found["terminate"] = "nothing"
    elif key != "interrupt":
        found |= {"terminate": "done", "interrupt": "done"}
        if key == "started" or loop.over is DATA:
            found["terminate_epoch"] = "refused"
        elif key not in ("terminate_single_epoch", loop.completed):
            found["terminate_epoch"] = "done"
    return found


def is_due(filter: Filter | None, count: int) -> bool:
    """Return whether a filter lets a count through, computed from its fields and not by its own code."""
    if filter is None or filter.once is not None:
        return filter is None or count in (filter.once or ())
    counts_from_0 = filter.every is not None and filter.after is None and filter.before is None
    first = 0 if counts_from_0 else filter.every or 1 if filter.after is None else filter.after + 1
    is_multiple = count >= first and (count - first) % (filter.every or 1) == 0
    return is_multiple and (filter.before is None or count < filter.before)


@contextmanager
def expect_refusal(error: type[Exception], what: str) -> Iterator[None]:
    """Check that the block raises an error.

    Args:
        error: the class of the error.
        what: the call in the block, for the message.

    Raises:
        AssertionError: the block did not raise it.
    """
    try:
        yield
    except error:
        return
    raise AssertionError(f"{what} was not refused")


Turn = tuple[float, float]
"""The position of a handler among those of its event: the negative priority, then the order of attachment."""

AFTER_ALL_HANDLERS: Turn = (math.inf, math.inf)


@attrs.define(eq=False)
class RecordingHandler:
    """A handler that records its calls, with the moments at which it was attached and removed.

    Attributes:
        on: the event, with its filter and priority.
        turn: its position among the handlers of the event.
        since: the length of the trace when it was attached.
        until: the index of the event in the trace, and the turn, at which it was removed; None while it is attached.
        fired: how many times its event fired, in this run, while it was attached.
        handle: removes it; None before it is attached.
    """

    on: FilteredEvent
    turn: Turn = AFTER_ALL_HANDLERS
    since: int = 0
    until: tuple[int, Turn] | None = None
    fired: int = 0
    handle: RemovableEventHandle | None = None

    def called_at(self, index: int) -> str:
        """Return its call at an event of the trace, in words."""
        return f"#{index + 1} {self.on} (handler {self.turn[1]})"


@contextmanager
def any_length_of_data() -> Iterator[None]:
    """Ignore the warning that a continued run has data of another length: the data are drawn at random."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* continues with data of", UserWarning)
        yield
