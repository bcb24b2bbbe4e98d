"""A loop as an indented tree of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from camshaft.events import ANYWHERE, OF_A_BATCH
from camshaft.loop.states import DATA, RUN, Every, LoopItem, OpaqueStep, Phase
from camshaft.loop.tree import LoopTree

__all__ = ["condition", "loop_text", "passes_text"]


def loop_text(loop: LoopTree) -> str:
    """Return a loop as an indented tree of states, from STARTED to COMPLETED."""
    lines: list[str] = []

    def add_nested_engines(events: Iterable[str], depth: int) -> None:
        for nested in loop.nested:
            if nested.on.key in events:
                lines.append(f"{'  ' * depth}[{nested.name}] at {nested.on!r}")

    def add_state(item: LoopItem, depth: int, counter: str | None) -> None:
        words = condition(item, counter)
        note = "  (opaque)" if isinstance(item, OpaqueStep) else f"  {words}" if words else ""
        lines.append(f"{'  ' * depth}{item.name}{note}")
        if isinstance(item, LoopTree):
            for child in item.body:
                add_state(child, depth + 1, item.name.lower())
        add_custom_states(item.name, depth + 1)
        add_nested_engines(item.own_events, depth + 1)
        if item is loop.data_loop:
            add_nested_engines(OF_A_BATCH, depth + 1)

    def add_custom_states(scope: str, depth: int) -> None:
        for custom in loop.custom_states:
            if custom.within == scope:
                order = "in the declared order" if custom.order else "wherever your code fires it"
                lines.append(f"{'  ' * depth}{custom.name}  ({order})")
                add_nested_engines(custom.events, depth + 1)

    lines.append("STARTED")
    add_nested_engines(("started",), 1)
    add_state(loop, 0, None)
    add_custom_states(RUN, 0)
    lines.append("COMPLETED")
    add_nested_engines(("completed",), 1)
    add_nested_engines(ANYWHERE, 0)
    return "\n".join(lines)


def condition(item: LoopItem, counter: str | None = None) -> str:
    """Return the condition of a phase, or the passes of a loop, in words. Without one the text is empty.

    Args:
        item: the state.
        counter: the counter of the enclosing loop, for conditions made by ``every(n)``.
    """
    if isinstance(item, LoopTree):
        if item.over is DATA:
            return "for each batch"
        if item.over is not None:
            return f"for each of {_named(item.over)}" if callable(item.over) else "for each element"
        if item.times is not None:
            return f"{item.times} times"
        return f"until {_named(item.until)}" if item.until is not None else ""
    when = item.when if isinstance(item, Phase) else None
    if when is None:
        return ""
    return f"when {counter} % {when.n} == 0" if isinstance(when, Every) else f"when {_named(when)}"


def passes_text(root: LoopTree, name: str) -> str:
    """Return the number of passes of a loop in words: ``iteration in epoch``, since the loop around it began a pass.

    Args:
        root: the outermost loop. Its own passes are counted over the whole run: ``epoch``.
        name: the name of a loop in it.
    """
    path = next(path for path, item in root.walk() if item.name == name)
    return " in ".join(state.lower() for state in reversed(path[-2:]))


def _named(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
