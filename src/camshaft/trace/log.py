"""The record of a trace: events, runs, and how long handlers took."""

from __future__ import annotations

import copy
import sys
from array import array
from collections.abc import Callable, Iterator
from itertools import groupby
from time import perf_counter
from typing import Any, Self

import attrs

from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.loop.serialize import from_dict, to_dict
from camshaft.machine.context import Context

__all__ = ["END_UNKNOWN", "HandlerTimer", "HandlerTime", "RunRecord", "TraceEvent", "TraceLog"]

END_UNKNOWN = sys.maxsize
"""Sentinel index for the unknown end of a run during recording."""


@attrs.frozen
class TraceEvent:
    """One event of a trace.

    Attributes:
        engine: the name of the engine that fired it.
        event: its key.
        count: the count of its loop at that moment: passes of the loop since the run began.
        time: seconds since the trace began.
        depth: the number of engines around that engine.
        number: the position of the event in the trace, from 1.
        site: the line of code that fired it; None if call sites were not recorded.
    """

    engine: str
    event: str
    count: int
    time: float
    depth: int
    number: int
    site: str | None = None

    def __str__(self) -> str:
        return f"{self.engine} {event_name(self.event)} {self.count}"


@attrs.frozen
class HandlerTime:
    """The number of calls of one handler at one event of an engine, and their durations.

    Attributes:
        engine: the name of the engine.
        event: the key of the event.
        handler: the handler's name; :meth:`camshaft.Engine.nest` attaches ``"run <name of the nested engine>"``.
        count: the number of calls, failed ones included.
        total: the duration of all calls together in seconds, including nested engines inside them.
        maximum: the duration of the longest call in seconds.
    """

    engine: str
    event: str
    handler: str
    count: int
    total: float
    maximum: float

    @property
    def mean(self) -> float:
        """The mean duration of a call in seconds."""
        return self.total / self.count


@attrs.define
class HandlerTimer:
    """The running sums for a :class:`HandlerTime`."""

    engine: str
    event: str
    handler: str
    count: int = 0
    total: float = 0.0
    maximum: float = 0.0

    def add(self, seconds: float) -> None:
        """Add the duration of a finished call."""
        self.count += 1
        self.total += seconds
        self.maximum = max(self.maximum, seconds)


@attrs.define
class RunRecord:
    """One run of one engine.

    Attributes:
        engine: the name of the engine.
        loop: its loop.
        parent: the number of the run around it; None for an outermost run.
        place: the place in the machine at the start of the record: READY, unless the run was paused before.
        context: counters and limits at that moment.
        outcome: how it ended: ``"completed"``, ``"terminated"`` (without COMPLETED), ``"interrupted"``, ``"paused"``
            or ``"failed"``; None while it runs.
        limits: the limits at its end.
    """

    engine: str
    loop: Loop
    parent: int | None
    place: str
    context: Context
    outcome: str | None = None
    limits: dict[str, int | None] = attrs.field(factory=dict)


