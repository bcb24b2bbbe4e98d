"""Traces as timelines in the Trace Event Format, for Perfetto and chrome://tracing.

Source: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Runs and
states are complete events ("X"). All other events are instant events ("i") of one thread. The names of tracks are
metadata events ("M"). Times are in microseconds since the trace began.

Slices on one track must nest properly, or viewers show them wrongly. A run lies on the track of the run around it. It
has a track of its own if other events lie between its own events, for example because it was paused. A custom state
also has its own track if it overlaps other states of its engine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs

from camshaft.events import event_name
from camshaft.trace.log import TraceLog
from camshaft.trace.spans import Span, spans

__all__ = ["export_chrome_trace"]

PROCESS = 1
"""The process number in the file: all tracks are threads of one process."""


def export_chrome_trace(trace: TraceLog, path: str | Path) -> None:
    """Write a trace to a file: see :meth:`camshaft.Trace.export_chrome_trace`.

    The time is proportional to the length of the trace.
    """
    timeline = _Timeline(trace)
    events = sorted(timeline.events(), key=lambda placed: placed[:2])  # viewers want outer slices before inner ones
    lines = [json.dumps(event) for event in (*timeline.names(), *(event for *_, event in events))]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n' + ",\n".join(lines) + "\n]}\n")


@attrs.frozen
class _Extent:
    """The extent of a run in a trace, including the runs nested in it.

    Attributes:
        first, last: the indices of the first and the last event.
        events: the number of events of the run and its nested runs.
    """

    first: int
    last: int
    events: int

    @property
    def is_whole(self) -> bool:
        """True if no events of other runs lie between."""
        return self.last - self.first + 1 == self.events


def _extents(trace: TraceLog) -> dict[int, _Extent]:
    """Return the extent of each run by its number. A run without events has none."""
    found: dict[int, _Extent] = {}
    indices: defaultdict[int, list[int]] = defaultdict(list)
    for index, (run, *_) in enumerate(trace.raw_events()):
        indices[run].append(index)
    for run in reversed(range(len(trace.runs))):  # nested runs have higher numbers, so they come first
        if indices[run]:
            extent = _Extent(indices[run][0], indices[run][-1], len(indices[run]))
            found[run] = _joined(found[run], extent) if run in found else extent
        parent = trace.runs[run].parent
        if parent is not None and run in found:
            found[parent] = _joined(found[parent], found[run]) if parent in found else found[run]
    return found


def _joined(one: _Extent, other: _Extent) -> _Extent:
    return _Extent(min(one.first, other.first), max(one.last, other.last), one.events + other.events)


class _Timeline:
    """The assignment of runs, states and events of a trace to slices, instants and tracks."""

    def __init__(self, trace: TraceLog) -> None:
        self.trace = trace
        self.extents = _extents(trace)
        self.tracks: dict[tuple[Any, ...], int] = {}
        self.titles: list[str] = []
        # In nanoseconds, as integers, for an exact comparison of ends and starts. Never decreasing: a rearranged
        # trace may have decreasing times, and no slice may end before it starts.
        self.ticks = [round(time * 1e9) for time in accumulate((time for *_, time in trace.raw_events()), max)]
        self.track_of: dict[int, int] = {}
        for run, record in enumerate(trace.runs):
            if run in self.extents:
                self.track_of[run] = self._track_of_run(run, record.engine, record.parent)
        self.shown: set[int] = set()  # the indices of events at the ends of slices: they need no instant

    def _track(self, title: str, *key: Any) -> int:
        if key not in self.tracks:
            self.tracks[key] = len(self.tracks) + 1
            self.titles.append(title)
        return self.tracks[key]

    def _track_of_run(self, run: int, engine: str, parent: int | None) -> int:
        if not self.extents[run].is_whole:
            return self._track(f"{engine}, run {run + 1}", "run", run)
        return self._track("engines", "engines") if parent is None else self.track_of[parent]

    def names(self) -> Iterator[dict[str, Any]]:
        """Yield the metadata events with the names of the process and the tracks."""
        yield {"ph": "M", "name": "process_name", "pid": PROCESS, "args": {"name": "camshaft"}}
        for track, title in enumerate(self.titles, 1):
            metadata = {"ph": "M", "pid": PROCESS, "tid": track}
            yield {**metadata, "name": "thread_name", "args": {"name": title}}
            yield {**metadata, "name": "thread_sort_index", "args": {"sort_index": track}}

    def events(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield every run, state and instant, as (index of its first event, rank, event of the format).

        If several begin at one index, the one with the lowest rank contains the others.
        """
        for run, extent in self.extents.items():
            yield extent.first, 0, self._run(run, extent)
        yield from ((span.first, 1, event) for span, event in self._states())
        for index, (run, key, _, _) in enumerate(self.trace.raw_events()):
            if index not in self.shown:
                args = self._args(index)
                yield index, 2, self._event("i", event_name(key), "event", index, self.track_of[run], args) | {"s": "t"}

    def _run(self, run: int, extent: _Extent) -> dict[str, Any]:
        trace, record = self.trace, self.trace.runs[run]
        for index, key in ((extent.first, "started"), (extent.last, "completed")):
            if trace.run_of(index) == run and trace.key_of(index) == key:
                self.shown.add(index)
        args = {"run": run + 1, "outcome": record.outcome, "last_event": extent.last + 1}
        args = self._args(extent.first) | {"engine": record.engine} | args
        return self._slice(record.engine, "run", extent.first, extent.last, self.track_of[run], args)

    def _states(self) -> Iterator[tuple[Span, dict[str, Any]]]:
        found = spans(self.trace)
        own_track = self._states_with_own_track(found)
        for span in found:
            engine, track = self.trace.runs[span.run].engine, self.track_of[span.run]
            if (track, engine, span.state) in own_track:
                track = self._track(f"{engine}: {span.state}", track, engine, span.state)
            self.shown.update(index for index in (span.first, span.last) if index is not None)
            args = self._args(span.first) | {"last_event": None if span.last is None else span.last + 1}
            yield span, self._slice(span.state, "state", span.first, self._last(span), track, args)

    def _last(self, span: Span) -> int:
        """Return the index of the last event of a stay in a state."""
        return min(span.past, self.extents[span.run].last) if span.last is None else span.last

    def _states_with_own_track(self, found: list[Span]) -> set[tuple[int, str, str]]:
        """Return the custom states with overlaps, as (track, engine, state)."""
        overlapping: set[tuple[int, str, str]] = set()
        custom = [{state.name for state in record.loop.custom_states} for record in self.trace.runs]
        open_spans: defaultdict[int, list[Span]] = defaultdict(list)  # by run, the spans around this point, nested
        for span in found:
            around, last = open_spans[span.run], self._last(span)
            while around and self._last(around[-1]) <= span.first:
                around.pop()
            crossed = [other for other in around if self._last(other) < last]
            # Of two crossing spans, a custom state gives way: loops and phases always nest properly among themselves.
            if crossed and span.state in custom[span.run]:
                overlapping.add(self._key(span))
            else:
                overlapping.update(map(self._key, crossed))
                open_spans[span.run] = [*around[: len(around) - len(crossed)], span]
        return overlapping

    def _key(self, span: Span) -> tuple[int, str, str]:
        return self.track_of[span.run], self.trace.runs[span.run].engine, span.state

    # -- events of the format ----------------------------------------------------------------------------------------

    def _args(self, index: int) -> dict[str, Any]:
        event = self.trace.event(index)
        return {"engine": event.engine, "count": event.count, "event": event.number}

    def _slice(self, name: str, category: str, first: int, last: int, track: int, args: Any) -> dict[str, Any]:
        event = self._event("X", name, category, first, track, args)
        return event | {"dur": (self.ticks[last] - self.ticks[first]) / 1000}

    def _event(self, kind: str, name: str, category: str, index: int, track: int, args: Any) -> dict[str, Any]:
        time = self.ticks[index] / 1000
        return {"ph": kind, "name": name, "cat": category, "pid": PROCESS, "tid": track, "ts": time, "args": args}
