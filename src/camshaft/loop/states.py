"""The states that a loop is made of: phases, opaque steps, marks, custom states and nested engines."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import attrs

from camshaft._checks import check_integer
from camshaft.events import BUILT_IN, OF_A_LOOP, EventHandle, FilteredEvent, event_key, state_of
from camshaft.exceptions import LoopError
from camshaft.loop.declaration import Declared

__all__ = [
    "DATA",
    "Every",
    "CustomState",
    "LoopItem",
    "EventPoint",
    "Nested",
    "Path",
    "Phase",
    "RUN",
    "OpaqueStep",
    "every",
]

RUN = "RUN"
"""The scope around the outermost loop: from STARTED to COMPLETED."""

Path = tuple[str, ...]

RESERVED = {RUN, "READY", "STARTED", "GET_BATCH", "RESTART", "COMPLETED", "TERMINATED", "FAILED"}


class _Data(enum.Enum):
    DATA = "data"

    def __repr__(self) -> str:
        return "DATA"


DATA = _Data.DATA
"""``Loop(..., over=DATA)``: one pass for each batch of the data that is given to ``Engine.run``."""


@attrs.frozen
class Every:
    """Holds in every n-th pass of the loop around the phase. Made by :func:`every`."""

    n: int = attrs.field()

    @n.validator
    def _positive(self, _: Any, value: int) -> None:
        check_integer("every(n): n", value, error=LoopError)

    def __repr__(self) -> str:
        return f"every({self.n})"


def every(n: int) -> Every:
    """The condition "every n-th pass" for :class:`Phase`: ``Phase("OPTIM_STEP", optim_step, when=every(4))``."""
    return Every(n)


def check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name != name.upper():
        raise LoopError(f"{kind} {name!r}: name a state in capitals, as a Python identifier, such as OPTIM_STEP")
    if name in RESERVED:
        raise LoopError(f"{kind} {name}: this name is taken by a built-in state; choose another")


def check_callable(owner: str, role: str, value: Any, signature: str) -> None:
    if value is not None and not callable(value):
        raise LoopError(f"{owner}: {role} is {value!r}, which is no callable; give a function {signature}")


def _default_event(suffix: str) -> Any:
    return attrs.Factory(lambda self: f"{self.name.lower()}_{suffix}", takes_self=True)


class LoopItem(Declared):
    """A state in the tree of a loop: a phase, an opaque step, a mark, or a loop."""

    name: str

    @property
    def own_events(self) -> tuple[str, ...]:
        """The keys of the events that the state itself fires, in order."""
        return ()


@attrs.frozen(init=False, repr=False)
class Phase(LoopItem):
    """A state that does one thing, between the event that enters it and the event that leaves it.

    Args:
        name: the state, in capitals.
        run: ``run(engine, batch)``; a value that is not None becomes ``state.output``. None for a state that only
            fires its two events.
        when: :func:`every`, or ``when(engine) -> bool``; where it does not hold, the phase and its events are left out.
        started, completed: the events, ``<name>_started`` and ``<name>_completed`` unless given.
    """

    name: str
    run: Callable[[Any, Any], Any] | None = None
    when: Every | Callable[[Any], bool] | None = None
    started: str = _default_event("started")
    completed: str = _default_event("completed")

    def __init__(
        self,
        name: str,
        run: Callable[[Any, Any], Any] | None = None,
        when: Every | Callable[[Any], bool] | None = None,
        *,
        started: Any = None,
        completed: Any = None,
    ) -> None:
        check_name("phase", name)
        check_callable(f"phase {name}", "what it runs", run, "(engine, batch)")
        if not isinstance(when, Every):
            check_callable(f"phase {name}", "when", when, "(engine) -> bool, or every(n)")
        self.__attrs_init__(name, run, when, **_events(started, completed))
        check_events(f"phase {name}", *self.own_events)

    @property
    def own_events(self) -> tuple[str, str]:
        """The keys of the events that enter and leave it."""
        return (self.started, self.completed)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        positional = (self.name,) if self.run is None else (self.name, self.run)
        return positional, {"when": (self.when, None)} | _named_events(self.name, self.started, self.completed)


@attrs.frozen(repr=False)
class OpaqueStep(LoopItem):
    """An opaque step: one function does forward, backward and the optimizer's step. It fires no events of its own."""

    run: Callable[[Any, Any], Any] | None = attrs.field(default=None)
    name: str = attrs.field(default="STEP", init=False)

    @run.validator
    def _callable(self, _: Any, value: Any) -> None:
        check_callable("step", "what it runs", value, "(engine, batch) -> output")

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        return (() if self.run is None else (self.run,)), {}


