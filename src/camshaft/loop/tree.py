"""The tree of a loop: its fields, and what can be read from them.

:class:`~camshaft.Loop` is made of it. The modules that check, describe and count a loop know only this much of it, so
that the loop itself can use them.
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
    _default_event,
    _named_events,
)

__all__ = ["LoopTree"]


@attrs.frozen(init=False, repr=False, slots=False)
class LoopTree(LoopItem):
    """The fields of a loop, and its states. See :class:`~camshaft.Loop` for what they mean."""

    name: str
    body: tuple[Phase | OpaqueStep | EventPoint | Self, ...] = ()
    over: Any = None
    times: int | None = None
    until: Callable[[Any], bool] | None = None
    started: str = _default_event("started")
    completed: str = _default_event("completed")
    custom_states: tuple[CustomState, ...] = ()
    nested: tuple[Nested, ...] = ()

    @cached_property
    def _below(self) -> tuple[tuple[Path, Phase | OpaqueStep | EventPoint | Self], ...]:
        """What is inside it, with paths; without itself, so that it is not kept alive by what it keeps."""
        return tuple(
            ((self.name, *path), state)
            for item in self.body
            for path, state in (item.walk() if isinstance(item, LoopTree) else [((item.name,), item)])
        )

    def walk(self) -> Iterator[tuple[Path, Phase | OpaqueStep | EventPoint | Self]]:
        """Every state of the tree with its path, outermost first. Free states are not in the tree."""
        yield (self.name,), self
        yield from self._below

    def find(self, name: str) -> Phase | OpaqueStep | EventPoint | Self | None:
        """The state of that name, or None."""
        return next((item for _, item in self.walk() if item.name == name), None)

    @property
    def passes(self) -> str | int | None:
        """What its passes go by: ``"data"``, ``"over"``, ``"until"``, a number of times, or None."""
        if self.over is not None:
            return "data" if self.over is DATA else "over"
        return "until" if self.until is not None else self.times

    @cached_property
    def counters(self) -> tuple[str, ...]:
        """The attributes of the state in which its loops count their passes, outermost first."""
        return tuple(item.name.lower() for _, item in self.walk() if isinstance(item, LoopTree))

    @property
    def data_loop(self) -> Self | None:
        """The loop that takes the data of the run; None when none does."""
        return self if self.over is DATA else self._data_loop_below

    @cached_property
    def _data_loop_below(self) -> Self | None:
        return next((item for _, item in self._below if isinstance(item, LoopTree) and item.over is DATA), None)

    @cached_property
    def event_keys(self) -> tuple[str, ...]:
        """The keys of every event that this loop can fire, each once, built-in ones included."""
        keys = [*OF_THE_RUN[:1]]
        for _, item in self.walk():
            if isinstance(item, LoopTree) and item.over is DATA:
                keys += OF_FETCHING
            keys += item.own_events
            if isinstance(item, LoopTree) and item.over is DATA:
                keys += OF_SKIPPING
        keys += [event for custom_states in self.custom_states for event in custom_states.events]
        keys += (key for key in FACTS if key in ANYWHERE or key in OF_THE_RUN)
        return tuple(dict.fromkeys(keys))

    @property
    def own_events(self) -> tuple[str, str]:
        """The keys of the events that begin and end a pass."""
        return (self.started, self.completed)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        passes = {name: (getattr(self, name), None) for name in ("over", "times", "until")}
        events = _named_events(self.name, self.started, self.completed)
        return (self.name, *self.body), passes | events | {"free": (self.custom_states, ())}
