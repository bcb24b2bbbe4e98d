"""Ranges of ``torch.profiler`` named after the states of a loop."""

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
from camshaft.loop.states import DATA, Path, Phase
from camshaft.priorities import MEASURE

__all__ = ["ProfilerRanges"]

"""Events at which the engine stands in no state of its loop, or leaves it."""


@attrs.define
class _Range:
    """A state that was entered."""

    state: str
    function: record_function
    is_over: bool = False


class ProfilerRanges:
    """Shows the states of an engine in ``torch.profiler``, each as a range ``<engine>.<STATE>``: ``trainer.BACKWARD``.

    Ranges of loops, phases, ``GET_BATCH`` and custom states that are entered and left are ``record_function`` ranges.
    One begins before the handlers of the event that enters the state and ends before those of the event that leaves
    it, so that ``profile.step()`` at ITERATION_COMPLETED lies between two iterations. Whatever else ends the state ends
    its range; a pause does, and what is around the place where the run goes on begins again. Ranges that began before
    the profile did are not in it.

    Ranges are always nested. A custom state whose own range would overlap another's ends with the loop or phase
    that it began in, or lasts until the custom state that began in it is over.

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
        self._entered: dict[str, list[str]] = {}
        self._left: dict[str, list[str]] = {}
        self._ranges: list[_Range] = []

    def attach(self, engine: Engine) -> None:
        """Show the runs of an engine from now on; a second time does nothing.

        Raises:
            TypeError: ``engine`` is no engine.
            ValueError: it shows another engine.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"ProfilerRanges: {engine!r} is no Engine: give the one whose states are to be shown")
        shown = self._engine() if self._engine is not None else engine
        if shown is not engine:
            raise ValueError(f"ProfilerRanges: it shows another engine than {engine.name}: make one for each engine")
        self._engine, self._name = weakref.ref(engine), engine.name  # its handlers hold these ranges
        self._listen(engine)

    def _listen(self, engine: Engine) -> None:
        """Hear every event that enters or leaves a state, those registered since the last time too."""
        self._paths = dict(_paths(engine.loop))
        self._entered, self._left = defaultdict(list), defaultdict(list)
        for state, entering, leaving in _states(engine.loop):
            self._entered[entering].append(state)
            self._left[leaving].append(state)
        calls: dict[str, Callable[..., None]] = {key: partial(self._pass, key) for key in (*self._entered, *self._left)}
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
        self._listen(engine)

    def _end(self, *_: Any) -> None:
        self._cut(0)

    def _pass(self, key: str, engine: Engine) -> None:
        """Several states may share an event: those that it enters or leaves are where the engine stands."""
        where = engine.where
        for state in self._left[key]:
            if state in where:
                self._leave(state)
        for state in self._entered[key]:
            if state in where:
                self._enter(state)

    def _enter(self, state: str) -> None:
        path = self._paths.get(state)
        if path is not None:
            self._go_to(path[:-1])
        self._open(state)

    def _go_to(self, path: Path) -> None:
        """Close what is not around this place any more; open what is not open since the run paused."""
        outside = (
            index for index, one in enumerate(self._ranges) if one.state in self._paths and one.state not in path
        )
        self._cut(next(outside, len(self._ranges)))
        for state in path:
            if self._index(state) is None:
                self._open(state)

    def _open(self, state: str) -> None:
        function = record_function(f"{self._name}.{state}")
        function.__enter__()  # type: ignore[no-untyped-call]
        self._ranges.append(_Range(state, function))

    def _leave(self, state: str, *_: Any) -> None:
        index = self._index(state)
        if index is None:  # it was cut
            return
        if state in self._paths:
            self._cut(index)
        else:
            self._ranges[index].is_over = True
            self._cut(len(self._ranges))

    def _leave_all_in(self, state: str, *_: Any) -> None:
        self._go_to((state,))

    def _index(self, state: str) -> int | None:
        """Where in the ranges the innermost one of a state is."""
        found = (index for index in reversed(range(len(self._ranges))) if self._ranges[index].state == state)
        return next(found, None)

    def _cut(self, index: int) -> None:
        """Close the ranges from there on, and those around them that only waited for it."""
        ranges = self._ranges
        while len(ranges) > index or (ranges and ranges[-1].is_over):
            ranges.pop().function.__exit__(None, None, None)


def _paths(loop: Loop) -> list[tuple[str, Path]]:
    """The states that the engine itself enters and leaves, with the states around them."""
    found = [(item.name, path) for path, item in loop.walk() if isinstance(item, (Loop, Phase))]
    found += [("GET_BATCH", (*path[:-1], "GET_BATCH")) for path, item in loop.walk() if _takes_data(item)]
    return found


def _states(loop: Loop) -> list[tuple[str, str, str]]:
    """Every state that lasts, with the events that enter and leave it."""
    found = [(item.name, item.started, item.completed) for _, item in loop.walk() if isinstance(item, (Loop, Phase))]
    found += [("GET_BATCH", "get_batch_started", "get_batch_completed") for _, item in loop.walk() if _takes_data(item)]
    return found + [
        (custom.name, custom.events[0], custom.events[1]) for custom in loop.custom_states if custom.is_pair
    ]


def _takes_data(item: Any) -> bool:
    return isinstance(item, Loop) and item.over is DATA
