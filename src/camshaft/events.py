"""Events: named moments of a loop, the filters that thin them out, and the unions that join them.

Inside one engine an event is identified by its *key*: the value of the enum member when that is a string, else
``Class.NAME``. Enum members, plain strings and members of another library's enums are handles for the key.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from camshaft._checks import check_integer, is_integer

__all__ = [
    "BackpropEvents",
    "EventEnum",
    "EventUnion",
    "Events",
    "Filter",
    "FilteredEvent",
    "attachments",
    "event",
    "event_key",
    "event_name",
    "state_of",
]

EventHandle = Any
"""What names an event: a member of an enum, a string, or another library's event object with a ``value``."""


class EventEnum(enum.Enum):
    """Base class of event enums. A member is called to filter it and joined to others with ``|``.

    >>> class ClipEvents(EventEnum):
    ...     GRADS_CLIPPED = "grads_clipped"
    >>> ClipEvents.GRADS_CLIPPED(every=2) | Events.COMPLETED
    <EventUnion GRADS_CLIPPED(every=2) | COMPLETED>
    """

    # Enum hashes by name in Python code; members are singletons, so identity does, at the speed of C.
    __hash__ = object.__hash__

    def __call__(
        self,
        event_filter: Callable[[Any, int], bool] | None = None,
        every: int | None = None,
        once: int | Iterable[int] | None = None,
        before: int | None = None,
        after: int | None = None,
        priority: int = 0,
    ) -> FilteredEvent:
        """This event with a filter and a priority: see :func:`event`."""
        return event(self, event_filter, every, once, before, after, priority)

    def __or__(self, other: EventHandle) -> EventUnion:
        return EventUnion(tuple(attachments(self)) + tuple(attachments(other)))

    __ror__ = __or__


class Events(EventEnum):
    """The built-in events, in the order of the standard loop.

    A custom event may not take the value of one of these.
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
    """The events of a supervised training step: entering and leaving FORWARD, BACKWARD and OPTIM_STEP."""

    FORWARD_STARTED = "forward_started"
    FORWARD_COMPLETED = "forward_completed"
    BACKWARD_STARTED = "backward_started"
    BACKWARD_COMPLETED = "backward_completed"
    OPTIM_STEP_STARTED = "optim_step_started"
    OPTIM_STEP_COMPLETED = "optim_step_completed"


class Scope(enum.Enum):
    """What a built-in event belongs to in every loop."""

    RUN = "the run"
    OUTERMOST = "the outermost loop"
    DATA = "the loop that takes data"
    LOOP = "the loop or phase that declares it"


@attrs.frozen
class EventFacts:
    """What is true of a built-in event, whatever the loop.

    Attributes:
        event: the event.
        scope: what it belongs to, and so which passes it is counted with.
        ends: what is over with it; None where nothing is.
        is_inside: whether the event itself still lies in what it ends.
        outcome: how a run ended or paused whose last event it is; None where it is not the last one.
        anywhere: whether a control call or a failure can bring it at any place.
        once_a_run: whether it fires at most once in a run.
        counts_passes: whether filters on it count the passes of its loop; otherwise they count its own firings.
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
        EventFacts(Events.STARTED, Scope.RUN, once_a_run=True),
        EventFacts(Events.EPOCH_STARTED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.GET_BATCH_STARTED, Scope.DATA, counts_passes=True),
        EventFacts(Events.GET_BATCH_COMPLETED, Scope.DATA, counts_passes=True),
        EventFacts(Events.DATALOADER_STOP_ITERATION, Scope.DATA),
        EventFacts(Events.ITERATION_STARTED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.ITERATION_COMPLETED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.ITERATION_SKIPPED, Scope.DATA, ends=Scope.DATA, is_inside=True, counts_passes=True),
        EventFacts(Events.EPOCH_COMPLETED, Scope.LOOP, counts_passes=True),
        EventFacts(Events.TERMINATE_SINGLE_EPOCH, Scope.OUTERMOST, ends=Scope.OUTERMOST, anywhere=True),
        EventFacts(Events.COMPLETED, Scope.RUN, ends=Scope.RUN, outcome="completed", once_a_run=True),
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
"""The facts about every built-in event, by its key, in the order in which a loop lists its events.

The transition table, the generated loop and the chart are derived from a loop separately. They share these facts, and
none of each other's reasoning.
"""


def _keys(holds: Callable[[EventFacts], bool]) -> tuple[str, ...]:
    return tuple(key for key, facts in FACTS.items() if holds(facts))


BUILT_IN = frozenset(FACTS)
"""The keys of the built-in events."""

OF_A_LOOP = frozenset(_keys(lambda facts: facts.scope is Scope.LOOP))
"""Built-in events that a loop or phase may declare as its own."""

OF_THE_RUN = _keys(lambda facts: facts.scope is Scope.RUN)
"""Events at which a run begins, pauses or ends."""

OF_A_BATCH = _keys(lambda facts: facts.scope is Scope.DATA)
"""Events of the loop that takes data, beside the two that it declares."""

OF_FETCHING = _keys(lambda facts: facts.scope is Scope.DATA and facts.ends is None)
"""Events that fire while a batch is fetched."""

OF_SKIPPING = _keys(lambda facts: facts.ends is Scope.DATA)
"""Events that end an iteration in place of its own."""

ANYWHERE = frozenset(_keys(lambda facts: facts.anywhere))
"""Events that control calls and failures bring, at any place."""

