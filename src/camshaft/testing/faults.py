"""Faults and control calls, planted at the n-th firing of an event.

They go in as handlers, by ``add_event_handler(event, handler)`` alone: an engine of pytorch-ignite takes them as well.
(It drops an exception as soon as EXCEPTION_RAISED has any handler; what is planted there is one.)
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from camshaft._checks import check_integer
from camshaft.events import EventHandle, attachments

__all__ = ["Planted", "PlantedError", "call_at", "raise_at"]


class PlantedError(RuntimeError):
    """What :func:`raise_at` raises unless it is given another exception."""


class Planted:
    """What is to happen at one firing of an event. Made by :func:`raise_at` and :func:`call_at`.

    As a context manager it is removed at the end of the block, which is an ``AssertionError`` if the moment never
    came and no exception is on its way out.

    Attributes:
        reached: whether it has happened.
    """

    def __init__(self, engine: Any, event: EventHandle, n: int, what: str, act: Callable[[], Any]) -> None:
        self.reached = False
        self._event = _name(event)
        self._n = n
        self._what = what
        self._act = act
        self._fired = 0
        self._handle = engine.add_event_handler(event, self._fire)

    def __repr__(self) -> str:
        return f"<{self._what} planted at the {_ordinal(self._n)} {self._event}{', reached' * self.reached}>"

    def remove(self) -> None:
        """Take it out of the engine; a second time does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _fire(self, *_: Any) -> None:
        """The handler: called with the engine, and at EXCEPTION_RAISED with the exception."""
        __tracebackhide__ = True
        self._fired += 1
        if self._fired == self._n:
            self.reached = True
            self._act()

    def __enter__(self) -> Planted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.remove()
        if error is None and not self.reached:
            fired = f"fired {self._fired} time{'s' * (self._fired != 1)}" if self._fired else "never fired"
            planted = f"the {self._what} was planted at the {_ordinal(self._n)}"
            raise AssertionError(f"{self._event} {fired}, and {planted}: it proves nothing")


def raise_at(
    engine: Any, event: EventHandle, n: int = 1, error: BaseException | type[BaseException] = PlantedError
) -> Planted:
    """Let a handler raise at the n-th firing of an event from now on, behind the handlers that are attached already.

    >>> from camshaft import Engine, Events
    >>> trainer = Engine(lambda engine, batch: None)
    >>> with raise_at(trainer, Events.ITERATION_STARTED, n=2, error=OSError("disk full")) as fault:
    ...     try:
    ...         state = trainer.run([1, 2, 3])
    ...     except OSError as error:
    ...         print(error, trainer.state.iteration)
    disk full 2

    Args:
        engine: whatever has ``add_event_handler(event, handler)``.
        event: the event; of a filtered one the n-th firing that is due, of a union the n-th of all its events.
        n: which firing, from 1.
        error: what is raised, or a class that is made with a message.

    Returns:
        What tells whether the moment was reached, and removes the fault: by ``remove()``, or at the end of a ``with``
        block.

    Raises:
        TypeError: ``error`` is no exception.
        ValueError: ``n`` is below 1.
    """
    _check_count(n)
    made = _made(error, f"planted at the {_ordinal(n)} {_name(event)}")

    def fail() -> NoReturn:
        __tracebackhide__ = True
        raise made

    return Planted(engine, event, n, "fault", fail)


def call_at(engine: Any, event: EventHandle, call: Callable[[], Any], n: int = 1) -> Planted:
    """Call something at the n-th firing of an event from now on, behind the handlers that are attached already.

    >>> from camshaft import Engine, Events
    >>> trainer = Engine(lambda engine, batch: None)
    >>> with call_at(trainer, Events.ITERATION_STARTED, trainer.terminate, n=2):
    ...     trainer.run([1, 2, 3]).iteration
    2

    Args:
        engine, event, n: as for :func:`raise_at`.
        call: called without arguments; what it returns is dropped.

    Returns:
        What tells whether the moment was reached, and removes the call, as for :func:`raise_at`.

    Raises:
        TypeError: ``call`` is no callable.
        ValueError: ``n`` is below 1.
    """
    _check_count(n)
    if not callable(call):
        raise TypeError(f"call={call!r} is no callable: give the method itself, as in call_at(..., trainer.terminate)")
    return Planted(engine, event, n, "call", call)


def _check_count(n: Any) -> None:
    check_integer("n", n, hint="it counts the times that the event fires")


def _made(error: Any, message: str) -> BaseException:
    """The exception to raise: made at once, so that one that cannot be made is refused where it is planted."""
    if isinstance(error, type) and issubclass(error, BaseException):
        try:
            error = error(message)
        except TypeError as refused:
            raise TypeError(
                f"error={error.__name__} cannot be made with a message alone: give an instance"
            ) from refused
    if not isinstance(error, BaseException):
        raise TypeError(f"error={error!r} is no exception: give an instance or a class of one")
    return error


def _name(event: EventHandle) -> str:
    return " | ".join(map(repr, attachments(event)))


def _ordinal(n: int) -> str:
    """A number as a place in a row.

    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 113)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '113th']
    """
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
