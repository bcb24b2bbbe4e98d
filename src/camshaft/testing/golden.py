"""Golden traces: what fired, kept as a text file beside the test, to be reviewed like code and compared at each run.

The first line of a file names the format and its version. Then comes one line an event: indented by how many engines
were around, the engine's name, the event, the count. There are no times in it: the same run gives the same bytes.
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
"""How many equal lines are shown before the first that differs."""

COMPARED = 100
"""How many lines are compared from there on: a diff of much more takes long, and nobody reads it."""

SHOWN = 40
"""How many lines of the diff are shown."""


def golden_text(trace: Trace) -> str:
    """A trace as the text of a golden file."""
    return "\n".join([HEADER, *map(_line, trace)]) + "\n"


def last_events(trace: Trace, number: int = 30) -> str:
    """The end of a trace as text, each event with its number."""
    if not len(trace):
        return "nothing was recorded"
    first = max(0, len(trace) - number)
    shown = f"{len(trace):,} events, the last {number}:" if first else f"{len(trace)} event{'s' * (len(trace) != 1)}:"
    width = len(str(len(trace)))
    lines = [f"{index:>{width}}  {_line(event)}" for index, event in enumerate(trace[first:], first + 1)]
    return "\n".join([shown, *lines])


def _line(event: TraceEvent) -> str:
    line = f"{'  ' * event.depth}{event.engine} {event_name(event.event)} {event.count}"
    return line if line.isprintable() else line.encode("unicode_escape").decode()  # a name may hold anything


@attrs.frozen
class Golden:
    """Compares what is recorded with the golden files of a folder, or writes them.

    Args:
        folder: where they are.
        update: whether to write them.
        written: what was written in this session, by path; shared by all tests.
    """

    folder: Path
    update: bool
    written: dict[str, str] = attrs.field(repr=False)

    def __call__(self, name: str, *engines: Any) -> Comparison:
        """What records, and compares with ``<folder>/<name>.txt`` at the end of its ``with`` block.

        Args:
            name: the file, without its ending; a ``/`` makes folders.
            engines: record only these; every engine that runs unless given.

        Raises:
            TypeError: the name is no string.
            ValueError: the name would leave the folder, or is no name of a file.
        """
        __tracebackhide__ = True
        if not isinstance(name, str):
            raise TypeError(
                f"{name!r} is no name: give one before the engines, as in golden_trace('two_epochs', trainer)"
            )
        return Comparison(self, self._path(name), engines)

    def _path(self, name: str) -> Path:
        __tracebackhide__ = True
        parts = name.split("/")
        if not name.isprintable() or set("\\:") & set(name) or {"", ".", ".."} & set(parts):
            raise ValueError(f"{name!r} names no file in {_shown(self.folder)}: give a name such as 'two_epochs'")
        return self.folder.joinpath(*parts[:-1], f"{parts[-1]}.txt")

    def compare_or_write(self, path: Path, trace: Trace) -> None:
        """Compare a trace with a file, or write it there.

        Raises:
            AssertionError: the file is missing, the trace is another one, or nothing was recorded.
        """
        __tracebackhide__ = True
        if not len(trace):
            raise AssertionError(
                f"nothing was recorded for {_shown(path)}: no engine ran, or none of those that are named"
            )
        text = golden_text(trace)
        if self.update:
            self._write(path, text)
        else:
            _compare(path, text)

    def _write(self, path: Path, text: str) -> None:
        __tracebackhide__ = True
        if self.written.get(str(path), text) != text:
            raise AssertionError(f"{_shown(path)} was written with other events before: give each trace its own name")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            os.replace(unfinished, path)
            self.written[str(path)] = text
        finally:
            unfinished.unlink(missing_ok=True)


class Comparison:
    """Records inside a ``with`` block, and compares at its end. An exception in the block passes through untouched."""

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
            f"{_shown(path)} does not begin with {HEADER!r}, but with {first!r}: {ADVICE} to write it anew"
        )
    number, diff = difference(written[1:], fired[1:])
    raise AssertionError(
        "\n".join(
            [
                f"the trace differs from {_shown(path)} at event {number}",
                f"--- {_shown(path)}, {_events(len(written) - 1)}",
                f"+++ this run, {_events(len(fired) - 1)}",
                *diff,
                f"if the change is meant, {ADVICE}",
            ]
        )
    )


def difference(expected: Sequence[str], found: Sequence[str]) -> tuple[int, list[str]]:
    """Where two lists of lines part, and a diff around that place.

    What is equal at both ends is left out first, so that long lists cost little; the rest is looked at to a limit.

    Returns:
        The number of the first line that differs, from 1, and the lines of the diff.
    """
    shorter = min(len(expected), len(found))
    start = _common(expected, found, shorter)
    same_end = _common(list(reversed(expected)), list(reversed(found)), shorter - start)
    first = max(0, start - CONTEXT)
    there, here = (lines[first : min(len(lines) - same_end + CONTEXT, start + COMPARED)] for lines in (expected, found))
    diff = list(difflib.unified_diff(there, here, n=COMPARED, lineterm=""))[3:]  # without its three headings
    is_cut = len(diff) > SHOWN or max(len(expected), len(found)) - same_end > start + COMPARED
    return start + 1, [*diff[:SHOWN], *["..."] * is_cut]


def first_difference(found: Any, expected: Any) -> list[str] | None:
    """Where two traces part, or a trace and a list of events, in a few lines; None for anything else."""
    if isinstance(expected, Selection) and not isinstance(found, Selection):
        found, expected = expected, found
    if not isinstance(found, Selection) or not isinstance(expected, (Selection, list, tuple)):
        return None
    if isinstance(expected, Selection):
        lines = [[_line(event) for event in events] for events in (found, expected)]
        index = difference(lines[1], lines[0])[0] - 1
    else:
        keys = [[event.event for event in found], [getattr(one, "event", None) or event_key(one) for one in expected]]
        lines = [[event_name(key) for key in side] for side in keys]
        index = difference(keys[1], keys[0])[0] - 1
    here, there = (side[index] if index < len(side) else "nothing more" for side in lines)
    if here == there:  # a string that is written as events are shown is another event
        there = f"{there} ({keys[1][index]!r} names no event: write {keys[0][index]!r})"
    numbers = [event.number for event in found[max(0, index - 2) : index + 1]]
    before = [
        f"    {number}  {line}" for number, line in zip(numbers, lines[0][max(0, index - 2) : index], strict=False)
    ]
    shown = f"{numbers[-1]}  " if index < len(found) else ""
    return [
        f"{_events(len(found))}, {len(expected)} expected: they part here",
        *before,
        f"  > {shown}{here}",
        f"  expected: {there}",
    ]


def _common(one: Sequence[str], other: Sequence[str], limit: int) -> int:
    """How many lines two lists have in common at their start."""
    pairs = enumerate(islice(zip(one, other, strict=False), limit))
    return next((index for index, (here, there) in pairs if here != there), limit)


def _events(number: int) -> str:
    return f"{number} event{'s' * (number != 1)}"


def _shown(path: Path) -> str:
    """A path as it is shown: below the working directory if it is there."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
