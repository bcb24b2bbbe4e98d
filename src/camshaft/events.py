"""Events: named moments of a loop, filters that select some of their firings, and unions of several events.

An engine identifies an event by its *key*. For an enum member with a string value the key is that value, otherwise it
is ``Class.NAME``. An event can be given as an enum member, a string, or a member of another library's enum. All of
them refer to the same event if their keys are equal.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import attrs

from camshaft._checks import check_integer, is_integer
from camshaft._functions import check_runs, function_name
from camshaft._members import EnumOfEvents

__all__ = [
    "BackpropEvents",
    "CallableEvent",
    "EventEnum",
    "EventUnion",
    "Events",
    "Filter",
    "FilteredEvent",
    "HandlerEvents",
    "attachments",
    "event",
    "event_key",
    "event_name",
    "state_of",
]

EventHandle = Any
"""An event as a caller gives it: an enum member, a string, or another library's event object with a ``value``."""


class CallableEvent:
    """An event that can be filtered by a call, and joined with others by ``|``.

    Attributes:
        filter: the filter; None if every firing is due.
    """

    __slots__ = ()

    filter: Filter | None = None

    def __call__(
        self,
        event_filter: Callable[[Any, int], bool] | None = None,
        every: int | None = None,
        once: int | Iterable[int] | None = None,
        before: int | None = None,
        after: int | None = None,
        priority: int = 0,
    ) -> CallableEvent:
        """Return this event with a filter and a priority. See :func:`event`. Without arguments, return it as it is."""
        called = event(self, event_filter, every, once, before, after, priority)
        return self if called.parts == attachments(self)[0].parts else called

    def __or__(self, other: EventHandle) -> EventUnion:
        return _joined(self, other)

    def __ror__(self, other: EventHandle) -> EventUnion:
        return _joined(other, self)


class EventEnum(CallableEvent, enum.Enum, metaclass=EnumOfEvents):
    """Base class of event enums. Call a member to filter it, and join members with ``|``.

    A member is equal to itself, to itself with a filter, and to an event of another library with the same value.

    >>> class ClipEvents(EventEnum):
    ...     GRADS_CLIPPED = "grads_clipped"
    >>> ClipEvents.GRADS_CLIPPED(every=2) | Events.COMPLETED
    <EventUnion GRADS_CLIPPED(every=2) | COMPLETED>
    """

    # Enum.__hash__ is slow Python code that hashes the name. Members are singletons, so hashing by identity is enough.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        # Events of other libraries have a filter, even if it is None, but members of plain enums do not.
        is_foreign = hasattr(other, "filter") and not isinstance(other, CallableEvent)
        return (is_foreign and getattr(other, "value", None) == self.value) or NotImplemented


class Events(EventEnum):
    """The built-in events, in the order of the standard loop.

    A custom event must not have the value of a built-in one.
    """

    STARTED = "started"
    EPOCH_STARTED = "epoch_started"
    GET_BATCH_STARTED = "get_batch_started"
    GET_BATCH_COMPLETED = "get_batch_completed"
    ITERATION_STARTED = "iteration_started"
    ITERATION_COMPLETED = "iteration_completed"
    ITERATION_SKIPPED = "iteration_skipped"
    EPOCH_COMPLETED = "epoch_completed"
    COMPLETED = "completed"
    DATALOADER_STOP_ITERATION = "dataloader_stop_iteration"
    TERMINATE = "terminate"
    TERMINATE_SINGLE_EPOCH = "terminate_single_epoch"
    INTERRUPT = "interrupt"
    EXCEPTION_RAISED = "exception_raised"


class BackpropEvents(EventEnum):
    """The events of a supervised training step: the start and the end of FORWARD, BACKWARD and OPTIM_STEP."""

    FORWARD_STARTED = "forward_started"
    FORWARD_COMPLETED = "forward_completed"
    BACKWARD_STARTED = "backward_started"
    BACKWARD_COMPLETED = "backward_completed"
    OPTIM_STEP_STARTED = "optim_step_started"
    OPTIM_STEP_COMPLETED = "optim_step_completed"


class HandlerEvents(EventEnum):
    """Base class of enums of events that a handler fires, at any place of a run.

    They need not be registered: attaching a function to one of them does it.
    """


class Scope(enum.Enum):
    """The part of a loop that a built-in event belongs to."""

    RUN = "the run"
    OUTERMOST = "the outermost loop"
    DATA = "the loop that takes data"
    LOOP = "the loop or phase that declares it"


