"""Traces: the ordered record of what fired, with nesting where one engine runs inside another.

A trace carries the declaration of every loop that ran, so that it can be judged by itself, in another process too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath

from camshaft._views import Picture, view
from camshaft.loop.loop import Loop
from camshaft.trace.chrome_trace import export_chrome_trace
from camshaft.trace.files import load_trace, save_trace
from camshaft.trace.judge import judge, violations
from camshaft.trace.log import TraceLog
from camshaft.trace.selection import Selection
from camshaft.trace.text import trace_text
from camshaft.trace.violations import Violation

__all__ = ["Trace"]


class Trace(TraceLog, Selection):
    """What fired while :func:`camshaft.record` was recording, in order. Iterating gives :class:`TraceEvent` objects.

    The record itself, with its attributes, is a :class:`~camshaft.trace.log.TraceLog`.
    """

    def __init__(self) -> None:
        TraceLog.__init__(self)
        self.trace = self

    @property
    def indices(self) -> range:  # type: ignore[override]
        """All of them."""
        return range(len(self))

    # -- reading -----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """The trace as an indented tree, equal passes of a loop shown once."""
        return trace_text(self)

    def __repr__(self) -> str:
        return f"<Trace: {self.summary()}>"

    def diagram(self, engine: str | None = None, level: str = "overview", *, control: bool = False) -> Picture:
        """The picture of a loop with its runs drawn over it.

        States carry how often they were entered and their share of the time, edges how often they were taken. Custom
        states that the engine's own code enters stand in the order that was observed, and so do engines that handlers
        ran: dashed, because no declaration says so.

        Args:
            engine: whose; that of the first run unless given.
            level: ``"overview"`` or ``"full"``: see :meth:`camshaft.Loop.diagram`.
            control: show what control calls and failures bring, instead of one edge for all of it.

        Raises:
            ValueError: there is no such level, or no engine of that name was recorded.
        """
        picture: Picture = view("trace_diagram")(self, engine, level, control)
        return picture

    # -- judging -----------------------------------------------------------------------------------------------------

    def assert_legal(self, loop: Loop | None = None) -> None:
        """Judge every run by its loop: its path through the machine, its counters, its end, and where it is nested.

        Args:
            loop: judge the outermost runs by this loop instead of the one that was recorded with them.

        Raises:
            EventOrderError: the first event that is illegal, with what stood before it and what was expected.
            TypeError: ``loop`` is no loop.
        """
        __tracebackhide__ = True
        judge(self, loop)

    def violations(self, loop: Loop | None = None) -> list[Violation]:
        """Everything that :meth:`assert_legal` finds fault with, where that raises at the first.

        After a violation the run is judged on from where the illegal event leads to, and what its counters cannot
        tell any more is taken from the record: one event that is lost or came twice is one violation. Of two runs that
        lie wrongly in each other, only the first event that does is listed.

        Args:
            loop: judge the outermost runs by this loop instead of the one that was recorded with them.

        Returns:
            The violations, by the numbers of their events; empty where the trace is legal.

        Raises:
            TypeError: ``loop`` is no loop.
        """
        return sorted(violations(self, loop), key=lambda violation: violation.number)

    # -- files and writing -------------------------------------------------------------------------------------------

    def save(self, path: str | FilePath) -> None:
        """Write the trace as JSON lines, with the declaration of each loop in it."""
        save_trace(self, path)

    def export_chrome_trace(self, path: str | FilePath) -> None:
        """Write the trace as a timeline that Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

        Runs and states are slices, nested runs inside the state that called them; all other events are instants. The
        name is that of ``torch.profiler``'s method, and the format the same: the Trace Event Format,
        https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
        """
        export_chrome_trace(self, path)

    @classmethod
    def load(cls, path: str | FilePath) -> Trace:
        """Read a trace that :meth:`save` wrote.

        Raises:
            TraceError: the file is no trace, of another version, or cut short.
        """
        trace = cls()
        load_trace(trace, path)
        return trace

    def rearranged(self, order: Sequence[int]) -> Trace:
        """A trace of the same runs with these events, by index: some may be left out, moved or doubled.

        It is for testing what judges traces. Each run goes on from its first event to its last without a pause.
        """
        made = Trace()
        made.runs = self.runs
        for index in order:
            event = self.event(index)
            made.append(self._run[index], event.event, event.count, event.time, event.site)
        first: dict[int, int] = {}
        past: dict[int, int] = {}
        for index, run in enumerate(made._run):
            first.setdefault(run, index)
            past[run] = index + 1
        made.segments = [[run, first[run], past[run]] for run in first]
        return made
