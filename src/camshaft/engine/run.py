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
from camshaft.engine.data_fetcher import Feed, OpenData
from camshaft.engine.dispatch import Firing, Switchboard
from camshaft.engine.handler import Stopwatch
from camshaft.engine.location import LAST_LINE, LoopLocation, machine_position
from camshaft.engine.observing import Observer, code_site, observers
from camshaft.engine.state import State
from camshaft.engine.strict import _Strict
from camshaft.events import ENDS_A_RUN, Events
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine

__all__ = ["RunHost", "Run", "executing"]

RUNNING, PAUSED, FAILED, DROPPED = "running", "paused", "failed", "dropped"


PENDING = Firing("", None)
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

    def __init__(self, engine: RunHost, generator: GeneratorType[Firing, None, None], feed: Feed) -> None:
        self.engine = engine
        self.feed = feed
        self.status = PAUSED
        self.outcome = "completed"
        self.finished = True
        self.control: Control | None = None
        self.parent: RunHost | None = None
        self.children: dict[Run, None] = {}  # nested runs that paused, to be dropped with this one
        self._adopter: Run | None = None
        self._generator = generator
        self._location = LoopLocation(generator, engine.program, engine.namespace)
        self._driver: Callable[[], Any] = _no_driver
        self._asking = RLock()  # other threads may ask, and a signal handler in the middle of asking
        self._held: Firing | None = None
        self._fired: Firing | None = None
        self._failed_at: Line | None = None
        self._stepping = False
        self._strict: _Strict | None = None
        self._watching: tuple[Observer, ...] = ()
        self._stopwatches: tuple[Stopwatch, ...] = ()

    # -- where it stands ---------------------------------------------------------------------------------------------

    def line(self) -> Line | None:
        """The line on which the loop stands; None before its first event and after its last."""
        return self._failed_at if self._failed_at is not None else self._location.line()

    def site(self, frame: FrameType | None) -> str:
        """The line of code that fires the present event, seen from the frame of an observer."""
        while frame is not None and frame.f_code is not Run._events.__code__:
            if frame.f_code.co_name == "fire_event" and frame.f_locals.get("self") is self.engine:
                return code_site(frame.f_back)
            frame = frame.f_back
        return self._location.source_line()

    def cursor(self) -> tuple[str, Context]:
        """The place in the machine where the run stands, and the context to judge it from there."""
        held = None if self._held is None or self._held is PENDING else self._held.event
        waits = self._held is not None
        return machine_position(self.engine, self.line(), self.feed, held, waits)

    # -- control -----------------------------------------------------------------------------------------------------

    def ask(self, control: Control) -> None:
        """Leave a control call to take effect when the present firing, phase or step is over."""
        line = self.line()
        if self.status == PAUSED and isinstance(control, NewData):
            self.feed.replace(control.data)
        if self.status != RUNNING or (line is not None and line.event in ENDS_A_RUN):
            return
        with self._asking:
            if self.control is None or control.rank > self.control.rank:
                self.control = control
            self.engine.namespace["PENDING"] = PENDING
            self.engine.switchboard.attend(True)

    def _obey(self, firing: Firing, fired: bool) -> Firing | None:
        """Do what was asked for, at a firing that is over (``fired``) or about to come.

        Returns:
            The firing that comes next, where it is at hand already.
        """
        control, event = self.control, firing.event
        next_firing = None if fired else firing
        data_loop = self.engine.loop.data_loop
        if isinstance(control, SkipIteration) and not (fired and data_loop is not None and event == data_loop.started):
            return next_firing  # the iteration is entered first
        if not fired and event == "started":
            return next_firing
        with self._asking:
            control, self.control = self.control, None
            self.engine.namespace["PENDING"] = False
        if isinstance(control, NewData):
            self.feed.replace(control.data)  # the loop goes on yielding all events, to notice it before the next fetch
        elif isinstance(control, Interrupt):
            return self._interrupt(firing, fired)
        elif isinstance(control, (Terminate, TerminateEpoch, SkipIteration)) and not self._is_over(control, event):
            self._attend()
            return self._throw(control)
        return next_firing

    def _is_over(self, control: Control, event: str) -> bool:
        """Whether what the control call would end has ended by itself."""
        if isinstance(control, TerminateEpoch) and event in (
            self.engine.loop.completed,
            Events.TERMINATE_SINGLE_EPOCH.value,
        ):
            return True
        return event in ENDS_A_RUN

    def _throw(self, control: Control) -> Firing | None:
        if isinstance(control, Terminate):
            self.finished = False
            self.outcome = "terminated" if control.skip_completed else "completed"
        try:
            return self._generator.throw(control)
        except StopIteration:
            return None

    def _interrupt(self, firing: Firing, fired: bool) -> Firing | None:
        """Pause, unless a handler of INTERRUPT asks to end the run or the epoch."""
        self.engine.fire_aside(self.engine.switchboard.firing("interrupt"))
        if isinstance(self.control, (Terminate, TerminateEpoch)):
            return self._obey(firing, fired)
        if isinstance(self.control, NewData):
            self.feed.replace(self.control.data)
        self.control = None
        self.engine.namespace["PENDING"] = False
        self._held = None if fired else firing
        self.status = PAUSED
        return None

    def _attend(self) -> None:
        """Have every event yielded only while something needs it."""
        with self._asking:
            needed = self.control is not None or self.feed.stale or self._stepping
            if needed != self.engine.switchboard.attentive:
                self.engine.switchboard.attend(needed)

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
            self._attend()
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
        engine, stepping, switchboard = self.engine, self._stepping, self.engine.switchboard
        at_hand, self._held = self._held, None
        if at_hand is None and self.control is not None and self._fired is not None:
            at_hand = self._obey(self._fired, fired=True)
        while self.status == RUNNING:
            for firing in self._generator if at_hand is None else chain((at_hand,), self._generator):
                if self.control is not None:
                    at_hand = self._obey(firing, fired=False)
                    if at_hand is not firing:
                        break
                for handler in firing.handlers:
                    call = handler.call  # handler.call(engine) would look it up as a method, which takes longer
                    call(engine)
                if stepping and firing is not PENDING:
                    self._fired = firing
                    yield firing.event
                if self.control is not None:
                    at_hand = self._obey(firing, fired=True)
                    if at_hand is not None or self.status != RUNNING:
                        break
                elif switchboard.attentive:
                    self._attend()
            else:
                return
        if stepping:
            yield "interrupt"

    def _has_ended(self) -> bool:
        """Whether the last event of the run has fired."""
        last = self._fired.event if self._fired is not None else None
        return last == "completed" or (last == "terminate" and self.outcome == "terminated")

    def _fail(self, error: BaseException) -> bool:
        """Enter FAILED: note where, tell the handlers, close what is open. Returns whether one took the error."""
        engine = self.engine
        self._failed_at = self._location.line_of(error) or self.line() or LAST_LINE
        self.status, self.control = FAILED, None
        error.add_note(f"in {engine.name}: {engine.place_of(error)}")
        engine.program.write_out()
        answers = []
        try:
            answers = engine.fire_aside(engine.switchboard.firing("exception_raised"), error)
        except BaseException as second:
            second.add_note(f"in {engine.name}: {engine.place_of(error)}, at EXCEPTION_RAISED")
            raise
        finally:
            try:
                self._close()
            except BaseException as second:
                error.add_note(f"in {engine.name}: closing the data failed too: {second!r}")
        return isinstance(error, Exception) and any(answer is True for answer in answers)

    def _close(self) -> None:
        """Close what the run opened, all of it, and raise the first error of doing so."""
        errors, closing = [], [self._generator.close, self.feed.close]
        if self.children:
            closing[1:1] = [child.drop for child in self.children]
            self.children = {}
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

    def park(self) -> bool:
        """Leave it where it stands, whoever was stepping it. Returns whether it can go on from there."""
        driver = self._driver()
        if driver is not None:
            driver.close()
        return self.status == PAUSED and self.line() is not None

    def drop(self) -> None:
        """End it without firing anything."""
        if self.engine.active is not self or self.is_executing:
            return
        self.park()
        if self.engine.active is self:
            self.status, self.engine.active = DROPPED, None
            self._close()

    # -- what is around it -------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self._adopter is not None:
            self._adopter.children.pop(self, None)
            self._adopter = None
        self.parent = executing.get()
        executing.set(self.engine)

    def _leave(self) -> None:
        executing.set(self.parent)
        if self.status == PAUSED and self.parent is not None and self.parent.active is not None:
            self._adopter = self.parent.active
            self._adopter.children[self] = None
        self.parent = None

    def _watch(self) -> None:
        watching = observers.get()
        if not watching and not self.engine.strict:
            return
        if self.engine.strict:
            if self._strict is None:
                place, context = self.cursor()
                self._strict = _Strict(OrderChecker(self.engine.machine, self.engine.name, context, place))
            watching += (self._strict,)
        makers = []
        for observer in watching:
            maker = observer.watch(self)
            if maker is not None:
                makers.append(maker)
                self._watching += (observer,)
        if makers:
            self.engine.switchboard.observe(self.engine.loop.event_keys, makers)

    def measure(self, stopwatch: Stopwatch) -> None:
        """Have every call of a handler measured, until the observer that asks for it is released."""
        self._stopwatches += (stopwatch,)
        self.engine.switchboard.measure(self.engine.loop.event_keys, self._stopwatches)

    def _unwatch(self, outcome: str) -> None:
        watching, self._watching = self._watching, ()
        if watching:
            self.engine.switchboard.observe(self.engine.loop.event_keys, ())
        if self._stopwatches:
            self._stopwatches = ()
            self.engine.switchboard.measure(self.engine.loop.event_keys, ())
        for observer in watching:
            observer.release(self, outcome)

    def _release(self, outcome: str) -> None:
        engine = self.engine
        if self.status != PAUSED:
            engine.ended(outcome, self.finished and outcome != "failed" and not self.feed.gave_out)
        if engine.switchboard.attentive:
            engine.switchboard.attend(False)
        self._unwatch(outcome)


class RunHost(Protocol):
    """What a run needs of the engine that it is a run of."""

    name: str
    state: State
    strict: bool
    switchboard: Switchboard
    program: Program
    namespace: dict[str, Any]
    active: Run | None
    runs: int
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

    def fire_aside(self, firing: Firing, *error: BaseException) -> list[Any]:
        """Call the handlers of an event that the loop does not yield."""

    def place_of(self, error: BaseException) -> str:
        """Where it stood, in words, when an error was raised."""

    def ended(self, outcome: str, finished: bool) -> None:
        """Take note that the run is over."""


executing: ContextVar[RunHost | None] = ContextVar("camshaft_executing", default=None)
"""The engine of which a transition executes right now, in this thread."""
