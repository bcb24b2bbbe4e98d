"""The limits of a run: how many epochs, iterations, and batches in an epoch."""

from __future__ import annotations

from typing import Any

import attrs

from camshaft._checks import check_integer
from camshaft.engine.data import check_data
from camshaft.engine.state import State
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA

__all__ = ["Limits", "lacks_limits"]

HOW_TO_RESTART = "call close() first to start over"


@attrs.define
class Limits:
    """The limits given in one call of :meth:`camshaft.Engine.run`.

    Args:
        max_epochs: the number of passes of the outermost loop, or None.
        max_iters: the number of passes of the loop that takes data, or None.
        epoch_length: the number of batches in an epoch, or None.

    Raises:
        ValueError: a limit is not an integer of 1 or more, or both ``max_epochs`` and ``max_iters`` are given.
    """

    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None

    def __attrs_post_init__(self) -> None:
        for name in LIMITS:
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        if self.max_epochs is not None and self.max_iters is not None:
            raise ValueError("max_epochs and max_iters exclude each other: give one")

    def continues(self, state: State, loop: Loop, has_started: bool, finished: bool) -> bool:
        """Return whether a run with these limits continues the last one; otherwise it starts anew.

        Args:
            state: the state of the engine, with the counters and limits of the last run.
            loop: the loop of the engine.
            has_started: whether there is a last run.
            finished: whether the last run reached its limits.

        Raises:
            ValueError: a limit is lower than what is done, or of the other kind than before.
        """
        if not has_started:
            return False
        epochs = getattr(state, loop.counters[0])
        iters = getattr(state, loop.data_loop.name.lower()) if loop.data_loop else 0
        other: int | None = None  # the limit of the kind that the last run was not started with
        if state.max_epochs is not None:
            started_with, other = "max_epochs", self.max_iters
        else:
            started_with, other = "max_iters", self.max_epochs if state.max_iters is not None else None
        # After a finished run a new one starts if the loop ends by itself, or if the other kind of limit is given.
        if finished and (loop.until is not None or loop.over is not None or other is not None):
            return False
        if other is not None:
            raise ValueError(f"the run was started with {started_with}: continue it with that, or {HOW_TO_RESTART}")
        for name, limit, done in (("max_epochs", self.max_epochs, epochs), ("max_iters", self.max_iters, iters)):
            if limit is not None:
                if limit < done:
                    raise ValueError(
                        f"{name}={limit}, but {done} are done already: give at least {done}, or {HOW_TO_RESTART}"
                    )
                return limit > done or state.resumed
        return not finished and state.within_limits()

    def check_length(self, state: State) -> None:
        """Refuse to change the length of an epoch within a run.

        Raises:
            ValueError: ``epoch_length`` differs from that of the run.
        """
        if self.epoch_length is not None and state.known_length not in (None, self.epoch_length):
            raise ValueError(
                f"epoch_length={self.epoch_length}, but the run was started with {state.known_length}: "
                f"leave it out, or {HOW_TO_RESTART}"
            )

    def extend(self, state: State, loop: Loop) -> None:
        """Set these limits for a run that continues."""
        if self.max_epochs is not None:
            state.max_epochs = min(self.max_epochs, loop.times or self.max_epochs)
        if self.max_iters is not None:
            state.max_iters = self.max_iters
        if state.known_length is None and self.epoch_length is not None:
            state.epoch_length = self.epoch_length

    def check(self, loop: Loop, data: Any, knows_length: bool = False) -> None:
        """Refuse data and limits that do not fit the loop.

        Args:
            loop: the loop of the engine.
            data: the data of the run, or None.
            knows_length: True for a run that continues: it already has data, or the length of its epochs.

        Raises:
            TypeError: ``data`` is not iterable.
            ValueError: ``data`` is empty, is missing, or is given to a loop that takes none; or the loop has no use for
                one of the limits.
        """
        data_loop = loop.data_loop
        if data is not None:
            if data_loop is None:
                raise ValueError(
                    f"the loop {loop.name} takes no data: none of its loops is over=DATA; leave the data out"
                )
            check_data(data)
        elif data_loop is not None and self.epoch_length is None and not knows_length:
            raise ValueError("data=None needs epoch_length: give data, or the number of iterations in an epoch")
        if data_loop is None and (self.epoch_length or self.max_iters):
            raise ValueError(
                f"epoch_length and max_iters count batches, and the loop {loop.name} takes none; use max_epochs"
            )
        if self.max_epochs is not None and loop.over is DATA:
            raise ValueError(f"the outermost loop {loop.name} takes the data itself and has no epochs; use max_iters")

    def begin(self, state: State, loop: Loop, data: Any) -> None:
        """Set the state to the start of a new run over ``data``, with these limits."""
        for counter in loop.counters:
            setattr(state, counter, 0)
        state.forget_metrics_of_last_run()
        state.times.clear()
        state.batch = state.output = None
        state.resumed = False
        state.max_iters = self.max_iters
        open_ended = self.max_iters is not None or loop.until is not None or loop.over is not None
        default = loop.times or (None if open_ended else 1)
        state.max_epochs = default if self.max_epochs is None else min(self.max_epochs, loop.times or self.max_epochs)
        state.epoch_length, state.learned_length = self.epoch_length, None
        if self.epoch_length is None and data is not None:
            state.expect_length_of(data)


def lacks_limits(state: State, loop: Loop) -> bool:
    """Return whether the limit with which the last run was started has been set to None since."""
    is_open_ended = loop.until is not None or loop.over is not None
    return state.max_epochs is None and state.max_iters is None and not is_open_ended


LIMITS = ("max_epochs", "max_iters", "epoch_length")
