"""Starting a run: from the beginning, from a saved position, or where it was paused."""

from __future__ import annotations

from typing import Any

from camshaft.engine.data import has_certain_length
from camshaft.engine.data_fetcher import DataFetcher
from camshaft.engine.limits import HOW_TO_RESTART, Limits
from camshaft.engine.progress import RunPosition
from camshaft.engine.run import Run, RunHost
from camshaft.events import OF_FETCHING

__all__ = ["RunStarter"]


class RunStarter:
    """The start of the runs of an engine, with the facts to keep between two of them.

    The engine itself is not kept, so that a finished engine is freed at once.

    Attributes:
        has_started: True if a run has started since the engine was made or closed.
        finished: True if the last run reached its limits.
        saved: the position where the next run resumes; None if it starts anew.
        resumed_in_epoch: how many batches the epoch had when the present run was resumed; None between epochs.
    """

    def __init__(self) -> None:
        self.has_started = False
        self.finished = False
        self.saved: RunPosition | None = None
        self.resumed_in_epoch: int | None = None

    def start_or_resume(self, engine: RunHost, data: Any, limits: Limits) -> Run:
        """Return the paused run, or a new one.

        Args:
            engine: the engine.
            data: the data given to ``run()``, or None.
            limits: the limits given to ``run()``.

        Raises:
            RuntimeError: the engine is running already.
            TypeError: ``data`` is not iterable.
            ValueError: data or limits do not fit the loop, or what the run has done already.
            StorageError: a new run would replace the snapshots of an earlier one.
        """
        if engine.current_run is not None:
            refuse_if_executing(engine, "it cannot be started again from inside itself; make a second Engine for that")
            if engine.current_run.suspend():
                return self._continue_paused(engine, engine.current_run, data, limits)
            if engine.current_run is not None:  # suspend() ends a run whose last event was handed out
                engine.current_run.discard()
        state, loop = engine.state, engine.loop
        state.connect(None)  # of a run that a KeyboardInterrupt has kept from closing
        continues = limits.continues(state, loop, self.has_started, self.finished) or self.saved is not None
        if data is None and (continues or state.has_new_data):
            data = state.dataloader
        produced_any = continues and data is state.dataloader and not state.has_new_data
        if continues:
            limits.check_length(state)
            limits.check(loop, data, knows_length=self.saved is None)
            limits.extend(state, loop)
            if state.known_length is None and data is not None and not has_certain_length(data):
                state.expect_length_of(data)  # it is not saved, and the data may be another
        else:
            limits.check(loop, data)
            if engine.snapshot is not None:
                engine.snapshot.check_folder()
            limits.begin(state, loop, data)
            self.saved = RunPosition()
        state.keep_data(data)
        return self._new_run(engine, produced_any)

    def _new_run(self, engine: RunHost, produced_any: bool) -> Run:
        """Make a run, from the saved position if there is one."""
        state, loop = engine.state, engine.loop
        saved, self.saved = self.saved, None
        self.has_started, self.finished = True, False
        engine._run_number += 1
        counter = loop.data_loop.name.lower() if loop.data_loop else ""
        position = RunPosition() if saved is None else saved
        fetcher = DataFetcher(state, counter, position.in_epoch or 0, position.fetched, engine.open_data, produced_any)
        self.resumed_in_epoch = position.in_epoch
        state.resumed = position.in_epoch is not None
        disabled = frozenset() if fetcher.has_data else frozenset(OF_FETCHING)
        engine._dispatcher.begin_run(None if saved is None else saved.counts, disabled)
        engine.current_run = Run(engine, engine._namespace[engine._program.entry](engine, state, fetcher), fetcher)
        state.connect(engine.current_run)
        return engine.current_run

    def _continue_paused(self, engine: RunHost, run: Run, data: Any, limits: Limits) -> Run:
        """Return the paused run, with these limits where they are given."""
        state, loop = engine.state, engine.loop
        if data is not None and data is not state.dataloader:
            raise ValueError(
                f"{engine.name} is paused and continues with its own data: leave the data out, call set_data(), "
                f"or {HOW_TO_RESTART}"
            )
        limits.check_length(state)
        limits.check(loop, data, knows_length=True)
        limits.continues(state, loop, has_started=True, finished=False)  # only for the errors that it raises
        limits.extend(state, loop)
        return run

    def position(self, engine: RunHost) -> RunPosition:
        """Return the position of the engine, for :meth:`camshaft.Engine.state_dict`."""
        if self.saved is not None:
            return self.saved
        counts = {event.key: event.count for event in engine._dispatcher.known() if event.count}
        if engine.current_run is None:
            return RunPosition(counts=counts)
        line, fetcher = engine.current_run.line(), engine.current_run.fetcher
        if line is None or line.last_event == "started":  # the first epoch has not begun: keep the resumed position
            return RunPosition(self.resumed_in_epoch, fetcher.fetched, counts)
        if not line.path:  # the loop has ended
            return RunPosition(counts=counts)
        between = line.last_event in (engine.loop.completed, "terminate_single_epoch")
        return RunPosition(None if between else fetcher.position, fetcher.fetched, counts, engine.where)


def refuse_if_executing(engine: RunHost, advice: str) -> None:
    """Refuse a call while a transition of the engine executes.

    Args:
        engine: the engine.
        advice: the end of the message: what to do instead.

    Raises:
        RuntimeError: a transition of the engine executes.
    """
    if engine.current_run is not None and engine.current_run.is_executing:
        raise RuntimeError(f"{engine.name} is running: {advice}")
