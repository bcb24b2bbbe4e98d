"""One run: drives the generated loop from STARTED to its end, and does what control calls ask for on the way.

The loop yields each event that somebody hears; the run calls the handlers. Between two events it throws a pending
control call into the loop, or pauses.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from itertools import chain
from threading import RLock
from types import FrameType, GeneratorType
from typing import Any, Protocol

from camshaft.compiler.program import Line, Program
from camshaft.control import Control, Interrupt, NewData, SkipIteration, Terminate, TerminateEpoch
from camshaft.engine.data_fetcher import DataFetcher, OpenData
from camshaft.engine.dispatch import EngineEvent, EventDispatcher
from camshaft.engine.handler import Stopwatch
from camshaft.engine.location import LAST_LINE, EngineLocation, LoopLocation, machine_position
from camshaft.engine.observing import Observer, code_site, observers
from camshaft.engine.state import State
from camshaft.engine.strict import StrictObserver
from camshaft.events import ENDS_A_RUN, Events
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine

__all__ = ["RunHost", "Run", "executing"]

RUNNING, PAUSED, FAILED, DROPPED = "running", "paused", "failed", "dropped"


PENDING_CALL = EngineEvent("", None)
"""What the loop yields where no event is, so that a control call can take effect there."""


def _no_driver() -> None:
    """What drives a run that was not started."""


class Run:
    """A run of an engine that has begun and is not over.

    Args:
        engine: whose handlers are called.
        generator: the generated loop, not started.
        feed: where its batches come from.
    """

    def __init__(
        self, engine: RunHost, generator: GeneratorType[EngineEvent, None, None], fetcher: DataFetcher
    ) -> None:
        self.engine = engine
        self.fetcher = fetcher
        self.status = PAUSED
        self.outcome = "completed"
        self.finished = True
        self.control: Control | None = None
        self.parent: RunHost | None = None
        self.paused_children: dict[Run, None] = {}  # nested runs that paused, to be dropped with this one
        self._parent_run: Run | None = None
        self._generator = generator
        self._location = LoopLocation(generator, engine._program, engine._namespace)
        self._driver: Callable[[], Any] = _no_driver
        self._request_lock = RLock()  # other threads may ask, and a signal handler in the middle of asking
        self._deferred_event: EngineEvent | None = None
        self._last_dispatched: EngineEvent | None = None
        self._failed_at: Line | None = None
        self._stepping = False
        self._strict: StrictObserver | None = None
        self._watching: tuple[Observer, ...] = ()
        self._stopwatches: tuple[Stopwatch, ...] = ()

    # -- where it stands ---------------------------------------------------------------------------------------------

    def line(self) -> Line | None:
        """The line on which the loop stands; None before its first event and after its last."""
        return self._failed_at if self._failed_at is not None else self._location.line()

    def call_site(self, frame: FrameType | None) -> str:
        """The line of code that fires the present event, seen from the frame of an observer."""
        while frame is not None and frame.f_code is not Run._events.__code__:
            if frame.f_code.co_name == "fire_event" and frame.f_locals.get("self") is self.engine:
                return code_site(frame.f_back)
            frame = frame.f_back
        return self._location.source_line()

    def machine_position(self) -> tuple[str, Context]:
        """The place in the machine where the run stands, and the context to judge it from there."""
        deferred = (
            None if self._deferred_event is None or self._deferred_event is PENDING_CALL else self._deferred_event.key
        )
        waits = self._deferred_event is not None
        return machine_position(self.engine, self.line(), self.fetcher, deferred, waits)

    # -- control -----------------------------------------------------------------------------------------------------

    def request(self, control: Control) -> None:
        """Leave a control call to take effect when the present event, phase or step is over."""
        line = self.line()
        if self.status == PAUSED and isinstance(control, NewData):
            self.fetcher.replace(control.data)
        if self.status != RUNNING or (line is not None and line.event in ENDS_A_RUN):
            return
        with self._request_lock:
            if self.control is None or control.rank > self.control.rank:
                self.control = control
            self.engine._namespace["PENDING_CALL"] = PENDING_CALL
            self.engine._dispatcher.yield_all_events(True)

    def _apply_control(self, event: EngineEvent, fired: bool) -> EngineEvent | None:
        """Do what was asked for, after an event has been dispatched (``fired=True``) or before it is.

        Returns:
            The event that comes next, where it is at hand already.
        """
        control, key = self.control, event.key
        next_event = None if fired else event
        data_loop = self.engine.loop.data_loop
        if isinstance(control, SkipIteration) and not (fired and data_loop is not None and key == data_loop.started):
            return next_event  # the iteration is entered first
        if not fired and key == "started":
            return next_event
        with self._request_lock:
            control, self.control = self.control, None
            self.engine._namespace["PENDING_CALL"] = False
        if isinstance(control, NewData):
            self.fetcher.replace(control.data)  # all events are still yielded, so that the next fetch notices it
        elif isinstance(control, Interrupt):
            return self._interrupt(event, fired)
        elif isinstance(control, (Terminate, TerminateEpoch, SkipIteration)) and not self._is_over(control, key):
            self._update_yields_all()
            return self._throw(control)
        return next_event

    def _is_over(self, control: Control, key: str) -> bool:
        """Whether what the control call would end has ended by itself."""
        if isinstance(control, TerminateEpoch) and key in (
            self.engine.loop.completed,
            Events.TERMINATE_SINGLE_EPOCH.value,
        ):
            return True
        return key in ENDS_A_RUN

    def _throw(self, control: Control) -> EngineEvent | None:
        if isinstance(control, Terminate):
            self.finished = False
            self.outcome = "terminated" if control.skip_completed else "completed"
        try:
            return self._generator.throw(control)
        except StopIteration:
            return None

    def _interrupt(self, event: EngineEvent, fired: bool) -> EngineEvent | None:
        """Pause, unless a handler of INTERRUPT asks to end the run or the epoch."""
        self.engine._location.dispatch(self.engine, self.engine._dispatcher.event("interrupt"))
        if isinstance(self.control, (Terminate, TerminateEpoch)):
            return self._apply_control(event, fired)
        if isinstance(self.control, NewData):
            self.fetcher.replace(self.control.data)
        self.control = None
        self.engine._namespace["PENDING_CALL"] = False
        self._deferred_event = None if fired else event
        self.status = PAUSED
        return None

    def _update_yields_all(self) -> None:
        """Have every event yielded only while something needs it."""
        with self._request_lock:
            needed = self.control is not None or self.fetcher.must_refetch or self._stepping
            if needed != self.engine._dispatcher.yields_all:
                self.engine._dispatcher.yield_all_events(needed)

    # -- driving -----------------------------------------------------------------------------------------------------

    def go(self, stepping: bool) -> Iterator[str]:
        """Drive the loop on, to its end or to a pause.

        When ``stepping``, hand out the key of each event after its handlers; leaving there pauses the run.

        Raises:
            BaseException: what left the loop or a handler, unless a handler of EXCEPTION_RAISED took it.
        """
        driver = self._drive(stepping)
        self._driver = weakref.ref(driver)  # whoever steps holds it, and leaves by letting go
        return driver

    def _drive(self, stepping: bool) -> Generator[str, None, None]:
        outcome, handed_out = "paused", False
        try:
            self._stepping, self.status = stepping, RUNNING
            self._enter()
            self._watch()
            self._update_yields_all()
            for event in self._events():
                if stepping:
                    self._unwatch("paused")
                    self._leave()
                    handed_out = True
                    yield event
                    handed_out = False
                    self._enter()
                    self._watch()
            outcome = "interrupted" if self.status == PAUSED else self.outcome
            if self.status == RUNNING:
                self._close()
                if self._strict is not None:
                    self._strict.checker.finish()
        except BaseException as error:
            if handed_out:  # whoever stepped has left
                self._enter()
                if self._has_ended():
                    outcome = self.outcome
                    self._watch()  # so that observers hear how it ended
                    self._close()
                else:
                    self.status = PAUSED
                raise
            outcome = "failed"
            if not self._fail(error):
                raise
        finally:
            self._leave()
            self._release(outcome)

    def _events(self) -> Iterator[str]:
        """Call the handlers of each event that the loop yields; yields events only when stepping."""
        engine, stepping, dispatcher = self.engine, self._stepping, self.engine._dispatcher
        next_event, self._deferred_event = self._deferred_event, None
        if next_event is None and self.control is not None and self._last_dispatched is not None:
            next_event = self._apply_control(self._last_dispatched, fired=True)
        while self.status == RUNNING:
            for event in self._generator if next_event is None else chain((next_event,), self._generator):
                if self.control is not None:
                    next_event = self._apply_control(event, fired=False)
                    if next_event is not event:
                        break
                for handler in event.handlers:
                    call = handler.call  # handler.call(engine) would look it up as a method, which takes longer
                    call(engine)
                if stepping and event is not PENDING_CALL:
                    self._last_dispatched = event
                    yield event.key
                if self.control is not None:
                    next_event = self._apply_control(event, fired=True)
                    if next_event is not None or self.status != RUNNING:
                        break
                elif dispatcher.yields_all:
                    self._update_yields_all()
            else:
                return
        if stepping:
            yield "interrupt"

    def _has_ended(self) -> bool:
        """Whether the last event of the run has fired."""
        last = self._last_dispatched.key if self._last_dispatched is not None else None
        return last == "completed" or (last == "terminate" and self.outcome == "terminated")

    def _fail(self, error: BaseException) -> bool:
        """Enter FAILED: note where, tell the handlers, close what is open. Returns whether one took the error."""
        engine = self.engine
        self._failed_at = self._location.line_of(error) or self.line() or LAST_LINE
        self.status, self.control = FAILED, None
        error.add_note(f"in {engine.name}: {engine._location.place_of_error(engine, error)}")
        engine._program.write_out()
        answers = []
        try:
            answers = engine._location.dispatch(engine, engine._dispatcher.event("exception_raised"), error)
        except BaseException as second:
            second.add_note(f"in {engine.name}: {engine._location.place_of_error(engine, error)}, at EXCEPTION_RAISED")
            raise
        finally:
            try:
                self._close()
            except BaseException as second:
                error.add_note(f"in {engine.name}: closing the data failed too: {second!r}")
        return isinstance(error, Exception) and any(answer is True for answer in answers)

    def _close(self) -> None:
        """Close what the run opened, all of it, and raise the first error of doing so."""
        errors, closing = [], [self._generator.close, self.fetcher.close]
        if self.paused_children:
            closing[1:1] = [child.discard for child in self.paused_children]
            self.paused_children = {}
        for close in closing:
            try:
                close()
            except BaseException as error:
                errors.append(error)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"in {self.engine.name}: closing failed in another place too: {other!r}")
            raise errors[0]

    @property
    def is_executing(self) -> bool:
        """Whether a transition of it executes right now; not while it waits for the next step."""
        driver = self._driver()
        return driver is not None and bool(driver.gi_running)

    def suspend(self) -> bool:
        """Leave it where it stands, whoever was stepping it. Returns whether it can go on from there."""
        driver = self._driver()
        if driver is not None:
            driver.close()
        return self.status == PAUSED and self.line() is not None

    def discard(self) -> None:
        """End it without firing anything."""
        if self.engine.current_run is not self or self.is_executing:
            return
        self.suspend()
        if self.engine.current_run is self:
            self.status, self.engine.current_run = DROPPED, None
            self._close()

    # -- what is around it -------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self._parent_run is not None:
            self._parent_run.paused_children.pop(self, None)
            self._parent_run = None
        self.parent = executing.get()
        executing.set(self.engine)

    def _leave(self) -> None:
        executing.set(self.parent)
        if self.status == PAUSED and self.parent is not None and self.parent.current_run is not None:
            self._parent_run = self.parent.current_run
            self._parent_run.paused_children[self] = None
        self.parent = None

    def _watch(self) -> None:
        watching = observers.get()
        if not watching and not self.engine.strict:
            return
        if self.engine.strict:
            if self._strict is None:
                place, context = self.machine_position()
                self._strict = StrictObserver(OrderChecker(self.engine.machine, self.engine.name, context, place))
            watching += (self._strict,)
        makers = []
        for observer in watching:
            maker = observer.on_run_start(self)
            if maker is not None:
                makers.append(maker)
                self._watching += (observer,)
        if makers:
            self.engine._dispatcher.observe(self.engine.loop.event_keys, makers)

    def measure(self, stopwatch: Stopwatch) -> None:
        """Have every call of a handler measured, until the observer that asks for it is released."""
        self._stopwatches += (stopwatch,)
        self.engine._dispatcher.measure(self.engine.loop.event_keys, self._stopwatches)

    def _unwatch(self, outcome: str) -> None:
        watching, self._watching = self._watching, ()
        if watching:
            self.engine._dispatcher.observe(self.engine.loop.event_keys, ())
        if self._stopwatches:
            self._stopwatches = ()
            self.engine._dispatcher.measure(self.engine.loop.event_keys, ())
        for observer in watching:
            observer.on_run_end(self, outcome)

    def _release(self, outcome: str) -> None:
        engine = self.engine
        if self.status != PAUSED:
            engine._on_run_ended(outcome, self.finished and outcome != "failed" and not self.fetcher.cannot_restart)
        if engine._dispatcher.yields_all:
            engine._dispatcher.yield_all_events(False)
        self._unwatch(outcome)


class RunHost(Protocol):
    """What a run needs of its engine. Members with an underscore are for this package only."""

    name: str
    state: State
    strict: bool
    _dispatcher: EventDispatcher
    _location: EngineLocation
    _program: Program
    _namespace: dict[str, Any]
    current_run: Run | None
    _run_number: int
    open_data: OpenData

    @property
    def loop(self) -> Loop:
        """The declaration."""

    @property
    def machine(self) -> LoopMachine:
        """The loop as a machine."""

    @property
    def where(self) -> Path:
        """The states in which it stands, outermost first."""

    def _on_run_ended(self, outcome: str, finished: bool) -> None:
        """Take note that the run is over."""


executing: ContextVar[RunHost | None] = ContextVar("camshaft_executing", default=None)
"""The engine of which a transition executes right now, in this thread."""
