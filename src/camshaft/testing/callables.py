"""Functions and data for random loops: they can be compared, and ``repr`` prints them as Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = [
    "Batches",
    "EveryNthTime",
    "FireEvents",
    "PrintableCallable",
    "Scripted",
    "ScriptedRange",
    "no_op",
    "return_batch",
]


def no_op(engine: Any, batch: Any) -> None:
    """Do nothing, as the function of a phase or as an opaque step."""


def return_batch(engine: Any, batch: Any) -> Any:
    """Return the batch, as the function of a phase or as an opaque step."""
    return batch


class PrintableCallable:
    """A callable that is compared and printed by its arguments, and that counts its calls."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.calls = 0

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other)["arguments"] == self.arguments

    def __hash__(self) -> int:
        return hash((type(self), self.arguments))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.arguments))})"

    def fresh(self) -> Any:
        """Return a copy that has not been called yet."""
        return type(self)(*self.arguments)

    def next_argument(self) -> Any:
        """Return the arguments one after another, and then the last one again and again."""
        self.calls += 1
        return self.arguments[min(self.calls, len(self.arguments)) - 1]


class FireEvents(PrintableCallable):
    """``FireEvents(*events)``: an opaque step that fires these events by hand. Its output is its batch."""

    def __call__(self, engine: Any, batch: Any) -> Any:
        """Fire all events, and return the batch."""
        for event in self.arguments:
            engine.fire_event(event)
        return batch


class EveryNthTime(PrintableCallable):
    """``EveryNthTime(n)``: a condition that is True at every n-th call."""

    def __call__(self, engine: Any) -> bool:
        """Return True at every n-th call."""
        self.calls += 1
        return bool(self.calls % self.arguments[0] == 0)


class Scripted(PrintableCallable):
    """``Scripted(*answers)``: a condition that returns these answers one after another, and then the last one."""

    def __call__(self, engine: Any) -> bool:
        """Return the next answer."""
        return bool(self.next_argument())


class ScriptedRange(PrintableCallable):
    """``ScriptedRange(*lengths)``: an ``over=`` function whose n-th call returns ``range(lengths[n - 1])``.

    Further calls use the last length.
    """

    def __call__(self, engine: Any) -> range:
        """Return the elements of one entry of the loop."""
        return range(self.next_argument())


class Batches:
    """An iterable of batches without ``len()``. It can be iterated again."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)
