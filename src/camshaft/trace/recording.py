"""Recording: write down every event of running engines at the moment it fires."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from threading import RLock, get_ident
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from camshaft._views import view
from camshaft.engine.engine import Engine
from camshaft.engine.handler import Handler
from camshaft.engine.observing import ObservedRun, observing
from camshaft.engine.run import RunHost
from camshaft.loop.counting import counter_loop_by_event
from camshaft.trace.log import END_UNKNOWN, HandlerTimer, RunRecord
from camshaft.trace.trace import Trace

__all__ = ["record"]

_LIMITS = ("max_epochs", "max_iters", "epoch_length")


EventWriter = Callable[[Any], None]
"""A function of an engine, called when an event fires; it writes the event down."""


def _with_site(write_event: EventWriter, trace: Trace, run: ObservedRun) -> EventWriter:
    """Return a writer that also writes down the line of code that fires the event."""

    def write_event_and_site(engine: RunHost) -> None:
        write_event(engine)
        trace.add_site(run.call_site(sys._getframe(1)))

    return write_event_and_site


class _Recorder:
    """The recorder of one thread: fills a trace with the events of the engines that run there."""

    def __init__(self, call_sites: bool, handler_times: bool, start: float) -> None:
        self.trace = Trace()
        self.call_sites = call_sites
        self.handler_times = handler_times
        self.start = start
        self.timers: WeakKeyDictionary[Handler, HandlerTimer] = WeakKeyDictionary()
        self.run_numbers: dict[ObservedRun, int] = {}  # of active and paused runs
        self.segments: dict[ObservedRun, list[int]] = {}  # of active runs

    def on_run_start(self, run: ObservedRun) -> Callable[[str], EventWriter]:
        """Begin to record a new or resumed run; return a function from an event's key to its writer."""
        trace, engine = self.trace, run.engine
        if run not in self.run_numbers:
            self._add_run(run)
        number = self.run_numbers[run]
        trace.runs[number].outcome = None
        self.segments[run] = [number, len(trace), END_UNKNOWN]
        trace.segments.append(self.segments[run])
        counter_loops = counter_loop_by_event(engine.loop)
        if self.handler_times:
            run.measure(partial(self._on_handler_call, engine.name))

        def make_writer(key: str) -> EventWriter:
            write_event = trace.event_writer(number, key, counter_loops[key].lower(), self.start)
            return _with_site(write_event, trace, run) if self.call_sites else write_event

        return make_writer

    def _add_run(self, run: ObservedRun) -> None:
        place, context = run.machine_position()
        outer = self.run_around(run)
        parent = None if outer is None else self.run_numbers[outer]
        self.trace.runs.append(RunRecord(run.engine.name, run.engine.loop, parent, place, context))
        self.run_numbers[run] = len(self.trace.runs) - 1

    def run_around(self, run: ObservedRun) -> ObservedRun | None:
        """Return the recorded run around a run, or None. The runs in between are not recorded."""
        outer: Any = run.parent.current_run if run.parent is not None else None
        while outer not in (None, run):
            if outer in self.run_numbers:
                return outer  # type: ignore[no-any-return]
            outer = outer.parent.current_run if outer.parent is not None else None
        return None

    def take_over(self, other: _Recorder) -> None:
        """Move everything that another recorder has recorded to the end of this one. No run is active in both."""
        number = len(self.trace.runs)
        self.trace.extend(other.trace)
        self.run_numbers |= {run: number + own for run, own in other.run_numbers.items()}
        for handler, timer in other.timers.items():
            self.timers.setdefault(handler, timer)

    def _on_handler_call(self, engine: str, event: str, handler: Handler) -> Callable[[float], None]:
        """Return a function that takes the duration of a handler's call when the call ends."""
        timer = self.timers.get(handler)
        if timer is None:
            self.timers[handler] = timer = HandlerTimer(engine, event, handler.name)
            self.trace.timers.append(timer)
        return timer.add

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Write down how a run ended or paused."""
        record = self.trace.runs[self.run_numbers[run]]
        # The loop and the limits may have changed during the run: registration adds states, data tell their length.
        record.loop, record.outcome = run.engine.loop, outcome
        state = run.engine.state
        record.limits = {name: getattr(state, name) for name in _LIMITS}
        # an expected length is no limit; engines of other libraries do not have it
        record.limits["epoch_length"] = getattr(state, "known_length", state.epoch_length)
        self.segments.pop(run)[2] = len(self.trace)
        if outcome not in ("interrupted", "paused"):
            del self.run_numbers[run]


class _Recording:
    """An observer of running engines that fills a trace.

    Engines may run in several threads at once. Their events are not mixed: each thread has a recorder of its own. When
    its runs are over, and no run is active in the thread of the block, they are added to the trace as a whole.
    """

    def __init__(self, engines: tuple[Any, ...], call_sites: bool, handler_times: bool) -> None:
        self.engines = engines
        self._new = partial(_Recorder, call_sites, handler_times, perf_counter())
        self._thread = get_ident()
        self._recorders: dict[int, _Recorder] = {self._thread: self._new()}
        self._lock = RLock()

    @property
    def trace(self) -> Trace:
        """The trace: that of the thread of the block."""
        return self._recorders[self._thread].trace

    def on_run_start(self, run: ObservedRun) -> Callable[[str], EventWriter] | None:
        """Begin to record a new or resumed run; return a function from an event's key to its writer."""
        if self.engines and not any(run.engine is wanted for wanted in self.engines):
            return None
        with self._lock:
            return self._recorder_of(run).on_run_start(run)

    def _recorder_of(self, run: ObservedRun) -> _Recorder:
        """Return the recorder that knows a run or one around it; by default that of this thread."""
        for recorder in self._recorders.values():
            if run in recorder.run_numbers or recorder.run_around(run) is not None:
                return recorder
        return self._recorders.setdefault(get_ident(), self._new())

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Write down how a run ended or paused."""
        with self._lock:
            self._recorder_of(run).on_run_end(run, outcome)
            own = self._recorders[self._thread]
            if own.segments:
                return
            for thread, recorder in list(self._recorders.items()):
                if recorder is not own and not recorder.segments:
                    own.take_over(self._recorders.pop(thread))


@contextmanager
def record(*engines: Any, call_sites: bool = False, handler_times: bool = False) -> Iterator[Trace]:
    """Record every engine that runs inside the ``with`` block, nested runs as children.

    Engines in threads that are started inside the block are recorded too. If the main thread opens the block, so are
    engines in threads that were started before, such as those of a pool, unless these are inside a block of their own
    or of another thread. In asyncio, a block is around the tasks and the calls of ``asyncio.to_thread`` that begin
    inside of it. A trace has the events of one thread after those of another, and not mixed: what ran in another thread
    is added when its run is over, and no engine runs in the thread of the block.

    Args:
        engines: record only these: engines, reporters of other loops (:class:`camshaft.testing.Reporter`), engines of
            pytorch-ignite. If none is given, all engines and reporters are recorded.
        call_sites: also record the line of code that fired each event. This is slow.
        handler_times: measure every call of a handler, for :attr:`Trace.handler_times`. Reporters and engines of other
            libraries call their handlers themselves, so their handlers are not measured.

    Yields:
        The trace; it grows while engines run.

    Raises:
        TypeError: one of ``engines`` cannot be recorded.

    >>> from camshaft import Engine
    >>> with record() as trace:
    ...     state = Engine(lambda engine, batch: None).run([1], max_epochs=1)
    >>> trace.assert_legal()
    >>> len(trace)
    8
    """
    with ExitStack() as stack:
        observed = tuple(stack.enter_context(_observable(engine)) for engine in engines)
        recording = _Recording(observed, call_sites, handler_times)
        with observing(recording):
            yield recording.trace


def _observable(engine: Any) -> AbstractContextManager[Any]:
    """Return the object to record for ``engine``: the engine itself, or a reporter for another library's engine."""
    if isinstance(engine, Engine):
        return nullcontext(engine)
    reporter: AbstractContextManager[Any] = view("reporter_of")(engine)
    return reporter
