"""The machine: a loop as a flat ``transitions.Machine`` of places."""

from __future__ import annotations

from functools import partial

from transitions import Machine

from camshaft.loop.loop import Loop
from camshaft.machine.compiled_table import CompiledTransition, compile_transitions
from camshaft.machine.context import Context, Guard, unknown_answer
from camshaft.machine.search import shortest_path
from camshaft.machine.text import machine_text
from camshaft.machine.transition_table import READY, Transition, TransitionTable

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
        built = TransitionTable(loop)
        self.loop = loop
        self.paths = built.paths
        self.items = built.items
        self.table: dict[str, dict[str, Transition]] = {place: {} for place in built.paths}
        self._compiled: dict[bool | None, dict[str, CompiledTransition]] = {}
        model = _Model()
        super().__init__(model=model, states=list(built.paths), initial=READY, auto_transitions=False)
        for transition in built.transitions:
            self.table[transition.source][transition.event] = transition
            self.add_transition(
                transition.event,
                transition.source,
                None if transition.dest == transition.source and transition.event == "interrupt" else transition.dest,
                conditions=[partial(_allows, guard, model) for guard in transition.guards],
                after=[partial(_apply, transition, model)],
            )

    def expected(self, place: str, context: Context | None = None) -> list[str]:
        """The events that may follow at a place; with a context, those that its guards allow.

        Those of the loop itself come first, then those that control calls and failures bring.
        """
        transitions = [
            transition
            for transition in self.table[place].values()
            if context is None or transition.denied_by(context) is None
        ]
        return [transition.event for transition in sorted(transitions, key=lambda transition: transition.is_control)]

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
        return None if path is None else [transition.event for transition in path[:-1]]

    def compiled(self, context: Context) -> dict[str, CompiledTransition]:
        """By place, the move to begin with in judging a run with this context."""
        given = context.has_data if context.ask is unknown_answer else None
        if given not in self._compiled:
            self._compiled[given] = compile_transitions(self.loop, self.table, given)
        return self._compiled[given]

    def __repr__(self) -> str:
        return f"<LoopMachine of {self.loop.name}: {len(self.table)} places>"

    def __str__(self) -> str:
        return machine_text(self.loop, self.table)


def _allows(guard: Guard, model: _Model) -> bool:
    return guard.test(model.context) is not False


def _apply(transition: Transition, model: _Model) -> None:
    transition.apply(model.context)
