"""The writer of generated loops: it turns a declaration into the Python that a person would write for it.

The generated loop is a generator. A name in capitals is an event. It is False as long as the event has no handlers, so
an unused event costs one truth test. Otherwise the loop yields it, and the engine calls the handlers. One generator can
therefore be run, single-stepped and paused.

Consecutive events with no code between them share one test of ``any_handlers``, which is True if any event of such a
group in this loop has handlers. The source is compiled once for each structure of a loop. Every engine executes the
compiled code in a namespace of its own.
"""

from __future__ import annotations

import builtins
import hashlib
import keyword
import linecache
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from camshaft.compiler.program import HELPERS, Line, Program, source_filename
from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, EventPoint, Every, LoopItem, OpaqueStep, Path, Phase

__all__ = ["generate"]

Structure = tuple[Any, ...]
"""The part of a declaration that determines the source: a hashable tree without functions. See :func:`structure_of`."""

MAX_BLOCKS = 12
"""The maximal number of nested blocks in one function. Python allows 20. Deeper loops get functions of their own."""

APPLY_CONTROL = "if PENDING_CALL: yield PENDING_CALL"
"""The line after a user's code if no event follows. A control call made by that code takes effect here."""


def generate(loop: Loop) -> Program:
    """Return the program of a loop. Loops that differ only in their functions share one program."""
    return program_of(structure_of(loop))


def structure_of(item: LoopItem) -> Structure:
    """Return everything in a declaration that the source depends on. Its first element is the class of the state."""
    if isinstance(item, Loop):
        kind = item.passes
        is_call = callable(item.over) and item.over is not DATA
        return (Loop, item.name, item.started, item.completed, kind, is_call, *map(structure_of, item.body))
    if isinstance(item, Phase):
        when = ("every", item.when.n) if isinstance(item.when, Every) else "call" if item.when is not None else None
        return (Phase, item.name, item.started, item.completed, when, item.run is not None)
    if isinstance(item, EventPoint):
        return (EventPoint, item.name, item.event)
    return (OpaqueStep, item.name)


@lru_cache(maxsize=512)
def program_of(structure: Structure) -> Program:
    """Return the program of a structure. Programs are cached."""
    return _Writer(structure).program()


_RESERVED_NAMES = {
    "engine",
    "state",
    "fetcher",
    "output",
    "began",
    "began_pass",
    "element",
    "ended",
    "any_handlers",
    "inner",
    "_",
    *HELPERS,
    *dir(builtins),
}
"""The names in the generated source that an event or a user's function must not replace."""


def _unused_identifier(name: str, used: set[str]) -> str:
    # Python reads identifiers in their normal form: the name ª is a. Some letters and digits may be in no identifier.
    name = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in unicodedata.normalize("NFKC", name))
    name = unicodedata.normalize("NFKC", name if name.isidentifier() else f"_{name}")
    while name in used or keyword.iskeyword(name):
        name += "_"
    return name


