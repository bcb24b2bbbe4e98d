"""States of a user's own making that span a number of iterations or epochs."""

from __future__ import annotations

from typing import Any

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine
from camshaft.events import EventEnum, EventHandle, Events
from camshaft.exceptions import LoopError

__all__ = ["CustomPeriodicEvent"]


class CustomPeriodicEvent:
    """A state that is entered every n iterations or epochs, and left when they are done.

    ``CustomPeriodicEvent(n_iterations=1000)`` has the events ``Events.ITERATIONS_1000_STARTED`` and ``_COMPLETED``, and
    counts in ``state.iterations_1000`` how often the state was entered. It is fired from the handlers of the events
    that begin and end an iteration or an epoch, in their order. A run that goes on in the middle of such a state enters
    it again at STARTED, without counting; one that ends in the middle of it leaves it without an event.

    Args:
        n_iterations: how many iterations it spans.
        n_epochs: how many epochs, instead.

    Attributes:
        Events: an EventEnum with its two events.

    Raises:
        ValueError: both are given, or neither, or what is given is not an integer of 1 or more.
    """

    def __init__(self, n_iterations: int | None = None, n_epochs: int | None = None) -> None:
        if (n_iterations is None) == (n_epochs is None):
            raise ValueError("CustomPeriodicEvent: give n_iterations or n_epochs, and not both")
        unit, n = ("epoch", n_epochs) if n_iterations is None else ("iteration", n_iterations)
        check_integer(f"CustomPeriodicEvent: n_{unit}s", n)
        self.unit, self.n = unit, n
        self.counter = f"{unit}s_{n}"
        names = [f"{self.counter}_{end}" for end in ("started", "completed")]
        make: Any = EventEnum  # the functional interface of enums, which EventEnum's filters hide from type checkers
        self.Events: Any = make("CustomEvents", {name.upper(): name for name in names})

    def attach(self, engine: Engine) -> None:
        """Put the state into the loop of an engine.

        Raises:
            ValueError: the loop has no iterations or epochs.
            LoopError: it has a state of that name already, such as another one of this length. Nothing is changed then.
        """
        begins, ends = (
            (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)
            if self.unit == "epoch"
            else (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED | Events.ITERATION_SKIPPED)
        )
        engine.handlers(begins)  # refuses a loop that has none, before anything is changed
        if any(map(engine.has_registered_events, self.Events)):
            raise LoopError(
                f"CustomPeriodicEvent: {engine.name} has a state {self.counter.upper()} already: "
                f"use the events of that one"
            )
        own = dict.fromkeys(self.Events, self.counter)
        engine.register_events(*own, within="RUN", event_to_attr=own)
        period = _Period(self)
        engine.add_event_handler(Events.STARTED, period.go_on)
        engine.add_event_handler(begins, period.enter)
        engine.add_event_handler(ends, period.leave)


class _Period:
    """The state in one engine: whether it is entered."""

    def __init__(self, event: CustomPeriodicEvent) -> None:
        self.unit, self.n, self.counter = event.unit, event.n, event.counter
        self.started: EventHandle
        self.completed: EventHandle
        self.started, self.completed = event.Events
        self.is_entered = False

    def go_on(self, engine: Engine) -> None:
        """A run begins: what it has behind it counts."""
        done = getattr(engine.state, self.unit)
        setattr(engine.state, self.counter, -(-done // self.n))
        self.is_entered = bool(done % self.n)
        if self.is_entered:
            engine.fire_event(self.started)

    def enter(self, engine: Engine) -> None:
        """An iteration or epoch begins."""
        before = getattr(engine.state, self.unit) - 1
        if engine.state.resumed or before % self.n:
            return
        if self.is_entered:  # how the last one ended, no event has told
            engine.fire_event(self.completed)
        setattr(engine.state, self.counter, before // self.n + 1)
        self.is_entered = True
        engine.fire_event(self.started)

    def leave(self, engine: Engine) -> None:
        """An iteration or epoch is over."""
        if self.is_entered and getattr(engine.state, self.unit) % self.n == 0:
            self.is_entered = False
            engine.fire_event(self.completed)
