"""Profilers: how long a run spends in its handlers, in fetching data, and in the passes of its loop.

Handlers are measured where the engine calls them (:meth:`camshaft.engine.run.Run.measure`), so that what runs, and in
which order, is what ran before.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import attrs

from camshaft.engine.dispatch import Handler
from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import event, event_name
from camshaft.loop.loop import RUN, Loop, counters
from camshaft.priorities import MEASURE

__all__ = ["BasicTimeProfiler", "HandlersTimeProfiler"]

WIDTH = 120
"""How wide tables are where there is no terminal."""

_OF_THE_RUN = {"started", "completed", "terminate", "interrupt", "exception_raised"}
_BEFORE_THE_PASS = {"get_batch_started", "get_batch_completed", "dataloader_stop_iteration"}


@attrs.frozen
class _Statistics:
    """Of a series of seconds; the variance by Welford's method (Technometrics 4, 1962), one number at a time."""

    count: int = 0
    total: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    minimum: tuple[float, int] = (math.inf, 0)
    maximum: tuple[float, int] = (-math.inf, 0)

    def with_next(self, seconds: float) -> _Statistics:
        """Of one more number."""
        count, shift = self.count + 1, seconds - self.mean
        mean = self.mean + shift / count
        return _Statistics(
            count,
            self.total + seconds,
            mean,
            self.squares + shift * (seconds - mean),
            (seconds, self.count) if seconds < self.minimum[0] else self.minimum,
            (seconds, self.count) if seconds > self.maximum[0] else self.maximum,
        )

    @property
    def std(self) -> float | None:
        """The standard deviation of the sample; None of less than two numbers."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None


class _Times:
    """The seconds of one thing, by the number of the pass or call: statistics of all, and the latest ones singly."""

    def __init__(self, keep: int) -> None:
        self.latest: dict[int, float] = {}
        self._keep = keep
        self._earlier = _Statistics()  # without the last one, which may still grow

    @property
    def statistics(self) -> _Statistics:
        """Of all of them, dropped ones too."""
        return self._earlier.with_next(self._last) if self.latest else self._earlier

    @property
    def count(self) -> int:
        """How many there are."""
        return self._earlier.count + bool(self.latest)

    @property
    def _last(self) -> float:
        return self.latest[next(reversed(self.latest))]

    def add(self, number: int, seconds: float) -> None:
        """Add to the seconds of a pass."""
        if number not in self.latest:
            self._earlier = self.statistics
            if len(self.latest) == self._keep:
                del self.latest[next(iter(self.latest))]
        self.latest[number] = self.latest.get(number, 0.0) + seconds


class _First:
    """What a profiler attaches to each event."""

    def __init__(self, profiler: _Profiler, heard: str) -> None:
        self.profiler = profiler
        self.heard = heard
        self.__qualname__ = type(profiler).__name__  # as diagrams and reports show it

    def __call__(self, engine: Engine, *error: BaseException) -> None:
        self.profiler._hear(engine, self.heard)


def _ignore(seconds: float) -> None:
    """Takes the time of what is not to be in the results."""


class _Profiler:
    """Measures the runs of one engine, each from zero.

    It hears every event before all other handlers do. What lasts from one event to another is what is left of the
    time between them without the handlers in it; where the run paused in between, it is left out.
    """

    def __init__(self, keep: int = 100_000) -> None:
        if not isinstance(keep, int) or isinstance(keep, bool) or keep < 1:
            raise ValueError(f"{type(self).__name__}: keep={keep!r} is no whole number of 1 or more")
        self._keep = keep
        self._engine: Callable[[], Engine | None] | None = None
        self._heard: set[str] = set()
        self._is_measured = False

    def attach(self, engine: Engine) -> None:
        """Measure the runs of an engine from now on; a second time does nothing.

        Raises:
            TypeError: ``engine`` is no engine.
            ValueError: the profiler measures another engine.
        """
        name = type(self).__name__
        if not isinstance(engine, Engine):
            raise TypeError(f"{name}: {engine!r} is no Engine: give the one whose runs it measures")
        measured = self._engine() if self._engine is not None else engine
        if measured is not engine:
            raise ValueError(f"{name}: it measures another engine than {engine.name}: make one for each engine")
        self._engine = weakref.ref(engine)  # its handlers hold this profiler
        self._listen(engine)
        self._begin(engine)

    def _listen(self, engine: Engine) -> None:
        for key in engine.loop.event_keys:
            if key not in self._heard:
                self._heard.add(key)
                engine.add_event_handler(event(key, priority=MEASURE), _First(self, key))

    def _begin(self, engine: Engine) -> None:
        """Forget what was measured."""
        loop = engine.loop
        self._loop, self._state = loop, engine.state
        self._passes = loop.data_loop or loop
        self._processing, self._dataflow = _Times(self._keep), _Times(self._keep)
        self._opens = {"get_batch_started": self._dataflow, self._passes.started: self._processing}
        self._closes = {"get_batch_completed": self._dataflow, self._passes.completed: self._processing}
        self._open: dict[_Times, float] = {}
        self._in_handlers = 0.0
        self._depth = 0
        self._clear()
        for key in loop.event_keys:
            for handler in engine.handlers(key):
                if not isinstance(handler.function, _First):
                    self._times(key, handler.name)

    def _hear(self, engine: Engine, heard: str) -> None:
        if heard == "started":
            self._listen(engine)  # to what was registered since
            self._begin(engine)
        was_measured, self._is_measured = self._is_measured, False
        if engine.active is None:  # fired by hand, outside of any run
            return
        if not was_measured:  # a run begins, or it goes on after a pause, which ends all measuring
            engine.active.measure(self._start)
            self._open.clear()
        self._pass_by(heard)

    def _pass_by(self, heard: str) -> None:
        now = perf_counter() - self._in_handlers
        closed, opened = self._closes.get(heard), self._opens.get(heard)
        if closed is not None and closed in self._open:
            closed.add(self._number(heard, closed), now - self._open.pop(closed))
        if opened is not None:
            self._open[opened] = now

    def _start(self, heard: str, handler: Handler) -> Callable[[float], None]:
        """A call of a handler begins: a :data:`camshaft.engine.dispatch.Stopwatch`."""
        if isinstance(handler.function, _First):
            self._is_measured |= handler.function.profiler is self
            return _ignore
        self._depth += 1
        return partial(self._stop, heard, handler.name)

    def _stop(self, heard: str, handler: str, seconds: float) -> None:
        self._depth -= 1
        if not self._depth:  # else it is in the time of the handler that fired the event
            self._in_handlers += seconds
        times = self._times(heard, handler)
        times.add(self._number(heard, times), seconds)

    def _check_attached(self) -> None:
        if self._engine is None:
            raise RuntimeError(f"{type(self).__name__} has measured nothing: call attach(engine) first")

    def _clear(self) -> None:
        raise NotImplementedError

    def _times(self, heard: str, handler: str) -> _Times:
        """Where the time of a handler goes."""
        raise NotImplementedError

    def _number(self, heard: str, times: _Times) -> int:
        """Where in ``times`` the time at an event goes."""
        raise NotImplementedError


class BasicTimeProfiler(_Profiler):
    """Measures the seconds spent in the handlers of each event, in fetching data, and in processing it.

    Every event of the loop counts: built-in ones, those of phases, custom ones. Times are those of a pass of the loop
    that the event belongs to: an epoch, an iteration. Processing is an iteration, without the handlers in it; in a
    loop that takes no data, a pass of the outermost loop. A handler that fires an event, or runs another engine, is
    counted with all that it causes. Results are of the last run.

    Args:
        keep: how many iterations (and epochs) :meth:`write_results` writes, the latest ones. Statistics are of all.

    Raises:
        ValueError: ``keep`` is no whole number of 1 or more.
    """

    def _clear(self) -> None:
        keys = self._loop.event_keys
        self._path = next(path for path, item in self._loop.walk() if item is self._passes)
        self._scopes = _scopes(self._loop, self._path)
        self._events = {key: _Times(self._keep) for key in keys}
        self._names: dict[str, dict[str, None]] = {key: {} for key in keys}
        self._rows: dict[int, tuple[int, ...]] = {}

    def _times(self, heard: str, handler: str) -> _Times:
        self._names[heard][handler] = None
        return self._events[heard]

    def _number(self, heard: str, times: _Times) -> int:
        return _count(self._state, self._scopes[heard]) + (heard in _BEFORE_THE_PASS)

    def _pass_by(self, heard: str) -> None:
        super()._pass_by(heard)
        if heard != self._passes.started:
            return
        counts = tuple(_count(self._state, name) for name in self._path)
        self._rows[counts[-1]] = counts
        if len(self._rows) > self._keep:
            del self._rows[next(iter(self._rows))]

    def get_results(self) -> dict[str, Any]:
        """The statistics of the last run, or of the present one so far, in seconds.

        Returns:
            ``processing_stats``, ``dataflow_stats`` and ``event_handlers_stats``, the last by event, such as
            ``"EPOCH_COMPLETED"``: ``total``, ``min/index``, ``max/index``, ``mean`` and, of two passes or more,
            ``std``; or only ``total``, ``"not yet triggered"``. ``event_handlers_stats`` has the ``total_time`` of all
            handlers too, nothing counted twice; ``event_handlers_names`` the names of the handlers by event,
            ``"EPOCH_COMPLETED_names"``.

        Raises:
            RuntimeError: it is not attached.
        """
        self._check_attached()
        by_event: dict[str, Any] = {_column(key): _as_mapping(times) for key, times in self._events.items()}
        return {
            "processing_stats": _as_mapping(self._processing),
            "dataflow_stats": _as_mapping(self._dataflow),
            "event_handlers_stats": by_event | {"total_time": self._in_handlers},
            "event_handlers_names": {f"{_column(key)}_names": list(names) for key, names in self._names.items()},
        }

    def write_results(self, output_path: str | os.PathLike[str]) -> None:
        """Write a CSV file with one row for each iteration; what did not happen in one is left empty.

        Columns: the counts of the loops (``epoch``, ``iteration``), ``processing_stats``, ``dataflow_stats``, and
        ``Event_<EVENT>`` for each event; the time of an epoch or of the run stands in each of its rows.

        Args:
            output_path: the file to write.

        Raises:
            RuntimeError: it is not attached.
        """
        self._check_attached()
        events = _columns(self._loop, self._path)
        header = [name.lower() for name in self._path]
        header += ["processing_stats", "dataflow_stats", *(f"Event_{_column(key)}" for key in events)]
        rows = []
        for number, counts in self._rows.items():
            at = {None: 0} | dict(zip(self._path, counts, strict=True))
            spans = [times.latest.get(number, "") for times in (self._processing, self._dataflow)]
            rows.append([*counts, *spans, *(self._events[key].latest.get(at[self._scopes[key]], "") for key in events)])
        _write(output_path, header, rows)

    @staticmethod
    def print_results(results: dict[str, Any]) -> str:
        """Print what :meth:`get_results` returned as a table, leaving out events without handlers.

        Returns:
            The text that was printed.
        """
        names, handled = results["event_handlers_names"], results["event_handlers_stats"]
        rows = [
            [key, "\n".join(names[f"{key}_names"]), *_cells(stats)]
            for key, stats in handled.items()
            if key != "total_time" and names[f"{key}_names"]
        ]
        spans = [
            [title, "", *_cells(results[key])]
            for title, key in (("Processing", "processing_stats"), ("Dataflow", "dataflow_stats"))
        ]
        return _print(["Event", "Handlers"], rows, spans, handled["total_time"])


class HandlersTimeProfiler(_Profiler):
    """Measures the seconds spent in each handler of each event, in fetching data, and in processing it.

    As :class:`BasicTimeProfiler`, by handler and call. Handlers of the same name at the same event are one.

    Args:
        keep: how many calls of each handler :meth:`write_results` writes, the latest ones. Statistics are of all.

    Raises:
        ValueError: ``keep`` is no whole number of 1 or more.
    """

    def _clear(self) -> None:
        self._handlers: dict[tuple[str, str], _Times] = {}

    def _times(self, heard: str, handler: str) -> _Times:
        if (heard, handler) not in self._handlers:
            self._handlers[heard, handler] = _Times(self._keep)
        return self._handlers[heard, handler]

    def _number(self, heard: str, times: _Times) -> int:
        return times.count + 1

    def get_results(self) -> list[list[Any]]:
        """The statistics of the last run, or of the present one so far, in seconds.

        Returns:
            ``[handler, event, total, (min, index), (max, index), mean, std]`` for each handler, then the same of
            ``Total``, ``Processing`` and ``Dataflow``; ``"not triggered"`` and ``"None"`` where there is no number.
            In ``Total`` nothing is counted twice.

        Raises:
            RuntimeError: it is not attached.
        """
        self._check_attached()
        rows = [[handler, event_name(key), *_as_list(times)] for (key, handler), times in self._handlers.items()]
        rows.append(["Total", "", self._in_handlers, "", "", "", ""])
        rows.append(["Processing", "None", *_as_list(self._processing)])
        rows.append(["Dataflow", "None", *_as_list(self._dataflow)])
        return rows

    def write_results(self, output_path: str | os.PathLike[str]) -> None:
        """Write a CSV file whose n-th row has the n-th time of each column; columns that have less of them end empty.

        Columns: ``#``, ``processing_stats``, ``dataflow_stats``, and ``<handler> (<EVENT>)`` for each handler.

        Args:
            output_path: the file to write.

        Raises:
            RuntimeError: it is not attached.
        """
        self._check_attached()
        columns = {"processing_stats": self._processing, "dataflow_stats": self._dataflow}
        columns |= {f"{handler} ({event_name(key)})": times for (key, handler), times in self._handlers.items()}
        numbers = sorted(set().union(*(times.latest for times in columns.values())))
        rows = [[number, *(times.latest.get(number, "") for times in columns.values())] for number in numbers]
        _write(output_path, ["#", *columns], rows)

    @staticmethod
    def print_results(results: list[list[Any]]) -> str:
        """Print what :meth:`get_results` returned as a table.

        Returns:
            The text that was printed.
        """
        *handlers, total, processing, dataflow = results
        rows = [[name, key, *map(_cell, numbers)] for name, key, *numbers in handlers]
        spans = [[name, "", *map(_cell, numbers)] for name, _, *numbers in (processing, dataflow)]
        return _print(["Handler", "Event"], rows, spans, total[2])


# -- rows of passes ---------------------------------------------------------------------------------------------------


def _scopes(loop: Loop, path: tuple[str, ...]) -> dict[str, str | None]:
    """By event, the loop among those of ``path`` in whose passes it fires; None for what belongs to the whole run."""
    around = {item.name: set(above) for above, item in loop.walk() if isinstance(item, Loop)}
    of_the_run = _OF_THE_RUN | {key for free in loop.free if free.within == RUN for key in free.events}
    return {
        key: None if key in of_the_run else [name for name in path if name in around[counter]][-1]
        for key, counter in counters(loop).items()
    }


def _columns(loop: Loop, path: tuple[str, ...]) -> list[str]:
    """The events of a loop: of the run, of its loops from the outermost, of the fetch, and all others."""
    first = ["started", "completed"]
    for name in path:
        item = loop.find(name)
        first += [item.started, item.completed]
    first += ["get_batch_started", "get_batch_completed"]
    keys = loop.event_keys
    return [key for key in dict.fromkeys([*first, *keys]) if key in keys]


def _count(state: State, loop: str | None) -> int:
    """The passes of a loop so far; 0 for the whole run."""
    return getattr(state, loop.lower()) if loop is not None else 0


def _column(key: str) -> str:
    return event_name(key).replace(".", "_")


def _write(path: str | os.PathLike[str], header: list[str], rows: Iterable[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


# -- statistics as they are given out ---------------------------------------------------------------------------------


def _as_mapping(times: _Times) -> dict[str, Any]:
    found = times.statistics
    if not found.count:
        return {"total": "not yet triggered"}
    shown = {"total": found.total, "min/index": found.minimum, "max/index": found.maximum, "mean": found.mean}
    return shown if found.std is None else shown | {"std": found.std}


def _as_list(times: _Times) -> list[Any]:
    found = times.statistics
    if not found.count:
        return ["not triggered", ("None", "None"), ("None", "None"), "None", "None"]
    return [found.total, found.minimum, found.maximum, found.mean, "None" if found.std is None else found.std]


def _cells(stats: dict[str, Any]) -> list[str]:
    return [_cell(stats.get(key, "None")) for key in ("total", "min/index", "max/index", "mean", "std")]


def _cell(value: Any) -> str:
    from camshaft.trace.text import duration

    if isinstance(value, tuple):
        seconds, index = value
        return f"{_cell(seconds)} #{index}" if seconds != "None" else ""
    if isinstance(value, str):
        return "" if value == "None" else "never"
    return duration(value)


def _print(names: list[str], rows: list[list[str]], spans: list[list[str]], total: float) -> str:
    """Print a table of handlers and one line each for what else takes time. Returns the text."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column, name in enumerate(names):  # events keep to one line, unless they are long
        longest = max((len(row[column]) for row in rows), default=0) if name == "Event" else 0
        table.add_column(name, overflow="fold", min_width=min(longest, 26))
    for name in ("Total", "Min #index", "Max #index", "Mean", "Std"):
        table.add_column(name, justify="right", no_wrap=True)
    for section in (rows, [["All handlers", "", _cell(total), "", "", "", ""]], spans):
        for row in section:
            table.add_row(*map(Text, row))
        table.add_section()
    console = Console(record=True, width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    return console.export_text()
