"""Events of loops that camshaft does not run: a plain training loop says what it does, and is judged by its machine."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from camshaft.engine.handler import Stopwatch
from camshaft.engine.observing import code_site, observers
from camshaft.engine.run import executing
from camshaft.engine.state import State
from camshaft.events import OUTCOMES, event_key, event_name
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition_table import READY

__all__ = ["Reporter"]

BETWEEN = {"camshaft", "camshaft_pytest", "contextlib", "ignite"}
"""Whose code stands between an event and the line that it is reported by."""


class Reporter:
    """Stands for a training loop that is written by hand, or by another library, in traces and checks.

    The loop calls it with each event as it happens, inside a ``with`` block; whatever records or checks engines hears
    it too. A run begins with its first event and is over with COMPLETED, or at the end of the block: with
    EXCEPTION_RAISED where an exception leaves it. After INTERRUPT it goes on in the next block.

    >>> from camshaft import DATA, Loop, Phase, record
    >>> loop = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), over=DATA))
    >>> with Reporter(loop, name="by hand") as report, record() as trace:
    ...     for event in ("started", "epoch_started", "epoch_completed", "completed"):
    ...         report(event)
    >>> trace.assert_legal()

    Args:
        loop: the declaration that the events are judged by. Its functions are not called; GET_BATCH events may be
            reported or left out.
        name: how traces and errors call it.
        max_epochs, max_iters, epoch_length: the limits of each run, where they are known: then a trace that has fewer
            or more passes is illegal.

    Attributes:
        state: counts the passes of each loop.
        is_running: whether events can be reported now.
        position: passes that a loop has behind it when a run begins, where it goes on in the middle of one.
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
        self._loops = {item.started: item.name.lower() for _, item in loop.walk() if isinstance(item, Loop)}
        self.around_data = _around_data(loop)
        limits = {"max_epochs": max_epochs, "max_iters": max_iters, "epoch_length": epoch_length}
        self.state = State(**limits, **dict.fromkeys(self._loops.values(), 0))
        self._blocks: list[_ReportedRun | None] = []  # for each block that it is in, the run that was there before

    def __call__(self, event: Any) -> None:
        """Report that an event happens now.

        Args:
            event: an event of the loop: a member of an enum, or a string.

        Raises:
            RuntimeError: it is not inside a ``with`` block.
            ValueError: the loop has no such event.
        """
        key = event_key(event)
        if key not in self.loop.event_keys:
            raise self._unknown(key)
        if not self.is_running:
            fix = "write `with reporter:` around the whole run, so that its end is known even where it fails"
            raise RuntimeError(f"{self.name}: {event_name(key)} is reported outside of a with block; {fix}")
        if self.current_run is not None and key == "started":
            self._finish()
        for inner in self._inside():  # it goes on, so they are over
            inner._leave(failed=key == "exception_raised")
        run = self.current_run or self._begin()
        if key in self._loops:
            self.count(self._loops[key])
        run.fire(key)
        if self.is_over(key):
            self._finish()

    def is_over(self, key: str) -> bool:
        """Whether a run is over with this event."""
        return key in ("completed", "exception_raised")

    def reset(self) -> None:
        """Take note that a run begins."""
        for counter in self._loops.values():
            setattr(self.state, counter, 0)

    def count(self, counter: str) -> None:
        """Count a pass of a loop that begins."""
        setattr(self.state, counter, getattr(self.state, counter) + 1)

    def _begin(self) -> _ReportedRun:
        self.reset()
        self.current_run = _ReportedRun(self)
        return self.current_run

    def _inside(self) -> list[Reporter]:
        """The reporters whose runs began inside of this one and are not over, the innermost first."""
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
        before = self._blocks.pop()
        if self.current_run is not before:  # what began in the block around this one goes on there
            self._leave(failed=error is not None)
        self.is_running = bool(self._blocks)

    def _leave(self, failed: bool) -> None:
        """End the run that is left, or let it pause after INTERRUPT."""
        if self.current_run is not None and failed:
            self("exception_raised")
        elif self.current_run is not None and self.current_run.last == "interrupt":
            self.current_run.leave("interrupted")  # it goes on with the next event
        else:
            self._finish()

    def __repr__(self) -> str:
        return f"<Reporter {self.name} of the loop {self.loop.name}>"


