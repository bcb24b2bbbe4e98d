"""Starting a run: from the beginning, from a saved position, or where it was paused."""

from __future__ import annotations

import warnings
from typing import Any

import attrs

from camshaft.compiler.program import Line
from camshaft.engine.data import has_certain_length, length_of
from camshaft.engine.data_fetcher import DataFetcher
from camshaft.engine.limits import HOW_TO_RESTART, Limits, lacks_limits
from camshaft.engine.progress import RunPosition, set_random_states
from camshaft.engine.run import Run, RunHost
from camshaft.events import OF_FETCHING, Events
from camshaft.loop.loop import Loop

__all__ = ["RunStarter"]


class RunStarter:
    """The start of the runs of an engine, with the facts to keep between two of them.

    The engine itself is not kept, so that a finished engine is freed at once.

    Attributes:
        has_started: True if a run has started since the engine was made or closed.
        finished: True if the last run reached its limits.
        saved: the position where the next run resumes; None if it starts anew.
        resumed: the position at which the present run was resumed or begun.
    """

    def __init__(self) -> None:
        self.has_started = False
        self.finished = False
        self.saved: RunPosition | None = None
        self.resumed = RunPosition()

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
        if self.has_started and self.saved is None and lacks_limits(engine.state, engine.loop):
            engine.close()
        if engine.current_run is not None:
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
            if data is not None:
                before = self.saved.batches if self.saved is not None else length_of(state.dataloader)
                read = 0 if self.saved is None else self.saved.fetched or self.saved.in_epoch or 0
                _warn_of_length(engine, data, before, read, is_given=limits.epoch_length is not None)
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
        if position.random_states is not None:
            set_random_states(position.random_states)
        if position.is_after_data and not (engine.snapshot is not None and engine.snapshot.opens_data):
            position = attrs.evolve(position, fetched=0)
        fetcher = DataFetcher(
            state,
            counter,
            [name.lower() for name in loop.data_path[:-1]],
            position.in_epoch,
            position.passes,
            position.is_after_pass,
            position.fetched,
            engine.open_data,
            produced_any,
        )
        self.resumed = position
        state.resumed = position.is_inside
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
        line, fetcher, loop = engine.current_run.line(), engine.current_run.fetcher, engine.loop
        if engine.state.resumed:  # the loop has not reached the resumed position yet: keep it
            return attrs.evolve(self.resumed, fetched=fetcher.fetched, counts=counts, where=engine.where)
        if line is None or line.last_event == "started":  # the first epoch has not begun
            return RunPosition(fetched=fetcher.fetched, counts=counts)
        if not line.path:  # the loop has ended
            return RunPosition(fetcher.position if loop is loop.data_loop else None, counts=counts)
        in_epoch, passes = _passes_of(line, fetcher, loop)
        return RunPosition(in_epoch, fetcher.fetched, counts, engine.where, passes)


def _warn_of_length(engine: RunHost, data: Any, before: int | None, read: int, is_given: bool) -> None:
    """Warn if a continued run gets data with another number of batches, and its epochs or its place depend on it.

    Args:
        engine: the engine.
        data: the data.
        before: the number of batches that the data had; None if unknown.
        read: how many batches the run has read already, and skips now.
        is_given: whether the length of an epoch is given again.
    """
    length, now = engine.state.known_length, length_of(data)
    if before is None or now is None or now == before:
        return
    if not is_given and before == length:
        what = f"its epochs keep {length} iterations; set state.epoch_length = {now} before run() to change that"
    elif read:
        what = f"the {read} batches that it skips are not those that it has read"
    else:
        return
    warnings.warn(f"{engine.name} continues with data of {now} batches, and had {before}: {what}", stacklevel=5)


def _passes_of(line: Line, fetcher: DataFetcher, loop: Loop) -> tuple[int | None, dict[str, int]]:
    """Return where a run stands: the batches of the present epoch or None, and the passes of loops around the data."""
    around, data = loop.data_path[:-1], loop.data_path[-1:]
    between = (loop.completed, Events.TERMINATE_SINGLE_EPOCH.value)
    if not data or (around and line.last_event in between):
        return None, {}  # between two passes of the outermost loop, or in a loop that is not resumed in a pass
    entered = [name for name in around if name in line.path]
    passes = {name: fetcher.passes_begun(name) for name in entered[1:]}
    if {*data, "GET_BATCH"} & {*line.path}:
        return fetcher.position, passes
    last = loop.find(entered[-1])
    if len(entered) > 1 and isinstance(last, Loop) and line.last_event == last.completed:
        return None, passes
    if len(entered) == len(around):
        return fetcher.position, passes
    following = around[len(entered)]
    return None, passes | {following: fetcher.passes_begun(following)}


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
