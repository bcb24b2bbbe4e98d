"""Traces: the ordered record of what fired, with nesting where one engine runs inside another.

A trace carries the declaration of every loop that ran, so that it can be judged by itself, in another process too.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path as FilePath
from time import perf_counter
from typing import TYPE_CHECKING, Any

import attrs

from camshaft.events import EventHandle, FilteredEvent, attachments, event_key, event_name
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context

if TYPE_CHECKING:
    from camshaft.draw.diagram import Diagram

__all__ = [
    "OPEN",
    "HandlerClock",
    "HandlerTime",
    "RunRecord",
    "Selection",
    "Trace",
    "TraceError",
    "TraceEvent",
    "Violation",
]


OPEN = sys.maxsize
"""Stands past the last event of a run that is not over."""


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
class HandlerClock:
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


@attrs.frozen
class Violation:
    """What is wrong with the order of one event of a trace.

    Attributes:
        engine: the name of the engine that fired it.
        run: the number of its run, in ``trace.runs``.
        number: which event of the trace it is, from 1; 0 where a run that should have ended has none.
        event: its key; empty where there is none.
        where: where the run stood, in words: ``EPOCH 1 / ITERATION 2 / after FORWARD``; for a run that lies wrongly in
            another one, how it lies: ``inside evaluator``.
        message: what :class:`~camshaft.EventOrderError` says of it: what came before, and what was expected.
    """

    engine: str
    run: int
    number: int
    event: str
    where: str
    message: str

    def __str__(self) -> str:
        return self.message


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


def _key(event: EventHandle) -> str:
    """The key of an event without a filter.

    Raises:
        ValueError: it has one.
    """
    if isinstance(event, FilteredEvent) and event.filter is not None:
        raise ValueError(f"{event!r} has a filter: a trace tells what fired, whoever was called then; leave it out")
    return event_key(event)


class Selection(Sequence[TraceEvent]):
    """Some events of a trace, in order: a slice of it, or what :meth:`select` picked.

    Args:
        trace: the whole.
        indices: which events of it, ascending.
    """

    def __init__(self, trace: Trace, indices: Sequence[int]) -> None:
        self.trace = trace
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[TraceEvent]:
        return map(self.trace.event, self.indices)

    def __getitem__(self, index: int | slice) -> Any:
        """An event, or a selection of events."""
        picked = self.indices[index]
        return self.trace.event(picked) if isinstance(picked, int) else Selection(self.trace, picked)

    def __eq__(self, other: object) -> bool:
        """It equals a list of events in this order; and a trace or selection of equal events, engines and counts."""
        if isinstance(other, Selection):
            return self._signature() == other._signature()
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        try:
            keys = [one.event if isinstance(one, TraceEvent) else event_key(one) for one in other]
        except (TypeError, ValueError):
            return False
        return [event.event for event in self] == keys

    def __contains__(self, event: object) -> bool:
        """Whether an event fired.

        Raises:
            ValueError: no recorded loop knows the event.
        """
        key = event.event if isinstance(event, TraceEvent) else _key(event)
        self._check_event(key, None)
        return any(self.trace.key_of(index) == key for index in self.indices)

    __hash__ = None  # type: ignore[assignment]

    def _signature(self) -> list[tuple[str, str, int, int]]:
        return [(event.engine, event.event, event.count, event.depth) for event in self]

    def select(self, *, engine: str | None = None, event: Any = None, inside: str | None = None) -> Selection:
        """The events of one engine, of one kind, or within one state; given together, those for which all holds.

        Args:
            engine: the name of the engine that fired them.
            event: an event, or several events: a list or a union of them.
            inside: a state: all that fell between entering and leaving it, of nested engines too; the events that
                enter and leave it do not count as inside.

        Raises:
            ValueError: no engine, event or state of that name was recorded.
        """
        indices = self.indices
        if engine is not None:
            self._check_engine(engine)
            runs = {number for number, record in enumerate(self.trace.runs) if record.engine == engine}
            indices = [index for index in indices if self.trace.run_of(index) in runs]
        if event is not None:
            keys = {_key(single) for single in attachments(event)}
            for key in keys:
                self._check_event(key, engine)
            indices = [index for index in indices if self.trace.key_of(index) in keys]
        if inside is not None:
            within = self.trace.inside(inside)
            indices = [index for index in indices if within[index]]
        return Selection(self.trace, indices)

    def count(self, event: Any, engine: str | None = None) -> int:
        """How often an event fired, in all engines or in one.

        Raises:
            ValueError: no engine of that name was recorded, or no loop that knows the event.
        """
        key = _key(event)
        self._check_event(key, engine)
        return sum(number for (name, fired), number in self.counts().items() if fired == key and engine in (None, name))

    def counts(self) -> dict[tuple[str, str], int]:
        """How often each event fired, by engine and event, in the order of first appearance."""
        pairs = Counter((self.trace.run_of(index), self.trace.key_of(index)) for index in self.indices)
        found: dict[tuple[str, str], int] = {}
        for (run, key), number in pairs.items():
            name = (self.trace.runs[run].engine, key)
            found[name] = found.get(name, 0) + number
        return found

    def table(self) -> str:
        """The counts as a text table."""
        rows = [(engine, event_name(event), str(number)) for (engine, event), number in self.counts().items()]
        rows.insert(0, ("engine", "event", "count"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def assert_matches(self, pattern: str, *, strict: bool = False) -> None:
        """Compare with a pattern such as ``"STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED"``.

        Args:
            pattern: what is expected; :mod:`camshaft.testing.pattern` gives the grammar.
            strict: whether events that the pattern does not mention are errors, instead of being passed over.

        Raises:
            AssertionError: the events are others; the message shows the first that does not fit.
            PatternError: the pattern cannot be read, or names what no recorded engine has.
        """
        __tracebackhide__ = True
        from camshaft.trace.pattern import check

        check(self.trace, pattern, strict, self.indices)

    def lines(self) -> list[str]:
        """One line an event: indented by nesting, with engine, event and count."""
        return ["  " * event.depth + str(event) for event in self]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,} event{'s' * (len(self) != 1)}>"

    def _check_engine(self, engine: str) -> None:
        names = list(dict.fromkeys(record.engine for record in self.trace.runs))
        if engine not in names:
            raise ValueError(f"no engine {engine!r} was recorded; recorded are {', '.join(names) or 'none'}")

    def _check_event(self, key: str, engine: str | None) -> None:
        runs = self.trace.runs
        if engine is not None:
            self._check_engine(engine)
        recorded = [record for record in runs if engine in (None, record.engine)]
        if runs and not any(key in record.loop.event_keys for record in recorded):
            names = ", ".join(dict.fromkeys(record.engine for record in runs))
            if any(key.lower() in record.loop.event_keys for record in recorded):
                raise ValueError(
                    f"{key!r} is how the event {key.lower()!r} is shown: ask for that, or for a member of its enum"
                )
            known = f"{engine or 'any of them'} does not know {event_name(key)}"
            raise ValueError(f"{known}, so counting it proves nothing; recorded are {names}")


class Trace(Selection):
    """What fired while :func:`camshaft.record` was recording, in order. Iterating gives :class:`TraceEvent` objects.

    Attributes:
        runs: the runs of engines, in the order in which they began.
        segments: where each run went on without a pause: [run, its first event, past its last event]; the last is
            :data:`OPEN` while it goes on.
        clocks: what :attr:`handler_times` is made of.
    """

    def __init__(self) -> None:
        self.trace = self
        self.clocks: list[HandlerClock] = []
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

    @property
    def indices(self) -> range:  # type: ignore[override]
        """All of them."""
        return range(len(self._run))

    # -- reading -----------------------------------------------------------------------------------------------------

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

    def stranger(self, run: int, first: int, past: int) -> int | None:
        """The index of the first event, from ``first`` up to ``past``, that is not of this run; None where all are."""
        found = self._run[first:past]
        if found == array("I", [run]) * len(found):
            return None
        return next(index for index in range(first, past) if self._run[index] != run)

    def site_of(self, index: int) -> str | None:
        """The line of code that fired the event at an index; None where it was not recorded."""
        return self._places[self._site[index]] if index < len(self._site) else None

    def rows(self) -> Iterator[tuple[int, str, int, float]]:
        """Every event as (number of the run, key, count, seconds)."""
        return zip(self._run, map(self._names.__getitem__, self._key), self._count, self._time, strict=True)

    def counted(self, first: int, past: int) -> Iterator[tuple[str, int]]:
        """The key and the count of each event from ``first`` up to ``past``."""
        return zip(map(self._names.__getitem__, self._key[first:past]), self._count[first:past], strict=True)

    @property
    def handler_times(self) -> list[HandlerTime]:
        """How long each attached handler took, in the order of their first calls; empty unless that was recorded."""
        return [HandlerTime(**attrs.asdict(clock)) for clock in self.clocks if clock.count]

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """Events of one run side by side: the number of the run, the index of the first, and past the last."""
        ends = {end for _, *both in self.segments for end in both if end < len(self)}
        first = 0
        for past in sorted({*ends, len(self)} - {0}):
            if self.stranger(self._run[first], first, past) is None:
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

    def inside(self, state: str) -> bytearray:
        """For each event, whether it fell between entering and leaving a state.

        Raises:
            ValueError: no recorded engine has that state.
        """
        from camshaft.trace.spans import spans

        found = spans(self)
        if not any(span.state == state for span in found):
            known = {span.state for span in found}
            raise ValueError(f"no engine entered a state {state!r}; entered were {', '.join(sorted(known)) or 'none'}")
        within = bytearray(len(self))
        for span in found:
            if span.state == state:
                past = span.past if span.last is None else span.last
                within[span.first + 1 : past] = b"\x01" * (past - span.first - 1)
        return within

    def __str__(self) -> str:
        """The trace as an indented tree, equal passes of a loop shown once."""
        from camshaft.trace.text import trace_text

        return trace_text(self)

    def __repr__(self) -> str:
        return f"<Trace: {self.summary()}>"

    def summary(self) -> str:
        """How much was recorded, in words."""
        return f"{len(self):,} event{'s' * (len(self) != 1)} in {len(self.runs)} run{'s' * (len(self.runs) != 1)}"

    def diagram(self, engine: str | None = None, level: str = "overview", *, control: bool = False) -> Diagram:
        """The picture of a loop with its runs drawn over it.

        States carry how often they were entered and their share of the time, edges how often they were taken. Custom
        states that the engine's own code enters stand in the order that was observed, and so do engines that handlers
        ran: dashed, because no declaration says so.

        Args:
            engine: whose; that of the first run unless given.
            level: ``"overview"`` or ``"full"``: see :meth:`camshaft.Loop.diagram`.
            control: show what control calls and failures bring, instead of one edge for all of it.

        Raises:
            ValueError: there is no such level, or no engine of that name was recorded.
        """
        from camshaft.draw.diagram import trace_diagram

        return trace_diagram(self, engine, level, control)

    # -- judging -----------------------------------------------------------------------------------------------------

    def assert_legal(self, loop: Loop | None = None) -> None:
        """Judge every run by its loop: its path through the machine, its counters, its end, and where it is nested.

        Args:
            loop: judge the outermost runs by this loop instead of the one that was recorded with them.

        Raises:
            EventOrderError: the first event that is illegal, with what stood before it and what was expected.
            TypeError: ``loop`` is no loop.
        """
        __tracebackhide__ = True
        from camshaft.trace.judge import judge

        judge(self, loop)

    def violations(self, loop: Loop | None = None) -> list[Violation]:
        """Everything that :meth:`assert_legal` finds fault with, where that raises at the first.

        After a violation the run is judged on from where the illegal event leads to, and what its counters cannot
        tell any more is taken from the record: one event that is lost or came twice is one violation. Of two runs that
        lie wrongly in each other, only the first event that does is listed.

        Args:
            loop: judge the outermost runs by this loop instead of the one that was recorded with them.

        Returns:
            The violations, by the numbers of their events; empty where the trace is legal.

        Raises:
            TypeError: ``loop`` is no loop.
        """
        from camshaft.trace.judge import violations

        return sorted(violations(self, loop), key=lambda violation: violation.number)

    # -- files and writing -------------------------------------------------------------------------------------------

    def save(self, path: str | FilePath) -> None:
        """Write the trace as JSON lines, with the declaration of each loop in it."""
        from camshaft.trace.files import save_trace

        save_trace(self, path)

    def export_chrome_trace(self, path: str | FilePath) -> None:
        """Write the trace as a timeline that Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

        Runs and states are slices, nested runs inside the state that called them; all other events are instants. The
        name is that of ``torch.profiler``'s method, and the format the same: the Trace Event Format,
        https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
        """
        from camshaft.trace.chrome_trace import export_chrome_trace

        export_chrome_trace(self, path)

    @classmethod
    def load(cls, path: str | FilePath) -> Trace:
        """Read a trace that :meth:`save` wrote.

        Raises:
            TraceError: the file is no trace, of another version, or cut short.
        """
        from camshaft.trace.files import load_trace

        return load_trace(path)

    def append(self, run: int, key: str, count: int, time: float, site: str | None = None) -> None:
        """Add an event of a run, by its number in :attr:`runs`; all events have a ``site`` or none has."""
        if not 0 <= run < len(self.runs):
            raise IndexError(f"there is no run {run}")
        self._run.append(run)
        self._key.append(self.code(key))
        self._count.append(count)
        self._time.append(time)
        if site is not None:
            self.add_site(site)

    def marker(self, run: int, key: str, counter: str, start: float) -> Callable[[Any], None]:
        """What adds an event of a run whenever it is called with the run's engine.

        Args:
            run: its number in :attr:`runs`.
            key: the event.
            counter: the attribute of the engine's state that is its count.
            start: the ``perf_counter()`` from which times are counted.
        """
        code = self.code(key)
        add_run, add_key = self._run.append, self._key.append
        add_count, add_time = self._count.append, self._time.append

        def mark(engine: Any) -> None:
            add_run(run)
            add_key(code)
            add_count(getattr(engine.state, counter))
            add_time(perf_counter() - start)

        return mark

    def rearranged(self, order: Sequence[int]) -> Trace:
        """A trace of the same runs with these events, by index: some may be left out, moved or doubled.

        It is for testing what judges traces. Each run goes on from its first event to its last without a pause.
        """
        made = Trace()
        made.runs = self.runs
        for index in order:
            event = self.event(index)
            made.append(self._run[index], event.event, event.count, event.time, event.site)
        first: dict[int, int] = {}
        past: dict[int, int] = {}
        for index, run in enumerate(made._run):
            first.setdefault(run, index)
            past[run] = index + 1
        made.segments = [[run, first[run], past[run]] for run in first]
        return made

    def add_site(self, site: str) -> None:
        """Note the line of code that fired the last event."""
        if site not in self._sites:
            self._sites[site] = len(self._sites)
            self._places.append(site)
        self._site.append(self._sites[site])

    def code(self, key: str) -> int:
        """The number that stands for an event in this trace."""
        if key not in self._keys:
            self._keys[key] = len(self._keys)
            self._names.append(key)
        return self._keys[key]