@attrs.frozen(repr=False)
class EventPoint(LoopItem):
    """A place where the engine fires one event: a state that is entered and left at once."""

    event: str = attrs.field(converter=event_key)
    name: str = attrs.field(init=False)

    @name.default
    def _state(self) -> str:
        return state_of(self.event)[0]

    @property
    def own_events(self) -> tuple[str, ...]:
        """The key of its event."""
        return (self.event,)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        return (self.event,), {}


@attrs.frozen(repr=False)
class CustomState(Declared):
    """A state that the user's own code enters and leaves by firing its events, in an order that is not declared.

    Args:
        name: the state.
        started: the event that enters it; None when ``completed`` enters and leaves it at once.
        completed: the event that leaves it; None when ``started`` enters and leaves it at once.
        within: where it can be entered: the loop in whose pass, or the phase in which, it must be left; or ``"RUN"``,
            whose end leaves it.
        order: the declared order of the events it was registered with; empty when their order is free.
    """

    name: str
    started: str | None
    completed: str | None
    within: str
    order: tuple[str, ...] = ()

    @property
    def events(self) -> tuple[str, ...]:
        """The one or two events, in order."""
        return tuple(event for event in (self.started, self.completed) if event is not None)

    @property
    def is_pair(self) -> bool:
        """Whether it stays entered between two events."""
        return len(self.events) == 2

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        return (self.name, self.started, self.completed, self.within), {"order": (self.order, ())}


def _as_filtered(on: EventHandle) -> FilteredEvent:
    return on if isinstance(on, FilteredEvent) else FilteredEvent(event_key(on))


@attrs.frozen
class Nested:
    """An engine that runs inside another, at its place among the handlers of an event.

    Args:
        engine: the inner engine; None in a declaration that was read from a file.
        on: the event of the outer engine, filtered or not.
        data: what the inner engine runs over.
        max_epochs, max_iters, epoch_length: the limits of each inner run, as for ``Engine.run``.
    """

    engine: Any
    on: FilteredEvent = attrs.field(converter=_as_filtered)
    data: Any = attrs.field(default=None, eq=False)
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    name: str = attrs.field(kw_only=True)

    @name.default
    def _name(self) -> str:
        return str(self.engine.name)


def _events(started: Any, completed: Any) -> dict[str, str]:
    given = {"started": started, "completed": completed}
    return {role: event_key(handle) for role, handle in given.items() if handle is not None}


def _named_events(name: str, started: str, completed: str) -> dict[str, tuple[str, str]]:
    """Return the events of a state as named arguments, each beside its default."""
    lower = name.lower()
    return {"started": (started, f"{lower}_started"), "completed": (completed, f"{lower}_completed")}


def check_events(owner: str, started: str, completed: str) -> None:
    if started == completed:
        raise LoopError(f"{owner}: entering and leaving it fire the same event {started!r}; give two")
    for key in (started, completed):
        if key in BUILT_IN and key not in OF_A_LOOP:
            raise LoopError(f"{owner}: {key!r} is a built-in event of the engine; choose another")


Free, Mark, Step = CustomState, EventPoint, OpaqueStep
"""Short names of :class:`CustomState`, :class:`EventPoint` and :class:`OpaqueStep`."""
