"""One run: drives the generated loop from STARTED to its end, and applies control calls on the way.

The loop yields each event that has handlers, and the run calls these. Between two events the run throws a pending
control call into the loop, or pauses.

While a control call is pending, or somebody steps through the run, the loop yields every event, with or without
handlers. So the call takes effect at the very next event. Otherwise an event without handlers costs nothing here.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from itertools import chain
from threading import RLock
from types import FrameType, GeneratorType
from typing import Any, Protocol

from camshaft._tensors import without_graph
from camshaft.compiler.program import Line, Program
from camshaft.control import Control, Interrupt, NewData, SkipIteration, Terminate, TerminateEpoch
from camshaft.engine.data import check_data
from camshaft.engine.data_fetcher import DataFetcher, OpenData
from camshaft.engine.dispatch import EngineEvent, EventDispatcher
from camshaft.engine.handler import Handler, Stopwatch
from camshaft.engine.location import LAST_LINE, EngineLocation, LoopLocation, machine_position
from camshaft.engine.observing import Observer, active_observers, code_site
from camshaft.engine.resumable import Resumable
from camshaft.engine.run_log import RunLog, is_logged
from camshaft.engine.state import State
from camshaft.engine.strict import StrictObserver
from camshaft.events import ENDS_A_RUN, Events
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context
from camshaft.machine.transition_table import TransitionTable

__all__ = ["RunHost", "Run", "executing"]

RUNNING, PAUSED, FAILED, DROPPED = "running", "paused", "failed", "dropped"


PENDING_CALL = EngineEvent("", None)
"""The loop yields this at places without an event, so that a control call can take effect there.

