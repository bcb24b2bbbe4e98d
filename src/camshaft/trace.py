"""Traces: the ordered record of what fired, with nesting where one engine runs inside another.

A trace carries the declaration of every loop that ran, so that it can be judged by itself, in another process too.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path as FilePath
from time import perf_counter
from typing import Any

import attrs

from camshaft.events import event_key, event_name
from camshaft.loop import RUN, Loop, Mark, Phase
from camshaft.machine import EventOrderError, LoopMachine, OrderChecker
from camshaft.run import Owner, Run, observers
from camshaft.table import ENDS, READY, Context

__all__ = ["RunRecord", "Trace", "TraceError", "TraceEvent", "record"]

_LIMITS = ("max_epochs", "max_iters", "epoch_length")


class TraceError(ValueError):
    """A file that is no whole trace of this version; the message says what is wrong with it."""


@attrs.frozen
class TraceEvent:
    """One event of a trace.

    Attributes:
        engine: the name of the engine that fired it.
        event: its key.
        count: passes, over the run, of the loop that it belongs to.
        time: seconds since the trace began.
        depth: how many engines were around that engine.
    """

    engine: str
    event: str
    count: int
    time: float
    depth: int

    def __str__(self) -> str:
        return f"{self.engine} {event_name(self.event)} {self.count}"


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


def counters(loop: Loop) -> dict[str, str]:
    """The loop whose passes are counted with each event."""
    found = dict.fromkeys(loop.event_keys, loop.name)
    data_loop = loop.data_loop
    if data_loop is not None:
        batch = ("get_batch_started", "get_batch_completed", "dataloader_stop_iteration", "iteration_skipped")
        found |= dict.fromkeys(batch, data_loop.name)
    for path, item in loop.walk():
        if isinstance(item, Loop):
            found |= {item.started: item.name, item.completed: item.name}
        elif isinstance(item, Phase):
            found |= {item.started: path[-2], item.completed: path[-2]}
        elif isinstance(item, Mark):
            found[item.event] = path[-2]
    for free in loop.free:
        found |= dict.fromkeys(free.events, loop.name if free.within == RUN else free.within)
    return found


class Trace:
    """What fired while :func:`record` was recording, in order. Iterating gives :class:`TraceEvent` objects.

    Attributes:
        runs: the runs of engines, in the order in which they began.
        segments: where each run went on without a pause: [run, its first event, past its last event].
    """

    def __init__(self) -> None:
        self.runs: list[RunRecord] = []
        self.segments: list[list[int]] = []
        self._keys: list[str] = []
        self._run = array("I")
        self._key = array("I")
        self._count = array("q")
        self._time = array("d")

    # -- reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._run)

    def __iter__(self) -> Iterator[TraceEvent]:
        return map(self._event, range(len(self)))

    def __getitem__(self, index: int | slice) -> Any:
        """An event, or a list of events."""
        picked = range(len(self))[index]
        return [self._event(number) for number in picked] if isinstance(picked, range) else self._event(picked)

    def __eq__(self, other: object) -> bool:
        """A trace equals a list of the events that fired, in order; and a trace of equal events, engines and counts."""
        if isinstance(other, Trace):
            return [(e.engine, e.event, e.count, e.depth) for e in self] == [
                (e.engine, e.event, e.count, e.depth) for e in other
            ]
        if isinstance(other, (list, tuple)):
            return [self._keys[key] for key in self._key] == [event_key(event) for event in other]
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def rows(self) -> Iterator[tuple[int, str, int, float]]:
        """Every event as (number of the run, key, count, seconds)."""
        keys = (self._keys[code] for code in self._key)
        return zip(self._run, keys, self._count, self._time, strict=True)

    def count(self, event: Any, engine: str | None = None) -> int:
        """How often an event fired, in all engines or in one.

        Raises:
            ValueError: no engine of that name was recorded, or no loop that knows the event.
        """
        recorded = [record for record in self.runs if engine in (None, record.engine)]
        if self.runs and not any(event_key(event) in record.loop.event_keys for record in recorded):
            names = ", ".join(dict.fromkeys(record.engine for record in self.runs))
            known = f"{engine or 'any of them'} does not know {event_name(event_key(event))}"
            raise ValueError(f"{known}, so counting it proves nothing; recorded are {names}")
        return sum(
            number
            for (name, key), number in self.counts().items()
            if key == event_key(event) and engine in (None, name)
        )

    def counts(self) -> dict[tuple[str, str], int]:
        """How often each event fired, by engine and event, in the order of first appearance."""
        pairs = Counter(zip(self._run, self._key, strict=True))
        found: dict[tuple[str, str], int] = {}
        for (run, key), number in pairs.items():
            name = (self.runs[run].engine, self._keys[key])
            found[name] = found.get(name, 0) + number
        return found

    def table(self) -> str:
        """The counts as a text table."""
        rows = [(engine, event_name(event), str(number)) for (engine, event), number in self.counts().items()]
        rows.insert(0, ("engine", "event", "count"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def __str__(self) -> str:
        """The trace as an indented tree, equal passes of a loop shown once."""
        from camshaft.text import trace_text

        return trace_text(self)

    def __repr__(self) -> str:
        return f"<Trace: {self.summary()}>"

    def summary(self) -> str:
        """How much was recorded, in words."""
        return f"{len(self):,} event{'s' * (len(self) != 1)} in {len(self.runs)} run{'s' * (len(self.runs) != 1)}"

    def _event(self, index: int) -> TraceEvent:
        run = self._run[index]
        return TraceEvent(
            self.runs[run].engine, self._keys[self._key[index]], self._count[index], self._time[index], self.depth(run)
        )

    def depth(self, run: int) -> int:
        """How many runs are around a run."""
        depth, parent = 0, self.runs[run].parent
        while parent is not None:
            depth, parent = depth + 1, self.runs[parent].parent
        return depth

    # -- judging -----------------------------------------------------------------------------------------------------

    def assert_legal(self) -> None:
        """Judge every run by its loop: its path through the machine, its counters, its end, and where it is nested.

        Raises:
            EventOrderError: the first event that is illegal, with what stood before it and what was expected.
        """
        machines = {
            id(loop): LoopMachine(loop) for loop in {id(record.loop): record.loop for record in self.runs}.values()
        }
        checkers = [_RunChecker(machines[id(record.loop)], record) for record in self.runs]
        for index, (run, key, count) in enumerate(zip(self._run, self._key, self._count, strict=True)):
            try:
                checkers[run].checker.seen = index
                checkers[run].advance(self._keys[key], count)
            except EventOrderError as error:
                raise EventOrderError(self._in_context(index, str(error))) from None
        for checker in checkers:
            checker.finish()
        self._check_nesting()

    def _in_context(self, index: int, message: str) -> str:
        first, *rest = message.splitlines()
        run = self._run[index]
        before = [number for number in range(max(0, index - 40), index) if self._run[number] == run][-2:]
        shown = [
            f"    {number + 1:>4}  {event_name(self._keys[self._key[number]])} {self._count[number]}"
            for number in before
        ]
        shown.append(f"  > {index + 1:>4}  {event_name(self._keys[self._key[index]])} {self._count[index]}")
        return "\n".join([first, *shown, *rest])

    def _check_nesting(self) -> None:
        """Every run lies inside one event of the run that it was called from, and nothing of that falls between."""
        upcoming = deque(segment for segment in self.segments if segment[1] < segment[2])
        around: list[list[int]] = []
        fired: Counter[int | None] = Counter()
        left: dict[
            int, int
        ] = {}  # for runs that were left in the middle, the events that the run around them had fired
        for index, run in enumerate(self._run):
            while around and around[-1][2] <= index:
                ended = around.pop()[0]
                left[ended] = fired[self.runs[ended].parent]
            while upcoming and upcoming[0][1] <= index:
                segment = upcoming.popleft()
                self._check_segment(segment, around[-1] if around else None, left, fired)
                around.append(segment)
            if not around or around[-1][0] != run:
                inner = f" inside {self.runs[around[-1][0]].engine}" if around else ", outside of its run"
                raise EventOrderError(
                    f"{self._name(index)} fell{inner}\n  expected: none of {self.runs[run].engine} there"
                )
            fired[run] += 1

    def _check_segment(
        self, segment: list[int], outer: list[int] | None, left: dict[int, int], fired: Counter[int | None]
    ) -> None:
        run, first, past = segment
        record = self.runs[run]
        if record.place == READY and record.parent is not None and (outer is None or outer[0] != record.parent):
            raise EventOrderError(
                f"{self._name(first)} fell outside of {self.runs[record.parent].engine}, which called it"
            )
        if outer is not None and past > outer[2]:
            raise EventOrderError(
                f"{self._name(outer[2])} fell outside of {self.runs[outer[0]].engine}, which called it"
            )
        goes_on = run in left and record.parent is not None and fired[record.parent] != left[run]
        if goes_on and self._keys[self._key[self._last_of(run, first)]] != "interrupt":
            caller = self.runs[record.parent].engine if record.parent is not None else ""
            raise EventOrderError(f"{self._name(first)} fell outside of the event of {caller} that called it")

    def _last_of(self, run: int, index: int) -> int:
        return next(number for number in range(index - 1, -1, -1) if self._run[number] == run)

    def _name(self, index: int) -> str:
        return f"{self.runs[self._run[index]].engine} event #{index + 1} {event_name(self._keys[self._key[index]])}"

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | FilePath) -> None:
        """Write the trace as JSON lines, with the declaration of each loop in it."""
        from camshaft.files import save_trace

        save_trace(self, path)

    @classmethod
    def load(cls, path: str | FilePath) -> Trace:
        """Read a trace that :meth:`save` wrote.

        Raises:
            TraceError: the file is no trace, of another version, or cut short.
        """
        from camshaft.files import load_trace

        return load_trace(path)

    def append(self, run: int, key: str, count: int, time: float) -> None:
        """Add an event of a run, by its number in :attr:`runs`."""
        if not 0 <= run < len(self.runs):
            raise IndexError(f"there is no run {run}")
        self._run.append(run)
        self._key.append(self.code(key))
        self._count.append(count)
        self._time.append(time)

    def code(self, key: str) -> int:
        """The number that stands for an event in this trace."""
        if key not in self._keys:
            self._keys.append(key)
        return self._keys.index(key)


class _RunChecker:
    """Replays one run: path, guards, counters, end."""

    def __init__(self, machine: LoopMachine, record: RunRecord) -> None:
        start = record.context
        limits = record.limits or {name: getattr(start, name) for name in _LIMITS}
        context = deepcopy(start)
        context.max_epochs, context.max_iters = limits["max_epochs"], limits["max_iters"]
        self.record = record
        self.counters = counters(record.loop)
        self.checker = OrderChecker(machine, record.engine, context, record.place)
        self.last: str | None = None

    def advance(self, event: str, count: int) -> None:
        """Take the next event, which was recorded with this count."""
        self.checker.advance(event)
        self.last = event
        loop = self.counters[event]
        counted = self.checker.context.counts.get(loop, 0)
        if counted != count:
            what = f"{self.record.engine} event #{self.checker.seen} {event_name(event)} is miscounted"
            raise EventOrderError(f"{what}\n  expected: {loop} {counted}, not {count}")

    def finish(self) -> None:
        """Judge the end."""
        checker, record = self.checker, self.record
        if record.outcome == "paused" or (record.outcome is None and self.last is not None):
            if record.outcome == "paused" and checker.place in ENDS:
                raise EventOrderError(f"{record.engine} is said to have paused, but was over in {checker.place}")
            return  # stepping was left there, or recording ended before the run did
        checker.finish()
        ends = {
            "completed": "completed",
            "terminated": "terminate",
            "interrupted": "interrupt",
            "failed": "exception_raised",
        }
        if record.outcome is not None and self.last != ends[record.outcome]:
            last = event_name(self.last) if self.last else "nothing"
            expected = event_name(ends[record.outcome])
            raise EventOrderError(f"{record.engine} {record.outcome}, but ends with {last}\n  expected: {expected}")
        length = record.limits.get("epoch_length")
        if checker.context.epoch_length != length:
            counted = checker.context.epoch_length
            raise EventOrderError(f"{record.engine} had {counted} iterations in an epoch\n  expected: {length}")


# -- recording --------------------------------------------------------------------------------------------------------


class _Mark:
    """Writes one event of one run down when it fires."""

    __slots__ = ("_code", "_count", "_counter", "_key", "_run", "_start", "_time", "_which")

    def __init__(self, trace: Trace, run: int, code: int, counter: str, start: float) -> None:
        self._which, self._code, self._counter, self._start = run, code, counter, start
        self._run, self._key, self._count, self._time = (
            trace._run.append,
            trace._key.append,
            trace._count.append,
            trace._time.append,
        )

    def call(self, engine: Owner, *_: Any) -> None:
        self._run(self._which)
        self._key(self._code)
        self._count(getattr(engine.state, self._counter))
        self._time(perf_counter() - self._start)


class _Recorder:
    """Records the engines that run while it observes."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.open: dict[Run, int] = {}
        self.segments: dict[Run, list[int]] = {}
        self.start = perf_counter()

    def watch(self, run: Run) -> Callable[[str], Any]:
        """A run begins or goes on."""
        trace, engine = self.trace, run.engine
        if run not in self.open:
            place, context = run.cursor()
            outer = run.parent.active if run.parent is not None else None
            trace.runs.append(
                RunRecord(engine.name, engine.loop, self.open.get(outer) if outer else None, place, context)
            )
            self.open[run] = len(trace.runs) - 1
        number = self.open[run]
        self.segments[run] = [number, len(trace), len(trace)]
        trace.segments.append(self.segments[run])
        counted = counters(engine.loop)
        return lambda key: _Mark(trace, number, trace.code(key), counted[key].lower(), self.start)

    def release(self, run: Run, outcome: str) -> None:
        """It ended or paused."""
        record = self.trace.runs[self.open[run]]
        record.loop, record.outcome = run.engine.loop, outcome
        record.limits = {name: getattr(run.engine.state, name) for name in _LIMITS}
        self.segments.pop(run)[2] = len(self.trace)
        if outcome not in ("interrupted", "paused"):
            del self.open[run]


@contextmanager
def record() -> Iterator[Trace]:
    """Record every engine that runs inside the ``with`` block, nested runs as children.

    >>> from camshaft import Engine
    >>> with record() as trace:
    ...     state = Engine(lambda engine, batch: None).run([1], max_epochs=1)
    >>> trace.assert_legal()
    >>> len(trace)
    8
    """
    recorder = _Recorder()
    token = observers.set((*observers.get(), recorder))
    try:
        yield recorder.trace
    finally:
        observers.reset(token)
