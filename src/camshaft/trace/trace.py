"""The trace: the ordered record of all fired events, with nested runs inside their calling runs.

A trace carries the declaration of every recorded loop, so another process can judge it without the code of the engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath

from camshaft._views import Picture, view
from camshaft.loop.loop import Loop
from camshaft.trace.files import load_trace, save_trace
from camshaft.trace.legal_order import judge, violations
from camshaft.trace.log import TraceLog
from camshaft.trace.selection import Selection
from camshaft.trace.text import trace_text
from camshaft.trace.violations import Violation

__all__ = ["Trace"]


class Trace(TraceLog, Selection):
    """All events that fired while :func:`camshaft.record` was recording, in order.

    This class is the table of contents of the package. Each group of methods is implemented by one module:

    - the record itself, with ``runs`` and ``handler_times``: :class:`~camshaft.trace.log.TraceLog` in ``log``, written
      by ``recording``;
    - sequence access, ``select``, ``count``, ``counts``, ``table``, ``lines``, ``assert_matches``:
      :class:`~camshaft.trace.selection.Selection` in ``selection``, with ``pattern`` and ``spans``;
    - ``print(trace)``: ``text``;
    - ``assert_legal`` and ``violations``: ``legal_order``, ``legal_nesting`` and ``violations``;
    - ``save`` and ``load``: ``files``;
    - ``export_chrome_trace``: ``chrome_trace``;
    - ``diagram``: :mod:`camshaft.draw`.

    Iterating over a trace gives :class:`TraceEvent` objects.
    """

    def __init__(self) -> None:
        TraceLog.__init__(self)
        self.trace = self

    @property
    def indices(self) -> range:  # type: ignore[override]
        """The indices of all events: a trace is the selection of all its own events."""
        return range(len(self))

    # -- reading: text.py, and camshaft.draw for the picture ---------------------------------------------------------

    def __str__(self) -> str:
        """Return the trace as an indented tree. Equal passes of a loop are shown once."""
        return trace_text(self)

    def __repr__(self) -> str:
        return f"<Trace: {self.summary()}>"

    def diagram(self, engine: str | None = None, level: str = "overview", *, control: bool = False) -> Picture:
        """Draw a loop with its recorded runs over it.

        States show how often they were entered and their share of the time. Edges show how often they were taken.
        Custom states entered by the engine's own code, and engines run by handlers, are drawn in the observed order.
        Both are dashed, because no declaration fixes their order.

        Args:
            engine: the name of an engine; the engine of the first run if not given.
            level: ``"overview"`` or ``"full"``: see :meth:`camshaft.Loop.diagram`.
            control: draw each effect of control calls and failures, instead of one edge for all of them.

        Returns:
            A picture, to be saved in one of several formats or shown in a notebook.

        Raises:
            ValueError: there is no such level, or no engine of this name was recorded.
        """
        picture: Picture = view("trace_diagram")(self, engine, level, control)
        return picture

    # -- judging: legal_order.py, legal_nesting.py, violations.py -----------------------------------------------------

    def assert_legal(self, loop: Loop | None = None) -> None:
        """Judge every run by its loop: its path through the machine, its counters, its end, and its nesting.

        Args:
            loop: judge the outermost runs by this loop instead of the recorded one.

        Raises:
            EventOrderError: an event is illegal. The message describes the first one, with the events before it and
                the expected events.
            TypeError: ``loop`` is not a Loop.
        """
        __tracebackhide__ = True
        judge(self, loop)

    def violations(self, loop: Loop | None = None) -> list[Violation]:
        """Return all violations of the trace. :meth:`assert_legal` raises an error for the first one only.

        After a violation, judging continues from the place after the illegal event. Uncertain counts are then taken
        from the record. So one lost or repeated event is one violation. If two runs are
        nested wrongly in each other, only the first misplaced event is listed.

        Args:
            loop: judge the outermost runs by this loop instead of the recorded one.

        Returns:
            The violations, sorted by the numbers of their events; empty if the trace is legal.

        Raises:
            TypeError: ``loop`` is not a Loop.
        """
        return sorted(violations(self, loop), key=lambda violation: violation.number)

    # -- files: files.py, chrome_trace.py ----------------------------------------------------------------------------

    def save(self, path: str | FilePath) -> None:
        """Write the trace to a file of JSON lines, with the declaration of each loop in it."""
        save_trace(self, path)

    @classmethod
    def load(cls, path: str | FilePath) -> Trace:
        """Read a trace from a file written by :meth:`save`.

        Raises:
            TraceError: the file is not a trace, has another version, or is damaged or cut short.
        """
        trace = cls()
        load_trace(trace, path)
        return trace

    def export_chrome_trace(self, path: str | FilePath) -> None:
        """Write the trace as a timeline for Perfetto (https://ui.perfetto.dev) and chrome://tracing.

        Runs and states are slices. Nested runs lie inside the state of their call. All other events are instants.
        The name is that of ``torch.profiler``'s method, and the format is the same: the Trace Event Format,
        https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
        """
        from camshaft.trace.chrome_trace import export_chrome_trace  # loaded when needed: import camshaft stays fast

        export_chrome_trace(self, path)

    # -- editing: for tests of tools that judge traces ---------------------------------------------------------------

    def rearranged(self, order: Sequence[int]) -> Trace:
        """Return a trace of the same runs with these events, by index. Events may be left out, moved or repeated.

        Use it to test tools for judging traces. In the new trace each run goes on from its first event to its last
        without a pause.
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
