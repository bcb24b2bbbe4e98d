"""Dispatch: who hears an event, in which order, and when a filter lets it through.

All that can be decided when a handler is attached is decided there: how it is called, and when its filter is due
next. Firing an event is a loop over ready calls.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import attrs

from camshaft.engine.handler import Handler, Stopwatch

__all__ = ["EngineEvent", "RemovableEventHandle", "EventDispatcher"]


@attrs.define(eq=False)
class _FiringCount:
    """How often an event fired in this run, counted only while somebody needs to know."""

    value: int = 0

    def call(self, engine: Any) -> None:
        self.value += 1


@attrs.define(eq=False)
class _FilteredHandlers:
    """Handlers with filters that stand side by side: one comparison passes them all by while none is due."""

    handlers: list[Handler]
    counter: str
    firing_count: _FiringCount
    due: float = 0

    def by_state(self, engine: Any) -> None:
        """Called at an event that is counted in the state."""
        count = getattr(engine.state, self.counter)
        if count >= self.due:
            self.open(engine, count)

    def by_firings(self, engine: Any) -> None:
        """Called at an event that counts its own firings."""
        if self.firing_count.value >= self.due:
            self.open(engine, self.firing_count.value)

    def raised(self, engine: Any, error: BaseException) -> bool:
        """Called at EXCEPTION_RAISED; returns whether a handler took the error."""
        return self.open(engine, self.firing_count.value, error)

    def open(self, engine: Any, count: int, *error: BaseException) -> bool:
        """Call those that are due."""
        answers = [
            handler.call(engine, *error)
            for handler in self.handlers
            if count >= handler.due and self._is_due(handler, engine, count)
        ]
        self.due = min(handler.due for handler in self.handlers)
        return any(answer is True for answer in answers)

    @staticmethod
    def _is_due(handler: Handler, engine: Any, count: int) -> bool:
        filter, own = handler.filter, count - handler.since
        if filter is None:
            return True
        if filter.event_filter is not None:
            return bool(filter.event_filter(engine, own))
        upcoming = filter.next_due(own + 1)
        handler.due = math.inf if upcoming is None else upcoming + handler.since
        return filter.next_due(own) == own


class EngineEvent:
    """One event of one engine: the calls to make when it fires, in order.

    Args:
        key: the key of the event.
        counter: the attribute of the state that its filters count; None to count its own firings.
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

    @property
    def attached(self) -> tuple[Handler, ...]:
        """The handlers that a user attached, in the order in which they run."""
        return tuple(self._attached)

    @property
    def count(self) -> int:
        """How often the event fired in this run since somebody counts."""
        return self._firing_count.value

    def attach(self, handler: Handler) -> None:
        """Add a handler: behind all of its priority, from the next firing on."""
        handler.since = 0 if self.counter is not None else self._firing_count.value
        handler.measure(self.key, self._stopwatches)
        later = (index for index, other in enumerate(self._attached) if other.priority < handler.priority)
        self._attached.insert(next(later, len(self._attached)), handler)
        self._arrange()

    def detach(self, handler: Handler) -> None:
        """Remove a handler; one that is about to be called in this very firing is not."""
        handler.remove()
        self._attached.remove(handler)
        self._arrange()

    def observe(self, observers: Iterable[Callable[[Any], None]]) -> None:
        """Let these be called before all handlers, instead of those that were."""
        self._observers = tuple(map(self._internal, observers))
        self._arrange()

    def measure(self, stopwatches: tuple[Stopwatch, ...]) -> None:
        """Have the calls of attached handlers measured by these, instead of by those that did."""
        self._stopwatches = stopwatches
        for handler in self._attached:
            handler.measure(self.key, stopwatches)

    def add_precheck(self, check: Callable[[Any], None]) -> None:
        """Let this be called before everything else; what it raises keeps the event from firing."""
        self._prechecks += (Handler.of(check),)
        self._arrange()

    def count_by(self, counter: str | None) -> None:
        """Let filters count this attribute of the state."""
        if counter != self.counter:
            self.counter = counter
            self._arrange()

    def begin_run(self, count: int | None) -> None:
        """Count from here, or None: go on counting."""
        if count is not None:
            self._firing_count.value = count
        filtered = [handler for handler in self._attached if handler.filter is not None]
        for handler in filtered:
            handler.since = handler.since if count is None else 0
            handler.due = 0
        if filtered:
            self._arrange()

    def _internal(self, call: Callable[[Any], None]) -> Handler:
        """What the engine itself does here; it wants no error."""
        return Handler.of((lambda engine, error: call(engine)) if self.key == "exception_raised" else call)

    def _filtered(self, handlers: list[Handler]) -> Callable[..., Any]:
        filtered = _FilteredHandlers(handlers, self.counter or "", self._firing_count)
        if self.key == "exception_raised":
            return filtered.raised
        return filtered.by_state if filtered.counter else filtered.by_firings

    def _arrange(self) -> None:
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
                calls.append(Handler.of(self._filtered(filtered)))
            filtered.append(handler)
        self.handlers = tuple(calls)