ENDS_A_RUN = frozenset(_keys(lambda facts: facts.ends is Scope.RUN))
"""Events after which no state is entered any more."""

ONCE_A_RUN = frozenset(_keys(lambda facts: facts.once_a_run))
"""Events that fire at most once in a run."""

OUTCOMES: dict[str, str] = {key: facts.outcome for key, facts in FACTS.items() if facts.outcome is not None}
"""How a run ended or paused, by its last event."""

LAST_EVENTS: dict[str, str] = {outcome: key for key, outcome in OUTCOMES.items()}
"""The last event of a run, by how it ended or paused."""


def _counts(value: int | Iterable[int] | None) -> Any:
    if value is None:
        return None
    counts = tuple(value) if isinstance(value, Iterable) else (value,)
    return tuple(sorted(set(counts))) if all(isinstance(count, int) for count in counts) else counts


@attrs.frozen
class Filter:
    """Which counts of an event are due.

    Args:
        event_filter: ``event_filter(engine, count) -> bool``, asked at each firing.
        every: the first count after ``after`` and every n-th from there; without ``after``, the multiples of n.
        once: this count only, or these counts.
        before: counts below this one.
        after: counts above this one.

    Raises:
        ValueError: the parts exclude each other, or together are never due.
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
            raise TypeError(f"event_filter={self.event_filter!r} is no callable: give a function of (engine, count)")
        ranged = self.every is not None or self.before is not None or self.after is not None
        if (self.event_filter is not None) + (self.once is not None) + ranged > 1:
            raise ValueError(
                f"{self} mixes filters: event_filter and once each stand alone, every goes with before and after"
            )
        if self.event_filter is None and self.next_due(1) is None:
            raise ValueError(f"{self} is never due: no count lies above after and below before")

    def next_due(self, count: int) -> int | None:
        """The smallest due count that is not below ``count``; None when there is none."""
        if self.event_filter is not None:
            return count
        if self.once is not None:
            return next((due for due in self.once if due >= count), None)
        first = self.after + 1 if self.after is not None else self.every or 1
        step = self.every or 1
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


@attrs.frozen(repr=False)
class FilteredEvent:
    """An event with the filter and the priority that a handler is attached with."""

    event: EventHandle
    filter: Filter | None = None
    priority: int = attrs.field(default=0)

    @priority.validator
    def _whole(self, _: Any, value: int) -> None:
        if not is_integer(value):
            raise TypeError(f"priority must be an integer, got {value!r}: handlers with a higher one run first")

    @property
    def key(self) -> str:
        """The key of the event."""
        return event_key(self.event)

    def __or__(self, other: EventHandle) -> EventUnion:
        return EventUnion((self, *attachments(other)))

    __ror__ = __or__

    def __repr__(self) -> str:
        priority = f" priority={self.priority}" if self.priority else ""
        return f"{event_name(self.key)}{self.filter or ''}{priority}"


@attrs.frozen(repr=False)
class EventUnion:
    """Several events that one handler is attached to."""

    events: tuple[FilteredEvent, ...]

    def __or__(self, other: EventHandle) -> EventUnion:
        return EventUnion(self.events + tuple(attachments(other)))

    def __iter__(self) -> Iterator[FilteredEvent]:
        return iter(self.events)

    def __repr__(self) -> str:
        return f"<EventUnion {' | '.join(map(repr, self.events))}>"


def event(
    handle: EventHandle,
    event_filter: Callable[[Any, int], bool] | None = None,
    every: int | None = None,
    once: int | Iterable[int] | None = None,
    before: int | None = None,
    after: int | None = None,
    priority: int = 0,
) -> FilteredEvent:
    """Give any event, a string too, a filter and a priority.

    Args:
        handle: the event.
        event_filter, every, once, before, after: see :class:`Filter`.
        priority: handlers with a higher priority run first; equal ones in the order of attachment.

    Raises:
        ValueError, TypeError: the filter can never be due, or the priority is not an integer.
    """
    parts = (event_filter, every, once, before, after)
    thinned = Filter(*parts) if any(part is not None for part in parts) else None
    return FilteredEvent(handle, thinned, priority)


def event_key(handle: EventHandle) -> str:
    """The key by which an engine knows an event.

    Raises:
        TypeError: ``handle`` names no event.
    """
    if isinstance(handle, FilteredEvent):
        return event_key(handle.event)
    if isinstance(handle, enum.Enum):
        return handle.value if isinstance(handle.value, str) else f"{type(handle).__name__}.{handle.name}"
    if isinstance(handle, str):
        if not handle:
            raise ValueError("an event needs a name: the empty string is none")
        return handle
    value = getattr(handle, "value", None)  # another library's event object
    if isinstance(value, str):
        return value
    raise TypeError(f"{handle!r} is no event: give a member of an EventEnum or Enum, or a string")


def event_name(key: str) -> str:
    """How an event is shown: its key in capitals."""
    return key if "." in key else key.upper()


def state_of(key: str) -> tuple[str, str | None]:
    """The state that an event belongs to, and ``"started"`` or ``"completed"`` if it enters or leaves it.

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
    """The single events of whatever can be given to ``Engine.on``: an event, a filtered one, a union."""
    if isinstance(handle, FilteredEvent):
        return [handle]
    if isinstance(handle, (str, enum.Enum)):
        return [event(handle)]
    if isinstance(handle, Iterable):
        return [single for part in handle for single in attachments(part)]
    key = event_key(handle)
    foreign = getattr(handle, "filter", None)
    return [event(key, foreign if callable(foreign) else None)]
