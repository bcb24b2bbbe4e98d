"""Recording: writes down every event of the engines that run, as it fires."""

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
"""Writes one event of one run down when it fires; called with its engine."""


def _with_site(mark: EventWriter, trace: Trace, run: ObservedRun) -> EventWriter:
    """Writes down the line of code that fires an event, too."""

    def mark_site(engine: RunHost) -> None:
        mark(engine)
        trace.add_site(run.call_site(sys._getframe(1)))

    return mark_site


class _Recorder:
    """Records the engines that run while it observes."""

    def __init__(self, engines: tuple[Any, ...], call_sites: bool, handler_times: bool) -> None:
        self.trace = Trace()
        self.engines = engines
        self.call_sites = call_sites
        self.handler_times = handler_times
        self.timers: WeakKeyDictionary[Handler, HandlerTimer] = WeakKeyDictionary()
        self.open: dict[ObservedRun, int] = {}
        self.segments: dict[ObservedRun, list[int]] = {}
        self.start = perf_counter()

    def on_run_start(self, run: ObservedRun) -> Callable[[str], EventWriter] | None:
        """A run begins or goes on."""
        trace, engine = self.trace, run.engine
        if self.engines and not any(engine is wanted for wanted in self.engines):
            return None
        if run not in self.open:
            place, context = run.machine_position()
            outer = run.parent.current_run if run.parent is not None else None
            while outer not in (None, run) and outer not in self.open:  # an engine in between is not recorded
                outer = outer.parent.current_run if outer.parent is not None else None
            trace.runs.append(
                RunRecord(engine.name, engine.loop, self.open.get(outer) if outer else None, place, context)
            )
            self.open[run] = len(trace.runs) - 1
        number = self.open[run]
        trace.runs[number].outcome = None
        self.segments[run] = [number, len(trace), END_UNKNOWN]
        trace.segments.append(self.segments[run])
        counted = counter_loop_by_event(engine.loop)
        if self.handler_times:
            run.measure(partial(self._start, engine.name))

        def make(key: str) -> EventWriter:
            mark = trace.event_writer(number, key, counted[key].lower(), self.start)
            return _with_site(mark, trace, run) if self.call_sites else mark

        return make

    def _start(self, engine: str, event: str, handler: Handler) -> Callable[[float], None]:
        """A call of a handler begins; returns what takes the seconds that it took."""
        timer = self.timers.get(handler)
        if timer is None:
            self.timers[handler] = timer = HandlerTimer(engine, event, handler.name)
            self.trace.timers.append(timer)
        return timer.add

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """It ended or paused."""
        record = self.trace.runs[self.open[run]]
        record.loop, record.outcome = run.engine.loop, outcome
        record.limits = {name: getattr(run.engine.state, name) for name in _LIMITS}
        self.segments.pop(run)[2] = len(self.trace)
        if outcome not in ("interrupted", "paused"):
            del self.open[run]


@contextmanager
def record(*engines: Any, call_sites: bool = False, handler_times: bool = False) -> Iterator[Trace]:
    """Record every engine that runs inside the ``with`` block, nested runs as children.

    Args:
        engines: record only these: engines, reporters of other loops (:class:`camshaft.testing.Reporter`), engines of
            pytorch-ignite. All engines and reporters when none is named.
        call_sites: note for each event the line of code that fired it. This is slow.
        handler_times: measure every call of a handler, for :attr:`Trace.handler_times`. Reporters and other
            libraries call their handlers themselves, unmeasured.

    >>> from camshaft import Engine
    >>> with record() as trace:
    ...     state = Engine(lambda engine, batch: None).run([1], max_epochs=1)
    >>> trace.assert_legal()
    >>> len(trace)
    8
    """
    with ExitStack() as stack:
        reporting = tuple(stack.enter_context(_reports(engine)) for engine in engines)
        recorder = _Recorder(reporting, call_sites, handler_times)
        observers.set((*observers.get(), recorder))
        try:
            yield recorder.trace
        finally:  # not what was there before: recordings may end in any order
            observers.set(tuple(other for other in observers.get() if other is not recorder))


def _reports(engine: Any) -> AbstractContextManager[Any]:
    """What is watched in the place of ``engine``: itself, unless it is another library's."""
    if isinstance(engine, Engine):
        return nullcontext(engine)
    reporter: AbstractContextManager[Any] = view("reporter_of")(engine)
    return reporter
