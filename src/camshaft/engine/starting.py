"""Starting: a run begins anew, resumes from a saved position, or continues where it was paused."""

from __future__ import annotations

from typing import Any

from camshaft.engine.data_fetcher import DataFetcher
from camshaft.engine.limits import HOW_TO_RESTART, Limits
from camshaft.engine.progress import RunPosition
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
        self.saved: RunPosition | None = None
        self.resumed_in_epoch: int | None = None

    def start_or_resume(self, engine: RunHost, data: Any, limits: Limits) -> Run:
        """Return the run that goes on, or a new one.

        Raises:
            RuntimeError: the engine is running.
            TypeError, ValueError: data or limits that cannot work.
        """
        if engine.current_run is not None:
            refuse_if_executing(engine, "it cannot be started again from inside itself; make a second Engine for that")
            if engine.current_run.suspend():
                return self._continue_paused(engine, engine.current_run, data, limits)
            if engine.current_run is not None:  # leaving its steps may have ended it
                engine.current_run.discard()
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
            self.saved = RunPosition()
        return self._new_run(engine, data, produced_any=goes_on and data is state.dataloader)

    def _new_run(self, engine: RunHost, data: Any, produced_any: bool) -> Run:
        """Make the run, from the saved position if there is one."""
        state, loop = engine.state, engine.loop
        saved, self.saved = self.saved, None
        self.has_started, self.finished = True, False
        engine._run_number += 1
        counter = loop.data_loop.name.lower() if loop.data_loop else ""
        position = RunPosition() if saved is None else saved
        fetcher = DataFetcher(
            state, data, counter, position.in_epoch or 0, position.fetched, engine.open_data, produced_any
        )
        state.dataloader = data
        self.resumed_in_epoch = position.in_epoch
        state.resumed = position.in_epoch is not None
        without = frozenset() if fetcher.has_data else frozenset(OF_FETCHING)
        engine._dispatcher.begin_run(None if saved is None else saved.counts, without)
        engine.current_run = Run(engine, engine._namespace[engine._program.entry](engine, state, fetcher), fetcher)
        return engine.current_run

    def _continue_paused(self, engine: RunHost, run: Run, data: Any, limits: Limits) -> Run:
        state, loop = engine.state, engine.loop
        if data is not None and data is not state.dataloader:
            raise ValueError(
                f"{engine.name} is paused and goes on with the data it has: leave the data out, call set_data(), "
                f"or {HOW_TO_RESTART}"
            )
        limits.check_length(state)
        limits.check(loop, data, knows_length=True)
        limits.go_on(state, loop, begun=True, finished=False)
        if limits != Limits():
            limits.extend(state, loop)
            run.fetcher.limits_changed()
        return run

    def position(self, engine: RunHost) -> RunPosition:
        """Return where the engine stands, as :meth:`camshaft.Engine.state_dict` saves it."""
        if self.saved is not None:
            return self.saved
        counts = {event.key: event.count for event in engine._dispatcher.known() if event.count}
        if engine.current_run is None:
            return RunPosition(counts=counts)
        line, fetcher = engine.current_run.line(), engine.current_run.fetcher
        if line is None or line.last == "started":
            return RunPosition(self.resumed_in_epoch, fetcher.fetched, counts)
        if not line.path:
            return RunPosition(counts=counts)
        between = line.last in (engine.loop.completed, "terminate_single_epoch")
        return RunPosition(None if between else fetcher.position, fetcher.fetched, counts, engine.where)


def refuse_if_executing(engine: RunHost, advice: str) -> None:
    """Refuse a call while a transition of the engine executes.

    Raises:
        RuntimeError: one does.
    """
    if engine.current_run is not None and engine.current_run.is_executing:
        raise RuntimeError(f"{engine.name} is running: {advice}")
