"""Custom events on an engine: their declared order is checked as they are fired."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from camshaft.engine.dispatch import Firing
from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.states import RUN, Free

__all__ = ["guard_order"]


class _OrderGuard:
    """Holds events to their declared order as they are fired, pass by pass."""

    def __init__(self, order: tuple[str, ...], states: Sequence[Free], counter: str) -> None:
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
        present = (engine.runs, 0 if self.scope == RUN else getattr(engine.state, self.counter))
        if present != self.in_pass:
            self.in_pass, self.rank = present, 0
            self.entered.clear()
        if event not in self.allowed():
            path = tuple(name for name in engine.where if name != self.state_of[event].name)
            expected = " | ".join(map(event_name, self.allowed())) or f"nothing more in this pass of {self.scope}"
            declared = ", ".join(map(event_name, self.order))
            what = f"{engine.name} event {event_name(event)} is out of its declared order in {engine.describe(path)}"
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


def guard_order(states: Sequence[Free], firings: Sequence[Firing], counter: str) -> None:
    """Check the declared order of these states whenever one of their events is fired.

    Args:
        counter: the attribute of the state that counts the passes in which the order holds.
    """
    guard = _OrderGuard(states[0].order, states, counter)
    for firing in firings:
        firing.guard(partial(guard.check, firing.event))
