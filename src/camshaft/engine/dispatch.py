"""Dispatch: the handlers of each event, their order, and their filters.

As much as possible is decided when a handler is attached: how it is called, and at which count its filter is due next.
To fire an event is then a loop over prepared calls.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import attrs

from camshaft._functions import check_ran
from camshaft.engine.handler import Handler, Stopwatch

__all__ = ["EngineEvent", "RemovableEventHandle", "EventDispatcher"]


@attrs.define(eq=False)
class _FiringCount:
    """The number of times an event has fired in this run, counted only while a filter needs it."""

    value: int = 0

    def call(self, engine: Any) -> None:
        """Count a firing. Runs as a handler of the event, before those that have filters."""
        self.value += 1


@attrs.define(eq=False)
class _FilteredHandlers:
    """A group of consecutive handlers with filters.

    One comparison skips the whole group until the next count at which one of them is due.

    Attributes:
        handlers: the group, in the order of the calls.
        counter: the attribute of the state that their filters count; empty if they count firings.
        firing_count: how often the event has fired.
        due: the lowest count at which a handler of the group may be due.
    """

    handlers: list[Handler]
    counter: str
    firing_count: _FiringCount
    due: float = 0

    def by_state(self, engine: Any) -> None:
        """Call the handlers that are due, by a counter of the state."""
        count = getattr(engine.state, self.counter)
        if count >= self.due:
            __tracebackhide__ = True
            self.open(engine, count)

    def by_firings(self, engine: Any) -> None:
        """Call the handlers that are due, by the number of firings."""
        if self.firing_count.value >= self.due:
            __tracebackhide__ = True
            self.open(engine, self.firing_count.value)

    def raised(self, engine: Any, error: BaseException) -> bool:
        """Call the handlers of EXCEPTION_RAISED that are due. Returns whether one of them returned True."""
        __tracebackhide__ = True
        return self.open(engine, self.firing_count.value, error)

    def open(self, engine: Any, count: int, *error: BaseException) -> bool:
        """Call the handlers that are due at ``count``. Returns whether one of them returned True."""
        __tracebackhide__ = True
        results, role = [], ""
        try:
            for handler in self.handlers:
                role = "event_filter of handler"
                if count >= handler.due and self._is_due(handler, engine, count):
                    role = "handler"
                    results.append(handler.call(engine, *error))
        except BaseException as raised:
            engine._location.keep_place(engine, raised, handler, role)
            raise
        self.due = min(handler.due for handler in self.handlers)
        return any(result is True for result in results)

    @staticmethod
    def _is_due(handler: Handler, engine: Any, count: int) -> bool:
        """Return whether a handler is due at ``count``, and set the next count at which it must be looked at."""
        __tracebackhide__ = True
        filter, own = handler.filter, count - handler.since  # a filter counts from the attachment of its handler
        if filter is None:
            return True
        if filter.event_filter is not None:
            answer = filter.event_filter(engine, own)
            if answer is True or answer is False:
                return answer
            check_ran(f"event_filter of {handler.name}", answer)
            return bool(answer)
        upcoming = filter.next_due(own + 1)
        handler.due = math.inf if upcoming is None else upcoming + handler.since
        return filter.next_due(own) == own


class EngineEvent:
    """An event of an engine, with its handlers.

    Args:
        key: the key of the event.
        counter: the attribute of the state that its filters count; None to count its own firings.

    Attributes:
        key, counter: see above.
        handlers: everything to call when the event fires, in order: prechecks, observers, then the handlers of users,
            with consecutive filtered ones replaced by one call of their group.
    """

    __slots__ = (
        "_attached",
        "_firing_count",
        "_observers",
        "_prechecks",
        "_stopwatches",
        "counter",
        "handlers",
        "key",
    )

    def __init__(self, key: str, counter: str | None) -> None:
        self.key = key
        self.counter = counter
        self.handlers: tuple[Handler, ...] = ()
        self._observers: tuple[Handler, ...] = ()
        self._prechecks: tuple[Handler, ...] = ()
        self._stopwatches: tuple[Stopwatch, ...] = ()
        self._attached: list[Handler] = []
        self._firing_count = _FiringCount()

    def __getstate__(self) -> tuple[Any, ...]:
        return self.key, self.counter, self._prechecks, self._attached, self._firing_count

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.key, self.counter, self._prechecks, self._attached, self._firing_count = state
        self._observers, self._stopwatches = (), ()
        self._arrange()

    @property
    def attached(self) -> tuple[Handler, ...]:
        """The handlers that users attached, in the order of their calls."""
        return tuple(self._attached)

    @property
    def count(self) -> int:
        """The number of times the event has fired in this run since the first filter counts it."""
        return self._firing_count.value

    def attach(self, handler: Handler) -> None:
        """Add a handler after those of the same priority. It runs from the next firing on."""
        handler.since = 0 if self.counter is not None else self._firing_count.value
        handler.measure(self.key, self._stopwatches)
        later = (index for index, other in enumerate(self._attached) if other.priority < handler.priority)
        self._attached.insert(next(later, len(self._attached)), handler)
        self._arrange()

    def detach(self, handler: Handler) -> None:
        """Remove a handler. It does not run again, not even in a firing that has begun."""
        handler.remove()
        self._attached.remove(handler)
        self._arrange()

    def observe(self, observers: Iterable[Callable[[Any], None] | None]) -> None:
        """Replace the observers. They are called before all handlers. None is left out."""
        self._observers = tuple(self._internal(one) for one in observers if one is not None)
        self._arrange()

    def measure(self, stopwatches: tuple[Stopwatch, ...]) -> None:
        """Replace the stopwatches. They time every call of a handler that a user attached."""
        self._stopwatches = stopwatches
        for handler in self._attached:
            handler.measure(self.key, stopwatches)

    def add_precheck(self, check: Callable[[Any], None]) -> None:
        """Add a function to call before everything else. An exception that it raises keeps the event from firing."""
        self._prechecks += (Handler(check),)
        self._arrange()

    def count_by(self, counter: str | None) -> None:
        """Make filters count this attribute of the state; None for the firings of the event."""
        if counter != self.counter:
            self.counter = counter
            self._arrange()

    def begin_run(self, count: int | None) -> None:
        """Prepare the filters for a run.

        Args:
            count: how often the event has fired in this run: 0, or a saved number. None to continue from the last run.
        """
        if count is not None:
            self._firing_count.value = count
        filtered = [handler for handler in self._attached if handler.filter is not None]
        for handler in filtered:
            handler.since = handler.since if count is None else 0
            handler.due = 0
        if filtered:
            self._arrange()

    def _internal(self, call: Callable[[Any], None]) -> Handler:
        """Wrap a function of the engine itself as a handler. It gets no exception, not even at EXCEPTION_RAISED."""
        return Handler((lambda engine, error: call(engine)) if self.key == "exception_raised" else call)

    def _filtered(self, handlers: list[Handler]) -> Callable[..., Any]:
        """Return a function that calls the due handlers of a group."""
        filtered = _FilteredHandlers(handlers, self.counter or "", self._firing_count)
        if self.key == "exception_raised":
            return filtered.raised
        return filtered.by_state if filtered.counter else filtered.by_firings

    def _arrange(self) -> None:
        """Build :attr:`handlers` again. A firing that has begun iterates over the previous tuple, undisturbed."""
        calls = [*self._prechecks, *self._observers]
        if self.counter is None and any(handler.filter for handler in self._attached):
            calls.append(self._internal(self._firing_count.call))
        filtered: list[Handler] = []
        for handler in self._attached:
            if handler.filter is None:
                filtered = []
                calls.append(handler)
                continue
            if not filtered:
                calls.append(Handler(self._filtered(filtered)))
            filtered.append(handler)
        self.handlers = tuple(calls)


class EventDispatcher:
    """All events of an engine, and their flags in the namespace of the generated loop.

    The generated loop tests a name for each event: ``if EPOCH_STARTED: yield EPOCH_STARTED``. The name is False while
    the event has no handlers, and the :class:`EngineEvent` otherwise. So an event without handlers costs a truth test.
    Handlers may be attached in the middle of a run, and from any thread.

    Attributes:
        yields_all: True while the loop yields every event, with or without handlers.
        counters: the attribute of the state that filters on an event count, by key; the others count firings.
    """

    def __init__(self) -> None:
        self.yields_all = False
        self.counters: dict[str, str] = {}
        self._disabled: frozenset[str] = frozenset()
        self._events: dict[str, EngineEvent] = {}
        self._names: dict[str, str] = {}
        self._under_any_handlers: frozenset[str] = frozenset()
        self._namespace: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {"counters": self.counters, "_events": self._events}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.__dict__.update(state)

    def connect(self, names: dict[str, str], under_any_handlers: frozenset[str], namespace: dict[str, Any]) -> None:
        """Keep the flags in the namespace of a generated loop up to date from now on.

        Args:
            names: the flag of each event of the loop, by the key of the event.
            under_any_handlers: the flags that the loop tests only if the flag ``any_handlers`` is true.
            namespace: the globals of the generated functions.
        """
        self._names, self._under_any_handlers, self._namespace = names, under_any_handlers, namespace
        self.bind()

    def count_by(self, counter_by_event: dict[str, str]) -> None:
        """Make filters of an event count an attribute of the state, instead of the firings of the event."""
        with self._lock:
            self.counters |= counter_by_event
            for key, event in self._events.items():
                event.count_by(self.counters.get(key))

    def event(self, key: str) -> EngineEvent:
        """Return the event of a key, and create it if necessary."""
        if key not in self._events:
            self._events[key] = EngineEvent(key, self.counters.get(key))
        return self._events[key]

    def known(self) -> list[EngineEvent]:
        """Return every event that was used so far."""
        return list(self._events.values())

    def attach(self, key: str, handler: Handler) -> None:
        """Add a handler to an event."""
        with self._lock:
            event = self.event(key)
            event.attach(handler)
            self._update_name(event)
            self._update_any_handlers()

    def detach(self, key: str, handler: Handler) -> None:
        """Remove a handler from an event, if it is attached."""
        with self._lock:
            event = self.event(key)
            if handler in event.attached:
                event.detach(handler)
                self._update_name(event)
                self._update_any_handlers()

    def begin_run(self, counts: dict[str, int] | None, disabled: frozenset[str]) -> None:
        """Prepare all events for a run.

        Args:
            counts: how often each event has fired in this run, by key; 0 for those that are missing. None to continue
                from the last run.
            disabled: keys of events that do not fire in this run.
        """
        with self._lock:
            for key, event in self._events.items():
                event.begin_run(None if counts is None else counts.get(key, 0))
            if disabled != self._disabled:
                self._disabled = disabled
                self.bind()

    def observe(self, keys: Iterable[str], makers: Iterable[Callable[[str], Callable[[Any], None] | None]]) -> None:
        """Replace the observers of events.

        Args:
            keys: the keys of the events.
            makers: each returns, for a key, a function of the engine to call at that event, or None.
        """
        makers = list(makers)
        with self._lock:
            for key in keys:
                self.event(key).observe(maker(key) for maker in makers)
            self.bind()

    def measure(self, keys: Iterable[str], stopwatches: tuple[Stopwatch, ...]) -> None:
        """Replace the stopwatches of events. They time every call of a handler that a user attached."""
        with self._lock:
            for key in keys:
                self.event(key).measure(stopwatches)

    def yield_all_events(self, yields_all: bool) -> None:
        """Make the generated loop yield every event, or (False) only events that have handlers."""
        with self._lock:
            self.yields_all = yields_all
            self.bind()

    def bind(self) -> None:
        """Set every flag in the namespace of the loop."""
        with self._lock:
            for key, name in self._names.items():
                if self.yields_all or key in self._events:
                    self._update_name(self.event(key))
                else:  # no event object is needed for an event that nobody has used
                    self._namespace[name] = False
            self._update_any_handlers()

    def _update_any_handlers(self) -> None:
        self._namespace["any_handlers"] = any(map(self._namespace.get, self._under_any_handlers))

    def _update_name(self, event: EngineEvent) -> None:
        name = self._names.get(event.key)
        if name is not None:
            has_handlers = (event.handlers or self.yields_all) and event.key not in self._disabled
            self._namespace[name] = event if has_handlers else False


class RemovableEventHandle:
    """A handle that detaches a handler, by :meth:`remove` or at the end of a ``with`` block.

    :meth:`camshaft.Engine.add_event_handler` returns it.
    """

    def __init__(self, dispatcher: EventDispatcher, attached: list[tuple[str, Handler]]) -> None:
        self._dispatcher = dispatcher
        self._attached = attached

    @classmethod
    def union(cls, handles: Iterable[RemovableEventHandle]) -> RemovableEventHandle:
        """Return one handle for several handles of the same engine."""
        handles = list(handles)
        return cls(handles[0]._dispatcher, [attached for handle in handles for attached in handle._attached])

    def remove(self) -> None:
        """Detach the handler from every event that it was attached to. A second call does nothing."""
        for key, handler in self._attached:
            self._dispatcher.detach(key, handler)
        self._attached = []

    def __enter__(self) -> RemovableEventHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
