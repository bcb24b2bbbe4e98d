"""Ranges in ``torch.profiler`` for the states of a loop."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from torch.profiler import record_function

from camshaft.engine.engine import Engine
from camshaft.events import OF_THE_RUN, event
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, LoopItem, Path, Phase
from camshaft.priorities import MEASURE

__all__ = ["ProfilerRanges"]


@attrs.define
class _Range:
    """An open range. It stays open after its state is left (``is_over``) until the ranges inside it are closed."""

    state: str
    function: record_function
    is_over: bool = False


class ProfilerRanges:
    """Handler that shows each state of an engine as a range in ``torch.profiler``, such as ``trainer.BACKWARD``.

    Loops, phases, ``GET_BATCH`` and custom states with two events become ``record_function`` ranges named
    ``<engine>.<STATE>``. A range begins before the handlers of the event that enters the state. It ends before the
    handlers of the event that leaves it, so ``profile.step()`` at ITERATION_COMPLETED lies between two iterations.
    A range also ends if its state ends in another way. A pause ends all ranges; the ranges around the current place
    begin again when the run continues. A profile does not contain ranges that began before it.

    Ranges are always nested. If the range of a custom state would overlap another range, it ends with the loop or phase
    in which it began, or it lasts until the custom state that began inside it is left.

    >>> from torch.profiler import ProfilerActivity, profile
    >>> trainer = Engine(lambda engine, batch: None, name="trainer")
    >>> ProfilerRanges().attach(trainer)
    >>> with profile(activities=[ProfilerActivity.CPU]) as profiled:
    ...     state = trainer.run([1, 2, 3])
    >>> [event.count for event in profiled.key_averages() if event.key == "trainer.ITERATION"]
    [3]
    """

    def __init__(self) -> None:
        self._engine: Callable[[], Engine | None] | None = None
        self._name = ""
        self._attached_at: set[str] = set()
        self._paths: dict[str, Path] = {}
        self._states_entered_at: dict[str, list[str]] = {}
        self._states_left_at: dict[str, list[str]] = {}
        self._ranges: list[_Range] = []

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy copies. A weak reference would lead to the engine of the original."""
        return self.__dict__ | {"_engine": self._engine() if self._engine is not None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._engine = weakref.ref(state["_engine"]) if state["_engine"] is not None else None

    def attach(self, engine: Engine) -> None:
        """Show the runs of an engine from now on. Calling it again does nothing.

        Args:
            engine: the engine to show.

        Raises:
            TypeError: ``engine`` is not an Engine.
            ValueError: this handler is attached to another engine.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"ProfilerRanges: engine must be an Engine, got {engine!r}: give the one to show")
        shown = self._engine() if self._engine is not None else engine
        if shown is not engine:
            raise ValueError(
                f"ProfilerRanges: already attached to an engine other than {engine.name}: "
                f"create one ProfilerRanges for each engine"
            )
        self._engine, self._name = weakref.ref(engine), engine.name  # weak, as its handlers refer to this object
        self._attach_to_new_events(engine)

    def _attach_to_new_events(self, engine: Engine) -> None:
        """Attach to each event that enters or leaves a state, unless already attached."""
        self._paths = dict(_paths(engine.loop))
        self._states_entered_at, self._states_left_at = defaultdict(list), defaultdict(list)
        for state, entering, leaving in _states(engine.loop):
            self._states_entered_at[entering].append(state)
            self._states_left_at[leaving].append(state)
        calls: dict[str, Callable[..., None]] = {
            key: partial(self._on_event, key) for key in (*self._states_entered_at, *self._states_left_at)
        }
        calls |= dict.fromkeys(OF_THE_RUN, self._end) | {"started": self._begin}
        calls["terminate_single_epoch"] = partial(self._leave_all_in, engine.loop.name)
        if engine.loop.data_loop is not None:
            calls["iteration_skipped"] = partial(self._leave, engine.loop.data_loop.name)
        for key, call in calls.items():
            if key not in self._attached_at:
                self._attached_at.add(key)
                engine.add_event_handler(event(key, priority=MEASURE), call)

    def _begin(self, engine: Engine) -> None:
        self._end()
        self._attach_to_new_events(engine)

    def _end(self, *_: Any) -> None:
        self._close_from(0)

    def _on_event(self, key: str, engine: Engine) -> None:
        """Leave and enter the states of an event. If several states share it, ``engine.where`` decides."""
        where = engine.where
        for state in self._states_left_at[key]:
            if state in where:
                self._leave(state)
        for state in self._states_entered_at[key]:
            if state in where:
                self._enter(state)

    def _enter(self, state: str) -> None:
        path = self._paths.get(state)
        if path is not None:
            self._open_path(path[:-1])
        self._open(state)

    def _open_path(self, path: Path) -> None:
        """Close the ranges that are not on this path, and open those on it that a pause has closed."""
        outside = (
            index for index, item in enumerate(self._ranges) if item.state in self._paths and item.state not in path
        )
        self._close_from(next(outside, len(self._ranges)))
        for state in path:
            if self._index(state) is None:
                self._open(state)

    def _open(self, state: str) -> None:
        function = record_function(f"{self._name}.{state}")
        function.__enter__()  # type: ignore[no-untyped-call]
        self._ranges.append(_Range(state, function))

    def _leave(self, state: str, *_: Any) -> None:
        index = self._index(state)
        if index is None:  # its range is closed already
            return
        if state in self._paths:
            self._close_from(index)
        else:
            self._ranges[index].is_over = True
            self._close_from(len(self._ranges))

    def _leave_all_in(self, state: str, *_: Any) -> None:
        self._open_path((state,))

    def _index(self, state: str) -> int | None:
        """Return the index of the innermost open range of a state, or None."""
        found = (index for index in reversed(range(len(self._ranges))) if self._ranges[index].state == state)
        return next(found, None)

    def _close_from(self, index: int) -> None:
        """Close the ranges from an index on, and those around them whose states are already left."""
        ranges = self._ranges
        while len(ranges) > index or (ranges and ranges[-1].is_over):
            ranges.pop().function.__exit__(None, None, None)


def _paths(loop: Loop) -> list[tuple[str, Path]]:
    """Return the states that the engine itself enters and leaves, with their paths."""
    found = [(item.name, path) for path, item in loop.walk() if isinstance(item, (Loop, Phase))]
    found += [("GET_BATCH", (*path[:-1], "GET_BATCH")) for path, item in loop.walk() if _takes_data(item)]
    return found


def _states(loop: Loop) -> list[tuple[str, str, str]]:
    """Return (state, entering event, leaving event) for each state with two events."""
    found = [(item.name, item.started, item.completed) for _, item in loop.walk() if isinstance(item, (Loop, Phase))]
    found += [("GET_BATCH", "get_batch_started", "get_batch_completed") for _, item in loop.walk() if _takes_data(item)]
    return found + [
        (custom.name, custom.events[0], custom.events[1]) for custom in loop.custom_states if custom.is_pair
    ]


def _takes_data(item: LoopItem) -> bool:
    return isinstance(item, Loop) and item.over is DATA
