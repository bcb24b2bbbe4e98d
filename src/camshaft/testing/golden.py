"""Golden traces: the events of a run as a text file next to the test, reviewed like code and compared at each run.

The first line of a file has the format and its version. Each further line is an event: the engine's name, the event and
the count, indented by the depth of nesting. The file has no times, so that the same run gives the same bytes.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from camshaft.events import event_key, event_name
from camshaft.trace.log import TraceEvent
from camshaft.trace.recording import record
from camshaft.trace.selection import Selection
from camshaft.trace.trace import Trace

__all__ = ["HEADER", "Comparison", "Golden", "difference", "golden_text", "last_events", "first_difference"]

HEADER = "# camshaft golden trace 1"
ADVICE = "run pytest with --update-traces"

CONTEXT = 3
"""The number of equal lines that are shown before the first difference."""

COMPARED = 100
"""The number of lines that are compared from there on. A diff of many more lines is slow, and nobody reads it."""

SHOWN = 40
"""The number of lines of the diff that are shown."""


def golden_text(trace: Trace) -> str:
    """Return a trace as the text of a golden file."""
    return "\n".join([HEADER, *map(_line, trace)]) + "\n"


def last_events(trace: Trace, number: int = 30) -> str:
    """Return the last ``number`` events of a trace as text, each with its number in the trace."""
    if not len(trace):
        return "nothing was recorded"
    first = max(0, len(trace) - number)
    shown = f"{len(trace):,} events, the last {number}:" if first else f"{len(trace)} event{'s' * (len(trace) != 1)}:"
    width = len(str(len(trace)))
    lines = [f"{index:>{width}}  {_line(event)}" for index, event in enumerate(trace[first:], first + 1)]
    return "\n".join([shown, *lines])


def _line(event: TraceEvent) -> str:
    """Return an event as a line of a golden file."""
    line = f"{'  ' * event.depth}{event.engine} {event_name(event.event)} {event.count}"
    return line if line.isprintable() else line.encode("unicode_escape").decode()  # a name may contain line breaks


@attrs.frozen
class Golden:
    """The golden files of a folder: compares traces with them, or writes them.

    Args:
        folder: the folder.
        update: True to write the files instead of comparing.
        written: the texts that were written in this session, by path. All tests share it.
    """

    folder: Path
    update: bool
    written: dict[str, str] = attrs.field(repr=False)

    def __call__(self, name: str, *engines: Any) -> Comparison:
        """Return a context manager that records, and compares with ``<folder>/<name>.txt`` at the end of its block.

        Args:
            name: the name of the file without ``.txt``. A ``/`` in it makes folders.
            engines: the engines to record. Without them, every engine that runs is recorded.

        Raises:
            TypeError: ``name`` is no string.
            ValueError: ``name`` is not the name of a file inside the folder.
        """
        __tracebackhide__ = True
        if not isinstance(name, str):
            advice = "give it before the engines, as in golden_trace('two_epochs', trainer)"
            raise TypeError(f"name must be a string, got {name!r}: {advice}")
        return Comparison(self, self._path(name), engines)

    def _path(self, name: str) -> Path:
        __tracebackhide__ = True
        parts = name.split("/")
        if not name.isprintable() or set("\\:") & set(name) or {"", ".", ".."} & set(parts):
            raise ValueError(f"name must name a file in {_shown(self.folder)}, such as 'two_epochs', got {name!r}")
        return self.folder.joinpath(*parts[:-1], f"{parts[-1]}.txt")

    def compare_or_write(self, path: Path, trace: Trace) -> None:
        """Compare a trace with a file, or write it to the file.

        Raises:
            AssertionError: the trace is empty, the file is missing or differs, or another test of this session wrote
                other events to it.
        """
        __tracebackhide__ = True
        if not len(trace):
            raise AssertionError(
                f"nothing was recorded for {_shown(path)}: no engine ran, or none of those given to golden_trace"
            )
        text = golden_text(trace)
        if self.update:
            self._write(path, text)
        else:
            _compare(path, text)

    def _write(self, path: Path, text: str) -> None:
        __tracebackhide__ = True
        if self.written.get(str(path), text) != text:
            raise AssertionError(f"{_shown(path)} was already written with other events: give each trace its own name")
        path.parent.mkdir(parents=True, exist_ok=True)
        # tests run in several processes: no other one may read half a file
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            os.replace(unfinished, path)
            self.written[str(path)] = text
        finally:
            unfinished.unlink(missing_ok=True)


class Comparison:
    """A context manager that records, and compares at the end of its block unless the block raised an exception."""

    def __init__(self, golden: Golden, path: Path, engines: tuple[Any, ...]) -> None:
        self._golden = golden
        self._path = path
        self._recording = record(*engines)

    def __enter__(self) -> Trace:
        self._trace = self._recording.__enter__()
        return self._trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._recording.__exit__(kind, error, trace)
        if error is None:
            self._golden.compare_or_write(self._path, self._trace)


def _compare(path: Path, text: str) -> None:
    """Compare a text with a golden file.

    Raises:
        AssertionError: the file is missing, has no header, or differs.
    """
    __tracebackhide__ = True
    try:
        written = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise AssertionError(f"{_shown(path)} does not exist: {ADVICE} to write it") from None
    fired = text.splitlines()
    if written == fired:
        return
    if written[:1] != [HEADER]:
        first = written[0] if written else ""
        raise AssertionError(
            f"{_shown(path)} does not begin with {HEADER!r}, but with {first!r}: {ADVICE} to write it again"
        )
    number, diff = difference(written[1:], fired[1:])
    raise AssertionError(
        "\n".join(
            [
                f"the trace differs from {_shown(path)} at event {number}",
                f"--- {_shown(path)}, {_events(len(written) - 1)}",
                f"+++ this run, {_events(len(fired) - 1)}",
                *diff,
                f"if the change is intended, {ADVICE}",
            ]
        )
    )


def difference(expected: Sequence[str], found: Sequence[str]) -> tuple[int, list[str]]:
    """Return the first difference of two lists of lines, and a diff around it.

    Equal lines at both ends are removed first, so that long lists are fast. Of the rest, only the first lines are
    compared.

    Returns:
        The number of the first different line, from 1, and the lines of the diff.
    """
    shorter = min(len(expected), len(found))
    start = _common(expected, found, shorter)
    same_end = _common(list(reversed(expected)), list(reversed(found)), shorter - start)
    first = max(0, start - CONTEXT)
    old, new = (lines[first : min(len(lines) - same_end + CONTEXT, start + COMPARED)] for lines in (expected, found))
    diff = list(difflib.unified_diff(old, new, n=COMPARED, lineterm=""))[3:]  # without its three headings
    is_cut = len(diff) > SHOWN or max(len(expected), len(found)) - same_end > start + COMPARED
    return start + 1, [*diff[:SHOWN], *["..."] * is_cut]


def first_difference(found: Any, expected: Any) -> list[str] | None:
    """Return the first difference of two traces, or of a trace and a list of events; None for anything else."""
    if isinstance(expected, Selection) and not isinstance(found, Selection):
        found, expected = expected, found
    if not isinstance(found, Selection) or not isinstance(expected, (Selection, list, tuple)) or found == expected:
        return None  # pytest also asks about equal parts of an assertion that fails elsewhere
    if isinstance(expected, Selection):
        lines = [[_line(event) for event in events] for events in (found, expected)]
        index = difference(lines[1], lines[0])[0] - 1
    else:
        keys = [[event.event for event in found], [getattr(one, "event", None) or event_key(one) for one in expected]]
        lines = [[event_name(key) for key in side] for side in keys]
        index = difference(keys[1], keys[0])[0] - 1
    found_line, expected_line = (side[index] if index < len(side) else "nothing more" for side in lines)
    if found_line == expected_line:  # a string in capitals looks like an event, but is none
        expected_line += f" ({keys[1][index]!r} names no event: write {keys[0][index]!r})"
    numbers = [event.number for event in found[max(0, index - 2) : index + 1]]
    before = [
        f"    {number}  {line}" for number, line in zip(numbers, lines[0][max(0, index - 2) : index], strict=False)
    ]
    shown = f"{numbers[-1]}  " if index < len(found) else ""
    return [
        f"{_events(len(found))}, {len(expected)} expected; the first difference:",
        *before,
        f"  > {shown}{found_line}",
        f"  expected: {expected_line}",
    ]


def _common(one: Sequence[str], other: Sequence[str], limit: int) -> int:
    """Return the number of equal lines at the start of two lists, at most ``limit``."""
    pairs = enumerate(islice(zip(one, other, strict=False), limit))
    return next((index for index, (first, second) in pairs if first != second), limit)


def _events(number: int) -> str:
    return f"{number} event{'s' * (number != 1)}"


def _shown(path: Path) -> str:
    """Return a path for messages: relative to the working directory if it is inside."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