@attrs.frozen
class EventFacts:
    """The facts about a built-in event. They are the same in every loop.

    Attributes:
        event: the event.
        scope: the part of a loop that the event belongs to. The event is counted with the passes of that part.
        ends: the part of a loop that this event ends, or None.
        is_inside: True if the event itself still belongs to the part that it ends.
        outcome: the outcome of a run with this last event, such as ``"completed"``. None if it cannot be the last one.
        anywhere: True if a control call or a failure can cause the event at any place.
        once_a_run: True if the event fires at most once in a run.
        counts_passes: True if filters on the event count the passes of its loop, which is the outermost one for events
            of the run. Otherwise they count its firings.
    """

    event: Events
    scope: Scope
    ends: Scope | None = None
    is_inside: bool = False
    outcome: str | None = None
    anywhere: bool = False
    once_a_run: bool = False
    counts_passes: bool = False

    @property
    def key(self) -> str:
        """The key of the event."""
        return str(self.event.value)


FACTS: dict[str, EventFacts] = {
    facts.key: facts
    for facts in (
        EventFacts(Events.STARTED, Scope.RUN, once_a_run=True, counts_passes=True),
        EventFacts(Events.EPOCH_STARTED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.GET_BATCH_STARTED, Scope.DATA, counts_passes=True),
        EventFacts(Events.GET_BATCH_COMPLETED, Scope.DATA, counts_passes=True),
        EventFacts(Events.DATALOADER_STOP_ITERATION, Scope.DATA),
        EventFacts(Events.ITERATION_STARTED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.ITERATION_COMPLETED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.ITERATION_SKIPPED, Scope.DATA, ends=Scope.DATA, is_inside=True, counts_passes=True),
        EventFacts(Events.EPOCH_COMPLETED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.TERMINATE_SINGLE_EPOCH, Scope.OUTERMOST, ends=Scope.OUTERMOST, anywhere=True),
        EventFacts(
            Events.COMPLETED, Scope.RUN, ends=Scope.RUN, outcome="completed", once_a_run=True, counts_passes=True
        ),
        EventFacts(Events.TERMINATE, Scope.RUN, ends=Scope.RUN, outcome="terminated", anywhere=True, once_a_run=True),
        EventFacts(Events.INTERRUPT, Scope.RUN, outcome="interrupted", anywhere=True),
        EventFacts(
            Events.EXCEPTION_RAISED,
            Scope.RUN,
            ends=Scope.RUN,
            is_inside=True,
            outcome="failed",
            anywhere=True,
            once_a_run=True,
        ),
    )
}
"""The facts about each built-in event, by key, in the order in which a loop lists its events.

The transition table, the generated loop and the chart are derived from a loop by separate code. They share these facts
and nothing else, so that tests can compare their results.
"""


def _keys(is_selected: Callable[[EventFacts], bool]) -> tuple[str, ...]:
    return tuple(key for key, facts in FACTS.items() if is_selected(facts))


BUILT_IN = frozenset(FACTS)
"""The keys of the built-in events."""

OF_A_LOOP = frozenset(_keys(lambda facts: facts.scope is Scope.LOOP))
"""The built-in events that a loop or phase may use as its start or end event."""

OF_THE_RUN = _keys(lambda facts: facts.scope is Scope.RUN)
"""The events at which a run begins, pauses or ends."""

OF_A_BATCH = _keys(lambda facts: facts.scope is Scope.DATA)
"""The events of the data loop, without its start and end events."""

OF_FETCHING = _keys(lambda facts: facts.scope is Scope.DATA and facts.ends is None)
"""The events that fire while a batch is fetched."""

OF_SKIPPING = _keys(lambda facts: facts.ends is Scope.DATA)
"""The events that end an iteration instead of its end event."""

ANYWHERE = frozenset(_keys(lambda facts: facts.anywhere))
"""The events that a control call or a failure can cause at any place."""

ENDS_A_RUN = frozenset(_keys(lambda facts: facts.ends is Scope.RUN))
"""The events after which a run enters no further state."""

ONCE_A_RUN = frozenset(_keys(lambda facts: facts.once_a_run))
"""The events that fire at most once in a run."""

OUTCOMES: dict[str, str] = {key: facts.outcome for key, facts in FACTS.items() if facts.outcome is not None}
"""The outcome of a run that ended or paused, by the key of its last event."""

LAST_EVENTS: dict[str, str] = {outcome: key for key, outcome in OUTCOMES.items()}
"""The key of the last event of a run, by outcome."""


def _counts(value: int | Iterable[int] | None) -> Any:
    if value is None:
        return None
    counts = tuple(value) if isinstance(value, Iterable) else (value,)
    return tuple(sorted(set(counts))) if all(isinstance(count, int) for count in counts) else counts


