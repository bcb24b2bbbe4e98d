"""The source of guards and effects: expressions and statements about ``context``."""

from __future__ import annotations

from collections.abc import Iterable

from camshaft.loop.loop import Loop
from camshaft.loop.states import LoopItem
from camshaft.machine.context import Effect

__all__ = [
    "ask",
    "count_of",
    "count_pass",
    "learn_length",
    "leave",
    "none_entered",
    "not_passed",
    "passes_of",
    "reset_passes",
    "unless_none",
]


def ask(question: str, item: LoopItem) -> str:
    """Return an expression that asks the run a question about a state."""
    return f"context.ask({question!r}, {item.name})"


def count_of(name: str) -> str:
    """Return an expression for the passes of a loop over the whole run."""
    return f"context.counts.get({name!r}, 0)"


def passes_of(loop: Loop) -> str:
    """Return an expression for the passes of a loop within the present pass of the loop around it."""
    return f"context.passes.get({loop.name!r})"


def unless_none(passes: str, test: str) -> str:
    """Return an expression that is None if the number of passes is unknown."""
    return f"(None if (passes := {passes}) is None else {test})"


def none_entered(names: Iterable[str]) -> str:
    """Return an expression that is true if none of these custom states is entered."""
    return f"(context.entered.isdisjoint({tuple(sorted(names))!r}) if context.knows_entered else None)"


def not_passed(order: tuple[str, ...], index: int) -> str:
    """Return an expression that is true if a declared order has not gone beyond an index."""
    return f"(context.order_positions.get({order!r}, 0) <= {index} if context.knows_entered else None)"


def count_pass(name: str) -> list[Effect]:
    """Return the statements that count a pass of a loop."""
    # the pass in which a run was paused has already been counted, so it is not counted again when the run resumes
    return [
        f"if context.resumed and {name!r} in context.resumed: context.resumed.remove({name!r})",
        f"else: context.counts[{name!r}] = {count_of(name)} + 1",
        f"passes = context.passes.get({name!r})",
        f"if passes is not None: context.passes[{name!r}] = passes + 1",
    ]


def reset_passes(name: str) -> Effect:
    """Return the statement that begins to count the passes of a loop anew."""
    return f"context.passes[{name!r}] = context.position.pop({name!r}, 0)"


def leave(names: Iterable[str]) -> list[Effect]:
    """Return the statements that leave these custom states."""
    left = tuple(sorted(names))
    return [f"context.entered.difference_update({left!r})"] if left else []


def learn_length(loop: Loop) -> Effect:
    """Return the statement that takes the passes of the data loop as the length of an epoch."""
    return f"if context.epoch_length is None: context.epoch_length = {passes_of(loop)}"
