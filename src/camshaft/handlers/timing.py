"""A stopwatch that events start, pause, resume and step."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter
from typing import Any

from camshaft.engine.engine import Engine
from camshaft.events import EventHandle, Events

__all__ = ["Timer"]


class Timer:
    """Measures seconds between events, by hand or attached to an engine.

    It runs from the moment it is made.

    Args:
        average: let :meth:`value` be the mean over the steps that :meth:`step` counted, instead of the total.

    Attributes:
        total: seconds up to the last pause.
        step_count: how often :meth:`step` was called since the last reset.
        running: whether time passes.

    >>> timer = Timer(average=True)
    >>> trainer = Engine(lambda engine, batch: None)
    >>> timer = timer.attach(
    ...     trainer, resume=Events.ITERATION_STARTED, pause=Events.ITERATION_COMPLETED, step=Events.ITERATION_COMPLETED
    ... )
    >>> state = trainer.run([1, 2, 3])
    >>> timer.step_count, timer.running
    (3, False)
    """

    def __init__(self, average: bool = False) -> None:
        self._average = average
        self.reset()

    def attach(
        self,
        engine: Engine,
        start: EventHandle = Events.STARTED,
        pause: EventHandle = Events.COMPLETED,
        resume: EventHandle | None = None,
        step: EventHandle | None = None,
    ) -> Timer:
        """Let events of an engine call the methods; events may be filtered and joined.

        Args:
            engine: whose events they are.
            start: calls :meth:`reset`.
            pause, resume, step: call the methods of their names; where two share an event, in this order.

        Returns:
            The timer itself.

        Raises:
            TypeError: ``engine`` is no engine.
            ValueError: the engine does not know one of the events. Nothing is attached then.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"Timer: {engine!r} is no Engine: give the one whose events start and pause it")
        calls = ((start, self.reset), (pause, self.pause), (resume, self.resume), (step, self.step))
        with ExitStack() as attached:
            for event, call in calls:
                if event is not None:
                    attached.enter_context(engine.add_event_handler(event, call))
            attached.pop_all()
        return self

    def reset(self, *_: Any) -> Timer:
        """Start from zero, running. Returns the timer itself."""
        self._since = perf_counter()
        self.total = 0.0
        self.step_count = 0
        self.running = True
        return self

    def pause(self, *_: Any) -> None:
        """Let no time pass until :meth:`resume`; while paused it does nothing."""
        if self.running:
            self.total += perf_counter() - self._since
            self.running = False

    def resume(self, *_: Any) -> None:
        """Let time pass again; while running it does nothing."""
        if not self.running:
            self._since = perf_counter()
            self.running = True

    def step(self, *_: Any) -> None:
        """Count a step, for the average."""
        self.step_count += 1

    def value(self) -> float:
        """Seconds since the reset, without pauses; with ``average``, those of one step."""
        total = self.total + (perf_counter() - self._since if self.running else 0.0)
        return total / max(self.step_count, 1) if self._average else total