class TraceLog:
    """The events of a trace in compact arrays, and their runs.

    The judge, patterns, spans, files and texts of traces need nothing else.

    Attributes:
        runs: the runs of engines, in the order in which they began.
        segments: the parts of each run between its pauses, as lists of [run, first index, index past the last].
            The last number is :data:`END_UNKNOWN` while the run goes on.
        timers: the sums from which :attr:`handler_times` is made.
    """

    def __init__(self) -> None:
        self.timers: list[HandlerTimer] = []
        self.runs: list[RunRecord] = []
        self.segments: list[list[int]] = []
        self._key_numbers: dict[str, int] = {}
        self._key_names: list[str] = []
        self._depths: list[int] = []
        self._site_numbers: dict[str, int] = {}
        self._site_names: list[str] = []
        # One array for each column, and numbers instead of strings: a long training fires millions of events.
        self._run = array("I")
        self._key = array("I")
        self._count = array("q")
        self._time = array("d")
        self._site = array("I")

    def __copy__(self) -> Self:
        return self.__deepcopy__({})  # a shallow copy would share some of its columns, and grow only in these

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        # Loops never change, so the copy has the same ones: a copied loop would copy the models that its functions use.
        shared = {id(record.loop): record.loop for record in self.runs}
        made.__dict__.update(copy.deepcopy(self.__dict__, shared | {id(self): made}))
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle saves. As in a file, loops are saved without their functions."""
        loops = {id(record.loop): to_dict(record.loop) for record in self.runs}
        runs = [attrs.asdict(record, recurse=False) | {"loop": id(record.loop)} for record in self.runs]
        return self.__dict__ | {"runs": (loops, runs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        loops, runs = state["runs"]
        made = {number: from_dict(declaration) for number, declaration in loops.items()}
        self.__dict__.update(state, runs=[RunRecord(**run | {"loop": made[run["loop"]]}) for run in runs])

    def __len__(self) -> int:
        return len(self._run)

    def event(self, index: int) -> TraceEvent:
        """Return the event at an index, from 0."""
        run = self._run[index]
        return TraceEvent(
            engine=self.runs[run].engine,
            event=self.key_of(index),
            count=self._count[index],
            time=self._time[index],
            depth=self.depth(run),
            number=index + 1,
            site=self.site_of(index),
        )

    def key_of(self, index: int) -> str:
        """Return the key of the event at an index."""
        return self._key_names[self._key[index]]

    def run_of(self, index: int) -> int:
        """Return the number of the run that fired the event at an index."""
        return self._run[index]

    def first_event_of_other_run(self, run: int, first: int, past: int) -> int | None:
        """Return the index of the first event of another run in ``[first, past)``, or None."""
        found = self._run[first:past]
        # Nearly always there is none, and comparing whole arrays shows this much faster than a loop over the events.
        if found == array("I", [run]) * len(found):
            return None
        return next(index for index in range(first, past) if self._run[index] != run)

    def site_of(self, index: int) -> str | None:
        """Return the line of code that fired the event at an index; None if it was not recorded."""
        return self._site_names[self._site[index]] if index < len(self._site) else None

    def raw_events(self) -> Iterator[tuple[int, str, int, float]]:
        """Yield every event as (number of the run, key, count, seconds)."""
        return zip(self._run, map(self._key_names.__getitem__, self._key), self._count, self._time, strict=True)

    def keys_and_counts(self, first: int, past: int) -> Iterator[tuple[str, int]]:
        """Yield the key and the count of each event in ``[first, past)``."""
        return zip(map(self._key_names.__getitem__, self._key[first:past]), self._count[first:past], strict=True)

    @property
    def handler_times(self) -> list[HandlerTime]:
        """The times of each attached handler, in the order of their first calls; empty unless they were recorded."""
        return [HandlerTime(**attrs.asdict(timer)) for timer in self.timers if timer.count]

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Yield the blocks of consecutive events of one run: (run, first index, index past the last)."""
        # Another run can only take over at the border of a segment, so the borders divide the trace into blocks.
        borders = {border for _, *both in self.segments for border in both if border < len(self)}
        first = 0
        for past in sorted({*borders, len(self)} - {0}):
            if self.first_event_of_other_run(self._run[first], first, past) is None:
                yield self._run[first], first, past
            else:  # the segments of an edited trace may be wrong: then only the events tell
                index = first
                for run, events in groupby(self._run[first:past]):
                    number = len(list(events))
                    yield run, index, index + number
                    index += number
            first = past

    def depth(self, run: int) -> int:
        """Return the number of runs around a run."""
        # A run has a higher number than the run around it, so the depth of the outer one is known already.
        for record in self.runs[len(self._depths) : run + 1]:
            self._depths.append(0 if record.parent is None else self._depths[record.parent] + 1)
        return self._depths[run]

    def summary(self) -> str:
        """Return in words how many events and runs were recorded."""
        return f"{len(self):,} event{'s' * (len(self) != 1)} in {len(self.runs)} run{'s' * (len(self.runs) != 1)}"

    def append(self, run: int, key: str, count: int, time: float, site: str | None = None) -> None:
        """Add an event of a run.

        Args:
            run: the number of the run in :attr:`runs`.
            key: the event.
            count: the count of the event's loop.
            time: seconds since the trace began.
            site: the line of code that fired it. Give it for all events or for none.

        Raises:
            IndexError: the trace has no such run.
        """
        if not 0 <= run < len(self.runs):
            raise IndexError(f"there is no run number {run}; the trace has {len(self.runs)}, numbered from 0")
        self._run.append(run)
        self._key.append(self._key_number(key))
        self._count.append(count)
        self._time.append(time)
        if site is not None:
            self.add_site(site)

    def extend(self, other: TraceLog) -> None:
        """Add the events of another trace, with their runs, after those of this one."""
        run, first = len(self.runs), len(self)
        self.runs += [
            attrs.evolve(each, parent=None if each.parent is None else run + each.parent) for each in other.runs
        ]
        self.segments += [[run + own, *(first + border for border in borders)] for own, *borders in other.segments]
        self.timers += other.timers
        self._run.extend(run + own for own in other._run)
        self._key.extend(map(self._key_number, map(other._key_names.__getitem__, other._key)))
        self._count.extend(other._count)
        self._time.extend(other._time)
        for site in map(other._site_names.__getitem__, other._site):
            self.add_site(site)

    def event_writer(self, run: int, key: str, counter: str, start: float) -> Callable[[Any], None]:
        """Return a function that adds one event of a run at each call; it takes the run's engine.

        Args:
            run: the number of the run in :attr:`runs`.
            key: the event.
            counter: the attribute of the engine's state with the event's count.
            start: the ``perf_counter()`` at the beginning of the trace.
        """
        # The function runs at every event, so everything possible is looked up beforehand.
        key_number = self._key_number(key)
        add_run, add_key = self._run.append, self._key.append
        add_count, add_time = self._count.append, self._time.append

        def write_event(engine: Any) -> None:
            add_run(run)
            add_key(key_number)
            add_count(getattr(engine.state, counter))
            add_time(perf_counter() - start)

        return write_event

    def add_site(self, site: str) -> None:
        """Add the line of code that fired the last event."""
        if site not in self._site_numbers:
            self._site_numbers[site] = len(self._site_numbers)
            self._site_names.append(site)
        self._site.append(self._site_numbers[site])

    def _key_number(self, key: str) -> int:
        """Return the number of a key in this trace."""
        if key not in self._key_numbers:
            self._key_numbers[key] = len(self._key_numbers)
            self._key_names.append(key)
        return self._key_numbers[key]
