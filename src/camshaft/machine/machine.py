"""The machine: a loop as a flat ``transitions.Machine`` of places."""

from __future__ import annotations

from functools import partial

from transitions import Machine

from camshaft.loop.loop import Loop
from camshaft.machine.compiled_table import Move, law_of
from camshaft.machine.context import Context, Guard, nobody
from camshaft.machine.search import shortest_path
from camshaft.machine.text import machine_text
from camshaft.machine.transition_table import READY, Row, Table

__all__ = ["LoopMachine"]


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
        path = shortest_path(self.table, event, place, context)
        return None if path is None else [row.event for row in path[:-1]]

    def law(self, context: Context) -> dict[str, Move]:
        """By place, the move to begin with in judging a run with this context."""
        given = context.has_data if context.ask is nobody else None
        if given not in self._laws:
            self._laws[given] = law_of(self.loop, self.table, given)
        return self._laws[given]

    def __repr__(self) -> str:
        return f"<LoopMachine of {self.loop.name}: {len(self.table)} places>"

    def __str__(self) -> str:
        return machine_text(self.loop, self.table)


def _allows(guard: Guard, model: _Model) -> bool:
    return guard.test(model.context) is not False


def _apply(row: Row, model: _Model) -> None:
    row.apply(model.context)
