"""The states of a loop: phases, opaque steps, event points, custom states and nested engines."""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import attrs

from camshaft._checks import check_integer
from camshaft._functions import check_accepts, check_runs, function_name
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
"""The names of the states around a place, outermost first."""

RESERVED = {RUN, "READY", "STARTED", "GET_BATCH", "RESTART", "COMPLETED", "TERMINATED", "FAILED"}
"""Names of built-in places in the machine. A declared state must have another name."""


class _Data(enum.Enum):
    DATA = "data"

    def __repr__(self) -> str:
        return "DATA"


DATA = _Data.DATA
"""The data given to ``Engine.run``. ``Loop(..., over=DATA)`` makes one pass for each batch."""


@attrs.frozen
class Every:
    """The condition "in every n-th pass of the enclosing loop", for :class:`Phase`. Made by :func:`every`."""

    n: int = attrs.field()

    @n.validator
    def _positive(self, _: Any, value: int) -> None:
        check_integer("every(n): n", value, error=LoopError)

    def __repr__(self) -> str:
        return f"every({self.n})"


def every(n: int) -> Every:
    """Return the condition "in every n-th pass" for a phase: ``Phase("OPTIM_STEP", optim_step, when=every(4))``.

    Args:
        n: an integer of 1 or more.

    Raises:
        LoopError: ``n`` is not such an integer.
    """
    return Every(n)


def check_name(kind: str, name: Any) -> None:
    """Refuse a name that is not an identifier in capitals, or is the name of a built-in state."""
    if not isinstance(name, str) or not name.isidentifier() or name != name.upper():
        raise LoopError(f"{kind} {name!r}: the name must be a Python identifier in capitals, such as OPTIM_STEP")
    if name != unicodedata.normalize("NFKC", name):
        normal = unicodedata.normalize("NFKC", name).upper()
        raise LoopError(f"{kind} {name}: Python reads this name as another one; give its normal form, such as {normal}")
    if name in RESERVED:
        raise LoopError(f"{kind} {name}: this is the name of a built-in state; choose another")


def check_function(owner: str, argument: str, value: Any, *names: str, returns: str = "") -> None:
    """Refuse a value that is neither None nor a function to be called with these arguments.

    Args:
        owner: the state, for the message.
        argument: the parameter of the state that the value was given for.
        value: the value.
        names: the names of the arguments of each call.
        returns: what a call returns, for the message.

    Raises:
        LoopError: the value is not callable.
        TypeError: its signature does not fit, or a call would not run it.
    """
    if value is None:
        return
    if not callable(value):
        raise LoopError(f"{owner}: {argument} must be a function ({', '.join(names)}){returns}, got {value!r}")
    what = f"{owner}: {argument} {function_name(value)}"
    check_runs(what, value, may_yield=argument == "over")
    check_accepts(what, value, *names)


def default_event(suffix: str) -> Any:
    """Return an attrs default for the key of an event: ``<name of the state in lower case>_<suffix>``."""
    return attrs.Factory(lambda self: f"{self.name.lower()}_{suffix}", takes_self=True)


class LoopItem(Declared):
    """A state in the tree of a loop: a phase, an opaque step, an event point, or a loop."""

    name: str

    @property
    def own_events(self) -> tuple[str, ...]:
        """The keys of the events that the state itself fires, in order."""
        return ()


@attrs.frozen(init=False, repr=False)
class Phase(LoopItem):
    """A state that runs one function. It fires an event when it is entered and another when it is left.

    Args:
        name: the name of the state, in capitals.
        run: the function ``run(engine, batch)``. A return value other than None becomes ``state.output``. Without a
            function the state only fires its two events.
        when: the condition, :func:`every` or a function ``when(engine) -> bool``. If it is false, the phase is skipped
            and its events do not fire.
        started: the event on entry, ``<name>_started`` by default.
        completed: the event on exit, ``<name>_completed`` by default.

    Raises:
        LoopError: a name, function or event is invalid.
        TypeError: a function does not accept its arguments, or a call would not run it, as with ``async def``.
    """

    name: str
    run: Callable[[Any, Any], Any] | None = None
    when: Every | Callable[[Any], bool] | None = None
    started: str = default_event("started")
    completed: str = default_event("completed")

    def __init__(
        self,
        name: str,
        run: Callable[[Any, Any], Any] | None = None,
        when: Every | Callable[[Any], bool] | None = None,
        *,
        started: EventHandle | None = None,
        completed: EventHandle | None = None,
    ) -> None:
        check_name("phase", name)
        check_function(f"phase {name}", "run", run, "engine", "batch")
        if not isinstance(when, Every):
            check_function(f"phase {name}", "when", when, "engine", returns=" -> bool, or every(n)")
        self.__attrs_init__(name, run, when, **given_events(started, completed))
        check_events(f"phase {name}", *self.own_events)

    @property
    def own_events(self) -> tuple[str, str]:
        """The keys of the events on entry and on exit."""
        return (self.started, self.completed)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        positional = (self.name,) if self.run is None else (self.name, self.run)
        return positional, {"when": (self.when, None)} | event_arguments(self.name, self.started, self.completed)


