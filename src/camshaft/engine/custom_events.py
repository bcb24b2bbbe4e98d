"""Custom events on an engine: which ones user code may fire, and in which declared order."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Any

from camshaft.engine.dispatch import EngineEvent, EventDispatcher
from camshaft.engine.run import RunHost
from camshaft.events import BUILT_IN, EventHandle, Events, event_key, event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import RUN, CustomState

__all__ = ["CustomEvents", "check_known"]

BUILT_IN_HANDLES: dict[str, EventHandle] = {event.value: event for event in Events}


class _DeclaredOrder:
    """Holds events to their declared order as they are fired, pass by pass."""

    def __init__(self, order: tuple[str, ...], states: Sequence[CustomState], counter: str) -> None:
        self.order = order
        self.state_of = {event: state for state in states for event in state.events}
        self.scope = states[0].within
        self.counter = counter
        self.in_pass: tuple[int, int] | None = None
        self.rank = 0
        self.entered: set[str] = set()

    def check(self, event: str, engine: Any) -> None:
        """Judge one firing.

        Raises:
            EventOrderError: the order does not allow it in this pass.
        """
        present = (engine._run_number, 0 if self.scope == RUN else getattr(engine.state, self.counter))
        if present != self.in_pass:
            self.in_pass, self.rank = present, 0
            self.entered.clear()
        if event not in self.allowed():
            path = tuple(name for name in engine.where if name != self.state_of[event].name)
            expected = " | ".join(map(event_name, self.allowed())) or f"nothing more in this pass of {self.scope}"
            declared = ", ".join(map(event_name, self.order))
            what = f"{engine.name} event {event_name(event)} is out of its declared order in {engine.format_path(path)}"
            raise EventOrderError(f"{what}\n  expected: {expected}\n  declared: {declared}")
        self.rank = self.order.index(event) + 1
        state = self.state_of[event]
        if state.is_pair:
            (self.entered.add if event == state.started else self.entered.discard)(state.name)

    def allowed(self) -> list[str]:
        """The events that may come next: later in the order, and leaving only states that were entered."""
        later = list(self.order[self.rank :])
        open_until = [index for index, event in enumerate(later) if self._leaves(event) and self._is_entered(event)]
        later = later[: open_until[0] + 1] if open_until else later
        return [event for event in later if not self._leaves(event) or self._is_entered(event)]

    def _is_entered(self, event: str) -> bool:
        return self.state_of[event].name in self.entered

    def _leaves(self, event: str) -> bool:
        state = self.state_of[event]
        return state.is_pair and event == state.completed


class CustomEvents:
    """The events of one engine that user code fires.

    Attributes:
        by_hand: each of them, by its key and by every handle that it was registered with.
    """

    def __init__(self) -> None:
        self.by_hand: dict[EventHandle, EngineEvent] = {}
        self.handles: dict[str, EventHandle] = BUILT_IN_HANDLES.copy()
        self._guarded: set[tuple[str, ...]] = set()

    def update(self, loop: Loop, dispatcher: EventDispatcher) -> None:
        """Take in the custom events of a loop, and check the orders that were declared for them."""
        for event in (event for custom in loop.custom_states for event in custom.events):
            self.by_hand.setdefault(event, dispatcher.event(event))
        for order in dict.fromkeys(state.order for state in loop.custom_states if state.order):
            if order not in self._guarded:
                self._guarded.add(order)
                states = [state for state in loop.custom_states if state.order == order]
                guard = _DeclaredOrder(order, states, counter_loop_by_event(loop)[order[0]].lower())
                for event in order:
                    dispatcher.event(event).add_precheck(partial(guard.check, event))

    def add_handle(self, event: EventHandle, key: str) -> None:
        """Let an event be fired under another handle too, if user code fires it."""
        if not isinstance(self.handles.get(key), Enum):
            self.handles[key] = event
        if key in self.by_hand:
            self.by_hand[event] = self.by_hand[key]

    def find(self, engine: RunHost, event: EventHandle) -> EngineEvent:
        """Return the event that a handle stands for.

        Raises:
            ValueError: the engine does not know it, or fires it itself.
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
