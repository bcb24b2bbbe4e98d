"""Traces as timelines: the Trace Event Format that Perfetto and chrome://tracing open.

Source: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete
events ("X") for runs and states, instant events ("i") of one thread for what neither enters nor leaves one, metadata
events ("M") for the names of tracks. Times are in microseconds since the trace began.

What a viewer shows on one track must nest properly. A run lies on the track of the run around it, unless other events
fall between its own, as when it was paused: then it has a track of its own. So has a custom state that overlaps other
states of its engine.
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
"""All tracks are threads of one process."""


def export_chrome_trace(trace: TraceLog, path: str | Path) -> None:
    """Write a trace: see :meth:`camshaft.Trace.export_chrome_trace`. Takes time in proportion to its length."""
    timeline = _Timeline(trace)
    events = sorted(timeline.events(), key=lambda placed: placed[:2])  # what holds others begins before them
    lines = [json.dumps(event) for event in (*timeline.names(), *(event for *_, event in events))]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n' + ",\n".join(lines) + "\n]}\n")


@attrs.frozen
class _Extent:
    """From which event to which a run lasts, nested ones included: indices of the first and the last.

    Attributes:
        first, last: the indices.
        events: how many events the run and those nested in it fired.
    """

    first: int
    last: int
    events: int

    @property
    def is_whole(self) -> bool:
        """Whether no other events fall between."""
        return self.last - self.first + 1 == self.events


def _extents(trace: TraceLog) -> dict[int, _Extent]:
    """By run, how long it lasts. A run without events has none."""
    found: dict[int, _Extent] = {}
    own: defaultdict[int, list[int]] = defaultdict(list)
    for index, (run, *_) in enumerate(trace.raw_events()):
        own[run].append(index)
    for run in reversed(range(len(trace.runs))):  # a run comes after the one around it
        if own[run]:
            extent = _Extent(own[run][0], own[run][-1], len(own[run]))
            found[run] = _joined(found[run], extent) if run in found else extent
        parent = trace.runs[run].parent
        if parent is not None and run in found:
            found[parent] = _joined(found[parent], found[run]) if parent in found else found[run]
    return found


def _joined(one: _Extent, other: _Extent) -> _Extent:
    return _Extent(min(one.first, other.first), max(one.last, other.last), one.events + other.events)


class _Timeline:
    """Which event of a trace is shown how, and on which track."""

    def __init__(self, trace: TraceLog) -> None:
        self.trace = trace
        self.extents = _extents(trace)
        self.tracks: dict[tuple[Any, ...], int] = {}
        self.titles: list[str] = []
        self.ticks = [round(time * 1e9) for time in accumulate((time for *_, time in trace.raw_events()), max)]
        self.track_of: dict[int, int] = {}
        for run, record in enumerate(trace.runs):
            if run in self.extents:
                self.track_of[run] = self._track_of_run(run, record.engine, record.parent)
        self.shown: set[int] = set()  # the indices of events with which something begins or ends

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
        """The metadata."""
        yield {"ph": "M", "name": "process_name", "pid": PROCESS, "args": {"name": "camshaft"}}
        for track, title in enumerate(self.titles, 1):
            named = {"ph": "M", "pid": PROCESS, "tid": track}
            yield {**named, "name": "thread_name", "args": {"name": title}}
            yield {**named, "name": "thread_sort_index", "args": {"sort_index": track}}

    def events(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Every run, state and instant, with the index at which it begins and its rank among those that do."""
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
        apart = self._apart(found)
        for span in found:
            engine, track = self.trace.runs[span.run].engine, self.track_of[span.run]
            if (track, engine, span.state) in apart:
                track = self._track(f"{engine}: {span.state}", track, engine, span.state)
            self.shown.update(index for index in (span.first, span.last) if index is not None)
            args = self._args(span.first) | {"last_event": None if span.last is None else span.last + 1}
            yield span, self._slice(span.state, "state", span.first, self._last(span), track, args)

    def _last(self, span: Span) -> int:
        """The index of the event at which a stay in a state is over."""
        return min(span.past, self.extents[span.run].last) if span.last is None else span.last

    def _apart(self, found: list[Span]) -> set[tuple[int, str, str]]:
        """The custom states that need a track of their own: by track, engine and name."""
        apart: set[tuple[int, str, str]] = set()
        custom = [{state.name for state in record.loop.custom_states} for record in self.trace.runs]
        around: defaultdict[int, list[Span]] = defaultdict(list)
        for span in found:
            holding, last = around[span.run], self._last(span)
            while holding and self._last(holding[-1]) <= span.first:
                holding.pop()
            crossed = [other for other in holding if self._last(other) < last]
            if crossed and span.state in custom[span.run]:
                apart.add(self._key(span))
            else:
                apart.update(map(self._key, crossed))
                around[span.run] = [*holding[: len(holding) - len(crossed)], span]
        return apart

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
