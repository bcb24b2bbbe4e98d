"""What a machine remembers beside its place, the conditions that read it, and the effects that change it.

Conditions and effects are Python text over ``context``. So several of them make one function, and an event is judged
with one call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any

import attrs

__all__ = ["Context", "Effect", "Guard", "function", "unknown_answer"]


def unknown_answer(question: str, item: object) -> None:
    """Answers what only a run can know while there is no run to ask: that it is not known."""


@attrs.define
class Context:
    """What the machine remembers besides its place.

    Attributes:
        max_epochs, max_iters, epoch_length: the limits of the run; an ``epoch_length`` of None is not known yet.
        has_data: whether the run has data, or only a number of iterations; None when not known.
        counts: passes of each loop, over the whole run.
        passes: passes of each loop within the present pass of the loop around it; None when not known.
        position: passes that a loop has behind it already when it is entered next, where a run goes on in the middle.
        resumed: loops whose next pass was counted already, when the run was left in the middle of it.
        entered: the free states that were entered and not left.
        knows_entered: False when it begins in the middle of a run, so that states may have been entered before.
        order_positions: for each declared order, the position that the next event must have reached at least.
        ask: answers what only a run can know, ``ask(question, item) -> bool``; None (not known) while checking.
    """

    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    has_data: bool | None = True
    counts: dict[str, int] = attrs.field(factory=dict)
    passes: dict[str, int | None] = attrs.field(factory=dict)
    position: dict[str, int] = attrs.field(factory=dict)
    resumed: set[str] = attrs.field(factory=set)
    entered: set[str] = attrs.field(factory=set)
    knows_entered: bool = True
    order_positions: dict[tuple[str, ...], int] = attrs.field(factory=dict)
    ask: Callable[[str, Any], bool | None] = unknown_answer

    def copy(self) -> Context:
        """An independent context of the same values."""
        own = {name: getattr(self, name).copy() for name in _COLLECTIONS}
        return attrs.evolve(self, **own)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What two contexts of one run have in common when the same transitions can follow."""
        return str(self.counts), str(self.passes), frozenset(self.entered), str(self.order_positions)


_COLLECTIONS = ("counts", "passes", "position", "resumed", "entered", "order_positions")

Effect = str
"""A statement that changes ``context``."""


def _negated(held: bool | None) -> bool | None:
    return None if held is None else not held


@attrs.frozen(eq=False, slots=False)
class Guard:
    """A condition on a transition.

    Attributes:
        text: how it is shown.
        holds: a Python expression of ``context``; it gives None where only a run can know.
        names: what else the expression refers to.
        is_settled: whether it stays what it is through a run of which is known whether it has data.
    """

    text: str
    holds: str
    names: dict[str, Any] = attrs.field(factory=dict)
    is_settled: bool = False

    @cached_property
    def test(self) -> Callable[[Context], bool | None]:
        """Whether it holds in a context."""
        return function([f"return {self.holds}"], self.names)

    def negated(self, text: str) -> Guard:
        """The opposite condition."""
        return Guard(text, f"negated({self.holds})", self.names | {"negated": _negated}, self.is_settled)


def function(lines: Iterable[str], names: dict[str, Any] | None = None) -> Callable[[Context], Any]:
    """A function of ``context`` with these lines as its body.

    Args:
        lines: statements.
        names: what they refer to beside the context.
    """
    namespace = dict(names or {})
    exec(_compiled("\n    ".join(["def transition(context):", *lines])), namespace)
    return namespace["transition"]  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def _compiled(source: str) -> CodeType:
    return compile(source, "<camshaft transition>", "exec")