def _around_data(loop: Loop) -> str | None:
    """The event that begins a pass of the loop around the one that takes data."""
    started = {path: item.started for path, item in loop.walk() if isinstance(item, Loop)}
    paths = (path for path, item in loop.walk() if item is loop.data_loop)
    return next((started.get(path[:-1]) for path in paths), None)


class _ReportedRun:
    """One run of a loop that reports."""

    def __init__(self, engine: Reporter) -> None:
        self.engine = engine
        self.parent: Any = None
        self.paused_children: dict[Any, None] = {}  # nested runs that paused
        self.last: str | None = None
        self._came_by: str | None = None  # the last event that tells its place
        self._first: dict[str, int] = {}  # what was counted when the loop around the one with data began its pass
        self._counts: dict[str, int] = {}  # what was counted when it paused
        self._watching: list[Any] | None = None
        self._makers: list[Callable[[str], Callable[[Any], None]]] = []
        self._marks: dict[str, list[Callable[[Any], None]]] = {}

    def fire(self, key: str) -> None:
        """Let all observers hear an event."""
        if self._watching is None:
            self._enter()
            self.on_run_start()
        if key not in self._marks:
            self._marks[key] = [maker(key) for maker in self._makers]
        for mark in self._marks[key]:
            mark(self.engine)
        self.last = key
        if key != "interrupt" and not any(key in custom.events for custom in self.engine.loop.custom_states):
            self._come_by(key)

    def _come_by(self, key: str) -> None:
        """Remember what tells where it stands, should it pause."""
        engine = self.engine
        if key == engine.around_data:
            behind = engine.position if self._came_by == "started" else {}
            self._first = {name: count - behind.get(name, 0) for name, count in self._counted().items()}
        self._came_by = key

    def _enter(self) -> None:
        self.parent = executing.get()
        executing.set(self.engine)  # type: ignore[arg-type]

    def on_run_start(self) -> None:
        """Let all observers watch from here on; those that did hear that it pauses, and goes on with another loop."""
        if self._watching is not None:
            self._counts = self._counted()
            for observer in self._watching:
                observer.on_run_end(self, "paused")
        self._watching, self._makers, self._marks = [], [], {}
        for observer in observers.get():
            maker = observer.on_run_start(self)
            if maker is not None:
                self._watching.append(observer)
                self._makers.append(maker)

    def leave(self, outcome: str) -> None:
        """Tell all observers that it is over or, after an interrupt, that it pauses."""
        around: Any = executing.get()
        if around is self.engine:
            executing.set(self.parent)
        self._counts = self._counted()
        watching, self._watching = self._watching, None
        for observer in watching or ():
            observer.on_run_end(self, outcome)

    def finish(self) -> None:
        """End it as its last event says."""
        self.leave(OUTCOMES.get(str(self.last), "completed"))

    def machine_position(self) -> tuple[str, Context]:
        """Where it stands: at its start, or where it goes on after a pause."""
        engine, state = self.engine, self.engine.state
        context = Context(state.max_epochs, state.max_iters, state.epoch_length, engine.has_data)
        if self._came_by is None:
            context.counts, context.position = self._counted(), engine.position.copy()
            return READY, context
        context.counts, context.passes = self._counts.copy(), dict.fromkeys(self._counts)
        data_loop = engine.loop.data_loop
        if data_loop is not None and self._first:
            context.passes[data_loop.name] = self._counts[data_loop.name] - self._first[data_loop.name]
        if self._came_by == "started":
            context.position = engine.position.copy()
        context.knows_entered = False
        rows = (row for ways in LoopMachine(engine.loop).table.values() for row in ways.values())
        return next(row.dest for row in rows if row.event == self._came_by), context

    def _counted(self) -> dict[str, int]:
        loops = (item.name for _, item in self.engine.loop.walk() if isinstance(item, Loop))
        return {name: getattr(self.engine.state, name.lower()) for name in loops}

    def call_site(self, frame: FrameType | None) -> str:
        """The line of code that reports the present event."""
        while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
            frame = frame.f_back
        return code_site(frame)

    def measure(self, stopwatch: Stopwatch) -> None:
        """Nothing is measured: the loop that reports calls its handlers itself."""
