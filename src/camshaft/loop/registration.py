"""The registration of custom events: it adds their states to a loop.

A loop is frozen, so registration returns a new one. The engine then runs that loop.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Return the loop with the states of these events added.

    Args:
        loop: the loop to extend.
        events, after, before, within, order: see :meth:`camshaft.Engine.register_events`.

    Raises:
        TypeError, ValueError: an event, or the combination of arguments, is invalid.
        LoopError: the place does not exist.
    """
    _check(events, order)
    keys = list(dict.fromkeys(event_key(event) for event in events))
    known = set(loop.event_keys)
    new = [key for key in keys if key not in known]
    if after is None and before is None:
        declared = tuple(keys) if order == "declared" else ()
        scope = within or _default_scope(loop)
        if declared or within is not None:
            _check_unchanged(loop, [key for key in keys if key in known], scope, declared)
        return _with_custom_states(loop, new, scope, declared) if new else loop
    if order == "declared":
        raise ValueError("events with after= or before= always fire in the given order; leave out order='declared'")
    if new != keys:
        taken = next(key for key in keys if key in known)
        raise ValueError(
            f"{event_name(taken)} is already in the loop {loop.name}, and an event can have only one place: "
            f"do not register it again with after= or before="
        )
    return loop.insert(*_placed_states(keys), after=after, before=before, within=within)


def _check(events: Sequence[EventHandle], order: str) -> None:
    if not events:
        raise ValueError("no events to register: give members of an EventEnum, or strings")
    if order not in ("free", "declared"):
        raise ValueError(f"order must be 'free' or 'declared', got {order!r}")
    for event in events:
        key = event_key(event)
        if key in BUILT_IN:
            raise ValueError(f"{event_name(key)} is a built-in event; give the custom event another value than {key!r}")
        if any(single.filter is not None for single in attachments(event)):
            raise ValueError(
                f"{event!r} has a filter: register the event without it, and use the filter to attach a handler"
            )


def _check_unchanged(loop: Loop, keys: Sequence[str], within: str, order: tuple[str, ...]) -> None:
    """Refuse another scope or order for events that are already registered."""
    states = {event: state for state in loop.custom_states for event in state.events}
    for key in keys:
        if key not in states:
            raise ValueError(f"{event_name(key)} is fired by the loop {loop.name} itself: leave out within= and order=")
        state = states[key]
        if (state.within, state.order) != (within, order):
            there = f"within {state.within}, in {'the order ' + str(state.order) if state.order else 'any order'}"
            raise ValueError(
                f"{event_name(key)} is already registered {there}: "
                f"register all events of an order in one call, and only once"
            )


def _default_scope(loop: Loop) -> str:
    """Return the scope of custom events registered without ``within=``: the data loop, or else the deepest loop."""
    if loop.data_loop is not None:
        return loop.data_loop.name
    return max((path for path, item in loop.walk() if isinstance(item, Loop)), key=len)[-1]


def _by_state(keys: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each state, its two events on entry and exit, or the single event that does both.

    Raises:
        ValueError: two events belong to the same state, but are not its ``_STARTED`` and ``_COMPLETED``.
    """
    states: dict[str, list[str]] = {}
    for key in keys:
        states.setdefault(state_of(key)[0], []).append(key)
    for state, events in states.items():
        if len(events) > 1 and sorted(str(state_of(key)[1]) for key in events) != ["completed", "started"]:
            raise ValueError(f"{' and '.join(map(event_name, events))} would both be the state {state}; rename one")
    return states


def _started_first(events: list[str]) -> list[str]:
    return sorted(events, key=lambda key: state_of(key)[1] == "completed")


def _placed_states(keys: Sequence[str]) -> list[Phase | EventPoint]:
    states: list[Phase | EventPoint] = []
    for state, events in _by_state(keys).items():
        if len(events) == 2:
            started, completed = _started_first(events)
            states.append(Phase(state, started=started, completed=completed))
        else:
            states.append(EventPoint(events[0]))
    return states


def _with_custom_states(loop: Loop, new: Sequence[str], within: str, order: tuple[str, ...]) -> Loop:
    custom = {state.name: state for state in loop.custom_states}
    for name in _by_state(new):
        if name in custom and (custom[name].within, custom[name].order) != (within, order):
            raise ValueError(
                f"the state {name} is already registered within {custom[name].within}; rename the new event"
            )
    registered = [event for state in loop.custom_states for event in state.events]
    for name, events in _by_state([*registered, *new]).items():
        if name in custom and len(events) == len(custom[name].events):
            continue
        # A lone X_COMPLETED is kept as ``completed``: X_STARTED may still be registered later and make it a pair.
        first, *second = _started_first(events)
        is_lone_completed = not second and state_of(first)[1] == "completed"
        started, completed = (None, first) if is_lone_completed else (first, second[0] if second else None)
        custom[name] = CustomState(name, started, completed, within, order)
    return loop.evolve(custom_states=tuple(custom.values()))
