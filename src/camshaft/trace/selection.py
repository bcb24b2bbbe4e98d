"""A selection: some events of a trace, in order, and methods to count, select and compare them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from camshaft.events import EventHandle, FilteredEvent, attachments, event_key, event_name
from camshaft.trace.log import TraceEvent, TraceLog
from camshaft.trace.spans import inside as inside_state
from camshaft.trace.text import event_lines

__all__ = ["Selection"]


def _key(event: EventHandle) -> str:
    """Return the key of an event.

    Raises:
        ValueError: the event has a filter.
    """
    if isinstance(event, FilteredEvent) and event.filter is not None:
        raise ValueError(
            f"{event!r} has a filter, but a trace records every firing, whether a handler was called or not; "
            f"pass the event without the filter"
        )
    return event_key(event)


class Selection(Sequence[TraceEvent]):
    """Some events of a trace, in order: a slice of it, or the result of :meth:`select`.

    Args:
        trace: the whole trace.
        indices: the indices of the selected events, ascending.
    """

    def __init__(self, trace: TraceLog, indices: Sequence[int]) -> None:
        self.trace = trace
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[TraceEvent]:
        return map(self.trace.event, self.indices)

    def __getitem__(self, index: int | slice) -> Any:
        """Return the event at an index, or a selection of the events of a slice."""
        picked = self.indices[index]
        return self.trace.event(picked) if isinstance(picked, int) else Selection(self.trace, picked)

    def __eq__(self, other: object) -> bool:
        """Compare with a list of events, or with another trace or selection.

        A list is equal if it has the same events in the same order. A trace or selection must also have the same
        engines, counts and depths.
        """
        if isinstance(other, Selection):
            return self._signature() == other._signature()
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        try:
            keys = [item.event if isinstance(item, TraceEvent) else event_key(item) for item in other]
        except (TypeError, ValueError):
            return False
        return [event.event for event in self] == keys

    def __contains__(self, event: object) -> bool:
        """Return whether an event fired.

        Raises:
            ValueError: no recorded loop has the event.
        """
        key = event.event if isinstance(event, TraceEvent) else _key(event)
        self._check_event(key, None)
        return any(self.trace.key_of(index) == key for index in self.indices)

    __hash__ = None  # type: ignore[assignment]

    def _signature(self) -> list[tuple[str, str, int, int]]:
        return [(event.engine, event.event, event.count, event.depth) for event in self]

    def select(self, *, engine: str | None = None, event: Any = None, inside: str | None = None) -> Selection:
        """Select the events of one engine, of one kind, or inside one state. Several conditions must all hold.

        Args:
            engine: the name of their engine.
            event: an event, or several events: a list or a union of them.
            inside: the name of a state: select all events between entering and leaving it, including those of nested
                engines. The entering and the leaving event are not selected.

        Returns:
            The selected events; an empty selection if none fits.

        Raises:
            ValueError: no engine, event or state of this name was recorded.
        """
        indices = self.indices
        if engine is not None:
            self._check_engine(engine)
            runs = {number for number, record in enumerate(self.trace.runs) if record.engine == engine}
            indices = [index for index in indices if self.trace.run_of(index) in runs]
        if event is not None:
            keys = {_key(single) for single in attachments(event)}
            for key in keys:
                self._check_event(key, engine)
            indices = [index for index in indices if self.trace.key_of(index) in keys]
        if inside is not None:
            within = inside_state(self.trace, inside)
            indices = [index for index in indices if within[index]]
        return Selection(self.trace, indices)

    def count(self, event: Any, engine: str | None = None) -> int:
        """Return how often an event fired.

        Args:
            event: the event, without a filter.
            engine: count only firings of the engine of this name.

        Raises:
            ValueError: no engine of this name was recorded, or no recorded loop has the event.
        """
        key = _key(event)
        self._check_event(key, engine)
        return sum(number for (name, fired), number in self.counts().items() if fired == key and engine in (None, name))

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how often each event fired, by (engine, event), in the order of first appearance."""
        pairs = Counter((self.trace.run_of(index), self.trace.key_of(index)) for index in self.indices)
        found: dict[tuple[str, str], int] = {}
        for (run, key), number in pairs.items():
            name = (self.trace.runs[run].engine, key)
            found[name] = found.get(name, 0) + number
        return found

    def table(self) -> str:
        """Return the counts as a text table with the columns engine, event and count."""
        rows = [(engine, event_name(event), str(number)) for (engine, event), number in self.counts().items()]
        rows.insert(0, ("engine", "event", "count"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def assert_matches(self, pattern: str, *, strict: bool = False) -> None:
        """Compare with a pattern such as ``"STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED"``.

        Args:
            pattern: the expected events; see :mod:`camshaft.testing.pattern` for the grammar.
            strict: refuse events not named by the pattern, instead of skipping them.

        Raises:
            AssertionError: the events do not match. The message shows the first event that does not fit.
            PatternError: the pattern cannot be read, or has a name unknown to all recorded engines.
        """
        __tracebackhide__ = True
        from camshaft.trace.pattern import check as check_pattern  # loaded when needed: import camshaft stays fast

        check_pattern(self.trace, pattern, strict, self.indices)

    def lines(self) -> list[str]:
        """Return one line for each event: indented by nesting, with engine, event and count."""
        return event_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,} event{'s' * (len(self) != 1)}>"

    def _check_engine(self, engine: str) -> None:
        names = list(dict.fromkeys(record.engine for record in self.trace.runs))
        if engine not in names:
            raise ValueError(f"no engine {engine!r} was recorded; recorded engines: {', '.join(names) or 'none'}")

    def _check_event(self, key: str, engine: str | None) -> None:
        # A misspelled event would be found 0 times, and a test for its absence would pass for the wrong reason.
        runs = self.trace.runs
        if engine is not None:
            self._check_engine(engine)
        recorded = [record for record in runs if engine in (None, record.engine)]
        if runs and not any(key in record.loop.event_keys for record in recorded):
            names = ", ".join(dict.fromkeys(record.engine for record in runs))
            if any(key.lower() in record.loop.event_keys for record in recorded):
                raise ValueError(
                    f"{key!r} is the displayed name of the event {key.lower()!r}; "
                    f"pass {key.lower()!r} or a member of its enum"
                )
            owner = "no recorded engine has the" if engine is None else f"{engine} has no"
            raise ValueError(
                f"{owner} event {event_name(key)}, so it would never be found; check its name; "
                f"recorded engines: {names}"
            )