@attrs.frozen(repr=False)
class OpaqueStep(LoopItem):
    """A state whose one function does forward, backward and the optimizer's step. It has no events of its own.

    Args:
        run: the function ``run(engine, batch) -> output``.

    Raises:
        LoopError: ``run`` is not callable.
        TypeError: it does not accept its arguments, or a call would not run it, as with ``async def``.
    """

    run: Callable[[Any, Any], Any] | None = attrs.field(default=None)
    name: str = attrs.field(default="STEP", init=False)

    @run.validator
    def _callable(self, _: Any, value: Any) -> None:
        check_function("step", "run", value, "engine", "batch", returns=" -> output")

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        return (() if self.run is None else (self.run,)), {}


@attrs.frozen(repr=False)
class EventPoint(LoopItem):
    """A state with a single event, which the engine fires at this place. It is entered and left at the same moment.

    Args:
        event: the event.
    """

    event: str = attrs.field(converter=event_key)
    name: str = attrs.field(init=False)

    @name.default
    def _state(self) -> str:
        return state_of(self.event)[0]

    @property
    def own_events(self) -> tuple[str, ...]:
        """The key of the event."""
        return (self.event,)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        return (self.event,), {}


@attrs.frozen(repr=False)
class CustomState(Declared):
    """A state without a fixed place. The user's code enters and leaves it by firing its events.

    Args:
        name: the name of the state.
        started: the event on entry. None if ``completed`` alone enters and leaves the state at the same moment.
        completed: the event on exit. None if ``started`` alone enters and leaves the state at the same moment.
        within: the name of its scope, a loop or a phase. The state can be entered only inside the scope and must be
            left before the pass of the loop, or the phase, ends. With ``"RUN"`` the end of the run leaves it.
        order: the declared order of all events registered together with it. Empty if they may come in any order.
    """

    name: str
    started: str | None
    completed: str | None
    within: str
    order: tuple[str, ...] = ()

    @property
    def events(self) -> tuple[str, ...]:
        """The keys of its one or two events, in order."""
        return tuple(event for event in (self.started, self.completed) if event is not None)

    @property
    def is_pair(self) -> bool:
        """True if it has two events and is entered between them."""
        return len(self.events) == 2

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        return (self.name, self.started, self.completed, self.within), {"order": (self.order, ())}


def _as_filtered(on: EventHandle) -> FilteredEvent:
    return on if isinstance(on, FilteredEvent) else FilteredEvent(event_key(on))


@attrs.frozen
class Nested:
    """An engine that another engine runs at an event, in order with the handlers of that event.

    Args:
        engine: the inner engine. None in a declaration that was read from a file.
        on: the event of the outer engine, with or without a filter.
        data: the data of each inner run.
        max_epochs, max_iters, epoch_length: the limits of each inner run, as in ``Engine.run``.
        name: the name of the inner engine.
    """

    engine: Any
    on: FilteredEvent = attrs.field(converter=_as_filtered, eq=attrgetter("parts"))
    data: Any = attrs.field(default=None, eq=False)
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    name: str = attrs.field(kw_only=True)

    @name.default
    def _name(self) -> str:
        return str(self.engine.name)


def given_events(started: EventHandle | None, completed: EventHandle | None) -> dict[str, str]:
    """Return the keys of those events that are not None, as keyword arguments of a state."""
    given = {"started": started, "completed": completed}
    return {role: event_key(handle) for role, handle in given.items() if handle is not None}


def event_arguments(name: str, started: str, completed: str) -> dict[str, tuple[str, str]]:
    """Return the events of a state as keyword arguments ``(value, default)``, see :class:`Declared`."""
    lower = name.lower()
    return {"started": (started, f"{lower}_started"), "completed": (completed, f"{lower}_completed")}


def check_events(owner: str, started: str, completed: str) -> None:
    """Refuse events that are equal, or that the engine fires for a purpose of its own."""
    if started == completed:
        raise LoopError(f"{owner}: started and completed are the same event {started!r}; give two events")
    for key in (started, completed):
        if key in BUILT_IN and key not in OF_A_LOOP:
            raise LoopError(f"{owner}: {key!r} is a built-in event of the engine; choose another")


Free, Mark, Step = CustomState, EventPoint, OpaqueStep
"""Short aliases of :class:`CustomState`, :class:`EventPoint` and :class:`OpaqueStep`."""
