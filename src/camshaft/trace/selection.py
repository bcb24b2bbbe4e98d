"""A selection: some events of a trace, in order, and what can be asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from camshaft.events import EventHandle, FilteredEvent, attachments, event_key, event_name
from camshaft.trace.log import TraceEvent, TraceLog
from camshaft.trace.pattern import check as check_pattern
from camshaft.trace.spans import inside as inside_state
from camshaft.trace.text import event_lines

__all__ = ["Selection"]


def _key(event: EventHandle) -> str:
    """The key of an event without a filter.

    Raises:
        ValueError: it has one.
    """
    if isinstance(event, FilteredEvent) and event.filter is not None:
        raise ValueError(f"{event!r} has a filter: a trace tells what fired, whoever was called then; leave it out")
    return event_key(event)


class Selection(Sequence[TraceEvent]):
    """Some events of a trace, in order: a slice of it, or what :meth:`select` picked.

    Args:
        trace: the whole.
        indices: which events of it, ascending.
    """

    def __init__(self, trace: TraceLog, indices: Sequence[int]) -> None:
        self.trace = trace
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[TraceEvent]:
        return map(self.trace.event, self.indices)

    def __getitem__(self, index: int | slice) -> Any:
        """An event, or a selection of events."""
        picked = self.indices[index]
        return self.trace.event(picked) if isinstance(picked, int) else Selection(self.trace, picked)

    def __eq__(self, other: object) -> bool:
        """It equals a list of events in this order; and a trace or selection of equal events, engines and counts."""
        if isinstance(other, Selection):
            return self._signature() == other._signature()
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        try:
            keys = [one.event if isinstance(one, TraceEvent) else event_key(one) for one in other]
        except (TypeError, ValueError):
            return False
        return [event.event for event in self] == keys

    def __contains__(self, event: object) -> bool:
        """Whether an event fired.

        Raises:
            ValueError: no recorded loop knows the event.
        """
        key = event.event if isinstance(event, TraceEvent) else _key(event)
        self._check_event(key, None)
        return any(self.trace.key_of(index) == key for index in self.indices)

    __hash__ = None  # type: ignore[assignment]

    def _signature(self) -> list[tuple[str, str, int, int]]:
        return [(event.engine, event.event, event.count, event.depth) for event in self]

    def select(self, *, engine: str | None = None, event: Any = None, inside: str | None = None) -> Selection:
        """The events of one engine, of one kind, or within one state; given together, those for which all holds.

        Args:
            engine: the name of the engine that fired them.
            event: an event, or several events: a list or a union of them.
            inside: a state: all that fell between entering and leaving it, of nested engines too; the events that
                enter and leave it do not count as inside.

        Raises:
            ValueError: no engine, event or state of that name was recorded.
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
        """How often an event fired, in all engines or in one.

        Raises:
            ValueError: no engine of that name was recorded, or no loop that knows the event.
        """
        key = _key(event)
        self._check_event(key, engine)
        return sum(number for (name, fired), number in self.counts().items() if fired == key and engine in (None, name))

    def counts(self) -> dict[tuple[str, str], int]:
        """How often each event fired, by engine and event, in the order of first appearance."""
        pairs = Counter((self.trace.run_of(index), self.trace.key_of(index)) for index in self.indices)
        found: dict[tuple[str, str], int] = {}
        for (run, key), number in pairs.items():
            name = (self.trace.runs[run].engine, key)
            found[name] = found.get(name, 0) + number
        return found

    def table(self) -> str:
        """The counts as a text table."""
        rows = [(engine, event_name(event), str(number)) for (engine, event), number in self.counts().items()]
        rows.insert(0, ("engine", "event", "count"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def assert_matches(self, pattern: str, *, strict: bool = False) -> None:
        """Compare with a pattern such as ``"STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED"``.

        Args:
            pattern: what is expected; :mod:`camshaft.testing.pattern` gives the grammar.
            strict: whether events that the pattern does not mention are errors, instead of being passed over.

        Raises:
            AssertionError: the events are others; the message shows the first that does not fit.
            PatternError: the pattern cannot be read, or names what no recorded engine has.
        """
        __tracebackhide__ = True
        check_pattern(self.trace, pattern, strict, self.indices)

    def lines(self) -> list[str]:
        """One line an event: indented by nesting, with engine, event and count."""
        return event_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,} event{'s' * (len(self) != 1)}>"

    def _check_engine(self, engine: str) -> None:
        names = list(dict.fromkeys(record.engine for record in self.trace.runs))
        if engine not in names:
            raise ValueError(f"no engine {engine!r} was recorded; recorded are {', '.join(names) or 'none'}")

    def _check_event(self, key: str, engine: str | None) -> None:
        runs = self.trace.runs
        if engine is not None:
            self._check_engine(engine)
        recorded = [record for record in runs if engine in (None, record.engine)]
        if runs and not any(key in record.loop.event_keys for record in recorded):
            names = ", ".join(dict.fromkeys(record.engine for record in runs))
            if any(key.lower() in record.loop.event_keys for record in recorded):
                raise ValueError(
                    f"{key!r} is how the event {key.lower()!r} is shown: ask for that, or for a member of its enum"
                )
            known = f"{engine or 'any of them'} does not know {event_name(key)}"
            raise ValueError(f"{known}, so counting it proves nothing; recorded are {names}")
