"""Profilers: how long a run spends in its handlers, in fetching data, and in the passes of its loop.

Handlers are measured where the engine calls them (:meth:`camshaft.engine.run.Run.measure`), so that what runs, and in
which order, is what ran before.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine
from camshaft.engine.handler import Handler
from camshaft.engine.state import State
from camshaft.events import OF_FETCHING, OF_THE_RUN, event, event_name
from camshaft.handlers.profiling.statistics import Times
from camshaft.handlers.profiling.tables import as_list, as_mapping, cell, cells, column, columns, print_table, write_csv
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import RUN
from camshaft.priorities import MEASURE

__all__ = ["BasicTimeProfiler", "HandlersTimeProfiler"]


class _FirstHandler:
    """What a profiler attaches to each event."""

    def __init__(self, profiler: _Profiler, key: str) -> None:
        self.profiler = profiler
        self.key = key
        self.__qualname__ = type(profiler).__name__  # as diagrams and reports show it

    def __call__(self, engine: Engine, *error: BaseException) -> None:
        self.profiler._hear(engine, self.key)


def _ignore(seconds: float) -> None:
    """Takes the time of what is not to be in the results."""


class _Profiler:
    """Measures the runs of one engine, each from zero.

    It hears every event before all other handlers do. What lasts from one event to another is what is left of the
    time between them without the handlers in it; where the run paused in between, it is left out.
    """

    def __init__(self, keep: int = 100_000) -> None:
        check_integer(f"{type(self).__name__}: keep", keep)
        self._keep = keep
        self._engine: Callable[[], Engine | None] | None = None
        self._attached_at: set[str] = set()
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
            if key not in self._attached_at:
                self._attached_at.add(key)
                engine.add_event_handler(event(key, priority=MEASURE), _FirstHandler(self, key))

    def _begin(self, engine: Engine) -> None:
        """Forget what was measured."""
        loop = engine.loop
        self._loop, self._state = loop, engine.state
        self._passes = loop.data_loop or loop
        self._processing, self._dataflow = Times(self._keep), Times(self._keep)
        self._opens = {"get_batch_started": self._dataflow, self._passes.started: self._processing}
        self._closes = {"get_batch_completed": self._dataflow, self._passes.completed: self._processing}
        self._open: dict[Times, float] = {}
        self._in_handlers = 0.0
        self._depth = 0
        self._clear()
        for key in loop.event_keys:
            for handler in engine.handlers(key):
                if not isinstance(handler.function, _FirstHandler):
                    self._times(key, handler.name)

    def _hear(self, engine: Engine, key: str) -> None:
        if key == "started":
            self._listen(engine)  # to what was registered since
            self._begin(engine)
        was_measured, self._is_measured = self._is_measured, False
        if engine.current_run is None:  # fired by hand, outside of any run
            return
        if not was_measured:  # a run begins, or it goes on after a pause, which ends all measuring
            engine.current_run.measure(self._start)
            self._open.clear()
        self._pass_by(key)

    def _pass_by(self, key: str) -> None:
        now = perf_counter() - self._in_handlers
        closed, opened = self._closes.get(key), self._opens.get(key)
        if closed is not None and closed in self._open:
            closed.add(self._number(key, closed), now - self._open.pop(closed))
        if opened is not None:
            self._open[opened] = now

    def _start(self, key: str, handler: Handler) -> Callable[[float], None]:
        """A call of a handler begins: a :data:`camshaft.engine.handler.Stopwatch`."""
        if isinstance(handler.function, _FirstHandler):
            self._is_measured |= handler.function.profiler is self
            return _ignore
        self._depth += 1
        return partial(self._stop, key, handler.name)

    def _stop(self, key: str, handler: str, seconds: float) -> None:
        self._depth -= 1
        if not self._depth:  # else it is in the time of the handler that fired the event
            self._in_handlers += seconds
        times = self._times(key, handler)
        times.add(self._number(key, times), seconds)

    def _check_attached(self) -> None:
        if self._engine is None:
            raise RuntimeError(f"{type(self).__name__} has measured nothing: call attach(engine) first")

    def _clear(self) -> None:
        raise NotImplementedError

    def _times(self, key: str, handler: str) -> Times:
        """Where the time of a handler goes."""
        raise NotImplementedError

    def _number(self, key: str, times: Times) -> int:
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
        ValueError: ``keep`` is not an integer of 1 or more.
    """

    def _clear(self) -> None:
        keys = self._loop.event_keys
        self._path = next(path for path, item in self._loop.walk() if item is self._passes)
        self._scopes = _scopes(self._loop, self._path)
        self._events = {key: Times(self._keep) for key in keys}
        self._names: dict[str, dict[str, None]] = {key: {} for key in keys}
        self._rows: dict[int, tuple[int, ...]] = {}

    def _times(self, key: str, handler: str) -> Times:
        self._names[key][handler] = None
        return self._events[key]

    def _number(self, key: str, times: Times) -> int:
        return _count(self._state, self._scopes[key]) + (key in OF_FETCHING)

    def _pass_by(self, key: str) -> None:
        super()._pass_by(key)
        if key != self._passes.started:
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
        by_event: dict[str, Any] = {column(key): as_mapping(times) for key, times in self._events.items()}
        return {
            "processing_stats": as_mapping(self._processing),
            "dataflow_stats": as_mapping(self._dataflow),
            "event_handlers_stats": by_event | {"total_time": self._in_handlers},
            "event_handlers_names": {f"{column(key)}_names": list(names) for key, names in self._names.items()},
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
        events = columns(self._loop, self._path)
        header = [name.lower() for name in self._path]
        header += ["processing_stats", "dataflow_stats", *(f"Event_{column(key)}" for key in events)]
        rows = []
        for number, counts in self._rows.items():
            at = {None: 0} | dict(zip(self._path, counts, strict=True))
            spans = [times.latest.get(number, "") for times in (self._processing, self._dataflow)]
            rows.append([*counts, *spans, *(self._events[key].latest.get(at[self._scopes[key]], "") for key in events)])
        write_csv(output_path, header, rows)

    @staticmethod
    def print_results(results: dict[str, Any]) -> str:
        """Print what :meth:`get_results` returned as a table, leaving out events without handlers.

        Returns:
            The text that was printed.
        """
        names, handled = results["event_handlers_names"], results["event_handlers_stats"]
        rows = [
            [key, "\n".join(names[f"{key}_names"]), *cells(stats)]
            for key, stats in handled.items()
            if key != "total_time" and names[f"{key}_names"]
        ]
        spans = [
            [title, "", *cells(results[key])]
            for title, key in (("Processing", "processing_stats"), ("Dataflow", "dataflow_stats"))
        ]
        return print_table(["Event", "Handlers"], rows, spans, handled["total_time"])


class HandlersTimeProfiler(_Profiler):
    """Measures the seconds spent in each handler of each event, in fetching data, and in processing it.

    As :class:`BasicTimeProfiler`, by handler and call. Handlers of the same name at the same event are one.

    Args:
        keep: how many calls of each handler :meth:`write_results` writes, the latest ones. Statistics are of all.

    Raises:
        ValueError: ``keep`` is not an integer of 1 or more.
    """

    def _clear(self) -> None:
        self._handlers: dict[tuple[str, str], Times] = {}

    def _times(self, key: str, handler: str) -> Times:
        if (key, handler) not in self._handlers:
            self._handlers[key, handler] = Times(self._keep)
        return self._handlers[key, handler]

    def _number(self, key: str, times: Times) -> int:
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
        rows = [[handler, event_name(key), *as_list(times)] for (key, handler), times in self._handlers.items()]
        rows.append(["Total", "", self._in_handlers, "", "", "", ""])
        rows.append(["Processing", "None", *as_list(self._processing)])
        rows.append(["Dataflow", "None", *as_list(self._dataflow)])
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
        write_csv(output_path, ["#", *columns], rows)

    @staticmethod
    def print_results(results: list[list[Any]]) -> str:
        """Print what :meth:`get_results` returned as a table.

        Returns:
            The text that was printed.
        """
        *handlers, total, processing, dataflow = results
        rows = [[name, key, *map(cell, numbers)] for name, key, *numbers in handlers]
        spans = [[name, "", *map(cell, numbers)] for name, _, *numbers in (processing, dataflow)]
        return print_table(["Handler", "Event"], rows, spans, total[2])


# -- rows of passes ---------------------------------------------------------------------------------------------------


def _scopes(loop: Loop, path: tuple[str, ...]) -> dict[str, str | None]:
    """By event, the loop among those of ``path`` in whose passes it fires; None for what belongs to the whole run."""
    around = {item.name: set(above) for above, item in loop.walk() if isinstance(item, Loop)}
    of_the_run = {*OF_THE_RUN} | {key for custom in loop.custom_states if custom.within == RUN for key in custom.events}
    return {
        key: None if key in of_the_run else [name for name in path if name in around[counter]][-1]
        for key, counter in counter_loop_by_event(loop).items()
    }


def _count(state: State, loop: str | None) -> int:
    """The passes of a loop so far; 0 for the whole run."""
    return getattr(state, loop.lower()) if loop is not None else 0


# -- statistics as they are given out ---------------------------------------------------------------------------------
