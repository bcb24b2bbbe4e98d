"""Loops, machines and traces in words: what ``print`` and ``repr`` show of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from camshaft.events import event_name
from camshaft.loop.loop import DATA, RUN, Free, Loop, Mark, Phase, Step, condition, own_events
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition_table import COMPLETED, CONTROL, ENDS, FAILED, TERMINATED, Row
from camshaft.trace.trace import Trace

__all__ = ["declaration", "duration", "loop_text", "machine_text", "trace_text"]

OF_A_BATCH = ("get_batch_started", "get_batch_completed", "dataloader_stop_iteration", "iteration_skipped")

WIDTH = 110
"""Declarations longer than this are broken into lines."""


def loop_text(loop: Loop) -> str:
    """A loop as a tree of states, from STARTED to COMPLETED."""
    lines: list[str] = []

    def nested_at(events: Iterable[str], depth: int) -> None:
        for nested in loop.nested:
            if nested.on.key in events:
                lines.append(f"{'  ' * depth}[{nested.name}] at {nested.on!r}")

    def draw(item: Any, depth: int, around: str | None) -> None:
        words = condition(item, around)
        note = "  (opaque)" if isinstance(item, Step) else f"  {words}" if words else ""
        lines.append(f"{'  ' * depth}{item.name}{note}")
        if isinstance(item, Loop):
            for child in item.body:
                draw(child, depth + 1, item.name.lower())
        frees(item.name, depth + 1)
        nested_at(own_events(item), depth + 1)
        if item is loop.data_loop:
            nested_at(OF_A_BATCH, depth + 1)

    def frees(scope: str, depth: int) -> None:
        for free in loop.free:
            if free.within == scope:
                order = "in the declared order" if free.order else "wherever your code fires it"
                lines.append(f"{'  ' * depth}{free.name}  ({order})")
                nested_at(free.events, depth + 1)

    lines.append("STARTED")
    nested_at(("started",), 1)
    draw(loop, 0, None)
    frees(RUN, 0)
    lines.append("COMPLETED")
    nested_at(("completed",), 1)
    nested_at(CONTROL, 0)
    return "\n".join(lines)


DEEPEST = 50
"""Traces in which engines are nested deeper than this are shown event by event."""


def declaration(item: Any, indent: int = 0) -> str:
    """The Python that declares a state; functions stand there by name."""
    arguments = [_argument(value, indent + 4) for value in _positional(item)]
    arguments += [f"{name}={_argument(value, indent + 4)}" for name, value in _named(item).items()]
    call = f"{type(item).__name__}({', '.join(arguments)})"
    if len(call) + indent <= WIDTH and "\n" not in call:
        return call
    margin = "\n" + " " * indent
    return f"{type(item).__name__}({''.join(f'{margin}    {argument},' for argument in arguments)}{margin})"


def _positional(item: Any) -> tuple[Any, ...]:
    if isinstance(item, Loop):
        return (item.name, *item.body)
    if isinstance(item, Free):
        return (item.name, item.started, item.completed, item.within)
    if isinstance(item, Mark):
        return (item.event,)
    name = (item.name,) if isinstance(item, Phase) else ()
    return name if item.run is None else (*name, item.run)


def _named(item: Any) -> dict[str, Any]:
    """The fields that are given by name, where they differ from what they are by themselves."""
    lower = item.name.lower()
    plain: dict[str, Any] = {"when": None, "over": None, "times": None, "until": None}
    plain |= {"started": f"{lower}_started", "completed": f"{lower}_completed", "free": (), "order": ()}
    taken = _BY_NAME.get(type(item), ())
    return {name: getattr(item, name) for name in taken if getattr(item, name) != plain[name]}


_BY_NAME = {
    Loop: ("over", "times", "until", "started", "completed", "free"),
    Phase: ("when", "started", "completed"),
    Free: ("order",),
}


def _argument(value: Any, indent: int) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(_argument(part, indent) for part in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, (Loop, Phase, Step, Mark, Free)):
        return declaration(value, indent)
    if isinstance(value, str):
        return json.dumps(value)
    return str(getattr(value, "__qualname__", repr(value)))


def machine_text(machine: LoopMachine) -> str:
    """A machine as text: each place, and the transitions out of it."""
    return "\n".join(_machine_lines(machine))


def _machine_lines(machine: LoopMachine) -> Iterator[str]:
    """The machine as text: places with the same ways out together; what is possible everywhere is said once, below."""
    loop = machine.loop
    names = {free.name for free in loop.free}
    aside = {event for free in loop.free for event in free.events} | CONTROL
    alike: dict[tuple[str, ...], list[str]] = {}
    for place, ways in machine.table.items():
        if place in ENDS or ("/" in place and place.rpartition("/")[2] in names):
            continue
        rows = tuple(_describe_row(row) for row in ways.values() if row.event not in aside)
        alike.setdefault(rows, []).append(place)
    for rows, places in alike.items():
        yield ", ".join(places)
        yield from rows
    scopes: dict[tuple[str, bool], list[Free]] = {}
    for free in loop.free:
        scopes.setdefault((free.within, bool(free.order)), []).append(free)
    for (within, is_declared), frees in scopes.items():
        yield f"anywhere within {within}, in {'the declared' if is_declared else 'any'} order"
        for free in frees:
            events = [event_name(event) for event in free.events]
            yield "  " + (f" -> {free.name} -> ".join(events) if free.is_pair else f"{events[0]} -> {free.name}")
    yield "anywhere in the run"
    yield f"  TERMINATE -> {TERMINATED}, then COMPLETED unless it is skipped -> {COMPLETED}"
    if loop.over is not DATA:
        yield f"  TERMINATE_SINGLE_EPOCH, within {loop.name} -> {loop.name}/TERMINATED,"
        yield f"      then {event_name(loop.completed)} unless it is skipped"
    yield "  INTERRUPT -> the same place, where the next run goes on"
    yield f"  EXCEPTION_RAISED -> {FAILED}"


def _describe_row(row: Row) -> str:
    guards = " and ".join(guard.text for guard in row.guards)
    return f"  {event_name(row.event)} -> {row.dest}" + (f"\n      if {guards}" if guards else "")


def trace_text(trace: Trace) -> str:
    """A trace as an indented tree. Passes of a loop that are alike, but for their numbers, are shown once."""
    if any(trace.depth(run) > DEEPEST for run in range(len(trace.runs))):
        return "\n".join(trace.lines())
    return "\n".join(_Tree(trace).lines()) if trace.runs else "nothing was recorded"


class _Tree:
    """Reads a trace from start to end, and indents it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.opens = [
            {item.started: item.completed for _, item in run.loop.walk() if isinstance(item, (Loop, Phase))}
            for run in trace.runs
        ]
        self.rows = list(trace.rows())
        self.position = 0

    def lines(self) -> list[str]:
        """The text."""
        return self._runs(None, 0)

    def _runs(self, parent: int | None, depth: int) -> list[str]:
        lines: list[str] = []
        runs = self.trace.runs
        while self.position < len(self.rows):
            run = self.rows[self.position][0]
            if runs[run].parent != parent:
                break
            lines.append("  " * depth + runs[run].engine)
            lines += self._events(run, depth + 1, None)
        return lines

    def _events(self, run: int, depth: int, until: str | None) -> list[str]:
        """The events of a run up to one that closes the group it stands in."""
        runs = self.trace.runs
        blocks: list[tuple[str, list[str]]] = []
        while self.position < len(self.rows):
            here = self.rows[self.position][0]
            if here != run:
                if runs[here].parent != run:
                    break
                inside = self._runs(run, depth + 1)
                if blocks:
                    blocks[-1][1].extend(inside)  # it ran in a handler of that event
                else:
                    blocks.append(("", inside))
                continue
            _, key, count, _ = self.rows[self.position]
            if until is not None and key == "exception_raised":
                break
            line = f"{'  ' * depth}{event_name(key)} {count}"
            self.position += 1
            if key == until:
                blocks.append((key, [line]))
                break
            closing = self.opens[run].get(key)
            inner = self._events(run, depth + 1, closing) if closing else []
            if inner and event_name(str(closing)) == inner[-1].split()[0]:
                inner[-1] = inner[-1][2:]  # the event that leaves stands under the one that enters
            blocks.append((key, [line, *inner]))
        return list(_merged(blocks, depth))


def _merged(blocks: list[tuple[str, list[str]]], depth: int) -> Iterator[str]:
    """The lines of all blocks; passes that are alike and follow each other are shown as the first and a number."""
    passes: list[list[str]] = [[]]
    for _, lines in blocks:
        passes[-1] += lines
        if len(lines) > 1:  # a state was entered and left: what comes next belongs to the next pass
            passes.append([])
    for _, group in groupby(passes, key=lambda lines: [line.rstrip("0123456789") for line in lines]):
        first, *alike = group
        yield from first
        if alike:
            yield f"{'  ' * depth}... and {len(alike)} more like this"


def duration(value: float) -> str:
    """Seconds, as people read them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
