"""A handler: how it is called, when its filter is due, and how long it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import attrs

from camshaft.events import ONCE_A_RUN, Filter, event_name

__all__ = ["Handler", "Stopwatch", "check_filter", "adapt_signature"]


class _Argument:
    """Stands for an argument while a signature is tried."""


def adapt_signature(
    function: Callable[..., Any], event: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """How a handler is called: with the engine if its signature accepts it, without it otherwise.

    Args:
        function: the handler.
        event: the key of its event; handlers of EXCEPTION_RAISED get the exception too.
        args, kwargs: further arguments that it was attached with.

    Returns:
        A callable of the engine, and of the exception for EXCEPTION_RAISED. It does not refer to any engine.

    Raises:
        TypeError: the signature fits neither way; the message says how it would be called.
    """
    if not callable(function):
        raise TypeError(f"handler {function!r} for {event_name(event)} is no callable")
    raised = event == "exception_raised"
    passed = (_Argument(),) if raised else ()
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C do not tell
        signature = None
    if signature is None or _fits(signature, (_Argument(), *passed, *args), kwargs):
        if not args and not kwargs:
            return function
        return lambda engine, *error: function(engine, *error, *args, **kwargs)
    if _fits(signature, (*passed, *args), kwargs):
        if not args and not kwargs and not raised:
            return lambda engine: function()
        return lambda engine, *error: function(*error, *args, **kwargs)
    name = getattr(function, "__qualname__", repr(function))
    shown = ["exception"] * raised + [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    calls = f"{name}({', '.join(['engine', *shown])}) or {name}({', '.join(shown)})"
    raise TypeError(f"handler {name}{signature} does not fit {event_name(event)}: it will be called as {calls}")


def _fits(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def check_filter(filter: Filter, event: str) -> None:
    """Refuse a filter that cannot work on an event.

    Raises:
        ValueError: the event fires once a run at most, and the filter is not due then.
        TypeError: ``event_filter`` does not take (engine, count).
    """
    if event in ONCE_A_RUN and filter.event_filter is None and filter.next_due(1) != 1:
        raise ValueError(
            f"{event_name(event)}{filter} can never be due: the event fires once in a run; leave the filter out"
        )
    if filter.event_filter is not None:
        try:
            signature = inspect.signature(filter.event_filter)
        except (ValueError, TypeError):
            return
        if not _fits(signature, (_Argument(), 1), {}):
            raise TypeError(f"{event_name(event)}{filter}: event_filter{signature} will be called with (engine, count)")


def _nothing(*_: Any) -> None:
    """What is left of a handler that was removed while its event was firing."""


@attrs.define(eq=False)
class Handler:
    """A handler attached to one event.

    Attributes:
        function: what the user attached.
        call: how it is called, from :func:`adapt_signature`; while it is measured, by way of what measures it.
        filter: when it is due; None for always.
        priority: higher ones run first.
        since: how often the event had fired when the handler was attached.
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
        """What the engine itself does at an event, as a handler."""
        return cls(call, call)

    @property
    def name(self) -> str:
        """How people call it: the name of the function, or of the class of a callable object."""
        function = self.function
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__qualname__", type(function).__name__)
        return str(name).replace("<locals>.", "")

    def remove(self) -> None:
        """Make sure that it does not run again, not even in a firing that has begun."""
        self.call = _nothing

    def measure(self, event: str, stopwatches: tuple[Stopwatch, ...]) -> None:
        """Have each call measured by these, instead of by those that did."""
        self.call = _measured(self, self._unmeasured, event, stopwatches) if stopwatches else self._unmeasured


Stopwatch = Callable[[str, Handler], Callable[[float], None]]
"""Called with an event and a handler when a call of it begins; returns what takes the seconds when the call is over."""


def _measured(
    handler: Handler, call: Callable[..., Any], event: str, stopwatches: tuple[Stopwatch, ...]
) -> Callable[..., Any]:
    def measured(engine: Any, *error: BaseException) -> Any:
        stops = [start(event, handler) for start in stopwatches]
        begun = perf_counter()
        try:
            return call(engine, *error)
        finally:
            seconds = perf_counter() - begun
            for stop in stops:
                stop(seconds)

    return measured
