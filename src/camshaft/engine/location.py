"""The location of a run and of its engine: states, last event, and place in the machine.

It is read from the frames of the generated loop when somebody asks. To store it at each event would cost time.
"""

from __future__ import annotations

from types import CodeType, FrameType, GeneratorType
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
from camshaft.machine.transition import READY
from camshaft.machine.transition_table import TransitionTable

__all__ = ["LAST_LINE", "EngineLocation", "LoopLocation", "format_path", "machine_position"]

LAST_LINE = Line((), None, "completed")
"""The location of a run whose loop has ended, while its data is being closed."""


class LoopLocation:
    """The location of a generated loop.

    Args:
        generator: the loop.
        program: the source of the loop, with the states and the event of each line.
        namespace: the globals of the generated functions.
    """

    def __init__(
        self, generator: GeneratorType[EngineEvent, None, None], program: Program, namespace: dict[str, Any]
    ) -> None:
        self._generator = generator
        self._program = program
        self._namespace = namespace

    def line(self) -> Line | None:
        """Return the line on which the loop stands; None before its first event and after its last."""
        frame = self._frame()
        line = self._line_in(frame) if frame is not None else None
        return line if line is not None and line.last_event is not None else None

    def line_of(self, error: BaseException) -> Line | None:
        """Return the line at which an error left the loop; None if the error does not come from the loop."""
        found = None
        # Python turns a StopIteration that leaves a generator into a RuntimeError. Only its cause has the exact line.
        for raised in (error.__cause__, error):
            trace = raised.__traceback__ if raised is not None else None
            while trace is not None:
                if trace.tb_frame.f_globals is self._namespace:
                    number = line_number(trace.tb_frame.f_code, trace.tb_lineno, trace.tb_lasti)
                    found = self._program.lines.get(number, found)
                trace = trace.tb_next
        return found

    def source_line(self) -> str:
        """Return the number and the function of the present line, in words."""
        frame = self._frame()
        if frame is None:
            return "the engine"
        number = line_number(frame.f_code, frame.f_lineno, frame.f_lasti)
        return f"line {number} of the generated {frame.f_code.co_name}"

    def _frame(self) -> FrameType | None:
        """Return the frame of the loop; the innermost one if the loop is written as several functions."""
        found, frame = None, self._generator.gi_frame
        while frame is not None:
            found = frame
            line = self._line_in(frame)
            inner = frame.f_locals.get("inner") if line is not None and line.delegates else None
            frame = inner.gi_frame if inner is not None else None
        return found

    def _line_in(self, frame: FrameType) -> Line | None:
        """Return the line that a frame of the loop executes; None if it has not reached one."""
        return self._program.lines.get(line_number(frame.f_code, frame.f_lineno, frame.f_lasti))


def line_number(code: CodeType, number: int | None, instruction: int) -> int:
    """Return the number of the line that runs, or of the nearest one before it; 0 if there is none.

    Some instructions have no line, such as those that end a block. A signal can arrive there: Python then gives None or
    -1 as the line of the frame and of the traceback.

    Args:
        code: the code that runs.
        number: the number of the line, as the frame or the traceback has it.
        instruction: the index of the last instruction.
    """
    if number is not None and number > 0:
        return number
    before = [line for start, _, line in code.co_lines() if line is not None and start <= instruction]
    return before[-1] if before else 0


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
    def _transitions(self) -> TransitionTable:
        """The transitions of the loop, to check the order of events."""


class _Named(Protocol):
    """The part of a handler that this module reads."""

    event: str

    @property
    def name(self) -> str:
        """The name of the function."""


