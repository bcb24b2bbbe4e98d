"""Faults and control calls, planted at the n-th firing of an event.

They are attached as handlers, only with ``add_event_handler(event, handler)``, so that they also work with engines of
pytorch-ignite. Note that pytorch-ignite suppresses an exception as soon as EXCEPTION_RAISED has a handler. A fault or
call that is planted at EXCEPTION_RAISED is such a handler.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from camshaft._checks import check_integer
from camshaft._functions import check_ran, check_runs, function_name
from camshaft.events import EventHandle, attachments

__all__ = ["Planted", "PlantedError", "call_at", "raise_at"]


class PlantedError(RuntimeError):
    """The default exception of :func:`raise_at`."""


class Planted:
    """A fault or a call at one firing of an event, made by :func:`raise_at` and :func:`call_at`.

    As a context manager, it is removed at the end of the block. If the event did not fire often enough and the block
    raised no exception, the end of the block raises an ``AssertionError``.

    Attributes:
        reached: True after the fault was raised or the call was made.
    """

    def __init__(self, engine: Any, event: EventHandle, n: int, what: str, act: Callable[[], Any]) -> None:
        self.reached = False
        self._event = _name(event)
        self._n = n
        self._what = what
        self._act = act
        self._fired = 0
        self.__qualname__ = f"planted {what}"  # the name in notes, diagrams and reports
        self._handle = engine.add_event_handler(event, self)

    def __repr__(self) -> str:
        return f"<{self._what} planted at the {_ordinal(self._n)} {self._event}{', reached' * self.reached}>"

    def remove(self) -> None:
        """Remove the handler from the engine. A second call does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def __call__(self, *_: Any) -> None:
        """Count a firing of the event, and act at the n-th one."""
        __tracebackhide__ = True
        self._fired += 1
        if self._fired == self._n:
            self.reached = True
            check_ran(f"the planted {self._what}", self._act())

    def __enter__(self) -> Planted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.remove()
        if error is None and not self.reached:
            fired = f"fired {self._fired} time{'s' * (self._fired != 1)}" if self._fired else "never fired"
            planted = f"the {self._what} was planted at the {_ordinal(self._n)} time"
            raise AssertionError(f"{self._event} {fired}, but {planted}: the test proves nothing")


def raise_at(
    engine: Any, event: EventHandle, n: int = 1, error: BaseException | type[BaseException] = PlantedError
) -> Planted:
    """Attach a handler that raises an exception at the n-th firing of an event from now on.

    It runs after the handlers of the same priority that are already attached.

    >>> from camshaft import Engine, Events
    >>> trainer = Engine(lambda engine, batch: None)
    >>> with raise_at(trainer, Events.ITERATION_STARTED, n=2, error=OSError("disk full")) as fault:
    ...     try:
    ...         state = trainer.run([1, 2, 3])
    ...     except OSError as error:
    ...         print(error, trainer.state.iteration)
    disk full 2

    Args:
        engine: an engine, or any object with ``add_event_handler(event, handler)``.
        event: the event. With a filter, only firings count that the filter lets through. With a union, the firings of
            all its events count together.
        n: the number of the firing, from 1.
        error: the exception, or an exception class that is created with a message.

    Returns:
        An object whose ``reached`` is True after the fault was raised. Its ``remove()`` removes the fault, and so does
        the end of a ``with`` block.

    Raises:
        TypeError: ``error`` is no exception, or a class that needs more arguments than a message.
        ValueError: ``n`` is no integer of 1 or more.
    """
    _check_count(n)
    exception = _exception(error, f"planted at the {_ordinal(n)} {_name(event)}")

    def fail() -> NoReturn:
        __tracebackhide__ = True
        raise exception

    return Planted(engine, event, n, "fault", fail)


def call_at(engine: Any, event: EventHandle, call: Callable[[], Any], n: int = 1) -> Planted:
    """Attach a handler that calls a function at the n-th firing of an event from now on.

    It runs after the handlers of the same priority that are already attached.

    >>> from camshaft import Engine, Events
    >>> trainer = Engine(lambda engine, batch: None)
    >>> with call_at(trainer, Events.ITERATION_STARTED, trainer.terminate, n=2):
    ...     trainer.run([1, 2, 3]).iteration
    2

    Args:
        engine, event, n: as for :func:`raise_at`.
        call: a function without arguments. Its return value is ignored.

    Returns:
        An object whose ``reached`` is True after the call was made. Its ``remove()`` removes the call, and so does the
        end of a ``with`` block.

    Raises:
        TypeError: ``call`` is not callable, or a call would not run it.
        ValueError: ``n`` is no integer of 1 or more.
    """
    _check_count(n)
    if not callable(call):
        raise TypeError(
            f"call must be callable, got {call!r}: give the method itself, as in call_at(..., trainer.terminate)"
        )
    check_runs(f"call {function_name(call)}", call)
    return Planted(engine, event, n, "call", call)


def _check_count(n: Any) -> None:
    check_integer("n", n, hint="it counts the firings of the event")


def _exception(error: Any, message: str) -> BaseException:
    """Return the exception to raise. It is created now, so that a wrong class is refused where the fault is planted."""
    if isinstance(error, type) and issubclass(error, BaseException):
        try:
            error = error(message)
        except TypeError as refused:
            raise TypeError(
                f"error={error.__name__} cannot be created with only a message: give an instance"
            ) from refused
    if not isinstance(error, BaseException):
        raise TypeError(f"error must be an exception or an exception class, got {error!r}")
    return error


def _name(event: EventHandle) -> str:
    return " | ".join(map(repr, attachments(event)))


def _ordinal(n: int) -> str:
    """Return the ordinal number of an integer.

    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 113)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '113th']
    """
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
