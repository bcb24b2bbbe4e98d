"""Mutants of the code around the generated loop: control calls, data, handlers and nesting."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.data_fetcher import DataFetcher
from camshaft.engine.dispatch import EngineEvent, EventDispatcher, _FilteredHandlers, _FiringCount
from camshaft.engine.engine import Engine
from camshaft.engine.limits import Limits
from camshaft.engine.nesting import NestedRun
from camshaft.engine.run import Run
from camshaft.engine.state import State
from mutants.mutant import Mutant, StaleError
from mutants.source import unmutated

__all__ = ["mutants_of_driving"]

CHANGES = Path(__file__).with_name("driving.txt")
CHANGED: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Engine,
        DataFetcher,
        EngineEvent,
        EventDispatcher,
        Limits,
        NestedRun,
        Run,
        State,
        _FilteredHandlers,
        _FiringCount,
    )
}

FAMILY = {
    "a call does not set PENDING_CALL": "parts",
    "a run or epoch that is over is ended again": "episodes",
}
"""By mutant: the family of cases in which it is judged. The default is the standard loop."""

HARMLESS = {
    "PENDING_CALL stays set": "the loop yields once more where no event is, and no handler runs there",
    "a call takes effect before STARTED": "no code of a user runs before it; only another thread or a signal could "
    "make a call there",
    "an epoch that is over is ended again": "after the last function of an epoch comes an event or PENDING_CALL, where "
    "a call takes effect first; only the condition of a last phase could call later, and this loop has none",
    "calls in FAILED take effect": "the loop is already over, so they have nothing to end",
    "an epoch that was terminated continues": "the next epoch counts from its own begin_epoch(), and nothing reads the "
    "count in between",
    "every event is always yielded": "an event without handlers only takes time",
}
"""By mutant: the reason why it has no observable effect."""

GAPS = {
    "INTERRUPT fires twice": "after STARTED it accepts two INTERRUPTs with one count, although the loop counts the "
    "epoch between them",
}
"""By mutant: an order that ``assert_legal`` accepts although the loop cannot fire it."""


def yield_events_of_parent(run: Run) -> None:
    """Let the loop of a nested run yield the events of the engine around it."""
    outer = run.parent
    if outer is not None:
        for key, name in run.engine._program.names.items():
            if key in outer._program.names:
                run.engine._namespace[name] = outer._dispatcher.event(key)


@cache
def _changed(owner: str, method: str, old: str, new: str) -> Any:
    """Return a method with changed source.

    Raises:
        StaleError: its source no longer contains the text ``old``.
    """
    static = inspect.getattr_static(CHANGED[owner], method)
    function = getattr(static, "__func__", static)
    source = textwrap.dedent(inspect.getsource(function)).removeprefix("@staticmethod\n")
    if old not in source:
        raise StaleError(f"{owner}.{method} has no {old!r} to mutate")
    namespace: dict[str, Any] = {}
    exec(compile(source.replace(old, new), inspect.getfile(function), "exec"), function.__globals__, namespace)
    return staticmethod(namespace[method]) if isinstance(static, staticmethod) else namespace[method]


@contextmanager
def _applied(owner: str, method: str, old: str, new: str) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(unmutated())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(CHANGED[owner], method, _changed(owner, method, old, new))
        patch.setattr(Run, "_yield_events_of_parent", yield_events_of_parent, raising=False)
        yield


def mutants_of_driving() -> Iterator[Mutant]:
    """Yield all mutants of ``driving.txt``."""
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