class EngineLocation:
    """The location of an engine: its states, its last event, and both in words.

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
        return line.last_event if line is not None else self.last_event

    def place(self, engine: _Located) -> str:
        """Return where the engine stands, in words: its states, or its last event outside of all states."""
        states = format_path(engine.state, engine.loop, self.states(engine))
        return states or event_name(self.last_event_key(engine) or "before STARTED")

    def take_place(self, engine: _Located, error: BaseException) -> tuple[str, str]:
        """Return where the engine stood when ``error`` was raised, and the event and the handler that raised it.

        Both are in words, for a note. The second one is empty if no handler of the engine raised the error. What was
        kept on the error is dropped: the same error may be raised again in another place.
        """
        kept = _kept_places(error).pop(id(engine), None)
        return kept if kept is not None else (self.place(engine), "")

    def keep_place(self, engine: _Located, error: BaseException, handler: _Named, role: str = "handler") -> None:
        """Keep on an error where the engine stands, and which handler raised it.

        The error passes through the generated loop before it is reported, and the stack is unwound by then. The
        innermost place of each engine wins.

        Args:
            engine: the engine.
            error: the error.
            handler: the handler; without an event if it is a function of the engine itself.
            role: what raised it: ``"handler"``, or another function that belongs to the handler.
        """
        places = _kept_places(error)
        if id(engine) not in places:
            place = self.place(engine)
            at = f", at {event_name(handler.event)}" if event_name(handler.event) != place else ""
            places[id(engine)] = place, f"{at}, in {role} {handler.name}" if handler.event else ""

    def dispatch(self, engine: _Located, event: EngineEvent, *error: BaseException) -> list[Any]:
        """Call the handlers of an event outside the generated loop, and return their results.

        Args:
            engine: the engine, passed to the handlers.
            event: the event.
            error: the exception, for EXCEPTION_RAISED.
        """
        __tracebackhide__ = True
        self._dispatched.append(event.key)
        answers = []
        try:
            for handler in event.handlers:
                answers.append(handler.call(engine, *error))
        except EventOrderError:
            raise  # the event was refused, so its state was not entered
        except BaseException as raised:
            self.keep_place(engine, raised, handler)
            raise
        finally:
            self._dispatched.pop()
        return answers


def _kept_places(error: BaseException) -> dict[int, tuple[str, str]]:
    """Return the places that are kept on an error, with the handlers that raised it, by the id of the engine."""
    places: dict[int, tuple[str, str]] = error.__dict__.setdefault("camshaft_places", {})
    return places


def format_path(state: State, loop: Loop, path: Path) -> str:
    """Return a path of states in words, with the counts of its loops: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
    loops = {item.name for _, item in loop.walk() if isinstance(item, Loop)}
    return " / ".join(f"{name} {getattr(state, name.lower())}" if name in loops else name for name in path)


def machine_position(
    engine: _Located, line: Line | None, fetcher: DataFetcher, deferred: str | None, waits: bool
) -> tuple[str, Context]:
    """Return the place of a run in the machine, and the context for judging its next events.

    Args:
        engine: the engine of the run.
        line: the line on which the generated loop stands; None before its first event.
        fetcher: the source of the batches of the run.
        deferred: the key of an event that the loop has yielded, to be dispatched when the run continues;
            None without such an event.
        waits: whether the run was paused before an event or at a PENDING_CALL, rather than after an event.

    Returns:
        The name of the place, and a context with the counts of all loops as far as they are known.
    """
    state, loop = engine.state, engine.loop
    loops = [item for _, item in loop.walk() if isinstance(item, Loop)]
    data_loop = loop.data_loop
    context = Context(state.max_epochs, state.max_iters, state.known_length, fetcher.has_data)
    context.counts = {item.name: getattr(state, item.name.lower()) for item in loops}
    if line is None:
        if state.resumed:
            begun, in_data = fetcher.resumed_passes, fetcher.resumes_in_data
            inside = loop.data_path[:-1] if in_data else loop.data_path[: len(begun)]
            context.resumed = {*inside}
            # a pass that comes again is not counted yet when its loop is entered
            context.position = {name: count - (name in context.resumed) for name, count in begun.items()}
            context.position |= {loop.data_path[-1]: fetcher.skipped} if in_data else {}
        elif fetcher.after_pass and loop.until is not None:
            context.position = {loop.name: 1}  # the condition is asked before the first pass
        return READY, context
    # Only the counts of the state are known. How many passes an inner loop has had, and which custom states are
    # entered, cannot be read from a frame: None and False tell the checker not to judge these.
    context.passes = dict.fromkeys(context.counts)
    context.knows_entered = False
    is_in_data = data_loop is not None and bool({data_loop.name, "GET_BATCH"} & set(line.path))
    if data_loop is not None and (is_in_data or not waits):
        context.passes[data_loop.name] = fetcher.position
    if deferred is not None:
        for item in loops:
            # the loop counts a pass before it yields the event, the checker counts it at the event
            if deferred == item.started:
                context.counts[item.name] -= 1
                passes = context.passes[item.name]
                context.passes[item.name] = None if passes is None else passes - 1
        return next(place for place, row in engine._transitions.table.items() if deferred in row), context
    fired = line.event or line.last_event
    # one event may be fired at several places: the states of the line tell them apart
    table, paths = engine._transitions.table, engine._transitions.paths
    transitions = (row[str(fired)] for row in table.values() if fired in row)
    return next(one.dest for one in transitions if paths[one.dest][: len(line.path)] == line.path), context
