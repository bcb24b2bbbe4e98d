"""Recording: write down every event of running engines at the moment it fires."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from camshaft._views import view
from camshaft.engine.engine import Engine
from camshaft.engine.handler import Handler
from camshaft.engine.observing import ObservedRun, observers
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
    """An observer of running engines that fills a trace."""

    def __init__(self, engines: tuple[Any, ...], call_sites: bool, handler_times: bool) -> None:
        self.trace = Trace()
        self.engines = engines
        self.call_sites = call_sites
        self.handler_times = handler_times
        self.timers: WeakKeyDictionary[Handler, HandlerTimer] = WeakKeyDictionary()
        self.run_numbers: dict[ObservedRun, int] = {}  # of active and paused runs
        self.segments: dict[ObservedRun, list[int]] = {}
        self.start = perf_counter()

    def on_run_start(self, run: ObservedRun) -> Callable[[str], EventWriter] | None:
        """Begin to record a new or resumed run; return a function from an event's key to its writer."""
        trace, engine = self.trace, run.engine
        if self.engines and not any(engine is wanted for wanted in self.engines):
            return None
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
        outer = run.parent.current_run if run.parent is not None else None
        # An engine in between may not be recorded: then the run belongs to the next recorded run outwards.
        while outer not in (None, run) and outer not in self.run_numbers:
            outer = outer.parent.current_run if outer.parent is not None else None
        parent = self.run_numbers.get(outer) if outer else None
        self.trace.runs.append(RunRecord(run.engine.name, run.engine.loop, parent, place, context))
        self.run_numbers[run] = len(self.trace.runs) - 1

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


@contextmanager
def record(*engines: Any, call_sites: bool = False, handler_times: bool = False) -> Iterator[Trace]:
    """Record every engine that runs inside the ``with`` block, nested runs as children.

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
        recorder = _Recorder(observed, call_sites, handler_times)
        observers.set((*observers.get(), recorder))
        try:
            yield recorder.trace
        finally:
            # Take away this recorder only. Restoring the earlier value would be wrong: recordings may overlap.
            observers.set(tuple(other for other in observers.get() if other is not recorder))


def _observable(engine: Any) -> AbstractContextManager[Any]:
    """Return the object to record for ``engine``: the engine itself, or a reporter for another library's engine."""
    if isinstance(engine, Engine):
        return nullcontext(engine)
    reporter: AbstractContextManager[Any] = view("reporter_of")(engine)
    return reporter
