"""Traces as text: the tree shown by ``print``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import Phase
from camshaft.trace.log import TraceEvent, TraceLog

__all__ = ["event_lines", "trace_text"]


DEEPEST = 50
"""The maximum depth of nested engines in a tree. Deeper traces are shown event by event.

The tree is built by recursion, and Python limits the depth of recursion.
"""


def trace_text(trace: TraceLog) -> str:
    """Return a trace as an indented tree. Passes of a loop with equal events are shown once."""
    if any(trace.depth(run) > DEEPEST for run in range(len(trace.runs))):
        return "\n".join(event_lines(map(trace.event, range(len(trace)))))
    return "\n".join(_Tree(trace).lines()) if trace.runs else "nothing was recorded"


def event_lines(events: Iterable[TraceEvent]) -> list[str]:
    """Return one line for each event: indented by nesting, with engine, event and count."""
    return ["  " * event.depth + str(event) for event in events]


class _Tree:
    """The tree of a trace, built in one pass from the first event to the last."""

    def __init__(self, trace: TraceLog) -> None:
        self.trace = trace
        self.completed_by = [  # for each run, by entering event: the leaving event of the same state
            {item.started: item.completed for _, item in run.loop.walk() if isinstance(item, (Loop, Phase))}
            for run in trace.runs
        ]
        self.events = list(trace.raw_events())
        self.position = 0

    def lines(self) -> list[str]:
        """Return the lines of the tree."""
        return self._runs(None, 0)

    def _runs(self, parent: int | None, depth: int) -> list[str]:
        """Return the lines of all runs inside ``parent`` from here on."""
        lines: list[str] = []
        runs = self.trace.runs
        while self.position < len(self.events):
            run = self.events[self.position][0]
            if runs[run].parent != parent:
                break
            lines.append("  " * depth + runs[run].engine)
            lines += self._events(run, depth + 1, None)
        return lines

    def _events(self, run: int, depth: int, until: str | None) -> list[str]:
        """Return the lines of a run's events, up to ``until``, the leaving event of the surrounding state."""
        runs = self.trace.runs
        blocks: list[list[str]] = []  # an event, with everything below it
        while self.position < len(self.events):
            current_run, key, count, _ = self.events[self.position]
            if current_run != run:
                if runs[current_run].parent != run:
                    break
                nested = self._runs(run, depth + 1)
                if blocks:
                    blocks[-1].extend(nested)  # a handler of the last event ran it
                else:
                    blocks.append(nested)
                continue
            # A failure leaves all states at once, so the event belongs to none of them.
            if until is not None and key == "exception_raised":
                break
            line = f"{'  ' * depth}{event_name(key)} {count}"
            self.position += 1
            if key == until:
                blocks.append([line])
                break
            completed = self.completed_by[run].get(key)
            inner = self._events(run, depth + 1, completed) if completed else []
            if inner and event_name(str(completed)) == inner[-1].split()[0]:
                inner[-1] = inner[-1][2:]  # show the leaving event at the indentation of the entering one
            blocks.append([line, *inner])
        return list(_merge_passes(blocks, depth))


def _merge_passes(blocks: list[list[str]], depth: int) -> Iterator[str]:
    """Yield the lines of all blocks. Of consecutive equal passes only the first is shown, with a number."""
    passes: list[list[str]] = [[]]
    for lines in blocks:
        passes[-1] += lines
        if len(lines) > 1:  # a state was entered and left: the next block belongs to the next pass
            passes.append([])
    for _, group in groupby(passes, key=lambda lines: [line.rstrip("0123456789") for line in lines]):
        first, *alike = group
        yield from first
        if alike:
            yield f"{'  ' * depth}... and {len(alike)} more like this"
