"""Loops, machines and traces in words: what ``print`` and ``repr`` show of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import Phase
from camshaft.trace.log import TraceEvent, TraceLog

__all__ = ["event_lines", "trace_text"]


DEEPEST = 50
"""Traces in which engines are nested deeper than this are shown event by event."""


def trace_text(trace: TraceLog) -> str:
    """A trace as an indented tree. Passes of a loop that are alike, but for their numbers, are shown once."""
    if any(trace.depth(run) > DEEPEST for run in range(len(trace.runs))):
        return "\n".join(event_lines(map(trace.event, range(len(trace)))))
    return "\n".join(_Tree(trace).lines()) if trace.runs else "nothing was recorded"


def event_lines(events: Iterable[TraceEvent]) -> list[str]:
    """Return one line an event: indented by nesting, with engine, event and count."""
    return ["  " * event.depth + str(event) for event in events]


class _Tree:
    """Reads a trace from start to end, and indents it."""

    def __init__(self, trace: TraceLog) -> None:
        self.trace = trace
        self.opens = [
            {item.started: item.completed for _, item in run.loop.walk() if isinstance(item, (Loop, Phase))}
            for run in trace.runs
        ]
        self.raw_events = list(trace.raw_events())
        self.position = 0

    def lines(self) -> list[str]:
        """The text."""
        return self._runs(None, 0)

    def _runs(self, parent: int | None, depth: int) -> list[str]:
        lines: list[str] = []
        runs = self.trace.runs
        while self.position < len(self.raw_events):
            run = self.raw_events[self.position][0]
            if runs[run].parent != parent:
                break
            lines.append("  " * depth + runs[run].engine)
            lines += self._events(run, depth + 1, None)
        return lines

    def _events(self, run: int, depth: int, until: str | None) -> list[str]:
        """The events of a run up to one that closes the group it stands in."""
        runs = self.trace.runs
        blocks: list[tuple[str, list[str]]] = []
        while self.position < len(self.raw_events):
            here = self.raw_events[self.position][0]
            if here != run:
                if runs[here].parent != run:
                    break
                inside = self._runs(run, depth + 1)
                if blocks:
                    blocks[-1][1].extend(inside)  # it ran in a handler of that event
                else:
                    blocks.append(("", inside))
                continue
            _, key, count, _ = self.raw_events[self.position]
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