@attrs.frozen
class Filter:
    """A rule that selects some firings of an event by their count.

    Args:
        event_filter: a function ``event_filter(engine, count) -> bool``, called at each firing.
        every: every n-th count. Without ``after`` these are the multiples of n. If ``before`` is not given either, 0 is
            one of them: it is the count of events that fire before anything is counted. With ``after`` the first count
            above it is selected, and every n-th count from there.
        once: one count, or several counts.
        before: only counts below this number.
        after: only counts above this number.

    Raises:
        TypeError: ``event_filter`` is not callable, or a call would not run it, as with ``async def``.
        ValueError: a number is out of range, the arguments exclude each other, or no count can satisfy them.
    """

    event_filter: Callable[[Any, int], bool] | None = None
    every: int | None = None
    once: tuple[int, ...] | None = attrs.field(default=None, converter=_counts)
    before: int | None = None
    after: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.every is not None:
            check_integer("every", self.every)
        for count in self.once or ():
            check_integer("once", count)
        for name in ("before", "after"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), least=0)
        if self.once == ():
            raise ValueError("once=() is never due: name at least one count")
        if self.event_filter is not None and not callable(self.event_filter):
            given = self.event_filter
            hint = f": give every={given} or once={given}" if is_integer(given) else ""
            raise TypeError(f"event_filter must be a function (engine, count) -> bool, got {given!r}{hint}")
        if self.event_filter is not None:
            check_runs(f"event_filter {function_name(self.event_filter)}", self.event_filter)
        has_range = self.every is not None or self.before is not None or self.after is not None
        if (self.event_filter is not None) + (self.once is not None) + has_range > 1:
            raise ValueError(
                f"{self} mixes filters: give event_filter alone, or once alone, or every, before and after together"
            )
        if self.event_filter is None and self.next_due(1) is None:
            raise ValueError(f"{self} is never due: no count is above after and below before")

    def next_due(self, count: int) -> int | None:
        """Return the smallest selected count that is ``count`` or more, or None."""
        if self.event_filter is not None:
            return count
        if self.once is not None:
            return next((due for due in self.once if due >= count), None)
        step = self.every or 1
        first = step if self.after is None else self.after + 1
        if self.every is not None and self.after is None and self.before is None:
            first = 0
        due = first if count <= first else first + -(-(count - first) // step) * step
        return due if self.before is None or due < self.before else None

    def __str__(self) -> str:
        parts = [
            f"{field.name}={_plain(value)}"
            for field in attrs.fields(Filter)
            if (value := getattr(self, field.name)) is not None
        ]
        return f"({', '.join(parts)})"


def _plain(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        return repr(value[0])
    return getattr(value, "__qualname__", repr(value))


@attrs.frozen(repr=False, eq=False)
class FilteredEvent(CallableEvent):
    """An event with a filter and a priority for the handlers attached to it.

    It is equal to its event, and has the same hash, whatever its filter and its priority. Compare :attr:`parts` to
    tell two filters apart.
    """

    event: EventHandle
    filter: Filter | None = None
    priority: int = attrs.field(default=0)

    @priority.validator
    def _whole(self, _: Any, value: int) -> None:
        if not is_integer(value):
            raise TypeError(f"priority must be an integer, got {value!r}: handlers with a higher priority run first")

    @property
    def key(self) -> str:
        """The key of the event."""
        return event_key(self.event)

    @property
    def name(self) -> str:
        """The name of the event: that of the member, or the display name of a string."""
        return self.event.name if isinstance(self.event, enum.Enum) else event_name(self.key)

    @property
    def value(self) -> Any:
        """The value of the event: that of the member, or the string itself."""
        return self.event.value if isinstance(self.event, enum.Enum) else self.key

    @property
    def parts(self) -> tuple[EventHandle, Filter | None, int]:
        """The event, the filter and the priority."""
        return self.event, self.filter, self.priority

    def __eq__(self, other: object) -> bool:
        return bool(self.event == (other.event if isinstance(other, FilteredEvent) else other))

    def __hash__(self) -> int:
        return hash(self.event)

    def __repr__(self) -> str:
        priority = f" priority={self.priority}" if self.priority else ""
        return f"{event_name(self.key)}{self.filter or ''}{priority}"


def parts_of(events: Iterable[EventHandle]) -> tuple[Any, ...]:
    """Return what tells events apart that differ in their filters and priorities only."""
    return tuple(single.parts for single in attachments(tuple(events))) if events else ()


@attrs.frozen(repr=False)
class EventUnion:
    """Several events to which one handler is attached.

    Attributes:
        events: the events, as they were joined.
    """

    events: tuple[EventHandle, ...] = attrs.field(default=(), eq=parts_of)

    def __or__(self, other: EventHandle) -> EventUnion:
        return _joined(*self.events, other)

    def __iter__(self) -> Iterator[EventHandle]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, index: int) -> EventHandle:
        return self.events[index]

    def __repr__(self) -> str:
        return f"<EventUnion {' | '.join(map(repr, attachments(self) if self.events else ()))}>"


def _joined(*handles: EventHandle) -> EventUnion:
    """Join events and unions. An event without a filter and a priority stays what it is."""
    singles = [single for handle in handles for single in attachments(handle)]
    return EventUnion(tuple(single if single.filter or single.priority else single.event for single in singles))


def event(
    handle: EventHandle,
    event_filter: Callable[[Any, int], bool] | None = None,
    every: int | None = None,
    once: int | Iterable[int] | None = None,
    before: int | None = None,
    after: int | None = None,
    priority: int = 0,
) -> FilteredEvent:
    """Add a filter and a priority to any event, including one given as a string.

    Args:
        handle: the event. If it has a filter or a priority already, what is given here replaces it.
        event_filter, every, once, before, after: see :class:`Filter`.
        priority: handlers with a higher priority run first. Equal priorities run in the order of attachment.

    Returns:
        The filtered event.

    Raises:
        ValueError, TypeError: the filter is invalid, or the priority is not an integer.
    """
    options = (event_filter, every, once, before, after)
    filter = Filter(*options) if any(option is not None for option in options) else None
    if isinstance(handle, FilteredEvent):
        return FilteredEvent(handle.event, filter or handle.filter, priority or handle.priority)
    return FilteredEvent(handle, filter, priority)


def event_key(handle: EventHandle) -> str:
    """Return the key of an event.

    Raises:
        TypeError: ``handle`` is not an event.
        ValueError: ``handle`` is an empty string.
    """
    if isinstance(handle, FilteredEvent):
        return event_key(handle.event)
    if isinstance(handle, enum.Enum):
        return handle.value if isinstance(handle.value, str) else f"{type(handle).__name__}.{handle.name}"
    if isinstance(handle, str):
        if not handle:
            raise ValueError("the name of an event must not be empty")
        return handle
    value = getattr(handle, "value", None)  # another library's event object
    if isinstance(value, str):
        return value
    raise TypeError(f"{handle!r} is not an event: {_advice(handle)}")


def _advice(handle: Any) -> str:
    """Return what to give in place of an object that is no event."""
    if isinstance(handle, Iterable):
        return "give the events in it one by one, as in register_events(*events)"
    if callable(handle):
        return "the event comes first, as in @engine.on(event) and add_event_handler(event, handler)"
    return "give a member of an EventEnum or Enum, or a string"


def event_name(key: str) -> str:
    """Return the display name of an event: its key in capitals. A key of the form ``Class.NAME`` stays as it is."""
    return key if "." in key else key.upper()


@lru_cache(maxsize=4096)  # every loop asks for the states of all its events
def state_of(key: str) -> tuple[str, str | None]:
    """Return the state of an event and the event's role in it: ``"started"``, ``"completed"`` or None.

    The suffixes ``_STARTED`` and ``_COMPLETED`` give the role. An event without either has no role: the state is
    entered and left at the same moment.

    >>> state_of("backward_started")
    ('BACKWARD', 'started')
    >>> state_of("grads_clipped")
    ('GRADS_CLIPPED', None)
    """
    name = re.sub(r"\W", "_", key.rpartition(".")[2]).upper()
    for role in ("started", "completed"):
        state = name.removesuffix(f"_{role.upper()}")
        if state != name and state:
            return state, role
    return name, None


def attachments(handle: EventHandle) -> list[FilteredEvent]:
    """Return the single events in an argument of ``Engine.on``: an event, a filtered event, or a union of events.

    Raises:
        TypeError: ``handle`` is not an event, or contains none.
        ValueError: ``handle`` is an empty string.
    """
    if isinstance(handle, FilteredEvent):
        return [handle]
    if isinstance(handle, (str, enum.Enum)):
        return [event(handle)]
    if isinstance(handle, Iterable):
        found = [single for part in handle for single in attachments(part)]
        if not found:  # a handler would be attached to nothing
            raise TypeError(f"{handle!r} has no event: give a member of an EventEnum or Enum, or a string")
        return found
    key = event_key(handle)
    event_filter = getattr(handle, "filter", None)  # events of other libraries carry their filter under this name
    return [event(key, event_filter if callable(event_filter) else None)]
