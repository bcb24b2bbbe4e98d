"""Graceful exit: on SIGTERM or Ctrl+C, pause the run at a resumable point, write a snapshot, and exit.

The exit code is the usual one after a signal: 128 + its number.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from camshaft.engine.engine import Engine
from camshaft.engine.progress import resume_points
from camshaft.events import event
from camshaft.priorities import PAUSE

__all__ = ["graceful_exit"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def graceful_exit(engine: Engine) -> Iterator[None]:
    """Within the block, let SIGTERM and the first Ctrl+C (SIGINT) end the process without losing progress.

    After a signal, the run is paused at the next resumable point, usually the end of the iteration. There
    ``engine.snapshot`` writes a snapshot, if the engine has one; INTERRUPT fires, and ``run()`` returns. At the end of
    the block SystemExit is raised with the usual exit code, 128 + the number of the signal. If an exception leaves the
    block, it is raised instead. Engines that run inside this one finish first. If no run is executing, SystemExit is
    raised at once. A second Ctrl+C raises KeyboardInterrupt at once.

    Blocks may be nested, for several engines. A signal stops them all: of engines that run inside each other, the
    outermost one is paused; engines that start later are paused at their first resumable point. A block that is entered
    during a run of an outer block works alone: it stops its own engine, and its SystemExit ends the outer run.

    Forked workers of a DataLoader ignore Ctrl+C. Workers are forked by default on Linux up to Python 3.13; others need
    a ``worker_init_fn`` that ignores SIGINT. SIGTERM ends workers at once, so send it to this process only, not to its
    process group.

    Args:
        engine: the engine whose runs are stopped.

    Raises:
        TypeError: ``engine`` is not an Engine.
        RuntimeError: the block is not entered in the main thread.
        SystemExit: a signal was received.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> with graceful_exit(trainer):
        ...     state = trainer.run([1, 2, 3], max_epochs=2)
        >>> state.iteration
        6
    """
    if not isinstance(engine, Engine):
        raise TypeError(
            f"graceful_exit: engine must be an Engine, got {engine!r}: give the one whose run() is inside the block"
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            f"graceful_exit: {threading.current_thread().name} is not the main thread, and Python handles signals "
            f"only there: enter the block in the main thread"
        )
    graceful = _enclosing() or _GracefulExit()
    with ExitStack() as undo:
        graceful.engines.append(engine)
        undo.callback(graceful.engines.pop)
        for key in resume_points(engine.loop):
            undo.enter_context(engine.add_event_handler(event(key, priority=PAUSE), graceful.pause_if_requested))
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous is None:  # set by a library in C: Python cannot restore it afterwards
                engine.logger.warning(
                    "graceful_exit: %s keeps its handler, which was not set by Python and could not be restored",
                    number.name,
                )
                continue
            undo.callback(signal.signal, number, previous)
            signal.signal(number, graceful.on_signal)
        yield
    if graceful.signals:
        raise SystemExit(graceful.code)


class _GracefulExit:
    """The signal handler that nested blocks share.

    Attributes:
        engines: the engines of the blocks, the outermost first.
        signals: the signals received, in order.
        process: the id of the process that entered the blocks. A forked child inherits the handler.
    """

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.signals: list[signal.Signals] = []
        self.process = os.getpid()

    @property
    def code(self) -> int:
        """The exit code for the first signal."""
        return 128 + self.signals[0]

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Python calls this in the main thread, between any two instructions."""
        if self.process != os.getpid():
            _on_signal_in_child(number)
        elif number not in self.signals:
            self.signals.append(signal.Signals(number))
            self._request_exit()
        elif number == signal.SIGINT:
            signal.default_int_handler(number, frame)

    def _request_exit(self) -> None:
        """Request a snapshot of each run that will be paused. Exit at once if no run is executing."""
        running = [
            engine
            for engine in dict.fromkeys(self.engines)
            if _is_running(engine) and not self._is_inside_other(engine)
        ]
        if not running:
            self._log(self.engines[-1], f"no run of %s is executing, exiting with {self.code}")
            raise SystemExit(self.code)
        for engine in running:
            if engine.snapshot is not None:
                engine.snapshot()
            saves = ", saves a snapshot" if engine.snapshot is not None else ""
            ends = f"the process exits with {self.code}; a second Ctrl+C ends it at once"
            self._log(engine, f"%s stops at the next resumable point{saves}, and {ends}")

    def _log(self, engine: Engine, message: str) -> None:
        # a stream raises RuntimeError if the signal interrupted a write to the same stream
        with suppress(RuntimeError):
            engine.logger.warning(f"%s: {message}", self.signals[-1].name, engine.name)

    def pause_if_requested(self, engine: Engine) -> None:
        """Pause the run after a signal, unless it is nested in a run that will be paused."""
        # If the signal came after the handler that writes snapshots, wait for the next resumable point.
        waits = engine.snapshot is not None and engine.snapshot.is_wanted
        if self.signals and not waits and not self._is_inside_other(engine):
            engine.interrupt()

    def _is_inside_other(self, engine: Engine) -> bool:
        """Return whether the engine runs inside another engine of the blocks."""
        outer = engine.parent
        while outer is not None and outer not in self.engines:
            outer = outer.parent
        return outer is not None


def _enclosing() -> _GracefulExit | None:
    """Return the handler of the enclosing blocks.

    None if there is no enclosing block, or if one of its engines is already running around the new block.
    """
    for number in SIGNALS:
        handler = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(handler, _GracefulExit) and handler.process == os.getpid():
            return handler if not any(map(_is_running, handler.engines)) else None
    return None


def _is_running(engine: Engine) -> bool:
    """Return whether a run is executing, or waits for the next step."""
    run = engine.current_run
    return run is not None and (run.is_executing or run.status == "running")


def _on_signal_in_child(number: int) -> None:
    """Handle a signal in a process forked inside the block: ignore Ctrl+C, and let SIGTERM end the process."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
