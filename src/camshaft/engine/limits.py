"""The limits of a run."""

from __future__ import annotations

from typing import Any

import attrs

from camshaft._checks import check_integer
from camshaft.engine.data_fetcher import check_data, length_of
from camshaft.engine.state import State
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA

__all__ = ["Limits"]

HOW_TO_RESTART = "call close() first to start over"


@attrs.define
class Limits:
    """What was asked of one call of ``run()``.

    Raises:
        ValueError: a limit is not positive, or both kinds are given.
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

    def go_on(self, state: State, loop: Loop, begun: bool, finished: bool) -> bool:
        """Whether a run with these limits goes on with what the state has counted, or starts anew.

        Raises:
            ValueError: the limits are below what is done, or of the other kind than before.
        """
        if not begun:
            return False
        epochs = getattr(state, loop.counters[0])
        iters = getattr(state, loop.data_loop.name.lower()) if loop.data_loop else 0
        begun_with = "max_epochs" if state.max_epochs is not None else "max_iters"
        other = (
            self.max_iters if begun_with == "max_epochs" else self.max_epochs if state.max_iters is not None else None
        )
        if finished and (loop.until is not None or loop.over is not None or other is not None):
            return False
        if other is not None:
            raise ValueError(f"the run was begun with {begun_with}: go on with that, or {HOW_TO_RESTART}")
        for name, limit, done in (("max_epochs", self.max_epochs, epochs), ("max_iters", self.max_iters, iters)):
            if limit is not None:
                if limit < done:
                    raise ValueError(
                        f"{name}={limit} is below the {done} that are done: give at least that, or {HOW_TO_RESTART}"
                    )
                return limit > done or state.resumed
        return not finished and state.within_limits()

    def check_length(self, state: State) -> None:
        """Refuse a change of the length of an epoch half-way.

        Raises:
            ValueError: ``epoch_length`` is another than the run was begun with.
        """
        if self.epoch_length is not None and state.epoch_length not in (None, self.epoch_length):
            raise ValueError(
                f"epoch_length={self.epoch_length}, but the run was begun with {state.epoch_length}: "
                f"leave it out, or {HOW_TO_RESTART}"
            )

    def extend(self, state: State, loop: Loop) -> None:
        """Let a run that goes on have these limits."""
        if self.max_epochs is not None:
            state.max_epochs = min(self.max_epochs, loop.times or self.max_epochs)
        if self.max_iters is not None:
            state.max_iters = self.max_iters
        if state.epoch_length is None:
            state.epoch_length = self.epoch_length

    def check(self, loop: Loop, data: Any, knows_length: bool = False) -> None:
        """Refuse what a run of this loop cannot work with.

        Args:
            data: what it would run over.
            knows_length: whether it goes on without data, and so has the length of its epochs.

        Raises:
            TypeError, ValueError: the data, or a limit that the loop does not have.
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
        """Set the state to the start of a new run."""
        for counter in loop.counters:
            setattr(state, counter, 0)
        state.metrics.clear()
        state.times.clear()
        state.batch = state.output = None
        state.resumed = False
        state.max_iters = self.max_iters
        open_ended = self.max_iters is not None or loop.until is not None or loop.over is not None
        default = loop.times or (None if open_ended else 1)
        state.max_epochs = default if self.max_epochs is None else min(self.max_epochs, loop.times or self.max_epochs)
        state.epoch_length = self.epoch_length if self.epoch_length is not None or data is None else length_of(data)


LIMITS = ("max_epochs", "max_iters", "epoch_length")
