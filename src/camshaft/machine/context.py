"""The context of a machine (the extended state of a statechart), its guards and its effects.

Guards and effects are Python source that refers to ``context``. Several of them can therefore be joined into one
function, so that an event is checked with a single call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any

import attrs

__all__ = ["Context", "Effect", "Guard", "function", "unknown_answer"]


def unknown_answer(question: str, item: object) -> None:
    """Return None, "unknown". This is the default for :attr:`Context.ask`: there is no live run to query."""


@attrs.define
class Context:
    """The limits, counters and entered states that a machine has in addition to its place.

    Attributes:
        max_epochs: the limit for passes of the outermost loop, or None.
        max_iters: the limit for batches of the whole run, or None.
        epoch_length: the number of batches in each pass of the outermost loop. None while it is unknown.
        has_data: True if the run has data, False if it only has a number of iterations, None if this is unknown.
        counts: the passes of each loop in the whole run.
        passes: the passes of each loop in the current pass of the enclosing loop. None if unknown.
        position: for a run resumed inside a loop, the passes already done when the loop is entered again.
        resumed: for a run resumed inside a pass, the loops whose next pass has already been counted.
        entered: the custom states that are entered.
        knows_entered: False if the check begins in the middle of a run, so that ``entered`` may be incomplete.
        order_positions: for each declared order, the lowest index that its next event may have.
        ask: a function ``ask(question, item) -> bool | None`` that queries the live run. Questions are ``"batch"``,
            ``"more"``, ``"skipped"`` and ``"when"``. None means unknown, as in the check of a recorded trace.
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
        """Return an independent context with the same values."""
        own = {name: getattr(self, name).copy() for name in _COLLECTIONS}
        return attrs.evolve(self, **own)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """A key that is equal for two contexts of one run if the same transitions may follow in both."""
        return str(self.counts), str(self.passes), frozenset(self.entered), str(self.order_positions)


_COLLECTIONS = ("counts", "passes", "position", "resumed", "entered", "order_positions")

Effect = str
"""A Python statement that changes ``context``."""


def _negated(holds: bool | None) -> bool | None:
    return None if holds is None else not holds


@attrs.frozen(eq=False, slots=False)
class Guard:
    """A condition on a transition. Its value is True, False, or None for unknown. Only False denies the transition.

    Attributes:
        text: the condition in words, for diagrams and messages.
        holds: the condition as a Python expression of ``context``. It is None if only a live run knows the value.
        names: the other names in the expression, with their values.
        is_settled: True if the value depends only on ``context.has_data`` and on answers of a live run. Without a live
            run it is then the same at every event.
    """

    text: str
    holds: str
    names: dict[str, Any] = attrs.field(factory=dict)
    is_settled: bool = False

    @cached_property
    def test(self) -> Callable[[Context], bool | None]:
        """The condition as a function of a context."""
        return function([f"return {self.holds}"], self.names)

    def negated(self, text: str) -> Guard:
        """Return the opposite condition. Unknown stays unknown.

        Args:
            text: the opposite condition in words.
        """
        return Guard(text, f"negated({self.holds})", self.names | {"negated": _negated}, self.is_settled)


def function(lines: Iterable[str], names: dict[str, Any] | None = None) -> Callable[[Context], Any]:
    """Return a function of ``context`` with these lines as its body.

    Args:
        lines: Python statements.
        names: the other names in the statements, with their values.
    """
    namespace = dict(names or {})
    exec(_compiled("\n    ".join(["def transition(context):", *lines])), namespace)
    return namespace["transition"]  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def _compiled(source: str) -> CodeType:
    return compile(source, "<camshaft transition>", "exec")
