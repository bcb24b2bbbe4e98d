"""Reporters: training loops outside camshaft report their events, to be judged by a declared loop."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from camshaft.engine.handler import Stopwatch
from camshaft.engine.observing import Observer, active_observers, code_site
from camshaft.engine.run import executing
from camshaft.engine.state import State
from camshaft.events import OUTCOMES, event_key, event_name
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition import READY

__all__ = ["Reporter"]

SKIPPED_PACKAGES = {"camshaft", "camshaft_pytest", "contextlib", "ignite"}
"""Top-level packages to skip when looking for the line of code that reports an event."""


class Reporter:
    """A stand-in for a hand-written or foreign training loop in traces and checks.

    The loop calls the reporter with each event as it happens, inside a ``with`` block. Recordings and checks then see
    these events as they see those of an engine. A run begins with its first event. It ends with COMPLETED or at the end
    of the block. If an exception leaves the block, the run ends with EXCEPTION_RAISED. After INTERRUPT the next block
    resumes it.

    >>> from camshaft import DATA, Loop, Phase, record
    >>> loop = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), over=DATA))
    >>> with Reporter(loop, name="by hand") as report, record() as trace:
    ...     for event in ("started", "epoch_started", "epoch_completed", "completed"):
    ...         report(event)
    >>> trace.assert_legal()

    Args:
        loop: the declaration for judging the events. Its functions are not called. GET_BATCH events may be
            reported or left out.
        name: the name of the loop in traces and errors.
        max_epochs, max_iters, epoch_length: the limits of each run, if they are known. A trace with fewer or more
            passes is illegal then.

    Attributes:
        state: the counts of passes of each loop, and the limits.
        is_running: True while events can be reported.
        position: the passes already done by inner loops, by name, if a run begins in the middle of a pass.
        has_data: whether the run takes data; None if unknown.
        current_run: the active or paused run; None if there is none.
        around_data: the event that begins a pass of the loop around the data loop.
    """

    def __init__(
        self,
        loop: Loop,
        name: str = "reporter",
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> None:
        self.loop = loop
        self.name = name
        self.has_data: bool | None = None
        self.position: dict[str, int] = {}
        self.current_run: _ReportedRun | None = None
        self.is_running = False
        self._counter_by_event = {item.started: item.name.lower() for _, item in loop.walk() if isinstance(item, Loop)}
        self.around_data = _around_data(loop)
        limits = {"max_epochs": max_epochs, "max_iters": max_iters, "epoch_length": epoch_length}
        self.state = State(**limits, **dict.fromkeys(self._counter_by_event.values(), 0))
        # One item for each open `with` block: the current run at its entry.
        self._blocks: list[_ReportedRun | None] = []

    def __call__(self, event: Any) -> None:
        """Report an event at the moment it happens.

        Args:
            event: an event of the loop: a member of an enum, or a string.

        Raises:
            RuntimeError: the call is not inside a ``with`` block.
            ValueError: the loop has no such event.
        """
        key = event_key(event)
        if key not in self.loop.event_keys:
            raise self._unknown(key)
        if not self.is_running:
            fix = "write `with reporter:` around the whole run, so that its end is recorded even if it fails"
            raise RuntimeError(f"{self.name}: {event_name(key)} is reported outside of a with block; {fix}")
        if self.current_run is not None and key == "started":
            self._finish()
        # This loop goes on, so the loops inside it have ended, even if they did not report their end.
        for inner in self._inside():
            inner._leave(failed=key == "exception_raised")
        run = self.current_run or self._begin()
        if key in self._counter_by_event:
            self.count(self._counter_by_event[key])
        run.fire(key)
        if self.is_over(key):
            self._finish()

    def is_over(self, key: str) -> bool:
        """Return whether a run ends with this event."""
        return key in ("completed", "exception_raised")

    def reset(self) -> None:
        """Set all counters to 0, because a run begins."""
        for counter in self._counter_by_event.values():
            setattr(self.state, counter, 0)

    def count(self, counter: str) -> None:
        """Count the beginning of a pass.

        Args:
            counter: the attribute of the state that counts the loop's passes.
        """
        setattr(self.state, counter, getattr(self.state, counter) + 1)

    def _begin(self) -> _ReportedRun:
        self.reset()
        self.current_run = _ReportedRun(self)
        return self.current_run

    def _inside(self) -> list[Reporter]:
        """Return the reporters with an unfinished run inside this one's, the innermost first."""
        found: list[Reporter] = []
        inner: Any = executing.get()
        while isinstance(inner, Reporter) and inner is not self and inner.current_run is not None:
            found.append(inner)
            inner = inner.current_run.parent
        return found if inner is self else []

    def _finish(self) -> None:
        for inner in self._inside():
            inner._finish()
        run, self.current_run = self.current_run, None
        if run is not None:
            run.finish()

    def _unknown(self, key: str) -> ValueError:
        known = {event_name(event): event for event in self.loop.event_keys}
        nearest = difflib.get_close_matches(event_name(key), known, n=1)
        hint = f"did you mean {nearest[0]} ({known[nearest[0]]!r})?" if nearest else f"it has {', '.join(known)}"
        return ValueError(f"{self.name}: its loop {self.loop.name} has no event {event_name(key)}; {hint}")

    def __enter__(self) -> Reporter:
        self._blocks.append(self.current_run if self.is_running else None)
        self.is_running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_at_entry = self._blocks.pop()
        # A run from before this block belongs to the block around it and goes on there.
        if self.current_run is not run_at_entry:
            self._leave(failed=error is not None)
        self.is_running = bool(self._blocks)

    def _leave(self, failed: bool) -> None:
        """End the current run, or pause it if its last event is INTERRUPT."""
        if self.current_run is not None and failed:
            self("exception_raised")
        elif self.current_run is not None and self.current_run.last == "interrupt":
            self.current_run.leave("interrupted")  # the next event resumes it
        else:
            self._finish()

    def __repr__(self) -> str:
        return f"<Reporter {self.name} of the loop {self.loop.name}>"