class _Writer:
    """A writer of the source of one structure. For each line it notes the position in the loop.

    Attributes:
        pending_events: the names and lines of consecutive events that are not written yet. They are written together,
            because only then is it known whether they share a test.
        before_pending: the position before the first of them.
        deferred: the inner loops that still need a function: its name, the structure, the path, the last event
            before the loop, and ``batch`` before the loop.
        batch: the expression for the second argument of phases; "state.batch" inside the loop over the data.
        path, last_event: the current position in the loop.
        indent: the current indentation.
        blocks: the current number of nested blocks that count towards Python's limit.
    """

    def __init__(self, structure: Structure) -> None:
        self.root = structure
        self.texts: list[str] = []
        self.lines: dict[int, Line] = {}
        self.names: dict[str, str] = {}
        self.under_any_handlers: set[str] = set()
        self.pending_events: list[tuple[str, Line]] = []
        self.before_pending = Line((), None, None)
        self.functions: dict[str, tuple[str, str]] = {}
        self.deferred: list[tuple[str, Structure, Path, str | None, str | None]] = []
        self.batch: str | None = None  # outside of the data, and of loops over elements
        self.used_names = set(_RESERVED_NAMES) | {"PENDING_CALL"}
        self.indent = 0
        self.blocks = 0
        self.path: Path = ()
        self.last_event: str | None = None

    def program(self) -> Program:
        """Write everything and compile it."""
        name = self.root[1]
        entry = self._new_name(f"{name.lower()}_loop")
        self._function(entry, f"The loop {name}. A name in capitals is an event: False while it has no handlers.")
        self._run()
        self._flush()
        while self.deferred:
            function, structure, path, last_event, self.batch = self.deferred.pop(0)
            self._line("")
            self._line("")
            self.path, self.last_event, self.blocks = path[:-1], last_event, 0
            self._function(function, f"The loop {structure[1]}, inside {path[-2]}.")
            self._loop(structure)
            self._flush()
        source = "\n".join(self.texts) + "\n"
        filename = source_filename(f"{entry}_{hashlib.sha256(repr(self.root).encode()).hexdigest()[:8]}")
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        code = compile(source, filename, "exec")
        return Program(
            source, code, entry, filename, self.lines, self.names, frozenset(self.under_any_handlers), self.functions
        )

    # -- lines -------------------------------------------------------------------------------------------------------

    def _line(self, text: str, event: str | None = None, delegates: bool = False) -> None:
        """Write a line, after all pending events."""
        if self.pending_events:
            self._flush()
        self._write(text, Line(self.path, event, event or self.last_event, delegates))

    def _write(self, text: str, line: Line) -> None:
        self.texts.append("    " * self.indent + text if text else "")
        self.lines[len(self.texts)] = line

    def _flush(self) -> None:
        """Write the pending events. Two or more of them share a test of ``any_handlers``."""
        events, self.pending_events = self.pending_events, []
        if len(events) > 1:
            self._write("if any_handlers:", self.before_pending)
            self.under_any_handlers |= {name for name, _ in events}
        self.indent += len(events) > 1
        for name, line in events:
            self._write(f"if {name}: yield {name}", line)
        self.indent -= len(events) > 1

    def _open(self, text: str, blocks: int = 1) -> None:
        """Write the header of a block. An ``if`` does not count towards Python's limit: ``blocks`` is then 0."""
        self._line(text)
        self.indent += 1
        self.blocks += blocks

    def _close(self, blocks: int = 1) -> None:
        """End a block, with the same number of ``blocks`` as for its header."""
        self._flush()
        self.indent -= 1
        self.blocks -= blocks

    def _function(self, name: str, doc: str) -> None:
        """Write the header of a generator function."""
        self.indent = 0
        self._line(f"def {name}(engine, state, fetcher):")
        self.indent = 1
        self._line(f'"""{doc}"""')
        self._line("__tracebackhide__ = True  # pytest and IPython leave this frame out")

    def _new_name(self, name: str) -> str:
        """Return an unused identifier like ``name`` and mark it as used."""
        identifier = _unused_identifier(name, self.used_names)
        self.used_names.add(identifier)
        return identifier

    def _user_function(self, state: str, attribute: str, name: str) -> str:
        """Return a new identifier for the function in an attribute of a state."""
        identifier = self._new_name(name)
        self.functions[identifier] = (state, attribute)
        return identifier

    def _event(self, key: str) -> str:
        """Return the identifier of an event."""
        if key not in self.names:
            self.names[key] = self._new_name(event_name(key).replace(".", "_"))
        return self.names[key]

    def _fire(self, key: str) -> None:
        """Let an event fire at the current position."""
        if not self.pending_events:
            self.before_pending = Line(self.path, None, self.last_event)
        self.pending_events.append((self._event(key), Line(self.path, key, key)))
        self.last_event = key

    def _fire_timed(self, key: str, began: str) -> None:
        """Let an event fire with the time since ``began``, which then grows by the time of its handlers."""
        taken = f'state.times["{event_name(key)}"] = perf_counter() - {began}'
        self._line(taken)
        self._fire(key)
        self._line(taken)

    # -- states ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Write the whole run, from STARTED to COMPLETED or TERMINATE."""
        self._line("began = perf_counter()")
        self._open("try:")
        self._fire("started")
        self._loop(self.root)
        self._close()
        self._open("except Terminate as ended:")
        self._drop_output()
        self._fire("terminate")
        self._line("if ended.skip_completed: return")
        self._close()
        self._fire_timed("completed", "began")

    def _loop(self, structure: Structure) -> None:
        """Write a loop, or a call of its own function if the blocks around it are too many."""
        outside, batch = self.path, self.batch
        is_root = not outside
        if self.blocks > MAX_BLOCKS:
            inner = self._new_name(f"{structure[1].lower()}_loop")
            self.deferred.append((inner, structure, (*outside, structure[1]), self.last_event, batch))
            self._line(f"inner = {inner}(engine, state, fetcher)")
            self._line("yield from inner", delegates=True)
        elif structure[4] == "data":
            self._data_loop(structure)
        elif is_root:
            self._root_loop(structure)
        else:
            self._inner_loop(structure)
        self.path, self.batch = outside, batch

    def _root_loop(self, structure: Structure) -> None:
        """Write the outermost loop, with the limits of the run and the end of a pass by ``terminate_epoch()``."""
        _, name, started, completed, kind, is_call, *body = structure
        counter = f"state.{name.lower()}"
        has_data = self._has_data_inside(body)
        until = self._user_function(name, "until", f"{name.lower()}_until") if kind == "until" else ""
        if kind == "over":
            self.batch = f"{counter}_item"
            begun = f"{counter} - state.resumed" if has_data else counter
            self._open(f"for element in islice({self._elements(name, is_call)}, {begun}, None):")
            self._line("if not state.within_limits(): break")
            self._line(f"{counter}_item = element")
            self._line(APPLY_CONTROL)
        else:
            self._open("while state.within_limits():")
            self._ask_again(until)
        self.path = (name,)
        self._count(counter, has_data)
        self._line("began_pass = perf_counter()")
        self._open("try:")
        if not has_data:
            self._clear_output(body)
        self._fire(started)
        self._body(body)
        if body and not _ends_with_event(body[-1]):
            self._line(APPLY_CONTROL)
        self._close()
        self._open("except TerminateEpoch as ended:")
        self._drop_output()
        if has_data:
            self._line("fetcher.restart()")
        self._fire("terminate_single_epoch")
        if kind == "until":
            self._line(f"if ended.skip_epoch_completed and {until}(engine): break")
        self._line("if ended.skip_epoch_completed: continue")
        self._close()
        self._fire_timed(completed, "began_pass")
        if kind == "until":
            self._line(f"if {until}(engine): break")
            self._line(APPLY_CONTROL)
        self._close()

    def _inner_loop(self, structure: Structure) -> None:
        """Write a loop inside another that does not take the data."""
        _, name, started, completed, kind, is_call, *body = structure
        counter = f"state.{name.lower()}"
        has_data = self._has_data_inside(body)
        until = self._user_function(name, "until", f"{name.lower()}_until") if kind == "until" else ""
        passes = (lambda elements: f'fetcher.passes("{name}", {elements})') if has_data else str
        if kind == "over":
            if self.batch != "state.batch":
                self.batch = f"{counter}_item"
            self._open(f"for {counter}_item in {passes(self._elements(name, is_call))}:")
            self._line(APPLY_CONTROL)
        elif kind == "until":
            self._open(f"for _ in {passes('repeat(None)')}:" if has_data else "while True:")
            if has_data:
                self._ask_again(until)
        else:
            self._open(f"for _ in {passes(f'range({kind})')}:")
        self.path = (*self.path, name)
        self._count(counter, has_data)
        self._fire(started)
        self._body(body)
        self._fire(completed)
        if kind == "until":
            self._line(f"if {until}(engine): break")
            self._line(APPLY_CONTROL)
        self._close()

    def _ask_again(self, until: str) -> None:
        """Ask a condition that a resumed run was to ask next, because it was saved after a pass."""
        if until:
            self._open("if fetcher.resumes_after_pass():", blocks=0)
            self._line(f"if {until}(engine): break")
            self._line(APPLY_CONTROL)
            self._close(blocks=0)

    def _data_loop(self, structure: Structure) -> None:
        """Write the loop over the data.

        The outer ``while`` repeats when the fetcher has to open the data again: after the data ran out, or after a
        handler replaced it. The inner ``for`` is the fast path, with one pass for each batch.
        """
        _, name, started, completed, _, _, *body = structure
        outside, self.batch = self.path, "state.batch"
        # GET_BATCH_STARTED is for the next batch, so it must not fire if the epoch already has all its batches
        if_expected = f" and state.{name.lower()} < fetcher.end_count"
        self._line("fetcher.begin_epoch()")
        self.path = (*outside, "GET_BATCH")
        get_batch, stop = self._event("get_batch_started"), self._event("dataloader_stop_iteration")
        self._line(f"if {get_batch}{if_expected}: yield {get_batch}", event="get_batch_started")
        self.last_event = "get_batch_started"
        self._open("while fetcher.prepare_batches():")
        self._open("for state.batch in fetcher.batches:")
        self.path = (*outside, name)
        self._clear_output(body)
        self._open("try:")
        self.path = (*outside, "GET_BATCH")
        self._fire("get_batch_completed")
        self.path = (*outside, name)
        self._line(f"state.{name.lower()} += 1")
        self._fire(started)
        self._body(body)
        self._fire(completed)
        self._close()
        self._open("except SkipIteration:")
        self._fire("iteration_skipped")
        self._close()
        self.path = (*outside, "GET_BATCH")
        self._open(f"if {get_batch}:", blocks=0)
        self._line(f"if{if_expected.removeprefix(' and')}: yield {get_batch}", event="get_batch_started")
        self.last_event = "get_batch_started"
        self._line("if fetcher.must_refetch: break")
        self._close(blocks=0)
        self._close()
        self._line(f"if PENDING_CALL{if_expected}: yield PENDING_CALL")
        self._line(f"if fetcher.restart_if_exhausted() and {stop}: yield {stop}", event="dataloader_stop_iteration")
        self._close()
        self.path = outside
        self.last_event = completed

    def _body(self, body: list[Structure]) -> None:
        """Write the states in the body of a loop. A pass that is resumed in the loop over the data begins there."""
        index = next((index for index, item in enumerate(body) if _is_around_data(item)), 0)
        if index:
            event_before = self.last_event
            self._open(f'if not fetcher.resumes_in("{body[index][1]}"):', blocks=0)
            self._states(body[:index])
            if not _ends_with_event(body[index - 1]):
                self._line(APPLY_CONTROL)
            self._close(blocks=0)
            self.last_event = event_before  # the states may have been left out
        self._states(body[index:])

    def _states(self, body: list[Structure]) -> None:
        """Write states in their order."""
        path = self.path
        for before, item in zip([None, *body], body, strict=False):
            kind, name, *_ = item
            if kind is Loop:
                # an inner loop counts a pass before its first event; a pending control call must take effect earlier
                if before is not None and not _ends_with_event(before):
                    self._line(APPLY_CONTROL)
                self._loop(item)
                continue
            self.path = path if kind is OpaqueStep else (*path, name)
            if kind is OpaqueStep:
                self._line(f"state.output = {self._user_function(name, 'run', 'step')}(engine, {self._batch})")
            elif kind is EventPoint:
                self._fire(item[2])
            else:
                self._phase(item, path)
            self.path = path

    def _phase(self, structure: Structure, parents: Path) -> None:
        """Write a phase in the body of the loop at ``parents``."""
        _, name, started, completed, when, has_function = structure
        event_before = self.last_event
        if when is not None:
            self.path = parents
            counter = f"state.{parents[-1].lower()}"
            if when == "call":
                condition = f"{self._user_function(name, 'when', f'{name.lower()}_when')}(engine)"
            else:
                condition = f"{counter} % {when[1]} == 0"
            self._open(f"if {condition}:", blocks=0)
            self.path = (*parents, name)
        self._fire(started)
        if has_function:
            self._line(f"output = {self._user_function(name, 'run', name.lower())}(engine, {self._batch})")
            self._line("if output is not None: state.output = output")
        self._fire(completed)
        if when is not None:
            self._close(blocks=0)
            self.last_event = event_before  # the phase may have been skipped

    @property
    def _batch(self) -> str:
        return self.batch or "state.batch"

    def _elements(self, name: str, is_call: bool) -> str:
        """Return the expression for the elements of a loop with ``over=``."""
        return self._user_function(name, "over", f"{name.lower()}_over") + ("(engine)" if is_call else "")

    def _count(self, counter: str, has_data_inside: bool) -> None:
        # only a pass around the data can be resumed, and that pass has been counted already
        self._line(f"{'if not state.resumed: ' if has_data_inside else ''}{counter} += 1")

    def _has_data_inside(self, body: Sequence[Structure]) -> bool:
        return any(map(_is_around_data, body))

    def _clear_output(self, body: list[Structure]) -> None:
        """Release the output of the previous pass, so that its memory is free in this one."""
        self._line("state.output = output = None" if Phase in _classes(body) else "state.output = None")

    def _drop_output(self) -> None:
        """Release the output of a phase. It may hold a graph for a phase that does not run any more."""
        if Phase in _classes(self.root[6:]):
            self._line("output = None")


def _is_around_data(item: Structure) -> bool:
    """Return whether a state is the loop over the data, or a loop around it."""
    return item[0] is Loop and (item[4] == "data" or any(map(_is_around_data, item[6:])))


def _ends_with_event(item: Structure) -> bool:
    """Return whether a state always fires an event last, with no user's code after it."""
    return item[0] is EventPoint or (item[0] is Phase and item[4] is None)


def _classes(body: Sequence[Structure]) -> Iterator[type[LoopItem]]:
    """Yield the classes of all states in a body, including those in inner loops."""
    for item in body:
        yield item[0]
        if item[0] is Loop:
            yield from _classes(item[6:])
