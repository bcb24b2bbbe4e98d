"""The program of a generated loop: its source, its code, and the position in the loop for each line."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import shutil
import sys
import tempfile
from functools import partial
from itertools import islice, repeat
from time import perf_counter
from types import CodeType
from typing import Any

import attrs

from camshaft._functions import checked_once, function_name
from camshaft.control import SkipIteration, Terminate, TerminateEpoch
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path

__all__ = ["Line", "Program"]

HOOK_READS_FILES = sys.version_info < (3, 13)
"""True before Python 3.13: the interpreter prints the source lines of an uncaught traceback only from real files."""

HELPERS = {
    "SkipIteration": SkipIteration,
    "Terminate": Terminate,
    "TerminateEpoch": TerminateEpoch,
    "islice": islice,
    "perf_counter": perf_counter,
    "repeat": repeat,
}
"""The names that the generated source uses, in addition to built-in functions."""


@attrs.define
class Line:
    """The position in the loop while a line of its source runs.

    Attributes:
        path: the names of the states around the line, outermost first.
        event: the key of the event that the line yields, or None.
        last_event: the key of the last event that has fired on every path to the line. None before STARTED.
        delegates: True if the line runs an inner loop that has a function of its own. Its generator is the local
            variable ``inner``.
    """

    path: Path
    event: str | None
    last_event: str | None
    delegates: bool = False


@attrs.frozen
class Program:
    """A generated loop.

    Attributes:
        source: the Python source.
        code: the compiled source. Executed in a namespace, it defines the function :attr:`entry` there.
        entry: the name of the generator function ``(engine, state, fetcher)``.
        filename: the file name of the source in ``linecache``, tracebacks and debuggers.
        lines: for each line number, the position in the loop.
        names: for each event key, its name in the namespace.
        under_any_handlers: the names of events that the source tests only if ``any_handlers`` is true.
        functions: for each name of a user's function in the source, the state that has it and the attribute with it.
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
        """Write the source to its file if the interpreter needs it for uncaught tracebacks."""
        if not HOOK_READS_FILES:
            return
        with contextlib.suppress(OSError):  # the traceback is useful without these lines too; do not hide its error
            folder = os.path.dirname(self.filename)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            with open(self.filename, "x", encoding="utf-8") as file:
                file.write(self.source)

    def namespace(self, loop: Loop) -> dict[str, Any]:
        """Return a new namespace for this program, with the functions of ``loop`` and without handlers.

        Args:
            loop: the loop, or another loop with the same structure.
        """
        items = {item.name: item for _, item in loop.walk()}
        namespace = {"__builtins__": builtins, "__name__": "camshaft.loop", **HELPERS}
        for name, (state, attribute) in self.functions.items():
            function = getattr(items[state], attribute)
            if attribute != "over":  # the loop itself runs what ``over`` returns
                what = f"{attribute} {function_name(function)} of {state}"
                function = checked_once(what, function, partial(namespace.__setitem__, name))
            namespace[name] = function
        namespace |= {"PENDING_CALL": False, "any_handlers": False}
        namespace.update(dict.fromkeys(self.names.values(), False))
        exec(self.code, namespace)
        return namespace


def source_filename(name: str) -> str:
    """Return the file name of a generated source: of a temporary file if the interpreter needs one."""
    if HOOK_READS_FILES:
        return os.path.join(tempfile.gettempdir(), f"camshaft-{os.getpid()}", f"{name}.py")
    return f"<camshaft {name}>"