def _around_data(loop: Loop) -> str | None:
    """Return the starting event of the loop around the data loop; None if there is no such loop."""
    started = {path: item.started for path, item in loop.walk() if isinstance(item, Loop)}
    paths = (path for path, item in loop.walk() if item is loop.data_loop)
    return next((started.get(path[:-1]) for path in paths), None)


class _ReportedRun:
    """One run of a loop that reports its events. To observers it looks like a run of an engine."""

    def __init__(self, engine: Reporter) -> None:
        self.engine = engine
        self.parent: Any = None
        self.paused_children: dict[Any, None] = {}  # paused runs of nested engines
        self.last: str | None = None
        self._last_placing: str | None = None  # the last event that determines the place in the machine
        self._counts_at_pass: dict[str, int] = {}  # the counts when the loop around the data loop began its pass
        self._counts_at_pause: dict[str, int] = {}
        self._observers: list[Observer] | None = None  # None until the first event, and while it is paused
        self._writer_makers: list[Callable[[str], Callable[[Any], None]]] = []
        self._writers: dict[str, list[Callable[[Any], None]]] = {}  # by event, made when the event first fires

    def fire(self, key: str) -> None:
        """Pass an event on to all observers."""
        if self._observers is None:
            self._enter()
            self.start_observers()
        if key not in self._writers:
            self._writers[key] = [make(key) for make in self._writer_makers]
        for write_event in self._writers[key]:
            write_event(self.engine)
        self.last = key
        # INTERRUPT and custom events do not change the place in the machine.
        if key != "interrupt" and not any(key in custom.events for custom in self.engine.loop.custom_states):
            self._remember_place(key)

    def _remember_place(self, key: str) -> None:
        """Remember the place of the run: after a pause, recordings begin there."""
        engine = self.engine
        if key == engine.around_data:
            done = engine.position if self._last_placing == "started" else {}
            self._counts_at_pass = {name: count - done.get(name, 0) for name, count in self._counts().items()}
        self._last_placing = key

    def _enter(self) -> None:
        self.parent = executing.get()
        executing.set(self.engine)  # type: ignore[arg-type]

    def start_observers(self) -> None:
        """Announce to all observers the start or resumption of the run.

        Observers that are present already first see it pause, and then resume with a changed loop.
        """
        if self._observers is not None:
            self._counts_at_pause = self._counts()
            for observer in self._observers:
                observer.on_run_end(self, "paused")
        self._observers, self._writer_makers, self._writers = [], [], {}
        for observer in active_observers():
            make_writer = observer.on_run_start(self)
            if make_writer is not None:
                self._observers.append(observer)
                self._writer_makers.append(make_writer)

    def leave(self, outcome: str) -> None:
        """Announce to all observers the end of the run, or its pause after an interrupt."""
        innermost: Any = executing.get()
        if innermost is self.engine:
            executing.set(self.parent)
        self._counts_at_pause = self._counts()
        told, self._observers = self._observers, None
        for observer in told or ():
            observer.on_run_end(self, outcome)

    def finish(self) -> None:
        """End the run with the outcome of its last event."""
        self.leave(OUTCOMES.get(str(self.last), "completed"))

    def machine_position(self) -> tuple[str, Context]:
        """Return the place and context at the start of the run or at its pause, for judging it from there."""
        engine, state = self.engine, self.engine.state
        context = Context(state.max_epochs, state.max_iters, state.epoch_length, engine.has_data)
        if self._last_placing is None:
            context.counts, context.position = self._counts(), engine.position.copy()
            return READY, context
        # Only the passes of the data loop are known. None means unknown for the others: guards that need them are
        # taken to hold. The custom states entered at this point are unknown as well.
        context.counts, context.passes = self._counts_at_pause.copy(), dict.fromkeys(self._counts_at_pause)
        data_loop = engine.loop.data_loop
        if data_loop is not None and self._counts_at_pass:
            done = self._counts_at_pause[data_loop.name] - self._counts_at_pass[data_loop.name]
            context.passes[data_loop.name] = done
        if self._last_placing == "started":
            context.position = engine.position.copy()
        context.knows_entered = False
        table = LoopMachine(engine.loop).table
        transitions = (transition for by_event in table.values() for transition in by_event.values())
        return next(each.dest for each in transitions if each.event == self._last_placing), context

    def _counts(self) -> dict[str, int]:
        loops = (item.name for _, item in self.engine.loop.walk() if isinstance(item, Loop))
        return {name: getattr(self.engine.state, name.lower()) for name in loops}

    def call_site(self, frame: FrameType | None) -> str:
        """Return the line of code that reports the current event."""
        while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in SKIPPED_PACKAGES:
            frame = frame.f_back
        return code_site(frame)

    def measure(self, stopwatch: Stopwatch) -> None:
        """Measure nothing: the reporting loop calls its handlers itself."""
