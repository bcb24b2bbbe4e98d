"""Registration: what custom events do to a loop, and the guard of an order that was declared for them.

A function here returns a new loop or raises; the engine takes the loop on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from camshaft.events import BUILT_IN, EventHandle, attachments, event_key, event_name, state_of
from camshaft.loop.loop import Loop
from camshaft.loop.states import CustomState, EventPoint, Phase

__all__ = ["register"]


def register(
    loop: Loop,
    events: Sequence[EventHandle],
    *,
    after: str | None = None,
    before: str | None = None,
    within: str | None = None,
    order: str = "free",
) -> Loop:
    """The loop with the states of these events put in: see :meth:`camshaft.Engine.register_events`."""
    _check(events, order)
    keys = list(dict.fromkeys(event_key(event) for event in events))
    known = set(loop.event_keys)
    new = [key for key in keys if key not in known]
    if after is None and before is None:
        declared = tuple(keys) if order == "declared" else ()
        scope = within or _innermost(loop)
        if declared or within is not None:
            _check_alike(loop, [key for key in keys if key in known], scope, declared)
        return _with_free(loop, new, scope, declared) if new else loop
    if order == "declared":
        raise ValueError("events with a place are fired in the order given; leave out order='declared'")
    if new != keys:
        taken = next(key for key in keys if key in known)
        raise ValueError(
            f"{event_name(taken)} is in the loop {loop.name} already, and an event has one place: "
            f"register it only there"
        )
    return loop.insert(*_placed(keys), after=after, before=before, within=within)


def _check(events: Sequence[EventHandle], order: str) -> None:
    if not events:
        raise ValueError("no events to register: give members of an EventEnum, or strings")
    if order not in ("free", "declared"):
        raise ValueError(f"order={order!r}: give 'free' or 'declared'")
    for event in events:
        key = event_key(event)
        if key in BUILT_IN:
            raise ValueError(f"{event_name(key)} is a built-in event; give the custom event another value than {key!r}")
        if any(single.filter is not None for single in attachments(event)):
            raise ValueError(
                f"{event!r} has a filter: register the event itself, and filter where a handler is attached"
            )


def _check_alike(loop: Loop, keys: Sequence[str], within: str, order: tuple[str, ...]) -> None:
    """Refuse another scope or order for events that are registered already."""
    states = {event: state for state in loop.custom_states for event in state.events}
    for key in keys:
        if key not in states:
            raise ValueError(f"{event_name(key)} is fired by the loop {loop.name} itself: leave out within= and order=")
        state = states[key]
        if (state.within, state.order) != (within, order):
            there = f"within {state.within}, in {'the order ' + str(state.order) if state.order else 'a custom order'}"
            raise ValueError(
                f"{event_name(key)} is registered already, {there}: register it once, with all of its order"
            )


def _innermost(loop: Loop) -> str:
    """Where custom events belong unless said otherwise: the loop that takes data, else the deepest one."""
    if loop.data_loop is not None:
        return loop.data_loop.name
    return max((path for path, item in loop.walk() if isinstance(item, Loop)), key=len)[-1]


def _by_state(keys: Sequence[str]) -> dict[str, list[str]]:
    """The events of each state: the two that enter and leave it, or the one that does both.

    Raises:
        ValueError: two events would be the same state, and are no such pair.
    """
    states: dict[str, list[str]] = {}
    for key in keys:
        states.setdefault(state_of(key)[0], []).append(key)
    for state, events in states.items():
        if len(events) > 1 and sorted(str(state_of(key)[1]) for key in events) != ["completed", "started"]:
            raise ValueError(f"{' and '.join(map(event_name, events))} would both be the state {state}; rename one")
    return states


def _enters_first(events: list[str]) -> list[str]:
    return sorted(events, key=lambda key: state_of(key)[1] == "completed")


def _placed(keys: Sequence[str]) -> list[Any]:
    made: list[Any] = []
    for state, events in _by_state(keys).items():
        if len(events) == 2:
            started, completed = _enters_first(events)
            made.append(Phase(state, started=started, completed=completed))
        else:
            made.append(EventPoint(events[0]))
    return made


def _with_free(loop: Loop, new: Sequence[str], within: str, order: tuple[str, ...]) -> Loop:
    custom = {state.name: state for state in loop.custom_states}
    for name in _by_state(new):
        if name in custom and (custom[name].within, custom[name].order) != (within, order):
            raise ValueError(
                f"the state {name} is registered already, within {custom[name].within}; rename the new event"
            )
    registered = [event for state in loop.custom_states for event in state.events]
    for name, events in _by_state([*registered, *new]).items():
        if name in custom and len(events) == len(custom[name].events):
            continue
        first, *second = _enters_first(events)
        lone_leaves = not second and state_of(first)[1] == "completed"
        started, completed = (None, first) if lone_leaves else (first, second[0] if second else None)
        custom[name] = CustomState(name, started, completed, within, order)
    return loop.evolve(custom_states=tuple(custom.values()))
