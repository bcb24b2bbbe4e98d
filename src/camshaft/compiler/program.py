"""A generated loop: its source, its code, and what each line stands for."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import shutil
import sys
import tempfile
from itertools import islice
from time import perf_counter
from types import CodeType
from typing import Any

import attrs

from camshaft.control import SkipIteration, Terminate, TerminateEpoch
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path

__all__ = ["Line", "Program"]

HOOK_READS_FILES = sys.version_info < (3, 13)
"""Before Python 3.13 the interpreter takes the lines of an uncaught traceback from files only."""

HELPERS = {
    "SkipIteration": SkipIteration,
    "Terminate": Terminate,
    "TerminateEpoch": TerminateEpoch,
    "islice": islice,
    "perf_counter": perf_counter,
}


@attrs.define
class Line:
    """Where the loop stands while a line of its source runs.

    Attributes:
        path: the states around it, outermost first.
        event: the event that the line yields, or None.
        last: the last event that has certainly fired before it; None before STARTED.
        joins: whether it runs a loop that is written out as a function of its own, under the local name ``inner``.
    """

    path: Path
    event: str | None
    last: str | None
    delegates: bool = False


@attrs.frozen
class Program:
    """A generated loop.

    Attributes:
        source: the text.
        code: the compiled text; executing it in a namespace defines the function :attr:`entry` there.
        entry: the name of the generator function ``(engine, state, fetcher)``.
        filename: under which ``linecache``, tracebacks and debuggers know the text.
        lines: what each line number stands for.
        names: the name of each event in the namespace.
        under_any_handlers: the names that are tested only if ``any_handlers`` is true.
        functions: for each name that the source calls, the state it belongs to and the attribute to take there.
    """

    source: str
    code: CodeType
    entry: str
    filename: str
    lines: dict[int, Line]
    names: dict[str, str]
    under_any_handlers: frozenset[str]
    functions: dict[str, tuple[str, str]]

    def write_out(self) -> None:
        """Put the text where the interpreter looks for the lines of a traceback that nobody catches."""
        if not HOOK_READS_FILES:
            return
        with contextlib.suppress(OSError):  # a traceback without these lines is better than another error
            folder = os.path.dirname(self.filename)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            with open(self.filename, "x", encoding="utf-8") as file:
                file.write(self.source)

    def namespace(self, loop: Loop) -> dict[str, Any]:
        """A new namespace with the functions of ``loop``, in which nobody hears any event."""
        found = {item.name: item for _, item in loop.walk()}
        functions = {name: getattr(found[state], attribute) for name, (state, attribute) in self.functions.items()}
        namespace = {"__builtins__": builtins, "__name__": "camshaft.loop", **HELPERS, **functions}
        namespace |= {"PENDING_CALL": False, "any_handlers": False}
        namespace.update(dict.fromkeys(self.names.values(), False))
        exec(self.code, namespace)
        return namespace


def source_filename(name: str) -> str:
    if HOOK_READS_FILES:
        return os.path.join(tempfile.gettempdir(), f"camshaft-{os.getpid()}", f"{name}.py")
    return f"<camshaft {name}>"
