"""Where a run stands: read from its generator when somebody asks, not stored at each event."""

from __future__ import annotations

from types import FrameType, GeneratorType
from typing import Any, Protocol

from camshaft.compiler.program import Line, Program
from camshaft.engine.data_fetcher import DataFetcher
from camshaft.engine.dispatch import EngineEvent
from camshaft.engine.state import State
from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition_table import READY

__all__ = ["LAST_LINE", "EngineLocation", "LoopLocation", "format_path", "machine_position"]

LAST_LINE = Line((), None, "completed")
"""Where a run stands after its loop: only closing the data is left to do."""


class LoopLocation:
    """Where a generated loop stands.

    Args:
        generator: the loop.
        program: what its lines stand for.
        namespace: the globals of the generated functions.
    """

    def __init__(self, generator: GeneratorType[Any, None, None], program: Program, namespace: dict[str, Any]) -> None:
        self._generator = generator
        self._program = program
        self._namespace = namespace

    def line(self) -> Line | None:
        """Return the line on which the loop stands; None before its first event and after its last."""
        frame = self._frame()
        line = self._line_in(frame) if frame is not None else None
        return line if line is not None and line.last is not None else None

    def line_of(self, error: BaseException) -> Line | None:
        """Return the line on which the loop stood when an error left it; None where the error came from elsewhere."""
        number = None
        for raised in (error.__cause__, error):  # a StopIteration leaves a generator as the cause of a RuntimeError
            trace = raised.__traceback__ if raised is not None else None
            while trace is not None:
                if trace.tb_frame.f_globals is self._namespace:
                    number = trace.tb_lineno
                trace = trace.tb_next
        return self._program.lines[number] if number is not None else None

    def source_line(self) -> str:
        """Return the line of the generated source on which the loop stands, in words."""
        frame = self._frame()
        return f"line {frame.f_lineno} of the generated {frame.f_code.co_name}" if frame is not None else "the engine"

    def _frame(self) -> FrameType | None:
        """Return the frame of the loop, the innermost where it is written as several functions."""
        found, frame = None, self._generator.gi_frame
        while frame is not None:
            found = frame
            inner = frame.f_locals.get("inner") if self._line_in(frame).delegates else None
            frame = inner.gi_frame if inner is not None else None
        return found

    def _line_in(self, frame: FrameType) -> Line:
        """Return the line that a frame of the loop executes."""
        number = None
        while number is None:  # it runs in another thread, between two lines
            number = frame.f_lineno
        return self._program.lines[number]


class _HasLine(Protocol):
    """The part of a run that :class:`EngineLocation` reads."""

    def line(self) -> Line | None:
        """Return the line on which the generated loop stands."""


class _Located(Protocol):
    """The part of an engine that this module reads."""

    state: State

    @property
    def current_run(self) -> _HasLine | None:
        """The run that is executing or paused."""

    @property
    def loop(self) -> Loop:
        """The declaration."""

    @property
    def machine(self) -> LoopMachine:
        """The loop as a machine."""


