"""A loop as a tree of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from camshaft.events import ANYWHERE, OF_A_BATCH
from camshaft.loop.states import DATA, RUN, Every, LoopItem, OpaqueStep, Phase
from camshaft.loop.tree import LoopTree

__all__ = ["condition", "loop_text"]


def loop_text(loop: LoopTree) -> str:
    """A loop as a tree of states, from STARTED to COMPLETED."""
    lines: list[str] = []

    def nested_at(events: Iterable[str], depth: int) -> None:
        for nested in loop.nested:
            if nested.on.key in events:
                lines.append(f"{'  ' * depth}[{nested.name}] at {nested.on!r}")

    def draw(item: LoopItem, depth: int, around: str | None) -> None:
        words = condition(item, around)
        note = "  (opaque)" if isinstance(item, OpaqueStep) else f"  {words}" if words else ""
        lines.append(f"{'  ' * depth}{item.name}{note}")
        if isinstance(item, LoopTree):
            for child in item.body:
                draw(child, depth + 1, item.name.lower())
        customs(item.name, depth + 1)
        nested_at(item.own_events, depth + 1)
        if item is loop.data_loop:
            nested_at(OF_A_BATCH, depth + 1)

    def customs(scope: str, depth: int) -> None:
        for custom in loop.custom_states:
            if custom.within == scope:
                order = "in the declared order" if custom.order else "wherever your code fires it"
                lines.append(f"{'  ' * depth}{custom.name}  ({order})")
                nested_at(custom.events, depth + 1)

    lines.append("STARTED")
    nested_at(("started",), 1)
    draw(loop, 0, None)
    customs(RUN, 0)
    lines.append("COMPLETED")
    nested_at(("completed",), 1)
    nested_at(ANYWHERE, 0)
    return "\n".join(lines)


def condition(item: LoopItem, around: str | None = None) -> str:
    """The condition of a phase or the number of passes of a loop, in words; empty when there is none."""
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
    return f"when {around} % {when.n} == 0" if isinstance(when, Every) else f"when {_named(when)}"


def _named(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
