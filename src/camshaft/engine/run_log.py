"""What an engine logs at INFO: the start and the end of its runs and epochs, control calls, and failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from camshaft.engine.limits import LIMITS
from camshaft.engine.observing import ObservedRun, code_site
from camshaft.events import event_name

__all__ = ["RunLog", "caller_outside", "is_logged"]

PACKAGE = os.path.join(Path(__file__).parents[1], "")


class RunLog:
    """An observer that logs the progress of one run. It is connected only if the logger of the engine logs INFO."""

    def __init__(self) -> None:
        self._has_begun = False
        self._ended_pass = ""  # the pass whose handlers of its last event are running, or have run

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None] | None]:
        """Log the start, or the continuation after a pause. Returns, for some events, a function to call at them."""
        engine, loop = run.engine, run.engine.loop
        if not self._has_begun:
            self._has_begun = True
            _log_start(engine)

        def note(engine: Any) -> None:
            self._ended_pass = f"{loop.name} {getattr(engine.state, loop.name.lower())}"

        functions = {loop.completed: note} | dict.fromkeys((loop.started, "terminate", "completed"), self._log_pass)
        if loop is loop.data_loop:  # its passes are iterations: a line for each would be too many
            functions.clear()
        return functions.get

    def _log_pass(self, engine: Any) -> None:
        """Log the end of a pass, with the time of its last handlers."""
        if self._ended_pass:
            seconds = engine.state.times[event_name(engine.loop.completed)]
            engine.logger.info("%s completed in %.3f s", self._ended_pass, seconds)
            self._ended_pass = ""

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Log how the run ended. Nothing is logged between two steps."""
        engine = run.engine
        if outcome == "paused":
            return
        self._log_pass(engine)
        self._has_begun = False
        if outcome == "interrupted":
            engine.logger.info("run paused in %s", engine.place)
        elif outcome != "failed":  # the error is logged with its place
            seconds = engine.state.times.get("COMPLETED")
            taken = "" if seconds is None else f" in {seconds:.3f} s"
            engine.logger.info("run %s%s, after %s", outcome, taken, _counts(engine))


def _log_start(engine: Any) -> None:
    limits = ", ".join(
        f"{name}={getattr(engine.state, name)}" for name in LIMITS if getattr(engine.state, name) is not None
    )
    has_begun = any(getattr(engine.state, name) for name in engine.loop.counters)
    how = f"continues after {_counts(engine)}," if has_begun else "starts"
    engine.logger.info("run %s with %s", how, limits or "no limits")


def _counts(engine: Any) -> str:
    return ", ".join(f"{name} {getattr(engine.state, name)}" for name in engine.loop.counters)


def caller_outside(frame: FrameType | None) -> str:
    """Return the line of code that called into camshaft: ``at file:line in function``. Empty if camshaft itself did.

    Args:
        frame: the frame that called a method of an engine.
    """
    file = PACKAGE if frame is None else os.path.abspath(frame.f_code.co_filename)
    return "" if file.startswith(PACKAGE) else f"at {code_site(frame)}"


def is_logged(engine: Any) -> bool:
    """Return whether the logger of an engine logs at INFO."""
    return bool(engine.logger.isEnabledFor(logging.INFO))
