"""Custom events of an engine: their handles, which ones user code may fire, and their declared order."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from enum import Enum
from functools import partial

from camshaft.engine.dispatch import EngineEvent, EventDispatcher
from camshaft.engine.location import format_path
from camshaft.engine.run import RunHost
from camshaft.events import BUILT_IN, EventHandle, Events, event_key, event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import RUN, CustomState

__all__ = ["CustomEvents", "check_known"]

BUILT_IN_HANDLES: dict[str, EventHandle] = {event.value: event for event in Events}


class _DeclaredOrder:
    """The declared order of some events, checked as they fire, pass by pass.

    Args:
        order: the keys of the events, in the declared order.
        states: the custom states of these events.
        counter: the attribute of the state that counts the passes of their loop.

    Attributes:
        next_index: the index in ``order`` of the first event that may still fire in this pass.
        entered: the names of states that were entered in this pass and not left.
        in_pass: the number of the run, and of the pass, that the other attributes belong to.
    """

    def __init__(self, order: tuple[str, ...], states: Sequence[CustomState], counter: str) -> None:
        self.order = order
        self.state_of = {event: state for state in states for event in state.events}
        self.scope = states[0].within
        self.counter = counter
        self.in_pass: tuple[int, int] | None = None
        self.next_index = 0
        self.entered: set[str] = set()

    def check(self, event: str, engine: RunHost) -> None:
        """Check one firing, and record it.

        Raises:
            EventOrderError: the order does not allow the event here.
        """
        # No event marks the start of a pass for this check, so a new pass is noticed by its number.
        present = (engine._run_number, 0 if self.scope == RUN else getattr(engine.state, self.counter))
        if present != self.in_pass:
            self.in_pass, self.next_index = present, 0
            self.entered.clear()
        if event not in self.allowed():
            # where includes the state of the event that is being dispatched, but this one is refused
            path = tuple(name for name in engine.where if name != self.state_of[event].name)
            expected = " | ".join(map(event_name, self.allowed())) or f"nothing more in this pass of {self.scope}"
            declared = ", ".join(map(event_name, self.order))
            place = format_path(engine.state, engine.loop, path)
            what = f"{engine.name} event {event_name(event)} is out of its declared order in {place}"
            raise EventOrderError(f"{what}\n  expected: {expected}\n  declared: {declared}")
        self.next_index = self.order.index(event) + 1
        state = self.state_of[event]
        if state.is_pair:
            (self.entered.add if event == state.started else self.entered.discard)(state.name)

    def allowed(self) -> list[str]:
        """Return the events that may fire next.

        They are later in the declared order. An event that leaves a state is allowed only if the state was entered, and
        an entered state must be left before any later event.
        """
        later = list(self.order[self.next_index :])
        open_until = [index for index, event in enumerate(later) if self._leaves(event) and self._is_entered(event)]
        later = later[: open_until[0] + 1] if open_until else later
        return [event for event in later if not self._leaves(event) or self._is_entered(event)]

    def _is_entered(self, event: str) -> bool:
        return self.state_of[event].name in self.entered

    def _leaves(self, event: str) -> bool:
        state = self.state_of[event]
        return state.is_pair and event == state.completed


class CustomEvents:
    """The custom events of an engine.

    Attributes:
        by_hand: the events that user code fires, by key and by every handle that they were registered with.
        handles: the handle of each event, by key: a member of ``Events``, or the one that it was registered with.
    """

    def __init__(self) -> None:
        self.by_hand: dict[EventHandle, EngineEvent] = {}
        self.handles: dict[str, EventHandle] = BUILT_IN_HANDLES.copy()
        self._checked_orders: set[tuple[str, ...]] = set()

    def update(self, loop: Loop, dispatcher: EventDispatcher) -> None:
        """Add the custom events of a loop, and attach the checks that enforce declared event orders."""
        for event in (event for custom in loop.custom_states for event in custom.events):
            self.by_hand.setdefault(event, dispatcher.event(event))
        for order in dict.fromkeys(state.order for state in loop.custom_states if state.order):
            if order not in self._checked_orders:
                self._checked_orders.add(order)
                states = [state for state in loop.custom_states if state.order == order]
                declared = _DeclaredOrder(order, states, counter_loop_by_event(loop)[order[0]].lower())
                for event in order:
                    dispatcher.event(event).add_precheck(partial(declared.check, event))

    def add_handle(self, event: EventHandle, key: str) -> None:
        """Make an event known under a handle. If user code fires the event, it may use this handle."""
        if not isinstance(self.handles.get(key), Enum):  # a member says more than a string
            self.handles[key] = event
        if key in self.by_hand:
            self.by_hand[event] = self.by_hand[key]

    def find(self, engine: RunHost, event: EventHandle) -> EngineEvent:
        """Return the event to fire for a handle.

        Raises:
            ValueError: the event is not registered, or the engine fires it itself.
        """
        key = event_key(event)
        if key in self.by_hand:
            return self.by_hand[key]
        check_known(engine, key)
        why = "it is a built-in event" if key in BUILT_IN else f"its place in the loop {engine.loop.name} is declared"
        raise ValueError(f"{engine.name} fires {event_name(key)} itself, {why}: leave out fire_event()")


def check_known(engine: RunHost, key: str) -> None:
    """Refuse an event that an engine can never fire.

    Raises:
        ValueError: its loop does not have the event; the message gives the nearest name and the fix.
    """
    known = engine.loop.event_keys
    if key in known:
        return
    if key in BUILT_IN:
        names = ", ".join(map(event_name, known))
        raise ValueError(
            f"{event_name(key)} can never fire in the loop {engine.loop.name} of {engine.name}; it fires {names}"
        )
    nearest = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.8)
    fix = f"call {engine.name}.register_events({key!r}) first"
    if nearest:
        fix = f"did you mean {event_name(nearest[0])} ({nearest[0]!r})? If not, {fix}"
    raise ValueError(f"{event_name(key)} is not registered in {engine.name}: {fix}")
