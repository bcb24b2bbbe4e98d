"""Profilers of the time that a run spends in its handlers, in fetching data and in the passes of its loop.

The engine itself times the calls of handlers (:meth:`camshaft.engine.run.Run.measure`). So a profiler changes neither
the handlers nor their order.
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
    """Handler that a profiler attaches to each event, before all others."""

    def __init__(self, profiler: _Profiler, key: str) -> None:
        self.profiler = profiler
        self.key = key
        self.__qualname__ = type(profiler).__name__  # the name in diagrams and reports

    def __call__(self, engine: Engine, *error: BaseException) -> None:
        self.profiler._on_event(engine, self.key)


def _ignore(seconds: float) -> None:
    """Discard a measurement that does not belong in the results."""


class _Profiler:
    """Base of profilers. It measures the runs of one engine, each from zero.

    Its handler runs before all others at every event. The duration between two events is the time between them minus
    the time of the handlers in between. A duration is discarded if the run paused in it.

    Args:
        keep: the number of latest durations of each kind to keep.
    """

    def __init__(self, keep: int = 100_000) -> None:
        check_integer(f"{type(self).__name__}: keep", keep)
        self._keep = keep
        self._engine: Callable[[], Engine | None] | None = None
        self._attached_at: set[str] = set()
        self._is_measured = False  # True once the engine times handlers for this profiler

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy copies. A weak reference would lead to the engine of the original."""
        return self.__dict__ | {"_engine": self._engine() if self._engine is not None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._engine = weakref.ref(state["_engine"]) if state["_engine"] is not None else None

    def attach(self, engine: Engine) -> None:
        """Measure the runs of an engine from now on. Calling it again does nothing.

        Args:
            engine: the engine to measure.

        Raises:
            TypeError: ``engine`` is not an Engine.
            ValueError: the profiler is attached to another engine.
        """
        name = type(self).__name__
        if not isinstance(engine, Engine):
            raise TypeError(f"{name}: engine must be an Engine, got {engine!r}: give the one to measure")
        measured = self._engine() if self._engine is not None else engine
        if measured is not engine:
            raise ValueError(
                f"{name}: already attached to an engine other than {engine.name}: create one {name} for each engine"
            )
        self._engine = weakref.ref(engine)  # weak, because the engine's handlers refer to this profiler
        self._attach_to_new_events(engine)
        self._reset(engine)

    def _attach_to_new_events(self, engine: Engine) -> None:
        for key in engine.loop.event_keys:
            if key not in self._attached_at:
                self._attached_at.add(key)
                engine.add_event_handler(event(key, priority=MEASURE), _FirstHandler(self, key))

    def _reset(self, engine: Engine) -> None:
        """Discard all measurements, and look at the loop and its handlers again."""
        loop = engine.loop
        self._loop, self._state = loop, engine.state
        self._passes = loop.data_loop or loop
        self._processing, self._dataflow = Times(self._keep), Times(self._keep)
        self._opens = {"get_batch_started": self._dataflow, self._passes.started: self._processing}
        self._closes = {"get_batch_completed": self._dataflow, self._passes.completed: self._processing}
        self._open: dict[Times, float] = {}  # when each unfinished duration began
        self._in_handlers = 0.0
        self._depth = 0  # of handlers inside of handlers
        self._reset_handler_times()
        for key in loop.event_keys:
            for handler in engine.handlers(key):
                if not isinstance(handler.function, _FirstHandler):
                    self._times(key, handler.name)

    def _on_event(self, engine: Engine, key: str) -> None:
        if key == "started":
            self._attach_to_new_events(engine)
            self._reset(engine)
        was_measured, self._is_measured = self._is_measured, False
        if engine.current_run is None:  # fired by hand, outside of any run
            return
        if not was_measured:  # a run begins, or continues after a pause, and pauses end all measuring
            engine.current_run.measure(self._start)
            self._open.clear()
        self._measure_spans(key)

    def _measure_spans(self, key: str) -> None:
        now = perf_counter() - self._in_handlers
        closed, opened = self._closes.get(key), self._opens.get(key)
        if closed is not None and closed in self._open:
            closed.add(self._number(key, closed), now - self._open.pop(closed))
        if opened is not None:
            self._open[opened] = now

    def _start(self, key: str, handler: Handler) -> Callable[[float], None]:
        """Begin to time a call of a handler; returns the function that receives its seconds.

        This is a :data:`camshaft.engine.handler.Stopwatch`.
        """
        if isinstance(handler.function, _FirstHandler):
            self._is_measured |= handler.function.profiler is self
            return _ignore
        self._depth += 1
        return partial(self._stop, key, handler.name)

    def _stop(self, key: str, handler: str, seconds: float) -> None:
        self._depth -= 1
        if not self._depth:  # otherwise the outer handler, which fired the event, includes this time
            self._in_handlers += seconds
        times = self._times(key, handler)
        times.add(self._number(key, times), seconds)

    def _check_attached(self) -> None:
        if self._engine is None:
            raise RuntimeError(f"{type(self).__name__} is not attached to an engine: call attach(engine) first")

    def _reset_handler_times(self) -> None:
        raise NotImplementedError

    def _times(self, key: str, handler: str) -> Times:
        """Return the durations to which the time of a handler is added."""
        raise NotImplementedError

    def _number(self, key: str, times: Times) -> int:
        """Return the number of the pass or call in ``times`` for a duration that ends at an event."""
        raise NotImplementedError


class BasicTimeProfiler(_Profiler):
    """Profiler of the handlers of each event, of fetching data and of processing it.

    It measures every event of the loop: built-in events, events of phases and custom events. A duration is the sum of
    the seconds in one pass of the loop that fires the event: in one iteration, in one epoch. Processing is an iteration
    without its handlers; in a loop without data, a pass of the outermost loop. The time of a handler includes the
    events that it fires and the engines that it runs. Results are those of the last run.

    Args:
        keep: the number of latest iterations (and epochs) for :meth:`write_results`. Statistics cover all of them.

    Raises:
        ValueError: ``keep`` is not an integer of 1 or more.
    """

    def _reset_handler_times(self) -> None:
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

    def _measure_spans(self, key: str) -> None:
        super()._measure_spans(key)
        if key != self._passes.started:
            return
        counts = tuple(_count(self._state, name) for name in self._path)
        self._rows[counts[-1]] = counts
        if len(self._rows) > self._keep:
            del self._rows[next(iter(self._rows))]

    def get_results(self) -> dict[str, Any]:
        """Return the statistics of the last run, or of the current run so far, in seconds.

        Returns:
            A dictionary with these keys:

            - ``processing_stats`` and ``dataflow_stats``: ``total``, ``min/index``, ``max/index``, ``mean``, and
              ``std`` for two passes or more. Without any pass, only ``total``, which is ``"not yet triggered"``.
            - ``event_handlers_stats``: the same by event, such as ``"EPOCH_COMPLETED"``, and ``total_time``: the
              seconds of all handlers. Handlers inside of handlers are not counted twice in it.
            - ``event_handlers_names``: the names of the handlers by event, such as ``"EPOCH_COMPLETED_names"``.

        Raises:
            RuntimeError: the profiler is not attached.
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
        """Write a CSV file with one row for each iteration. Cells without a measurement are empty.

        The columns are the counts of the loops (``epoch``, ``iteration``), ``processing_stats``, ``dataflow_stats``,
        and ``Event_<EVENT>`` for each event. The time of an epoch or of the run is repeated in each of its rows.

        Args:
            output_path: the file to write.

        Raises:
            RuntimeError: the profiler is not attached.
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
        """Print the result of :meth:`get_results` as a table, without events that have no handlers.

        Args:
            results: the result of :meth:`get_results`.

        Returns:
            The printed text.
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
    """Profiler of each handler of each event, of fetching data and of processing it.

    It works like :class:`BasicTimeProfiler`, but measures each call of each handler. Handlers of the same name at the
    same event are measured together.

    Args:
        keep: the number of latest calls of each handler for :meth:`write_results`. Statistics cover all calls.

    Raises:
        ValueError: ``keep`` is not an integer of 1 or more.
    """

    def _reset_handler_times(self) -> None:
        self._handlers: dict[tuple[str, str], Times] = {}

    def _times(self, key: str, handler: str) -> Times:
        if (key, handler) not in self._handlers:
            self._handlers[key, handler] = Times(self._keep)
        return self._handlers[key, handler]

    def _number(self, key: str, times: Times) -> int:
        return times.count + 1

    def get_results(self) -> list[list[Any]]:
        """Return the statistics of the last run, or of the current run so far, in seconds.

        Returns:
            ``[handler, event, total, (min, index), (max, index), mean, std]`` for each handler, then the same for
            ``Total``, ``Processing`` and ``Dataflow``. Missing numbers are ``"not triggered"`` or ``"None"``.
            ``Total`` does not count handlers inside of handlers twice.

        Raises:
            RuntimeError: the profiler is not attached.
        """
        self._check_attached()
        rows = [[handler, event_name(key), *as_list(times)] for (key, handler), times in self._handlers.items()]
        rows.append(["Total", "", self._in_handlers, "", "", "", ""])
        rows.append(["Processing", "None", *as_list(self._processing)])
        rows.append(["Dataflow", "None", *as_list(self._dataflow)])
        return rows

    def write_results(self, output_path: str | os.PathLike[str]) -> None:
        """Write a CSV file with the n-th duration of each column in the n-th row. Short columns end with empty cells.

        The columns are ``#``, ``processing_stats``, ``dataflow_stats``, and ``<handler> (<EVENT>)`` for each handler.

        Args:
            output_path: the file to write.

        Raises:
            RuntimeError: the profiler is not attached.
        """
        self._check_attached()
        columns = {"processing_stats": self._processing, "dataflow_stats": self._dataflow}
        columns |= {f"{handler} ({event_name(key)})": times for (key, handler), times in self._handlers.items()}
        numbers = sorted(set().union(*(times.latest for times in columns.values())))
        rows = [[number, *(times.latest.get(number, "") for times in columns.values())] for number in numbers]
        write_csv(output_path, ["#", *columns], rows)

    @staticmethod
    def print_results(results: list[list[Any]]) -> str:
        """Print the result of :meth:`get_results` as a table.

        Args:
            results: the result of :meth:`get_results`.

        Returns:
            The printed text.
        """
        *handlers, total, processing, dataflow = results
        rows = [[name, key, *map(cell, numbers)] for name, key, *numbers in handlers]
        spans = [[name, "", *map(cell, numbers)] for name, _, *numbers in (processing, dataflow)]
        return print_table(["Handler", "Event"], rows, spans, total[2])


# -- rows of passes ---------------------------------------------------------------------------------------------------


def _scopes(loop: Loop, path: tuple[str, ...]) -> dict[str, str | None]:
    """Return for each event the innermost loop of ``path`` whose passes fire it, or None for the whole run."""
    path_of = {item.name: set(above) for above, item in loop.walk() if isinstance(item, Loop)}
    of_the_run = {*OF_THE_RUN} | {key for custom in loop.custom_states if custom.within == RUN for key in custom.events}
    return {
        key: None if key in of_the_run else [name for name in path if name in path_of[counter]][-1]
        for key, counter in counter_loop_by_event(loop).items()
    }


def _count(state: State, loop: str | None) -> int:
    """Return the current count of a loop, or 0 for the whole run."""
    return getattr(state, loop.lower()) if loop is not None else 0
