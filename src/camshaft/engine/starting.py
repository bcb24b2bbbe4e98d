"""Starting: a run begins anew, resumes from a saved position, or continues where it was paused."""

from __future__ import annotations

from typing import Any

from camshaft.engine.data_fetcher import Feed
from camshaft.engine.limits import START_OVER, Limits
from camshaft.engine.progress import Position
from camshaft.engine.run import Run, RunHost
from camshaft.events import OF_FETCHING

__all__ = ["RunStarter"]


class RunStarter:
    """Starts the runs of one engine, and keeps what must be known between two of them.

    It does not keep the engine, so that a finished engine is freed at once.

    Attributes:
        has_started: whether a run has started since the engine was made or closed.
        finished: whether the last run did all that it was asked to.
        saved: where the next run resumes; None where it starts anew.
        resumed_in_epoch: batches that the epoch had had where the present run was resumed; None between epochs.
    """

    def __init__(self) -> None:
        self.has_started = False
        self.finished = False
        self.saved: Position | None = None
        self.resumed_in_epoch: int | None = None

    def start_or_resume(self, engine: RunHost, data: Any, limits: Limits) -> Run:
        """Return the run that goes on, or a new one.

        Raises:
            RuntimeError: the engine is running.
            TypeError, ValueError: data or limits that cannot work.
        """
        if engine.active is not None:
            refuse_if_executing(engine, "it cannot be started again from inside itself; make a second Engine for that")
            if engine.active.park():
                return self._continue_paused(engine, engine.active, data, limits)
            if engine.active is not None:  # leaving its steps may have ended it
                engine.active.drop()
        state, loop = engine.state, engine.loop
        goes_on = limits.go_on(state, loop, self.has_started, self.finished) or self.saved is not None
        if goes_on:
            data = state.dataloader if data is None else data
            limits.check_length(state)
            limits.check(loop, data, knows_length=self.saved is None)
            limits.extend(state, loop)
        else:
            limits.check(loop, data)
            limits.begin(state, loop, data)
            self.saved = Position()
        return self._new_run(engine, data, gave=goes_on and data is state.dataloader)

    def _new_run(self, engine: RunHost, data: Any, gave: bool) -> Run:
        """Make the run, from the saved position if there is one."""
        state, loop = engine.state, engine.loop
        saved, self.saved = self.saved, None
        self.has_started, self.finished = True, False
        engine.runs += 1
        counter = loop.data_loop.name.lower() if loop.data_loop else ""
        position = Position() if saved is None else saved
        feed = Feed(state, data, counter, position.in_epoch or 0, position.fetched, engine.open_data, gave)
        state.dataloader = data
        self.resumed_in_epoch = position.in_epoch
        state.resumed = position.in_epoch is not None
        without = frozenset() if feed.has_data else frozenset(OF_FETCHING)
        engine.switchboard.begin_run(None if saved is None else saved.counts, without)
        engine.active = Run(engine, engine.namespace[engine.program.entry](engine, state, feed), feed)
        return engine.active

    def _continue_paused(self, engine: RunHost, run: Run, data: Any, limits: Limits) -> Run:
        state, loop = engine.state, engine.loop
        if data is not None and data is not state.dataloader:
            raise ValueError(
                f"{engine.name} is paused and goes on with the data it has: leave the data out, call set_data(), "
                f"or {START_OVER}"
            )
        limits.check_length(state)
        limits.check(loop, data, knows_length=True)
        limits.go_on(state, loop, begun=True, finished=False)
        if limits != Limits():
            limits.extend(state, loop)
            run.feed.refresh()
        return run

    def position(self, engine: RunHost) -> Position:
        """Return where the engine stands, as :meth:`camshaft.Engine.state_dict` saves it."""
        if self.saved is not None:
            return self.saved
        counts = {firing.event: firing.count for firing in engine.switchboard.known() if firing.count}
        if engine.active is None:
            return Position(counts=counts)
        line, feed = engine.active.line(), engine.active.feed
        if line is None or line.last == "started":
            return Position(self.resumed_in_epoch, feed.fetched, counts)
        if not line.path:
            return Position(counts=counts)
        between = line.last in (engine.loop.completed, "terminate_single_epoch")
        return Position(None if between else feed.position, feed.fetched, counts, engine.where)


def refuse_if_executing(engine: RunHost, advice: str) -> None:
    """Refuse a call while a transition of the engine executes.

    Raises:
        RuntimeError: one does.
    """
    if engine.active is not None and engine.active.is_executing:
        raise RuntimeError(f"{engine.name} is running: {advice}")
