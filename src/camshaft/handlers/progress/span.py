"""The passes of a loop that a bar counts."""

from __future__ import annotations

import math
from collections.abc import Sized

from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import OF_SKIPPING, EventHandle, FilteredEvent, event_key, event_name
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA

__all__ = []


class BarSpan:
    """The passes of one loop that a bar counts: within each pass of an enclosing loop, or within the run.

    Args:
        loop: the loop of the engine.
        advances_at: the event at which the bar advances.
        closing: the event that closes the bar; by default the end of a pass of the nearest enclosing loop.

    Attributes:
        outer: the enclosing loop, or None for the run.
        counter: the attribute of the state that counts the passes.
        pass_endings: the events that end a pass.
        started, completed: the events at which the bar opens and closes.

    Raises:
        ValueError: ``closing`` does not end an enclosing loop, or has a filter.
    """

    def __init__(self, loop: Loop, advances_at: EventHandle, closing: EventHandle | None) -> None:
        counted = counter_loop_by_event(loop)[event_key(advances_at)]
        path = next(path for path, item in loop.walk() if item.name == counted)
        loops = {item.name: item for _, item in loop.walk() if isinstance(item, Loop)}
        enclosing = [loops[name] for name in reversed(path[:-1])]
        ends: dict[str, Loop | None] = {item.completed: item for item in enclosing}
        ends["completed"] = None
        key = next(iter(ends)) if closing is None else event_key(closing)
        if key not in ends or (isinstance(closing, FilteredEvent) and closing.filter is not None):
            raise ValueError(
                f"ProgressBar: closing_event_name must be {' or '.join(map(event_name, ends))} without a filter, "
                f"got {closing!r}: the event must end a state around {counted}"
            )
        self.outer = ends[key]
        self.counter = counted.lower()
        passes = loops[counted]
        self.pass_endings = [passes.completed] + [*OF_SKIPPING] * (passes.over is DATA)
        self._contains_data_loop = passes.over is not DATA and passes.data_loop is not None
        self.started = self.outer.started if self.outer else "started"
        self.completed = key
        self._counted_loops = [loops[name] for name in path[path.index(self.outer.name) + 1 if self.outer else 0 :]]
        self._outermost = loop.name

    def count(self, state: State) -> int:
        """Return the number of passes begun in the run."""
        return getattr(state, self.counter)  # type: ignore[no-any-return]

    def completed_passes(self, state: State) -> int:
        """Return the number of passes completed when the span begins. A resumed run is already inside a pass."""
        return self.count(state) - (state.resumed and self._contains_data_loop)

    def total(self, state: State, completed_before: int) -> int | None:
        """Return the number of passes in the span, or None if unknown.

        Args:
            state: the state of the engine.
            completed_before: the number of passes completed before the span.
        """
        passes_per_loop = [self._passes(loop, state) for loop in self._counted_loops]
        known = [passes for passes in passes_per_loop if passes is not None]
        total = math.prod(known) if len(known) == len(passes_per_loop) else None
        if state.max_iters is None or self._counted_loops[-1].over is not DATA:
            return total
        limit = state.max_iters - completed_before
        if total is None:
            return limit if self.outer is None else None
        return min(total, limit)

    def _passes(self, loop: Loop, state: State) -> int | None:
        if loop.over is DATA:
            return state.epoch_length
        if loop.name == self._outermost and state.max_epochs is not None:
            return state.max_epochs
        return len(loop.over) if isinstance(loop.over, Sized) else loop.times

    def title(self, engine: Engine) -> str:
        """Return the title of the bar: the engine with what is counted, or with the pass of the enclosing loop."""
        if self.outer is None:
            return f"{engine.name} {self.counter}"
        name = self.outer.name.lower()
        limit = self._passes(self.outer, engine.state) if self.outer.name == self._outermost else None
        if limit == 1:
            return engine.name
        return f"{engine.name} {name} {getattr(engine.state, name)}" + (f"/{limit}" if limit else "")
