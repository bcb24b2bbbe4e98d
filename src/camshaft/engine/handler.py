"""Handlers: how they are called, when their filters are due, and how long they take."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from inspect import Parameter
from time import perf_counter
from typing import Any

import attrs

from camshaft._functions import (
    ARGUMENT,
    MAX_LAYERS,
    check_accepts,
    check_runs,
    checked_once,
    function_name,
    has_own_default,
    refusing_signature,
    taking_parameters,
)
from camshaft.events import FACTS, ONCE_A_RUN, Filter, FilteredEvent, event_name

__all__ = ["Handler", "Stopwatch", "check_filter", "takes_engine"]


def takes_engine(function: Callable[..., Any], event: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a handler gets the engine: only if its signature accepts it, and no default is lost.

    A default other than None is never replaced, neither by the engine nor by an exception. A parameter with the default
    None gets the engine if its name is ``engine``, or its annotation names an Engine.

    Args:
        function: the handler.
        event: the key of its event. Handlers of EXCEPTION_RAISED also get the exception.
        args, kwargs: further arguments for the handler.

    Raises:
        TypeError: ``function`` is not callable, a call would not run it, its signature fits neither with nor without
            the engine, or it does not tell whether a parameter with the default None gets the engine.
    """
    check_handler(function, event)
    raised = event == "exception_raised"
    without = (*(ARGUMENT,) * raised, *args)
    # A wrapper with *args accepts both, so what it wraps decides. If that fits neither, the wrapper adds arguments.
    for layers in (MAX_LAYERS, 0):
        taking = taking_parameters(function, (ARGUMENT, *without), kwargs, layers)
        if taking is not None and _leaves_defaults(taking[: 1 + raised]):
            _check_decided(function, event, taking[0])
            return True
        taking = taking_parameters(function, without, kwargs, layers)
        if taking is not None and not any(map(has_own_default, taking[:raised])):
            return False
    name, signature = function_name(function), refusing_signature(function, (ARGUMENT, *without), kwargs)
    shown = ["exception"] * raised + [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    calls = f"{name}({', '.join(['engine', *shown])}) or {name}({', '.join(shown)})"
    if refusing_signature(function, without, kwargs) is None:
        calls += ", and would lose a default"
    raise TypeError(f"handler {name}{signature or ''} does not fit {event_name(event)}: it will be called as {calls}")


def check_handler(function: Any, event: str) -> None:
    """Refuse an object that is no handler.

    Raises:
        TypeError: it is not callable, is a class of handlers or a metric, or a call would not run it.
    """
    what, kind = f"handler for {event_name(event)}", type(function)
    if isinstance(function, type) and (_attaching(function) or _class_has(function, "__call__")):
        raise TypeError(f"{what} is the class {function.__name__}: give an instance, {function.__name__}(...)")
    if all(_class_has(kind, name) for name in ("reset", "update", "compute")):
        call = (
            "its method .attach(engine, name)" if _attaching(kind) else "camshaft.metrics.attach(metric, engine, name)"
        )
        raise TypeError(f"{what} is the metric {kind.__name__}: call {call} instead")
    if not callable(function) and _attaching(kind):
        methods = " or ".join(f".{name}(engine, ...)" for name in _attaching(kind))
        raise TypeError(f"{what} must be callable, and {kind.__name__} is not: call its method {methods} instead")
    if not callable(function) and _class_has(kind, "get_last_lr"):
        raise TypeError(f"{what} must be callable, and {kind.__name__} is not: attach handlers.LRScheduler(scheduler)")
    if not callable(function):
        raise TypeError(f"{what} must be callable, got {function!r}")
    check_runs(f"handler {function_name(function)} of {event_name(event)}", function)


def _attaching(kind: type) -> list[str]:
    """Return the methods of a class that attach its objects to an engine."""
    return [name for name in dir(kind) if name.startswith("attach")]


def _class_has(kind: type, name: str) -> bool:
    """Return whether the objects of a class have a method. An object itself may answer every name."""
    return any(name in vars(base) for base in kind.__mro__)


def _leaves_defaults(taking: tuple[Parameter | None, ...]) -> bool:
    """Return whether the parameters for the engine and for an exception have no defaults of their own."""
    return not any(map(has_own_default, taking)) or (
        # def log(engine, error="unknown"), in contrast to lambda error, i=i
        taking[0] is not None and taking[0].default is Parameter.empty and _names_engine(taking[0])
    )


def _names_engine(parameter: Parameter) -> bool:
    """Return whether the name or the annotation of a parameter says that it is for the engine."""
    return parameter.name == "engine" or "Engine" in str(parameter.annotation)


def _check_decided(function: Any, event: str, parameter: Parameter | None) -> None:
    """Refuse a handler that does not tell whether its parameter with the default None is for the engine.

    Raises:
        TypeError: see above.
    """
    if parameter is None or parameter.default is not None or _names_engine(parameter):
        return
    name = function_name(function)
    raise TypeError(
        f"handler {name} of {event_name(event)} does not tell whether {parameter} is for the engine: "
        f"name it engine, or, to keep its default, attach a lambda without parameters that calls {name}"
    )


def check_filter(filter: Filter, event: str) -> None:
    """Refuse a filter that cannot work on an event.

    Args:
        filter: the filter.
        event: the key of the event.

    Raises:
        ValueError: the event fires at most once in a run, its filters count that, and this one is not due then.
        TypeError: ``event_filter`` does not accept (engine, count).
    """
    fires_once = event in ONCE_A_RUN and not FACTS[event].counts_passes
    if fires_once and filter.event_filter is None and filter.next_due(1) != 1:
        raise ValueError(
            f"{event_name(event)}{filter} can never be due: the event fires once in a run; leave the filter out"
        )
    if filter.event_filter is not None:
        check_accepts(f"{event_name(event)}{filter}: event_filter", filter.event_filter, "engine", "count")


def _removed(*_: Any) -> None:
    """Do nothing. This replaces a handler that was removed while its event was being dispatched."""


@attrs.define(eq=False)
class Handler:
    """A handler attached to one event.

    Attributes:
        function: the function that a user attached.
        args, kwargs: further arguments for it.
        takes_engine: False if it is called without the engine.
        event: the key of the event; empty for a function of the engine itself.
        filter: the filter; None if the handler is always due.
        priority: handlers of a higher priority run first.
        since: how often the event had fired when the handler was attached; 0 if its filter counts a counter of the
            state.
        due: the next count at which the filter must be looked at.
        call: the function to call with the engine, and at EXCEPTION_RAISED with the exception. It does not refer to an
            engine, so that it keeps none in memory. While stopwatches time the handler, a wrapper of that.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = attrs.field(factory=dict)
    takes_engine: bool = True
    event: str = ""
    filter: Filter | None = None
    priority: int = 0
    since: int = 0
    due: float = 0
    call: Callable[..., Any] = attrs.field(init=False)
    _unmeasured: Callable[..., Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        call = self._prepared()
        if self.event:
            # A weak reference: a handler that refers to itself would be freed by the garbage collector only.
            found = weakref.ref(self)

            def replace(_: Callable[..., Any]) -> None:
                checked = found()
                if checked is not None:
                    checked._use(call)

            self.call = self._unmeasured = checked_once(
                f"handler {self.name} of {event_name(self.event)}", call, replace
            )
        else:
            self.call = self._unmeasured = call

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
            TypeError: see :func:`takes_engine`.
        """
        accepts = takes_engine(function, single.key, args, kwargs)
        return cls(function, args, kwargs, accepts, single.key, single.filter, single.priority)

    def _prepared(self) -> Callable[..., Any]:
        """Return the function to call: the user's own if possible."""
        function, args, kwargs = self.function, self.args, self.kwargs
        has_more = bool(args or kwargs)
        if self.takes_engine and not has_more:
            return function
        # __tracebackhide__ is a parameter, because a default costs nothing in a call
        if self.takes_engine:
            return lambda engine, *error, __tracebackhide__=True: function(engine, *error, *args, **kwargs)
        if has_more or self.event == "exception_raised":
            return lambda engine, *error, __tracebackhide__=True: function(*error, *args, **kwargs)
        return lambda engine, __tracebackhide__=True: function()

    def _use(self, call: Callable[..., Any]) -> None:
        """Replace the function to call, unless the handler was removed. Stopwatches go on timing it."""
        if self.call is self._unmeasured:
            self.call = call
        self._unmeasured = call

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.__attrs_post_init__()

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


_STATE = tuple(field.name for field in attrs.fields(Handler) if field.init)
"""The attributes of a handler from which the others are made, in a copy too."""

Stopwatch = Callable[[str, Handler], Callable[[float], None]]
"""A function that is called with an event and a handler when a call begins.

It returns a function that is called with the seconds when the call has ended.
"""


def _measured(handler: Handler, event: str, stopwatches: tuple[Stopwatch, ...]) -> Callable[..., Any]:
    """Return a function that calls the function of a handler, timed by stopwatches."""

    def measured(engine: Any, *error: BaseException) -> Any:
        __tracebackhide__ = True
        stops = [start(event, handler) for start in stopwatches]
        begun = perf_counter()
        try:
            return handler._unmeasured(engine, *error)
        finally:
            seconds = perf_counter() - begun
            for stop in stops:
                stop(seconds)

    return measured
