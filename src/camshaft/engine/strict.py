"""Strict engines: every event is checked as it fires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from camshaft.engine.observing import ObservedRun
from camshaft.machine.checker import OrderChecker

__all__ = []


class StrictObserver:
    """Judges each event as it fires."""

    def __init__(self, checker: OrderChecker) -> None:
        self.checker = checker

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]]:
        """Hear the events of a run."""
        checker, context, state = self.checker, self.checker.context, run.engine.state

        def make(event: str) -> Callable[[Any], None]:
            def check(engine: Any) -> None:
                transition = checker.last_transition.next_by_event.get(
                    event
                )  # as checker.advance() does, under the limits that hold now
                if transition is None or transition.try_take is not None:
                    context.max_epochs, context.max_iters = state.max_epochs, state.max_iters
                    if transition is None or (transition.try_take is not None and not transition.try_take(context)):
                        raise checker.error(event)
                checker.last_transition = transition

            return check

        return make

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """The run ended: it is judged event by event, so there is nothing left to say."""
