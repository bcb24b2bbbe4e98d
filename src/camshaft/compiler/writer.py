"""The generated loop: a declaration written out as the Python that a person would have written for it.

The loop is a generator. A name in capitals is an event: False while nobody hears it, so that testing it costs next
to nothing; otherwise the loop yields it and the engine calls its handlers. Running, single-stepping and pausing are
therefore one thing. Events that follow each other with nothing in between share one test of ``heard``, which is True
while anybody hears one of them. The text is compiled once for each structure of loop; every engine gets the compiled
code with a namespace of its own.
"""

from __future__ import annotations

import builtins
import hashlib
import keyword
import linecache
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from camshaft.compiler.program import HELPERS, Line, Program, source_filename
from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, EventPoint, Every, LoopItem, OpaqueStep, Path, Phase

__all__ = ["generate"]

MAX_BLOCKS = 12
"""Python allows 20 nested blocks; deeper loops go to a function of their own, joined by ``yield from``."""


APPLY_CONTROL = "if PENDING_CALL: yield PENDING_CALL"
"""The line on which a control call takes effect that a user's code made where no event follows."""


def generate(loop: Loop) -> Program:
    """The program of a loop: the same object for loops that differ in their functions only."""
    return _program(_structure(loop))


def _structure(item: LoopItem) -> tuple[Any, ...]:
    """All that the text depends on, as a hashable tree."""
    if isinstance(item, Loop):
        kind = item.passes
        is_call = callable(item.over) and item.over is not DATA
        return (Loop, item.name, item.started, item.completed, kind, is_call, *map(_structure, item.body))
    if isinstance(item, Phase):
        when = ("every", item.when.n) if isinstance(item.when, Every) else "asked" if item.when is not None else None
        return (Phase, item.name, item.started, item.completed, when, item.run is not None)
    if isinstance(item, EventPoint):
        return (EventPoint, item.name, item.event)
    return (OpaqueStep, item.name)


@lru_cache(maxsize=512)
def _program(structure: tuple[Any, ...]) -> Program:
    return _Writer(structure).program()


