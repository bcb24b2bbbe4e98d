"""Strict engines: check every event as it fires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from camshaft.engine.observing import ObservedRun
from camshaft.machine.checker import OrderChecker

__all__ = []


class StrictObserver:
    """An observer that raises an error at the first illegal event.

    Args:
        checker: the checker of the run, at the run's place in the machine.
    """

    def __init__(self, checker: OrderChecker) -> None:
        self.checker = checker

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]]:
        """Return, for each event, a function that checks it.

        Raises:
            EventOrderError: raised by these functions at an illegal event.
        """
        checker, context, state = self.checker, self.checker.context, run.engine.state
        compiled = checker.compiled

        def make(event: str) -> Callable[[Any], None]:
            def check(engine: Any) -> None:
                # checker.advance() written out, because a call for each event would be slow. The limits are set
                # again, because a continued run may have new ones.
                last = checker.last_transition
                transition = last.next_by_event.get(event) or compiled.find(last, event)
                if transition is None or transition.try_take is not None:
                    context.max_epochs, context.max_iters = state.max_epochs, state.max_iters
                    if transition is None or (transition.try_take is not None and not transition.try_take(context)):
                        raise checker.error(event)
                checker.last_transition = transition

            return check

        return make

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Do nothing: each event was checked as it fired."""
