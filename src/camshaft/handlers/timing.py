"""A stopwatch that events start, pause, resume and step."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter
from typing import Any

from camshaft.engine.attachment import attached_to, note_host, refuse_other_host
from camshaft.engine.engine import Engine
from camshaft.events import EventHandle, Events

__all__ = ["Timer"]


class Timer:
    """Stopwatch that is called by hand or by events of an engine.

    It starts running when it is created.

    Args:
        average: let :meth:`value` return the mean time of a step, instead of the total. :meth:`step` counts steps.

    Attributes:
        total: the seconds up to the last pause.
        step_count: the number of calls of :meth:`step` since the last reset.
        running: True if the timer is not paused.

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
        """Attach the timer's methods to events of an engine. Events may have filters, and may be unions.

        Args:
            engine: the engine that fires the events.
            start: the event that calls :meth:`reset`.
            pause, resume, step: the events that call the methods of the same name, in this order if two share an event.

        Returns:
            The timer itself.

        Raises:
            TypeError: ``engine`` is not an Engine.
            ValueError: the engine never fires one of the events, or the timer is attached already. Nothing is attached.
        """
        if not isinstance(engine, Engine):
            raise TypeError(
                f"Timer: engine must be an Engine, got {engine!r}: give the one whose events start and pause the timer"
            )
        calls = ((start, self.reset), (pause, self.pause), (resume, self.resume), (step, self.step))
        refuse_other_host(self, attached_to(self, self.reset, self.pause, self.resume, self.step), engine)
        with ExitStack() as attached:
            for event, call in calls:
                if event is not None:
                    attached.enter_context(engine.add_event_handler(event, call))
            attached.pop_all()
        note_host(self, engine)
        return self

    def reset(self, *_: Any) -> Timer:
        """Restart from zero, and return the timer itself."""
        self._since = perf_counter()
        self.total = 0.0
        self.step_count = 0
        self.running = True
        return self

    def pause(self, *_: Any) -> None:
        """Stop the clock until :meth:`resume`. Do nothing while paused."""
        if self.running:
            self.total += perf_counter() - self._since
            self.running = False

    def resume(self, *_: Any) -> None:
        """Start the clock again. Do nothing while running."""
        if not self.running:
            self._since = perf_counter()
            self.running = True

    def step(self, *_: Any) -> None:
        """Count a step for the average."""
        self.step_count += 1

    def value(self) -> float:
        """Return the seconds since the reset without pauses, or with ``average`` their mean over the steps."""
        total = self.total + (perf_counter() - self._since if self.running else 0.0)
        return total / max(self.step_count, 1) if self._average else total
