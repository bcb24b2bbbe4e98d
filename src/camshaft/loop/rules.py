"""The rules for the declaration of a loop. They are checked when a loop is created."""

from __future__ import annotations

import keyword
from collections.abc import Iterable

from camshaft._checks import check_integer
from camshaft.events import event_name, state_of
from camshaft.exceptions import LoopError
from camshaft.loop.states import (
    DATA,
    RESERVED,
    RUN,
    EventPoint,
    OpaqueStep,
    Phase,
    check_events,
    check_function,
    check_name,
)
from camshaft.loop.tree import LoopTree

__all__ = ["check_loop"]

MAX_DEPTH = 40
"""The maximal depth of nested states. Each level needs several frames of the interpreter's recursion limit."""

RESERVED_KEY = "state"
"""The attribute with the place of a machine. The library does not accept an event of this name."""

_STATE_FIELDS = {
    "EPOCH_LENGTH",
    "MAX_EPOCHS",
    "MAX_ITERS",
    "BATCH",
    "OUTPUT",
    "METRICS",
    "TIMES",
    "DATALOADER",
    "RESUMED",
    "SEED",
    "CONNECT",
    "COUNT_BY",
    "EVENT_TO_ATTR",
    "GET_EVENT_ATTRIB_VALUE",
    "HAS_NEW_DATA",
    "KEEP_DATA",
    "EXPECTED_LENGTH",
    "EXPECT_LENGTH_OF",
    "KNOWN_LENGTH",
    "FORGET_METRICS_OF_LAST_RUN",
    "LEARNED_LENGTH",
    "NOTE_METRICS_OF_RUN",
    "TAKE_DATA",
    "WITHIN_LIMITS",
}
"""Names that a loop must not have: its counter would overwrite an attribute of ``engine.state``."""


def check_loop(loop: LoopTree) -> None:
    """Refuse a loop that cannot run.

    Raises:
        LoopError: the loop breaks a rule. The message names the loop, the state and the fix.
        TypeError: a function does not accept its arguments, or a call would not run it.
    """
    owner = f"loop {loop.name}"
    check_name("loop", loop.name)
    counter = loop.name.lower()
    if keyword.iskeyword(counter):
        raise LoopError(f"{owner}: its counter would be state.{counter}, a Python keyword; choose another name")
    if loop.name in _STATE_FIELDS:
        raise LoopError(f"{owner}: its counter would be state.{counter}, which has another use; choose another name")
    if counter.startswith("_"):
        raise LoopError(f"{owner}: its counter would be the private state.{counter}; choose a name without _ before it")
    check_events(owner, *loop.own_events)
    _check_passes(loop, owner)
    for item in loop.body:
        if not isinstance(item, (Phase, OpaqueStep, EventPoint, LoopTree)):
            hint = "; give its states one by one, with a * before it" if isinstance(item, (list, tuple)) else ""
            if getattr(item, "__name__", "").isidentifier():
                hint = f"; wrap it: Phase({item.__name__.upper()!r}, {item.__name__})"
            elif callable(item):
                hint = "; wrap it: Phase(name, function)"
            raise LoopError(
                f"{owner}: {item!r} is not a state; a body may contain Phase, Loop, OpaqueStep and EventPoint{hint}"
            )
        if isinstance(item, LoopTree) and item.over is None and item.times is None and item.until is None:
            raise LoopError(f"{owner}: the inner loop {item.name} would never end; give it over=, times= or until=")
    _check_names(loop, owner)
    _check_unambiguous(loop, owner)


