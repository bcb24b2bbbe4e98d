"""Handlers: how they are called, when their filters are due, and how long they take."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

import attrs

from camshaft._functions import (
    ARGUMENT,
    MAX_LAYERS,
    check_runs,
    checked_once,
    function_name,
    refusing_signature,
)
from camshaft.events import ONCE_A_RUN, Filter, FilteredEvent, event_name

__all__ = ["Handler", "Stopwatch", "check_filter", "adapt_signature"]


def adapt_signature(
    function: Callable[..., Any], event: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """Wrap a handler, so that it gets the engine only if its signature accepts it.

    Args:
        function: the handler.
        event: the key of its event. Handlers of EXCEPTION_RAISED also get the exception.
        args, kwargs: further arguments for the handler.

    Returns:
        A function of the engine, or of the engine and the exception for EXCEPTION_RAISED. It does not refer to an
        engine, so that it keeps none in memory.

    Raises:
        TypeError: ``function`` is not callable, a call would not run it, or its signature fits neither with nor without
            the engine.
    """
    if not callable(function):
        raise TypeError(f"handler for {event_name(event)} must be callable, got {function!r}")
    check_runs(f"handler {function_name(function)} of {event_name(event)}", function)
    raised = event == "exception_raised"
    passed = (ARGUMENT,) if raised else ()
    with_engine, without = (ARGUMENT, *passed, *args), (*passed, *args)
    # A wrapper with *args accepts both, so what it wraps decides. If that fits neither, the wrapper adds arguments.
    for layers in (MAX_LAYERS, 0):
        if refusing_signature(function, with_engine, kwargs, layers) is None:
            if not args and not kwargs:
                return function
            return lambda engine, *error: function(engine, *error, *args, **kwargs)
        if refusing_signature(function, without, kwargs, layers) is None:
            if not args and not kwargs and not raised:
                return lambda engine: function()
            return lambda engine, *error: function(*error, *args, **kwargs)
    name, signature = function_name(function), refusing_signature(function, with_engine, kwargs)
    shown = ["exception"] * raised + [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    calls = f"{name}({', '.join(['engine', *shown])}) or {name}({', '.join(shown)})"
    raise TypeError(f"handler {name}{signature} does not fit {event_name(event)}: it will be called as {calls}")


def check_filter(filter: Filter, event: str) -> None:
    """Refuse a filter that cannot work on an event.

    Args:
        filter: the filter.
        event: the key of the event.

    Raises:
        ValueError: the event fires at most once in a run, and the filter is not due at the first count.
        TypeError: ``event_filter`` does not accept (engine, count).
    """
    if event in ONCE_A_RUN and filter.event_filter is None and filter.next_due(1) != 1:
        raise ValueError(
            f"{event_name(event)}{filter} can never be due: the event fires once in a run; leave the filter out"
        )
    if filter.event_filter is not None:
        signature = refusing_signature(filter.event_filter, (ARGUMENT, 1))
        if signature is not None:
            raise TypeError(f"{event_name(event)}{filter}: event_filter{signature} will be called with (engine, count)")


def _removed(*_: Any) -> None:
    """Do nothing. This replaces a handler that was removed while its event was being dispatched."""


@attrs.define(eq=False)
class Handler:
    """A handler attached to one event.

    Attributes:
        function: the function that a user attached.
        call: the function to call, from :func:`adapt_signature`. While stopwatches time it, a wrapper of that.
        filter: the filter; None if the handler is always due.
        priority: handlers of a higher priority run first.
        since: how often the event had fired when the handler was attached; 0 if its filter counts a counter of the
            state.
        due: the next count at which the filter must be looked at.
    """

    function: Callable[..., Any]
    call: Callable[..., Any]
    filter: Filter | None = None
    priority: int = 0
    since: int = 0
    due: float = 0
    _unmeasured: Callable[..., Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._unmeasured = self.call

    @classmethod
    def of(cls, call: Callable[..., Any]) -> Handler:
        """Make a handler of a function of the engine itself."""
        return cls(call, call)

    @classmethod
    def attached(
        cls, single: FilteredEvent, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Handler:
        """Make a handler of a user's function.

        Args:
            single: the event, with its filter and priority.
            function: the function.
            args, kwargs: further arguments for it.

        Raises:
            TypeError: see :func:`adapt_signature`.
        """
        call = adapt_signature(function, single.key, args, kwargs)
        handler = cls(function, call, single.filter, single.priority)
        # A weak reference: a handler that refers to itself would be freed by the garbage collector only.
        found = weakref.ref(handler)

        def replace(_: Callable[..., Any]) -> None:
            checked = found()
            if checked is not None:
                checked._use(call)

        handler._use(checked_once(f"handler {handler.name} of {event_name(single.key)}", call, replace))
        return handler

    def _use(self, call: Callable[..., Any]) -> None:
        """Replace the function to call, unless the handler was removed. Stopwatches go on timing it."""
        if self.call is self._unmeasured:
            self.call = call
        self._unmeasured = call

    @property
    def name(self) -> str:
        """The name of the function, or the class name of a callable object."""
        return function_name(self.function)

    def remove(self) -> None:
        """Make sure that the handler does not run again, not even in a firing that has begun."""
        self.call = _removed

    def measure(self, event: str, stopwatches: tuple[Stopwatch, ...]) -> None:
        """Replace the stopwatches that time each call.

        Args:
            event: the key of the event, passed to the stopwatches.
            stopwatches: the new stopwatches; empty to stop timing.
        """
        self.call = _measured(self, event, stopwatches) if stopwatches else self._unmeasured


Stopwatch = Callable[[str, Handler], Callable[[float], None]]
"""A function that is called with an event and a handler when a call begins.

It returns a function that is called with the seconds when the call has ended.
"""


def _measured(handler: Handler, event: str, stopwatches: tuple[Stopwatch, ...]) -> Callable[..., Any]:
    """Return a function that calls the function of a handler, timed by stopwatches."""

    def measured(engine: Any, *error: BaseException) -> Any:
        stops = [start(event, handler) for start in stopwatches]
        begun = perf_counter()
        try:
            return handler._unmeasured(engine, *error)
        finally:
            seconds = perf_counter() - begun
            for stop in stops:
                stop(seconds)

    return measured