_TAKEN = {
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


def _identifier(name: str, taken: set[str]) -> str:
    name = re.sub(r"\W", "_", name)
    name = f"_{name}" if name[:1].isdigit() else name
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


class _Writer:
    """Writes the text of a structure, and beside each line where the loop stands there."""

    def __init__(self, structure: tuple[Any, ...]) -> None:
        self.root = structure
        self.texts: list[str] = []
        self.lines: dict[int, Line] = {}
        self.names: dict[str, str] = {}
        self.under_any_handlers: set[str] = set()
        self.waiting: list[tuple[str, Line]] = []
        self.ahead = Line((), None, None)
        self.functions: dict[str, tuple[str, str]] = {}
        self.deferred: list[tuple[str, Any, Path, str | None]] = []
        self.taken = set(_TAKEN) | {"PENDING_CALL"}
        self.indent = 0
        self.blocks = 0
        self.path: Path = ()
        self.last: str | None = None

    def program(self) -> Program:
        name = self.root[1]
        entry = self._claim(f"{name.lower()}_loop")
        self._function(entry, f"The loop {name}. A name in capitals is an event: False while it has no handlers.")
        self._boundary()
        self._flush()
        while self.deferred:
            function, structure, path, last = self.deferred.pop(0)
            self._line("")
            self._line("")
            self.path, self.last, self.blocks = path[:-1], last, 0
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

    # -- text --------------------------------------------------------------------------------------------------------

    def _line(self, text: str, event: str | None = None, delegates: bool = False) -> None:
        if self.waiting:
            self._flush()
        self._write(text, Line(self.path, event, event or self.last, delegates))

    def _write(self, text: str, line: Line) -> None:
        self.texts.append("    " * self.indent + text if text else "")
        self.lines[len(self.texts)] = line

    def _flush(self) -> None:
        """Write the events that wait: more than one share a test."""
        waiting, self.waiting = self.waiting, []
        if len(waiting) > 1:
            self._write("if any_handlers:", self.ahead)
            self.under_any_handlers |= {name for name, _ in waiting}
        self.indent += len(waiting) > 1
        for name, line in waiting:
            self._write(f"if {name}: yield {name}", line)
        self.indent -= len(waiting) > 1

    def _open(self, text: str, blocks: int = 1) -> None:
        self._line(text)
        self.indent += 1
        self.blocks += blocks

    def _close(self, blocks: int = 1) -> None:
        self._flush()
        self.indent -= 1
        self.blocks -= blocks

    def _function(self, name: str, doc: str) -> None:
        self.indent = 0
        self._line(f"def {name}(engine, state, fetcher):")
        self.indent = 1
        self._line(f'"""{doc}"""')

    def _claim(self, name: str) -> str:
        claimed = _identifier(name, self.taken)
        self.taken.add(claimed)
        return claimed

    def _call(self, state: str, attribute: str, name: str) -> str:
        claimed = self._claim(name)
        self.functions[claimed] = (state, attribute)
        return claimed

    def _event(self, key: str) -> str:
        if key not in self.names:
            self.names[key] = self._claim(event_name(key).replace(".", "_"))
        return self.names[key]

    def _fire(self, key: str) -> None:
        if not self.waiting:
            self.ahead = Line(self.path, None, self.last)
        self.waiting.append((self._event(key), Line(self.path, key, key)))
        self.last = key

    # -- states ------------------------------------------------------------------------------------------------------

    def _boundary(self) -> None:
        self._line("began = perf_counter()")
        self._open("try:")
        self._fire("started")
        self._loop(self.root)
        self._close()
        self._open("except Terminate as ended:")
        self._fire("terminate")
        self._line("if ended.skip_completed: return")
        self._close()
        self._line('state.times["COMPLETED"] = perf_counter() - began')
        self._fire("completed")

    def _loop(self, structure: tuple[Any, ...]) -> None:
        outside = self.path
        is_root = not outside
        if self.blocks > MAX_BLOCKS:
            inner = self._claim(f"{structure[1].lower()}_loop")
            self.deferred.append((inner, structure, (*outside, structure[1]), self.last))
            self._line(f"inner = {inner}(engine, state, fetcher)")
            self._line("yield from inner", delegates=True)
        elif structure[4] == "data":
            self._data_loop(structure)
        elif is_root:
            self._root_loop(structure)
        else:
            self._inner_loop(structure)
        self.path = outside

    def _root_loop(self, structure: tuple[Any, ...]) -> None:
        _, name, started, completed, kind, is_call, *body = structure
        counter = f"state.{name.lower()}"
        if kind == "over":
            self._open(f"for element in islice({self._elements(name, is_call)}, {counter}, None):")
            self._line("if not state.within_limits(): break")
            self._line(f"{counter}_item = element")
            self._line(APPLY_CONTROL)
        else:
            self._open("while state.within_limits():")
        self.path = (name,)
        has_data = self._has_data_inside(body)
        self._count(counter, has_data)
        self._line("began_pass = perf_counter()")
        self._open("try:")
        if not has_data:
            self._forget(body)
        self._fire(started)
        self._body(body)
        if body and not _ends_with_event(body[-1]):
            self._line(APPLY_CONTROL)
        self._close()
        self._open("except TerminateEpoch as ended:")
        if has_data:
            self._line("fetcher.restart()")
        self._fire("terminate_single_epoch")
        if kind == "until":
            until = self._call(name, "until", f"{name.lower()}_until")
            self._line(f"if ended.skip_epoch_completed and {until}(engine): break")
        self._line("if ended.skip_epoch_completed: continue")
        self._close()
        self._line(f'state.times["{event_name(completed)}"] = perf_counter() - began_pass')
        self._fire(completed)
        if kind == "until":
            self._line(f"if {until}(engine): break")
            self._line(APPLY_CONTROL)
        self._close()

    def _inner_loop(self, structure: tuple[Any, ...]) -> None:
        _, name, started, completed, kind, is_call, *body = structure
        counter = f"state.{name.lower()}"
        if kind == "over":
            self._open(f"for {counter}_item in {self._elements(name, is_call)}:")
            self._line(APPLY_CONTROL)
        elif kind == "until":
            self._open("while True:")
        else:
            self._open(f"for _ in range({kind}):")
        self.path = (*self.path, name)
        self._count(counter, self._has_data_inside(body))
        self._fire(started)
        self._body(body)
        self._fire(completed)
        if kind == "until":
            self._line(f"if {self._call(name, 'until', f'{name.lower()}_until')}(engine): break")
            self._line(APPLY_CONTROL)
        self._close()

    def _data_loop(self, structure: tuple[Any, ...]) -> None:
        _, name, started, completed, _, _, *body = structure
        outside = self.path
        expects = f" and state.{name.lower()} < fetcher.end_count"
        self._line("fetcher.begin_epoch()")
        self.path = (*outside, "GET_BATCH")
        get_batch, stop = self._event("get_batch_started"), self._event("dataloader_stop_iteration")
        self._line(f"if {get_batch}{expects}: yield {get_batch}", event="get_batch_started")
        self.last = "get_batch_started"
        self._open("while fetcher.prepare_batches():")
        self._open("for state.batch in fetcher.batches:")
        self.path = (*outside, name)
        self._forget(body)
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
        self._open(f"if {get_batch}{expects}:", blocks=0)
        self._line(f"yield {get_batch}", event="get_batch_started")
        self.last = "get_batch_started"
        self._line("if fetcher.must_refetch: break")
        self._close(blocks=0)
        self._close()
        self._line(f"if PENDING_CALL{expects}: yield PENDING_CALL")
        self._line(f"if fetcher.restart_if_exhausted() and {stop}: yield {stop}", event="dataloader_stop_iteration")
        self._close()
        self.path = outside
        self.last = completed

    def _body(self, body: list[tuple[Any, ...]]) -> None:
        path = self.path
        for before, item in zip([None, *body], body, strict=False):
            kind, name, *_ = item
            if kind is Loop:
                if before is not None and not _ends_with_event(before):
                    self._line(APPLY_CONTROL)
                self._loop(item)
                continue
            self.path = path if kind is OpaqueStep else (*path, name)
            if kind is OpaqueStep:
                self._line(f"state.output = {self._call(name, 'run', 'step')}(engine, state.batch)")
            elif kind is EventPoint:
                self._fire(item[2])
            else:
                self._phase(item, path)
            self.path = path

    def _phase(self, structure: tuple[Any, ...], around: Path) -> None:
        _, name, started, completed, when, runs = structure
        before = self.last
        if when is not None:
            self.path = around
            counter = f"state.{around[-1].lower()}"
            if when == "asked":
                holds = f"{self._call(name, 'when', f'{name.lower()}_when')}(engine)"
            else:
                holds = f"{counter} % {when[1]} == 0"
            self._open(f"if {holds}:", blocks=0)
            self.path = (*around, name)
        self._fire(started)
        if runs:
            self._line(f"output = {self._call(name, 'run', name.lower())}(engine, state.batch)")
            self._line("if output is not None: state.output = output")
        self._fire(completed)
        if when is not None:
            self._close(blocks=0)
            self.last = before

    def _elements(self, name: str, is_call: bool) -> str:
        return self._call(name, "over", f"{name.lower()}_over") + ("(engine)" if is_call else "")

    def _count(self, counter: str, is_around_data: bool) -> None:
        self._line(f"{'if not state.resumed: ' if is_around_data else ''}{counter} += 1")

    def _has_data_inside(self, body: Sequence[tuple[Any, ...]]) -> bool:
        return any(item[0] is Loop and (item[4] == "data" or self._has_data_inside(item[6:])) for item in body)

    def _forget(self, body: list[tuple[Any, ...]]) -> None:
        """Nothing that an earlier pass gave is kept alive in this one."""
        self._line("state.output = output = None" if Phase in _kinds(body) else "state.output = None")


def _ends_with_event(item: tuple[Any, ...]) -> bool:
    """Whether a state fires an event last, always, and runs no code of a user behind it."""
    return item[0] is EventPoint or (item[0] is Phase and item[4] is None)


def _kinds(body: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    for item in body:
        yield item[0]
        if item[0] is Loop:
            yield from _kinds(item[6:])