def _check_passes(loop: LoopTree, owner: str) -> None:
    given = [name for name in ("over", "times", "until") if getattr(loop, name) is not None]
    if len(given) > 1:
        raise LoopError(f"{owner}: {' and '.join(given)} exclude each other; give one")
    if loop.times is not None:
        check_integer(f"{owner}: times", loop.times, hint="otherwise its body is unreachable", error=LoopError)
    check_function(owner, "until", loop.until, "engine", returns=" -> bool")
    if (
        loop.over is not None
        and loop.over is not DATA
        and not callable(loop.over)
        and not isinstance(loop.over, Iterable)
    ):
        raise LoopError(
            f"{owner}: over must be DATA, an iterable, or a function (engine) -> iterable, got {loop.over!r}"
        )
    if callable(loop.over) and loop.over is not DATA:
        check_function(owner, "over", loop.over, "engine")
    if not loop.body and loop.over is None and loop.times is None:
        raise LoopError(f"{owner}: it has no body and takes no data, so its passes do nothing; give it a phase")


def _check_names(loop: LoopTree, owner: str) -> None:
    seen: set[str] = set()
    data_loops = []
    for path, item in loop.walk():
        if len(path) > MAX_DEPTH:
            raise LoopError(f"{owner}: {item.name} is nested {len(path)} deep; the limit is {MAX_DEPTH}")
        if item.name in RESERVED:
            raise LoopError(f"{owner}: {item.name} is the name of a built-in state; choose another")
        if item.name in seen:
            raise LoopError(f"{owner}: two states are named {item.name}; give one of them another name")
        seen.add(item.name)
        if isinstance(item, LoopTree) and item.over is DATA:
            data_loops.append(item.name)
    if len(data_loops) > 1:
        raise LoopError(
            f"{owner}: {' and '.join(data_loops)} both have over=DATA; only one loop can take the data of the run, "
            f"give the others another over="
        )
    loops = [item for _, item in loop.walk() if isinstance(item, LoopTree)]
    for item in loops:
        if item.passes == "over" and any(other.name == f"{item.name}_ITEM" for other in loops):
            raise LoopError(
                f"{owner}: state.{item.name.lower()}_item would be both the element of {item.name} and the counter of "
                f"{item.name}_ITEM; give one of them another name"
            )
    _check_keys(loop, owner)
    scopes = {RUN} | {item.name for _, item in loop.walk() if isinstance(item, (LoopTree, Phase))}
    for custom in loop.custom_states:
        if custom.name in RESERVED:
            raise LoopError(
                f"{owner}: {custom.name} is the name of a built-in state; name the custom event differently"
            )
        if custom.name in seen:
            raise LoopError(f"{owner}: two states are named {custom.name}; name the custom event differently")
        seen.add(custom.name)
        if custom.within not in scopes:
            raise LoopError(
                f"{owner}: within={custom.within!r} is not a loop or phase in it; it has {', '.join(sorted(scopes))}"
            )


def _check_keys(loop: LoopTree, owner: str) -> None:
    """Refuse events whose names cannot be used everywhere. Those of the loops inside of it were checked before."""
    keys = [*loop.own_events]
    keys += [key for item in loop.body if not isinstance(item, LoopTree) for key in item.own_events]
    keys += [key for custom in loop.custom_states for key in custom.events]
    for key in keys:
        if not state_of(key)[0]:
            raise LoopError(f"{owner}: the event {key!r} has no name after its last dot, so no state; rename it")
        if key == RESERVED_KEY:
            raise LoopError(f"{owner}: the event {key!r} would be the state of its transitions.Machine; rename it")


def _check_unambiguous(loop: LoopTree, owner: str) -> None:
    """Refuse a loop in which one event has two different transitions out of the same place."""
    # Walk backwards with the set of events that may come next. A state that is never skipped hides all later events;
    # a phase with a condition, or an inner loop, may be skipped, so the events after it stay possible.
    next_events = {loop.completed}
    for item in reversed(loop.body):
        if isinstance(item, OpaqueStep):
            continue
        first = item.event if isinstance(item, EventPoint) else item.started
        is_never_skipped = isinstance(item, EventPoint) or (isinstance(item, Phase) and item.when is None)
        if is_never_skipped:
            next_events = set()
        if first in next_events:
            raise LoopError(
                f"{owner}: before {item.name}, {event_name(first)} would have two transitions; "
                f"give {item.name} events of its own"
            )
        next_events.add(first)
