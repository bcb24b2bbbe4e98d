"""The tree of a loop: its fields and the properties derived from them.

This is the base class of :class:`~camshaft.Loop`. The modules that check, count and describe a loop import only this
class, so that ``Loop`` can import them without a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Self

import attrs

from camshaft.events import ANYWHERE, FACTS, OF_FETCHING, OF_SKIPPING, OF_THE_RUN
from camshaft.loop.states import (
    DATA,
    CustomState,
    EventPoint,
    LoopItem,
    Nested,
    OpaqueStep,
    Path,
    Phase,
    default_event,
    event_arguments,
)

__all__ = ["LoopTree"]


@attrs.frozen(init=False, repr=False, slots=False)
class LoopTree(LoopItem):
    """The fields of a loop, documented in :class:`~camshaft.Loop`, and the tree of its states."""

    name: str
    body: tuple[Phase | OpaqueStep | EventPoint | Self, ...] = ()
    over: Any = None
    times: int | None = None
    until: Callable[[Any], bool] | None = None
    started: str = default_event("started")
    completed: str = default_event("completed")
    custom_states: tuple[CustomState, ...] = ()
    nested: tuple[Nested, ...] = ()

    @cached_property
    def _below(self) -> tuple[tuple[Path, Phase | OpaqueStep | EventPoint | Self], ...]:
        """The states inside the loop, with their paths.

        The loop itself is left out: a cached reference to itself would keep it alive until the garbage collector runs.
        """
        return tuple(
            ((self.name, *path), state)
            for item in self.body
            for path, state in (item.walk() if isinstance(item, LoopTree) else [((item.name,), item)])
        )

    def walk(self) -> Iterator[tuple[Path, Phase | OpaqueStep | EventPoint | Self]]:
        """Yield every state of the tree with its path, outermost first. Custom states are not in the tree."""
        yield (self.name,), self
        yield from self._below

    def find(self, name: str) -> Phase | OpaqueStep | EventPoint | Self | None:
        """Return the state with this name, or None."""
        return next((item for _, item in self.walk() if item.name == name), None)

    @property
    def passes(self) -> str | int | None:
        """The rule that ends its passes: ``"data"``, ``"over"``, ``"until"``, a number of passes, or None."""
        if self.over is not None:
            return "data" if self.over is DATA else "over"
        return "until" if self.until is not None else self.times

    @cached_property
    def counters(self) -> tuple[str, ...]:
        """The attributes of ``engine.state`` that count the passes of each loop, outermost first."""
        return tuple(item.name.lower() for _, item in self.walk() if isinstance(item, LoopTree))

    @property
    def data_loop(self) -> Self | None:
        """The loop over the data of the run, or None."""
        return self if self.over is DATA else self._data_loop_below

    @cached_property
    def _data_loop_below(self) -> Self | None:
        return next((item for _, item in self._below if isinstance(item, LoopTree) and item.over is DATA), None)

    @cached_property
    def data_path(self) -> Path:
        """The path to the loop over the data; empty without such a loop."""
        paths = (path for path, item in self.walk() if isinstance(item, LoopTree) and item.over is DATA)
        return next(paths, ())

    @cached_property
    def event_keys(self) -> tuple[str, ...]:
        """The keys of all events of this loop, without duplicates, including the built-in ones."""
        keys = [*OF_THE_RUN[:1]]
        for _, item in self.walk():
            if isinstance(item, LoopTree) and item.over is DATA:
                keys += OF_FETCHING
            keys += item.own_events
            if isinstance(item, LoopTree) and item.over is DATA:
                keys += OF_SKIPPING
        keys += [event for custom in self.custom_states for event in custom.events]
        keys += (key for key in FACTS if key in ANYWHERE or key in OF_THE_RUN)
        return tuple(dict.fromkeys(keys))

    @property
    def own_events(self) -> tuple[str, str]:
        """The keys of the events at the start and at the end of a pass."""
        return (self.started, self.completed)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        passes = {name: (getattr(self, name), None) for name in ("over", "times", "until")}
        events = event_arguments(self.name, self.started, self.completed)
        return (self.name, *self.body), passes | events | {"custom_states": (self.custom_states, ())}
