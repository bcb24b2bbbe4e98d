"""The machine: a loop as a flat ``transitions.Machine`` of places, and the checker of orders that reads its table."""

from __future__ import annotations

from collections import deque
from functools import partial

from transitions import Machine

from camshaft.events import event_name
from camshaft.loop.loop import Loop
from camshaft.machine.compiled_table import Move, law_of
from camshaft.machine.context import Context, Guard, nobody
from camshaft.machine.transition_table import ENDS, READY, Row, Table

__all__ = ["EventOrderError", "LoopMachine", "OrderChecker"]


NEAREST = 2000
"""How many places and contexts are looked at to say what should have come first."""


class EventOrderError(RuntimeError):
    """An event fired where the loop does not allow it; the message says where that is and what was expected."""


class _Model:
    """The model object of ``transitions``: it holds the place in ``state`` and the context beside it."""

    state: str

    def __init__(self) -> None:
        self.context = Context()


class LoopMachine(Machine):
    """A loop as a ``transitions.Machine``.

    ``machine.states`` are the places, ``machine.get_triggers(place)`` the events that may follow there, and
    ``machine.model.trigger(event)`` takes a transition, if its guards allow it. :attr:`table` holds the same
    transitions for fast reading, :attr:`paths` the states around each place.

    Args:
        loop: the loop.
    """

    def __init__(self, loop: Loop) -> None:
        built = Table(loop)
        self.loop = loop
        self.paths = built.paths
        self.items = built.items
        self.table: dict[str, dict[str, Row]] = {place: {} for place in built.paths}
        self._laws: dict[bool | None, dict[str, Move]] = {}
        model = _Model()
        super().__init__(model=model, states=list(built.paths), initial=READY, auto_transitions=False)
        for row in built.rows:
            self.table[row.source][row.event] = row
            self.add_transition(
                row.event,
                row.source,
                None if row.dest == row.source and row.event == "interrupt" else row.dest,
                conditions=[partial(_allows, guard, model) for guard in row.guards],
                after=[partial(_apply, row, model)],
            )

    def expected(self, place: str, context: Context | None = None) -> list[str]:
        """The events that may follow at a place; with a context, those that its guards allow.

        Those of the loop itself come first, then those that control calls and failures bring.
        """
        rows = [row for row in self.table[place].values() if context is None or row.denied_by(context) is None]
        return [row.event for row in sorted(rows, key=lambda row: row.is_control)]

    def path_to(self, event: str, place: str, context: Context) -> list[str] | None:
        """The fewest events of the loop itself after which an event may follow.

        Args:
            event: the event to come.
            place: where the run stands.
            context: limits and counters there.

        Returns:
            The events that come before it; None where none of the nearest orders has it.
        """
        start: tuple[str, Context, tuple[str, ...]] = (place, context, ())
        waiting = deque([start] if event in self._triggers else [])
        seen: set[object] = set()
        while waiting and len(seen) < NEAREST:
            place, context, path = waiting.popleft()
            for row in self.table[place].values():
                if row.denied_by(context) is not None:
                    continue
                if row.event == event:
                    return list(path)
                if row.is_control or row.dest in ENDS:
                    continue
                after = context.copy()
                row.apply(after)
                known = (row.dest, str(after.counts), str(after.passes), frozenset(after.entered), str(after.ranks))
                if known not in seen:
                    seen.add(known)
                    waiting.append((row.dest, after, (*path, row.event)))
        return None

    def law(self, context: Context) -> dict[str, Move]:
        """By place, the move to begin with in judging a run with this context."""
        given = context.has_data if context.ask is nobody else None
        if given not in self._laws:
            self._laws[given] = law_of(self.loop, self.table, given)
        return self._laws[given]

    @property
    def _triggers(self) -> set[str]:
        return {event for rows in self.table.values() for event in rows}

    def __repr__(self) -> str:
        return f"<LoopMachine of {self.loop.name}: {len(self.table)} places>"

    def __str__(self) -> str:
        from camshaft.trace.text import machine_text

        return machine_text(self)


def _allows(guard: Guard, model: _Model) -> bool:
    return guard.test(model.context) is not False


def _apply(row: Row, model: _Model) -> None:
    row.apply(model.context)


class OrderChecker:
    """Follows the events of one run through the machine.

    Args:
        machine: the machine of the loop that runs.
        name: the engine's name, for messages.
        context: limits and counters where the run begins.
        place: the place where it begins.
    """

    __slots__ = ("context", "machine", "move", "name", "seen")

    def __init__(
        self, machine: LoopMachine, name: str = "engine", context: Context | None = None, place: str = READY
    ) -> None:
        self.machine = machine
        self.name = name
        self.context = Context() if context is None else context
        self.move = machine.law(self.context)[place]
        self.seen = 0

    @property
    def place(self) -> str:
        """Where the run stands."""
        return self.move.place

    @property
    def last(self) -> str | None:
        """The event that came last; None before the first."""
        return self.move.event

    def advance(self, event: str) -> None:
        """Take the transition of an event.

        Raises:
            EventOrderError: the machine has none here, or a guard denies it.
        """
        self.seen += 1
        move = self.move.then.get(event)
        if move is None or (move.refuse is not None and move.refuse(self.context)):
            raise self.error(event)
        self.move = move

    def finish(self) -> None:
        """Judge that the run ends here.

        Raises:
            EventOrderError: it stands neither at an end nor at an interrupt.
        """
        if self.place not in ENDS and self.last != "interrupt":
            expected = " | ".join(map(event_name, self.expected()))
            raise EventOrderError(
                f"{self.name} stops with event #{self.seen}, {self._stands()}\n  expected: {expected}"
            )

    def expected(self) -> list[str]:
        """The events that may come next."""
        return self.machine.expected(self.place, self.context)

    def where(self) -> str:
        """Where the run stands, in words: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
        path = self.machine.paths[self.place]
        if not path:
            return self.place
        entered = [state for state in sorted(self.context.entered) if state not in path]
        counted = [
            f"{state} {self.context.counts[state]}" if state in self.context.counts else state
            for state in (*path, *entered)
        ]
        if "after " in self.place and self.place.endswith(f"after {path[-1]}"):
            counted[len(path) - 1] = f"after {counted[len(path) - 1]}"
        return " / ".join(counted)

    def _stands(self) -> str:
        where = self.where()
        return where if where.startswith("after") else f"in {where}"

    def error(self, event: str) -> EventOrderError:
        """What there is to say of an event that is illegal here."""
        row = self.machine.table[self.place].get(event)
        denied = row.denied_by(self.context) if row is not None else None
        expected = " | ".join(map(event_name, self.expected()))
        why = f": [{denied.text}] does not hold" if denied is not None and denied.text else ""
        number = f"#{self.seen} " if self.seen else ""
        what = f"{self.name} event {number}{event_name(event)} is illegal"
        lines = [f"{what} {self._stands()}{why}", f"  expected: {expected}"]
        first = self.machine.path_to(event, self.place, self.context)
        if first:
            lines.append(f"  nearest legal order: {_listed(first)} come{'s' * (len(first) == 1)} first")
        return EventOrderError("\n".join(lines))


def _listed(events: list[str]) -> str:
    names = [event_name(event) for event in events]
    if len(names) > 6:
        names[4:-1] = [f"{len(names) - 5} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
