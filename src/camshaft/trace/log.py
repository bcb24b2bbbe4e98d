"""The record of a trace: events, runs, and how long handlers took."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from itertools import groupby
from time import perf_counter
from typing import Any

import attrs

from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context

__all__ = ["END_UNKNOWN", "HandlerTimer", "HandlerTime", "RunRecord", "TraceEvent", "TraceLog"]

END_UNKNOWN = sys.maxsize
"""Stands past the last event of a run that is not over."""


@attrs.frozen
class TraceEvent:
    """One event of a trace.

    Attributes:
        engine: the name of the engine that fired it.
        event: its key.
        count: passes, over the run, of the loop that it belongs to.
        time: seconds since the trace began.
        depth: how many engines were around that engine.
        number: which event of the trace it is, from 1.
        site: the line of code that fired it, if that was recorded.
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
    """How often a handler was called at an event of an engine, and how long that took.

    Attributes:
        engine: the name of the engine.
        event: the key of the event.
        handler: the handler's name; :meth:`camshaft.Engine.nest` attaches ``"run <name of the nested engine>"``.
        count: how many calls there were, those that raised included.
        total: the seconds of all calls together, with what ran inside them: nested engines too.
        maximum: the seconds of the longest call.
    """

    engine: str
    event: str
    handler: str
    count: int
    total: float
    maximum: float

    @property
    def mean(self) -> float:
        """The seconds of a call on average."""
        return self.total / self.count


@attrs.define
class HandlerTimer:
    """Adds up what becomes a :class:`HandlerTime`."""

    engine: str
    event: str
    handler: str
    count: int = 0
    total: float = 0.0
    maximum: float = 0.0

    def add(self, seconds: float) -> None:
        """A call is over."""
        self.count += 1
        self.total += seconds
        self.maximum = max(self.maximum, seconds)


@attrs.define
class RunRecord:
    """One run of one engine.

    Attributes:
        engine: its name.
        loop: what it ran.
        parent: the number of the run inside which it ran, or None.
        place: where in the machine the record begins: READY, unless it was paused before.
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
    """The events of a trace in compact arrays, and the runs that they belong to.

    What reads a trace (its judge, patterns, spans, files and text) needs no more than this.

    Attributes:
        runs: the runs of engines, in the order in which they began.
        segments: where each run went on without a pause: [run, its first event, past its last event]; the last is
            :data:`END_UNKNOWN` while it goes on.
        clocks: what :attr:`handler_times` is made of.
    """

    def __init__(self) -> None:
        self.timers: list[HandlerTimer] = []
        self.runs: list[RunRecord] = []
        self.segments: list[list[int]] = []
        self._keys: dict[str, int] = {}
        self._names: list[str] = []
        self._depths: list[int] = []
        self._sites: dict[str, int] = {}
        self._places: list[str] = []
        self._run = array("I")
        self._key = array("I")
        self._count = array("q")
        self._time = array("d")
        self._site = array("I")

    def __len__(self) -> int:
        return len(self._run)

    def event(self, index: int) -> TraceEvent:
        """The event at an index, from 0."""
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
        """The key of the event at an index."""
        return self._names[self._key[index]]

    def run_of(self, index: int) -> int:
        """The number of the run to which the event at an index belongs."""
        return self._run[index]

    def first_event_of_other_run(self, run: int, first: int, past: int) -> int | None:
        """The index of the first event, from ``first`` up to ``past``, that is not of this run; None where all are."""
        found = self._run[first:past]
        if found == array("I", [run]) * len(found):
            return None
        return next(index for index in range(first, past) if self._run[index] != run)

    def site_of(self, index: int) -> str | None:
        """The line of code that fired the event at an index; None where it was not recorded."""
        return self._places[self._site[index]] if index < len(self._site) else None

    def raw_events(self) -> Iterator[tuple[int, str, int, float]]:
        """Every event as (number of the run, key, count, seconds)."""
        return zip(self._run, map(self._names.__getitem__, self._key), self._count, self._time, strict=True)

    def keys_and_counts(self, first: int, past: int) -> Iterator[tuple[str, int]]:
        """The key and the count of each event from ``first`` up to ``past``."""
        return zip(map(self._names.__getitem__, self._key[first:past]), self._count[first:past], strict=True)

    @property
    def handler_times(self) -> list[HandlerTime]:
        """How long each attached handler took, in the order of their first calls; empty unless that was recorded."""
        return [HandlerTime(**attrs.asdict(timer)) for timer in self.timers if timer.count]

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Events of one run side by side: the number of the run, the index of the first, and past the last."""
        ends = {end for _, *both in self.segments for end in both if end < len(self)}
        first = 0
        for past in sorted({*ends, len(self)} - {0}):
            if self.first_event_of_other_run(self._run[first], first, past) is None:
                yield self._run[first], first, past
            else:  # the segments do not tell the truth
                index = first
                for run, events in groupby(self._run[first:past]):
                    number = len(list(events))
                    yield run, index, index + number
                    index += number
            first = past

    def depth(self, run: int) -> int:
        """How many runs are around a run."""
        for record in self.runs[len(self._depths) : run + 1]:  # a run comes after the one around it
            self._depths.append(0 if record.parent is None else self._depths[record.parent] + 1)
        return self._depths[run]

    def summary(self) -> str:
        """How much was recorded, in words."""
        return f"{len(self):,} event{'s' * (len(self) != 1)} in {len(self.runs)} run{'s' * (len(self.runs) != 1)}"

    def append(self, run: int, key: str, count: int, time: float, site: str | None = None) -> None:
        """Add an event of a run, by its number in :attr:`runs`; all events have a ``site`` or none has."""
        if not 0 <= run < len(self.runs):
            raise IndexError(f"there is no run {run}")
        self._run.append(run)
        self._key.append(self.intern_key(key))
        self._count.append(count)
        self._time.append(time)
        if site is not None:
            self.add_site(site)

    def event_writer(self, run: int, key: str, counter: str, start: float) -> Callable[[Any], None]:
        """What adds an event of a run whenever it is called with the run's engine.

        Args:
            run: its number in :attr:`runs`.
            key: the event.
            counter: the attribute of the engine's state that is its count.
            start: the ``perf_counter()`` from which times are counted.
        """
        intern_key = self.intern_key(key)
        add_run, add_key = self._run.append, self._key.append
        add_count, add_time = self._count.append, self._time.append

        def mark(engine: Any) -> None:
            add_run(run)
            add_key(intern_key)
            add_count(getattr(engine.state, counter))
            add_time(perf_counter() - start)

        return mark

    def add_site(self, site: str) -> None:
        """Note the line of code that fired the last event."""
        if site not in self._sites:
            self._sites[site] = len(self._sites)
            self._places.append(site)
        self._site.append(self._sites[site])

    def intern_key(self, key: str) -> int:
        """The number that stands for an event in this trace."""
        if key not in self._keys:
            self._keys[key] = len(self._keys)
            self._names.append(key)
        return self._keys[key]
