"""The machine of a loop: a flat ``transitions.Machine`` with places as its states."""

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
    """The model object of ``transitions``. Its ``state`` is the place."""

    state: str

    def __init__(self) -> None:
        self.context = Context()


class LoopMachine(Machine):
    """A loop as a ``transitions.Machine``.

    ``machine.states`` are the places. ``machine.get_triggers(place)`` returns the events that may follow there.
    ``machine.model.trigger(event)`` takes a transition if its guards allow it.

    Args:
        loop: the loop.

    Attributes:
        table: the same transitions by place and event, for fast look-up.
        paths: for each place, the names of the states around it, outermost first.
        items: for each place inside a declared state, that state.
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
                # an interrupt leaves no state: without a destination, ``transitions`` makes it an internal transition
                None if transition.dest == transition.source and transition.event == "interrupt" else transition.dest,
                conditions=[partial(_allows, guard, model) for guard in transition.guards],
                after=[partial(_apply, transition, model)],
            )

    def expected(self, place: str, context: Context | None = None) -> list[str]:
        """Return the events that may follow at a place.

        Args:
            place: the place.
            context: the limits and counters there. Without a context the guards are ignored.

        Returns:
            The keys of the events: first those of the loop itself, then those of control calls and failures.
        """
        transitions = [
            transition
            for transition in self.table[place].values()
            if context is None or transition.denied_by(context) is None
        ]
        return [transition.event for transition in sorted(transitions, key=lambda transition: transition.is_control)]

    def path_to(self, event: str, place: str, context: Context) -> list[str] | None:
        """Return the shortest sequence of the loop's own events after which an event may follow.

        Args:
            event: the key of the event to reach.
            place: the place to start from.
            context: the limits and counters there.

        Returns:
            The keys of the events before it. None if the search near ``place`` does not find the event.
        """
        path = shortest_path(self.table, event, place, context)
        return None if path is None else [transition.event for transition in path[:-1]]

    def compiled(self, context: Context) -> dict[str, CompiledTransition]:
        """Return the compiled table for checks with this context: for each place, the start of a check there."""
        has_data = context.has_data if context.ask is unknown_answer else None
        if has_data not in self._compiled:
            self._compiled[has_data] = compile_transitions(self.loop, self.table, has_data)
        return self._compiled[has_data]

    def __repr__(self) -> str:
        return f"<LoopMachine of {self.loop.name}: {len(self.table)} places>"

    def __str__(self) -> str:
        return machine_text(self.loop, self.table)


def _allows(guard: Guard, model: _Model) -> bool:
    return guard.test(model.context) is not False


def _apply(transition: Transition, model: _Model) -> None:
    transition.apply(model.context)
