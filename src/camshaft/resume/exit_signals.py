"""Signals: a process that is asked to end leaves its run where it can be gone on with, and says so by its exit code."""

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
    """Within the block, let SIGTERM and the first Ctrl+C (SIGINT) end the process without losing what was trained.

    The run is paused at the next boundary, which mostly is the end of the iteration: ``engine.snapshot``, if there is
    one, writes a snapshot there, INTERRUPT fires, and ``run()`` returns. At the end of the block SystemExit is raised
    with the usual exit code, 128 + the number of the signal; an exception that leaves the block leaves as it is.
    Engines that run inside this one finish first. While there is no run, SystemExit is raised at once. A second Ctrl+C
    raises KeyboardInterrupt at once.

    Blocks may be nested, around several engines: a signal stops them all, the outermost of those that run at its
    boundary, and later ones as soon as they start. A block that is entered in the middle of such a run answers by
    itself: it stops its own engine, and its SystemExit ends the run around it.

    Worker processes of a DataLoader that are forked, as they are by default on Linux up to Python 3.13, pass over
    Ctrl+C; those that are started otherwise need ``worker_init_fn`` to ignore SIGINT. SIGTERM ends workers at once:
    send it to this process alone, not to its process group.

    Args:
        engine: whose runs are stopped.

    Raises:
        TypeError: it is no Engine.
        RuntimeError: entered outside of the main thread.
        SystemExit: a signal came.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> with graceful_exit(trainer):
        ...     state = trainer.run([1, 2, 3], max_epochs=2)
        >>> state.iteration
        6
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"graceful_exit: {engine!r} is no Engine: give the engine whose run() is inside the block")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            f"graceful_exit: {threading.current_thread().name} is not the main thread, and Python handles signals "
            f"only there: enter the block in the main thread"
        )
    asked = _enclosing() or _GracefulExit()
    with ExitStack() as undo:
        asked.engines.append(engine)
        undo.callback(asked.engines.pop)
        for key in resume_points(engine.loop):
            undo.enter_context(engine.add_event_handler(event(key, priority=PAUSE), asked.at_boundary))
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous is None:
                engine.logger.warning(
                    "graceful_exit: %s keeps its handler, which was not set by Python and could not be put back",
                    number.name,
                )
                continue
            undo.callback(signal.signal, number, previous)
            signal.signal(number, asked.on_signal)
        yield
    if asked.signals:
        raise SystemExit(asked.code)


class _GracefulExit:
    """What signals ask of the engines of blocks that are left together."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.signals: list[signal.Signals] = []
        self.process = os.getpid()

    @property
    def code(self) -> int:
        """The exit code that tells of the signal that came first."""
        return 128 + self.signals[0]

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Called by Python when a signal came."""
        if self.process != os.getpid():
            _on_signal_in_child(number)
        elif number not in self.signals:
            self.signals.append(signal.Signals(number))
            self._answer()
        elif number == signal.SIGINT:
            signal.default_int_handler(number, frame)

    def _answer(self) -> None:
        """Ask for a snapshot of each run that will be paused; leave at once where there is none."""
        running = [engine for engine in dict.fromkeys(self.engines) if _is_running(engine) and not self._around(engine)]
        if not running:
            self._say(self.engines[-1], f"no run of %s is under way, exiting with {self.code}")
            raise SystemExit(self.code)
        for engine in running:
            if engine.snapshot is not None:
                engine.snapshot()
            saves = ", saves a snapshot" if engine.snapshot is not None else ""
            ends = f"the process exits with {self.code}; a second Ctrl+C ends it at once"
            self._say(engine, f"%s stops at the next boundary{saves}, and {ends}")

    def _say(self, engine: Engine, what: str) -> None:
        # a stream cannot be written to where the signal came in the middle of a write to it
        with suppress(RuntimeError):
            engine.logger.warning(f"%s: {what}", self.signals[-1].name, engine.name)

    def at_boundary(self, engine: Engine) -> None:
        """Pause the run, if a signal came and it is not inside another one that will be paused."""
        waits = engine.snapshot is not None and engine.snapshot.is_wanted  # a signal came behind what writes it
        if self.signals and not waits and not self._around(engine):
            engine.interrupt()

    def _around(self, engine: Engine) -> bool:
        """Whether one of the engines is around this one."""
        outer = engine.parent
        while outer is not None and outer not in self.engines:
            outer = outer.parent
        return outer is not None


def _enclosing() -> _GracefulExit | None:
    """What answers for the blocks around; None where there are none, or a run of theirs is around the new block."""
    for number in SIGNALS:
        asked = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(asked, _GracefulExit) and asked.process == os.getpid():
            return asked if not any(map(_is_running, asked.engines)) else None
    return None


def _is_running(engine: Engine) -> bool:
    """Whether a run is under way, also while it waits for the next step."""
    run = engine.current_run
    return run is not None and (run.is_executing or run.status == "running")


def _on_signal_in_child(number: int) -> None:
    """Called in a process forked inside the block: Ctrl+C is left to the parent; SIGTERM ends it, as ever."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