User code may run there between two events: conditions, elements of a loop, and data as it ends.
"""


def _no_driver() -> None:
    """Stand in for the weak reference to the driver of a run that has not started."""


class Run:
    """A run of an engine, from its start to its end. It may pause and continue in between.

    Args:
        engine: the engine whose loop it executes.
        generator: the generated loop, not started.
        fetcher: the source of its batches.

    Attributes:
        engine, fetcher: see above.
        status: ``"running"``, ``"paused"``, ``"failed"`` or ``"dropped"``.
        outcome: ``"completed"`` or ``"terminated"``, the outcome if the loop ends now.
        finished: False if :meth:`~camshaft.Engine.terminate` has ended the run before its limits.
        control: the pending control call, or None.
        parent: the engine whose transition is executing this run; None outside of other engines, and during a pause.
        paused_children: nested runs that paused inside this one; they are discarded together with it.
    """

    def __init__(
        self, engine: RunHost, generator: GeneratorType[EngineEvent, None, None], fetcher: DataFetcher
    ) -> None:
        self.engine = engine
        self.fetcher = fetcher
        self._state = engine.state
        self.status = PAUSED
        self.outcome = "completed"
        self.finished = True
        self.control: Control | None = None
        self.parent: RunHost | None = None
        self.paused_children: dict[Run, None] = {}
        self._parent_run: Run | None = None
        self._generator = generator
        self._location = LoopLocation(generator, engine._program, engine._namespace)
        self._driver: Callable[[], Any] = _no_driver
        # reentrant, because a signal handler may make a control call in the middle of another one
        self._request_lock = RLock()
        self._deferred_event: EngineEvent | None = None  # yielded before a pause, to be dispatched after it
        self._last_dispatched: EngineEvent | None = None  # only while stepping
        self._reads_to_end = False  # whether new data waits for the end of the present data
        self._failed_at: Line | None = None
        self._stepping = False
        self._strict: StrictObserver | None = None
        self._log: RunLog | None = None
        self._watching: tuple[Observer | RunLog, ...] = ()
        self._stopwatches: tuple[Stopwatch, ...] = ()

    # -- location ----------------------------------------------------------------------------------------------------

    def line(self) -> Line | None:
        """Return the line on which the loop stands; None before its first event and after its last."""
        return self._failed_at if self._failed_at is not None else self._location.line()

    def call_site(self, frame: FrameType | None) -> str:
        """Return the line of code that fires the present event, given the frame of an observer."""
        while frame is not None and frame.f_code is not Run._events.__code__:
            if frame.f_code.co_name == "fire_event" and frame.f_locals.get("self") is self.engine:
                return code_site(frame.f_back)
            frame = frame.f_back
        return self._location.source_line()

    def machine_position(self) -> tuple[str, Context]:
        """Return the run's place in the machine, and the context for judging its next events."""
        event = self._deferred_event
        deferred = None if event is None or event is PENDING_CALL else event.key
        return machine_position(self.engine, self.line(), self.fetcher, deferred, waits=event is not None)

    # -- control -----------------------------------------------------------------------------------------------------

    def request(self, control: Control) -> bool:
        """Record a control call. It takes effect when the handlers of the event, or the phase, have finished.

        Of several calls, the one with the highest rank is kept. Any thread and any signal handler may call this.

        Returns:
            Whether this call is the one that is kept.
        """
        line = self.line()
        with self._request_lock:
            if self.status != RUNNING or (line is not None and line.event in ENDS_A_RUN):
                return False  # there is nothing left to control
            if self.control is None or control.rank > self.control.rank:
                self.control = control
            self.engine._namespace["PENDING_CALL"] = PENDING_CALL
            self.engine._dispatcher.yield_all_events(True)
            return self.control is control

    def withdraw(self, kind: type[Control]) -> None:
        """Take a pending control call back, if it is of this kind."""
        with self._request_lock:
            if isinstance(self.control, kind):
                self.control = None
                self.engine._namespace["PENDING_CALL"] = False

    def set_data(self, data: Any) -> None:
        """Fetch the next batch from other data: see :meth:`camshaft.Engine.set_data`."""
        check_data(data)
        if not self.fetcher.has_data:
            raise RuntimeError(f"{self.engine.name} has no run that takes data: give the data to run()")
        self._reads_to_end = False
        self._state.keep_data(data)
        self.request(NewData())  # a paused run takes the data when it continues

    def assign_data(self, data: Any) -> None:
        """Fetch the next batch from other data. In an epoch of unknown length, the present data is read to its end."""
        if self._state.epoch_length is None and self.fetcher.has_data:
            check_data(data)
            self._state.keep_data(data)
            self._reads_to_end = True
        else:
            self.set_data(data)

    def limits_changed(self) -> None:
        """Apply changed limits before the next batch is fetched."""
        self.fetcher.limits_changed()
        with self._request_lock:
            if self.status == RUNNING:
                self.engine._dispatcher.yield_all_events(True)  # so that the next fetch notices it

    def _apply_control(self, event: EngineEvent, fired: bool) -> EngineEvent | None:
        """Apply the pending control call, after an event has been dispatched (``fired=True``) or before it is.

        Args:
            event: the event that the loop has yielded last.
            fired: whether its handlers have run.

        Returns:
            The next event to dispatch, if the loop has yielded it already: ``event`` itself, or the first event after
            an exception was thrown into the loop. None if the loop must be resumed for it, or if the run has paused or
            ended.
        """
        __tracebackhide__ = True
        control, key = self.control, event.key
        next_event = None if fired else event
        data_loop = self.engine.loop.data_loop
        if isinstance(control, SkipIteration) and not (fired and data_loop is not None and key == data_loop.started):
            return next_event  # the loop catches it inside the iteration, which must be entered first
        if not fired and key == "started":
            return next_event  # the loop catches nothing before STARTED
        # A thread may have made a call of a higher rank since ``control`` was read: take the one that is there now.
        with self._request_lock:
            control, self.control = self.control, None
            self.engine._namespace["PENDING_CALL"] = False
        if self._state.has_new_data and not self._reads_to_end:
            self.fetcher.take_new_data()  # all events are still yielded, so that the next fetch notices it
        if isinstance(control, Interrupt):
            return self._interrupt(event, fired)
        if isinstance(control, (Terminate, TerminateEpoch, SkipIteration)) and not self._is_over(control, key):
            self._update_yields_all()
            return self._throw(control)
        return next_event

    def _is_over(self, control: Control, key: str) -> bool:
        """Return whether the run or epoch that the control call would end is already over."""
        if isinstance(control, TerminateEpoch) and key in (
            self.engine.loop.completed,
            Events.TERMINATE_SINGLE_EPOCH.value,
        ):
            return True
        return key in ENDS_A_RUN

    def _throw(self, control: Control) -> EngineEvent | None:
        """Throw a control call into the loop. Returns the next event; None if the loop has ended."""
        __tracebackhide__ = True
        self._let_graph_go()
        if isinstance(control, Terminate):
            self.finished = False
            self.outcome = "terminated" if control.skip_completed else "completed"
        try:
            return self._generator.throw(control)
        except StopIteration:
            return None
        finally:
            # Its frames lead back to this one, which has the control: only the garbage collector would free the engine.
            control.__traceback__ = None

    def _interrupt(self, event: EngineEvent, fired: bool) -> EngineEvent | None:
        """Fire INTERRUPT and pause, unless a handler of INTERRUPT ends the run or the epoch."""
        __tracebackhide__ = True
        self.engine._location.dispatch(self.engine, self.engine._dispatcher.event("interrupt"))
        with self._request_lock:
            if not isinstance(self.control, (Terminate, TerminateEpoch)):
                self.control = None
                self.engine._namespace["PENDING_CALL"] = False
                self._deferred_event = None if fired else event
                self.status = PAUSED
                return None
        return self._apply_control(event, fired)

    def _update_yields_all(self) -> None:
        """Make the loop yield every event only as long as something needs it."""
        with self._request_lock:
            # a stale fetcher needs GET_BATCH_STARTED, where the loop leaves the ``for`` over the old batches
            needed = self.control is not None or self.fetcher.must_refetch or self._stepping
            if needed != self.engine._dispatcher.yields_all:
                self.engine._dispatcher.yield_all_events(needed)

    # -- driving -----------------------------------------------------------------------------------------------------

    def go(self, stepping: bool) -> Iterator[str]:
        """Drive the loop to its end or to a pause.

        Args:
            stepping: yield the key of each event after its handlers. Closing the iterator then pauses the run.

        Raises:
            BaseException: an exception of the loop or of a handler, unless a handler of EXCEPTION_RAISED returned True.
        """
        driver = self._drive(stepping)
        # A weak reference: the caller who steps holds the driver. Dropping it closes the driver, and so pauses the run.
        self._driver = weakref.ref(driver)
        return driver

    def _drive(self, stepping: bool) -> Generator[str, None, None]:
        __tracebackhide__ = True
        outcome, handed_out = "paused", False
        try:
            self._stepping, self.status = stepping, RUNNING
            self.engine._asked_to_terminate, self.engine.end_reason = False, None
            self._enter()
            if self._state.has_new_data and not self._reads_to_end:  # set during a pause
                self.fetcher.take_new_data()
            self._watch()
            self._update_yields_all()
            for event in self._events():
                if stepping:
                    # while the caller holds the event, the engine is not executing and may be looked at or recorded
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
            if handed_out:  # GeneratorExit: the caller has stopped stepping
                self._enter()
                if self._has_ended():
                    outcome = self.outcome
                    self._watch()  # so that observers learn how the run ended
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

    def _events(self) -> Iterator[str]:  # noqa: PLR0912  a function of its own for any of this would cost each event
        """Call the handlers of each event that the loop yields. Yields the keys of events only while stepping.

        The inner ``for`` is the hot path. It is left only when a control call is applied: ``next_event`` is then the
        event that the loop has yielded already, and the ``for`` starts again with it.
        """
        __tracebackhide__ = True
        engine, stepping, dispatcher = self.engine, self._stepping, self.engine._dispatcher
        handler: Handler | None = None
        next_event, self._deferred_event = self._deferred_event, None
        # a call made between two steps takes effect right after the event that was handed out
        if next_event is None and self.control is not None and self._last_dispatched is not None:
            next_event = self._apply_control(self._last_dispatched, fired=True)
        while self.status == RUNNING:
            for event in self._generator if next_event is None else chain((next_event,), self._generator):
                if self.control is not None:
                    next_event = self._apply_control(event, fired=False)
                    if next_event is not event:
                        break
                try:
                    for handler in event.handlers:
                        call = handler.call  # handler.call(engine) would be looked up as a method, which is slower
                        call(engine)
                except BaseException as error:
                    if handler in event.handlers:  # not an earlier one: a KeyboardInterrupt arrives anywhere
                        engine._location.keep_place(engine, error, handler)
                    raise
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
        """Return whether the last event of the run has fired."""
        last = self._last_dispatched.key if self._last_dispatched is not None else None
        return last == "completed" or (last == "terminate" and self.outcome == "terminated")

    def _fail(self, error: BaseException) -> bool:
        """Enter FAILED: record the place, fire EXCEPTION_RAISED, and close the loop and the data.

        Returns:
            True if a handler of EXCEPTION_RAISED returned True, so that the error is swallowed. Exceptions that are not
            an ``Exception``, such as KeyboardInterrupt, are never swallowed.
        """
        __tracebackhide__ = True
        engine = self.engine
        self._failed_at = self._location.line_of(error) or self.line() or LAST_LINE
        self.status, self.control = FAILED, None
        place, raised_in = engine._location.take_place(engine, error)
        error.add_note(f"in {engine.name}: {place}{raised_in}")
        engine.logger.info("run failed in %s%s: %r", place, raised_in, error)
        engine._program.write_out()  # so that the traceback shows the lines of the generated loop
        answers = []
        try:
            answers = engine._location.dispatch(engine, engine._dispatcher.event("exception_raised"), error)
        except BaseException as second:
            _, raised_in = engine._location.take_place(engine, second)
            second.add_note(f"in {engine.name}: {place}{raised_in or ', at EXCEPTION_RAISED'}")
            raise
        finally:
            self._let_graph_go()
            try:
                self._close()
            except BaseException as second:
                error.add_note(f"in {engine.name}: closing the data failed too: {second!r}")
        return isinstance(error, Exception) and any(answer is True for answer in answers)

    def _close(self) -> None:
        """Close the loop, nested runs that are paused, and the data. Raises the first error after all are closed."""
        self._state.connect(None)
        children, self.paused_children = self.paused_children, {}
        closing = [self._generator.close, *(child.discard for child in children), self.fetcher.close]
        errors = []
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
        """True while a transition executes; False during a pause and between two steps."""
        driver = self._driver()
        return driver is not None and bool(driver.gi_running)

    def suspend(self) -> bool:
        """Pause the run where it stands, if somebody was stepping through it. Returns whether it can be continued."""
        driver = self._driver()
        if driver is not None:
            driver.close()
        return self.status == PAUSED and self.line() is not None

    def discard(self) -> None:
        """End the run without firing events, and close its data. Does nothing while it executes."""
        if self.engine.current_run is not self or self.is_executing:
            return
        self.suspend()
        if self.engine.current_run is self:  # leaving the steps after the last event ends the run as usual
            self._let_graph_go()
            self.status, self.engine.current_run = DROPPED, None
            self._close()

    def _let_graph_go(self) -> None:
        """Drop the autograd graph that FORWARD has left in ``state.output``, if the iteration ends before BACKWARD."""
        line, data_loop = self.line(), self.engine.loop.data_loop
        if line is None or data_loop is None or data_loop.name not in line.path or line.event == data_loop.completed:
            return
        self.engine.state.output = without_graph(self.engine.state.output)

    # -- parents and observers -----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Become the executing run of this thread, inside the one that executes already."""
        if self._parent_run is not None:
            self._parent_run.paused_children.pop(self, None)
            self._parent_run = None
        self.parent = executing.get()
        executing.set(self.engine)

    def _leave(self) -> None:
        """Return control to the engine around this one. A paused run is then discarded together with its parent."""
        executing.set(self.parent)
        if self.status == PAUSED and self.parent is not None and self.parent.current_run is not None:
            self._parent_run = self.parent.current_run
            self._parent_run.paused_children[self] = None
        self.parent = None

    def _watch(self) -> None:
        """Connect the observers that are active now."""
        watching: tuple[Observer | RunLog, ...] = active_observers()
        if is_logged(self.engine):
            self._log = self._log or RunLog()
            watching += (self._log,)
        if not watching and not self.engine.strict:
            return
        if self.engine.strict:
            if self._strict is None:
                place, context = self.machine_position()
                self._strict = StrictObserver(OrderChecker(self.engine._transitions, self.engine.name, context, place))
            watching += (self._strict,)
        makers: list[Callable[[str], Callable[[Any], None] | None]] = []
        for observer in watching:
            maker = observer.on_run_start(self)
            if maker is not None:
                makers.append(maker)
                self._watching += (observer,)
        if makers:
            self.engine._dispatcher.observe(self.engine.loop.event_keys, makers)

    def measure(self, stopwatch: Stopwatch) -> None:
        """Time every call of a handler with ``stopwatch``, until the observers are disconnected."""
        self._stopwatches += (stopwatch,)
        self.engine._dispatcher.measure(self.engine.loop.event_keys, self._stopwatches)

    def _unwatch(self, outcome: str) -> None:
        """Disconnect the observers, and tell them how the run ended or paused."""
        watching, self._watching = self._watching, ()
        if watching:
            self.engine._dispatcher.observe(self.engine.loop.event_keys, ())
        if self._stopwatches:
            self._stopwatches = ()
            self.engine._dispatcher.measure(self.engine.loop.event_keys, ())
        for observer in watching:
            observer.on_run_end(self, outcome)

    def _release(self, outcome: str) -> None:
        """Detach the run from the engine if it has ended, and from its observers."""
        engine = self.engine
        if self.status != PAUSED:
            engine._on_run_ended(outcome, self.finished and outcome != "failed" and not self.fetcher.cannot_restart)
        if engine._dispatcher.yields_all:
            engine._dispatcher.yield_all_events(False)
        self._unwatch(outcome)


class RunHost(Protocol):
    """The part of an engine that a run uses. Members with an underscore are private to this package."""

    name: str
    state: State
    strict: bool
    logger: logging.Logger
    end_reason: str | None
    snapshot: Resumable | None
    _dispatcher: EventDispatcher
    _location: EngineLocation
    current_run: Run | None
    _asked_to_terminate: bool | str
    _run_number: int
    open_data: OpenData

    @property
    def loop(self) -> Loop:
        """The declaration of the loop."""

    @property
    def _transitions(self) -> TransitionTable:
        """The transitions of the loop, to check the order of events."""

    @property
    def where(self) -> Path:
        """The states that the engine is in, the outermost first."""

    @property
    def _program(self) -> Program:
        """The generated loop."""

    @property
    def _namespace(self) -> dict[str, Any]:
        """The globals of the generated loop."""

    def _on_run_ended(self, outcome: str, finished: bool) -> None:
        """Record that the run has ended."""

    def close(self) -> None:
        """Discard a paused or unfinished run, so that the next one starts from the beginning."""


executing: ContextVar[RunHost | None] = ContextVar("camshaft_executing", default=None)
"""The engine whose transition is executing right now in this thread; the innermost one if engines are nested."""
