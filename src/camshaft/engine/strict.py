"""Strict engines: every event is checked as it fires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from camshaft.engine.observing import Watched
from camshaft.machine.checker import OrderChecker

__all__ = []


class _Strict:
    """Judges each event as it fires."""

    def __init__(self, checker: OrderChecker) -> None:
        self.checker = checker

    def watch(self, run: Watched) -> Callable[[str], Callable[[Any], None]]:
        """Hear the events of a run."""
        checker, context, state = self.checker, self.checker.context, run.engine.state

        def make(event: str) -> Callable[[Any], None]:
            def check(engine: Any) -> None:
                move = checker.move.then.get(event)  # as checker.advance() does, under the limits that hold now
                if move is None or move.refuse is not None:
                    context.max_epochs, context.max_iters = state.max_epochs, state.max_iters
                    if move is None or (move.refuse is not None and move.refuse(context)):
                        raise checker.error(event)
                checker.move = move

            return check

        return make

    def release(self, run: Watched, outcome: str) -> None:
        """The run ended: it is judged event by event, so there is nothing left to say."""