class EventDispatcher:
    """All events of one engine, and the names under which its generated loop tests whether they are heard."""

    def __init__(self) -> None:
        self.yields_all = False
        self._counters: dict[str, str] = {}
        self._disabled: frozenset[str] = frozenset()
        self._events: dict[str, EngineEvent] = {}
        self._names: dict[str, str] = {}
        self._under_any_handlers: frozenset[str] = frozenset()
        self._namespace: dict[str, Any] = {}
        self._lock = threading.RLock()

    def connect(self, names: dict[str, str], under_any_handlers: frozenset[str], namespace: dict[str, Any]) -> None:
        """Serve the loop that looks up these names, by event, in this namespace.

        Args:
            names: the name of each event that the loop fires.
            under_any_handlers: the names that it looks up only if ``any_handlers`` is true.
            namespace: where the loop looks them up.
        """
        self._names, self._under_any_handlers, self._namespace = names, under_any_handlers, namespace
        self.bind()

    def count_by(self, counter_loop_by_event: dict[str, str]) -> None:
        """Let filters on these events count an attribute of the state, instead of the firings of the event."""
        with self._lock:
            self._counters |= counter_loop_by_event
            for key, event in self._events.items():
                event.count_by(self._counters.get(key))

    def event(self, key: str) -> EngineEvent:
        """The event of that key."""
        if key not in self._events:
            self._events[key] = EngineEvent(key, self._counters.get(key))
        return self._events[key]

    def known(self) -> list[EngineEvent]:
        """Every event that anybody asked for so far."""
        return list(self._events.values())

    def attach(self, key: str, handler: Handler) -> None:
        """Add a handler to an event."""
        with self._lock:
            event = self.event(key)
            event.attach(handler)
            self._update_name(event)
            self._update_any_handlers()

    def detach(self, key: str, handler: Handler) -> None:
        """Remove a handler from an event, if it is attached there."""
        with self._lock:
            event = self.event(key)
            if handler in event.attached:
                event.detach(handler)
                self._update_name(event)
                self._update_any_handlers()

    def begin_run(self, counts: dict[str, int] | None, disabled: frozenset[str]) -> None:
        """Count firings from ``counts`` on, or from where they are; events in ``disabled`` do not fire in this run."""
        with self._lock:
            for key, event in self._events.items():
                event.begin_run(None if counts is None else counts.get(key, 0))
            if disabled != self._disabled:
                self._disabled = disabled
                self.bind()

    def observe(self, keys: Iterable[str], watchers: Iterable[Callable[[str], Callable[[Any], None]]]) -> None:
        """Let watchers hear these events; each makes, for a key, a function of the engine."""
        makers = list(watchers)
        with self._lock:
            for key in keys:
                self.event(key).observe(maker(key) for maker in makers)
            self.bind()

    def measure(self, keys: Iterable[str], stopwatches: tuple[Stopwatch, ...]) -> None:
        """Have the handlers of these events measured by these stopwatches, instead of by those that did."""
        with self._lock:
            for key in keys:
                self.event(key).measure(stopwatches)

    def yield_all_events(self, yields_all: bool) -> None:
        """Have the loop yield every event, heard or not; or only those that are heard again."""
        with self._lock:
            self.yields_all = yields_all
            self.bind()

    def bind(self) -> None:
        """Bring every name up to date."""
        with self._lock:
            for key, name in self._names.items():
                if self.yields_all or key in self._events:
                    self._update_name(self.event(key))
                else:
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
    """What attaching a handler returns: it removes it again, by ``remove()`` or at the end of a ``with`` block."""

    def __init__(self, dispatcher: EventDispatcher, attached: list[tuple[str, Handler]]) -> None:
        self._dispatcher = dispatcher
        self._attached = attached

    @classmethod
    def union(cls, handles: Iterable[RemovableEventHandle]) -> RemovableEventHandle:
        """One that removes what all of these handles of one engine do."""
        handles = list(handles)
        return cls(handles[0]._dispatcher, [attached for handle in handles for attached in handle._attached])

    def remove(self) -> None:
        """Detach the handler from every event it was attached to; a second time does nothing."""
        for key, handler in self._attached:
            self._dispatcher.detach(key, handler)
        self._attached = []

    def __enter__(self) -> RemovableEventHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