class EngineLocation:
    """Where an engine stands: its states, its last event, and its place in words.

    Most of it is read from the generated loop. The rest is kept here: events that are dispatched outside the generated
    loop, and the last event of a run that has ended. The engine itself is not kept, so that a finished engine is freed
    at once.

    Attributes:
        last_event: the key of the last event of the last run; None before the first run has ended.
    """

    def __init__(self) -> None:
        self.last_event: str | None = None
        self._dispatched: list[str] = []  # events outside the generated loop, the innermost last

    @property
    def is_outside_loop(self) -> bool:
        """True while an event is dispatched outside the generated loop."""
        return bool(self._dispatched)

    def line(self, engine: _Located) -> Line | None:
        """Return the line on which the generated loop stands; None before its first event and after its last."""
        return engine.current_run.line() if engine.current_run is not None else None

    def states(self, engine: _Located) -> Path:
        """Return the states that the engine is in, the outermost first."""
        line = self.line(engine)
        path = line.path if line is not None else ()
        if self._dispatched:
            path += tuple(custom.name for custom in engine.loop.custom_states if self._dispatched[-1] in custom.events)
        return path

    def last_event_key(self, engine: _Located) -> str | None:
        """Return the key of the event that fired last; None before the first one."""
        if self._dispatched:
            return self._dispatched[-1]
        line = self.line(engine)
        return line.last if line is not None else self.last_event

    def place(self, engine: _Located) -> str:
        """Return where the engine stands, in words: its states, or its last event outside of all states."""
        states = format_path(engine.state, engine.loop, self.states(engine))
        return states or event_name(self.last_event_key(engine) or "before STARTED")

    def place_of_error(self, engine: _Located, error: BaseException) -> str:
        """Return where the engine stood, in words, when ``error`` was raised."""
        places: dict[int, str] = getattr(error, "camshaft_places", {})
        return places.get(id(engine), self.place(engine))

    def dispatch(self, engine: _Located, event: EngineEvent, *error: BaseException) -> list[Any]:
        """Call the handlers of an event outside the generated loop, and return their results.

        Args:
            engine: the engine, passed to the handlers.
            event: the event.
            error: the exception, for EXCEPTION_RAISED.
        """
        self._dispatched.append(event.key)
        try:
            return [handler.call(engine, *error) for handler in event.handlers]
        except EventOrderError:
            raise  # the event was refused, so its state was not entered
        except BaseException as raised:
            # The error passes through the generated loop before it is reported, and the stack is unwound by then. So
            # the place is kept on the error. The innermost place of each engine wins.
            places = raised.__dict__.setdefault("camshaft_places", {})
            places.setdefault(id(engine), self.place(engine))
            raise
        finally:
            self._dispatched.pop()


def format_path(state: State, loop: Loop, path: Path) -> str:
    """Return a path of states in words, with the counts of its loops: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
    loops = {item.name for _, item in loop.walk() if isinstance(item, Loop)}
    return " / ".join(f"{name} {getattr(state, name.lower())}" if name in loops else name for name in path)


def machine_position(
    engine: _Located, line: Line | None, fetcher: DataFetcher, deferred: str | None, waits: bool
) -> tuple[str, Context]:
    """Return the place in the machine where a run stands, and the context to judge it from there.

    Args:
        engine: its state, loop and machine.
        line: the line on which the generated loop stands.
        feed: where its batches come from.
        held: the event that is about to fire when the run goes on; None where there is none.
        waits: whether the run was paused before an event or a control call.
    """
    state, loop, machine = engine.state, engine.loop, engine.machine
    loops = [item for _, item in loop.walk() if isinstance(item, Loop)]
    data_loop = loop.data_loop
    context = Context(state.max_epochs, state.max_iters, state.epoch_length, fetcher.has_data)
    context.counts = {item.name: getattr(state, item.name.lower()) for item in loops}
    if line is None:
        if state.resumed and data_loop is not None:
            context.resumed = {loop.name}
            context.position = {data_loop.name: fetcher.skipped}
        return READY, context
    context.passes = dict.fromkeys(context.counts)
    context.knows_entered = False
    is_in_data = data_loop is not None and bool({data_loop.name, "GET_BATCH"} & set(line.path))
    if data_loop is not None and (is_in_data or not waits):
        context.passes[data_loop.name] = fetcher.position
    if deferred is not None:
        for item in loops:
            if deferred == item.started:  # its pass is counted already
                context.counts[item.name] -= 1
                passes = context.passes[item.name]
                context.passes[item.name] = None if passes is None else passes - 1
        return next(place for place, rows in machine.table.items() if deferred in rows), context
    fired = line.event or line.last
    rows = (row for ways in machine.table.values() for row in ways.values() if row.event == fired)
    return next(row.dest for row in rows if machine.paths[row.dest][: len(line.path)] == line.path), context
