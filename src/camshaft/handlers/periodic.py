"""Custom states that span a number of iterations or epochs."""

from __future__ import annotations

from functools import cache
from typing import Any

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine
from camshaft.events import EventEnum, EventHandle, Events
from camshaft.exceptions import LoopError

__all__ = ["CustomPeriodicEvent"]


class _PeriodicEvents(EventEnum):
    """Base class of the enums, whose members can be pickled although no module has the enum."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        counter, _, end = self.value.rpartition("_")
        return _event_of, (counter, end)


@cache  # one enum for each counter: its members are equal in all engines
def _events_of(counter: str) -> Any:
    # EventEnum("Name", members) creates an enum; type checkers see only the filters of EventEnum.__call__
    make_enum: Any = _PeriodicEvents
    names = [f"{counter}_{end}" for end in ("started", "completed")]
    return make_enum("CustomEvents", {name.upper(): name for name in names})


def _event_of(counter: str, end: str) -> EventHandle:
    return _events_of(counter)(f"{counter}_{end}")


class CustomPeriodicEvent:
    """Custom state that repeatedly spans n iterations or epochs.

    ``CustomPeriodicEvent(n_iterations=1000)`` has the events ``Events.ITERATIONS_1000_STARTED`` and ``_COMPLETED``, and
    counts in ``state.iterations_1000`` how often the state was entered. Its events are fired by handlers of the events
    that start and end an iteration or an epoch. They run in the order of attachment among the other handlers. A run
    that continues in the middle of the state enters it again at STARTED, without counting. A run that ends in the
    middle of the state leaves it without an event.

    Args:
        n_iterations: the number of iterations that the state spans.
        n_epochs: the number of epochs, instead of iterations.

    Attributes:
        Events: an EventEnum with the two events.

    Raises:
        ValueError: both arguments are given, or neither, or the number is not an integer of 1 or more.
    """

    def __init__(self, n_iterations: int | None = None, n_epochs: int | None = None) -> None:
        if (n_iterations is None) == (n_epochs is None):
            raise ValueError("CustomPeriodicEvent: give n_iterations or n_epochs, and not both")
        unit, n = ("epoch", n_epochs) if n_iterations is None else ("iteration", n_iterations)
        check_integer(f"CustomPeriodicEvent: n_{unit}s", n)
        self.unit, self.n = unit, n
        self.counter = f"{unit}s_{n}"
        self.Events: Any = _events_of(self.counter)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy copies: all but the enum, which is made again."""
        return {name: value for name, value in self.__dict__.items() if name != "Events"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, Events=_events_of(state["counter"]))

    def attach(self, engine: Engine) -> None:
        """Add the state to the loop of an engine.

        Args:
            engine: the engine whose iterations or epochs are counted.

        Raises:
            ValueError: the loop has no iterations or epochs.
            LoopError: the loop already has a state of this name, such as another one of this length. Nothing is
                changed.
        """
        begins, ends = (
            (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)
            if self.unit == "epoch"
            else (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED | Events.ITERATION_SKIPPED)
        )
        engine.handlers(begins)  # raises before anything is changed if the loop never fires this event
        if any(map(engine.has_registered_events, self.Events)):
            raise LoopError(
                f"CustomPeriodicEvent: {engine.name} already has a state {self.counter.upper()}: "
                f"use the events of that one"
            )
        attributes = dict.fromkeys(self.Events, self.counter)
        engine.register_events(*attributes, within="RUN", event_to_attr=attributes)
        period = _Period(self)
        engine.add_event_handler(Events.STARTED, period.on_run_start)
        engine.add_event_handler(begins, period.on_pass_start)
        engine.add_event_handler(ends, period.on_pass_end)


class _Period:
    """The state in one engine, and whether it is entered."""

    def __init__(self, event: CustomPeriodicEvent) -> None:
        self.unit, self.n, self.counter = event.unit, event.n, event.counter
        self.started: EventHandle
        self.completed: EventHandle
        self.started, self.completed = event.Events
        self.is_entered = False

    def on_run_start(self, engine: Engine) -> None:
        """Restore the count, and enter the state again if the run continues in the middle of it."""
        __tracebackhide__ = True
        done = getattr(engine.state, self.unit)
        setattr(engine.state, self.counter, -(-done // self.n))
        self.is_entered = bool(done % self.n)
        if self.is_entered:
            engine.fire_event(self.started)

    def on_pass_start(self, engine: Engine) -> None:
        """Enter the state if a new period begins with this iteration or epoch."""
        __tracebackhide__ = True
        before = getattr(engine.state, self.unit) - 1
        if engine.state.resumed or before % self.n:
            return
        if self.is_entered:  # the previous iteration or epoch ended without an event
            engine.fire_event(self.completed)
        setattr(engine.state, self.counter, before // self.n + 1)
        self.is_entered = True
        engine.fire_event(self.started)

    def on_pass_end(self, engine: Engine) -> None:
        """Leave the state if this iteration or epoch is the last one of the period."""
        __tracebackhide__ = True
        if self.is_entered and getattr(engine.state, self.unit) % self.n == 0:
            self.is_entered = False
            engine.fire_event(self.completed)
