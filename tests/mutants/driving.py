"""Mutants of the code around the generated loop: where control calls, data, handlers and nesting make the order."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine import engine
from camshaft.engine.data_fetcher import DataFetcher
from camshaft.engine.dispatch import EngineEvent, EventDispatcher, _FilteredHandlers, _FiringCount
from camshaft.engine.engine import Engine
from camshaft.engine.limits import Limits
from camshaft.engine.run import Run
from camshaft.engine.state import State
from mutants.mutant import Mutant, StaleError
from mutants.source import unmutated

__all__ = ["mutants_of_driving"]

CHANGES = Path(__file__).with_name("driving.txt")
CHANGED: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Engine, DataFetcher, EngineEvent, Limits, Run, State, EventDispatcher, _FilteredHandlers, _FiringCount)
} | {"engine": engine}

FAMILY = {
    "a call is not pending": "parts",
    "what has ended by itself is ended again": "episodes",
}
"""By mutant: in whose cases it is judged, if not in those of the standard loop."""

HARMLESS = {
    "a call stays pending": "the loop yields once more where no event is, and nobody is called there",
    "a call is done before STARTED": "no code of a user runs before it; another thread or a signal could call there",
    "an epoch is ended at its end": "after what runs last in an epoch comes an event or PENDING_CALL, where a call is "
    "done first; only the condition of a last phase could call later, and this loop has none",
    "calls in FAILED count": "the loop is over by then, so that nothing is left to apply them to",
    "an epoch that was ended goes on": "the next epoch counts from its own begin_epoch(), and nobody asks in between",
    "every event is always yielded": "an event without handlers calls nobody; it only takes longer",
}
"""By mutant: why nobody can see it."""

GAPS = {
    "INTERRUPT fires twice": "after STARTED it passes two INTERRUPTs with one count, though what counts the epoch runs "
    "between them",
}
"""By mutant: what ``assert_legal`` passes there, though the loop cannot do it."""


def astray(run: Run) -> None:
    """Let the loop of a nested run yield the events of the engine around it."""
    outer = run.parent
    if outer is not None:
        for key, name in run.engine._program.names.items():
            if key in outer._program.names:
                run.engine._namespace[name] = outer._dispatcher.event(key)


@cache
def _changed(owner: str, method: str, old: str, new: str) -> Any:
    """The method with other source.

    Raises:
        StaleError: its source has no such text any more.
    """
    static = inspect.getattr_static(CHANGED[owner], method)
    function = getattr(static, "__func__", static)
    source = textwrap.dedent(inspect.getsource(function)).removeprefix("@staticmethod\n")
    if old not in source:
        raise StaleError(f"{owner}.{method} has no {old!r} to be mutated")
    namespace: dict[str, Any] = {}
    exec(compile(source.replace(old, new), inspect.getfile(function), "exec"), function.__globals__, namespace)
    return staticmethod(namespace[method]) if isinstance(static, staticmethod) else namespace[method]


@contextmanager
def _applied(owner: str, method: str, old: str, new: str) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(unmutated())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(CHANGED[owner], method, _changed(owner, method, old, new))
        patch.setattr(Run, "_astray", astray, raising=False)
        yield


def mutants_of_driving() -> Iterator[Mutant]:
    """All of them, as the file beside this one has them."""
    kind = where = old = ""
    for line in CHANGES.read_text(encoding="utf-8").splitlines()[2:]:
        indent, text = len(line) - len(line.lstrip()), line.strip().replace("\\n", "\n")
        if line.startswith("["):
            kind = text.strip("[]")
        elif indent == 0:
            where = text
        elif indent == 4:
            old = text
        else:
            name, _, new = text.partition(":")
            applied = partial(_applied, *where.split("."), old, new.strip(" ").replace("$old", old))
            yield Mutant(kind, name, FAMILY.get(name, "opaque"), applied, HARMLESS.get(name), GAPS.get(name))
