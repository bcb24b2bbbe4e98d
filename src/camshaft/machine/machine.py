"""The machine of a loop: a flat ``transitions.Machine`` with places as its states."""

from __future__ import annotations

from functools import partial
from typing import Any

from transitions import Machine

from camshaft.loop.loop import Loop
from camshaft.machine.context import Context, Guard
from camshaft.machine.text import machine_text
from camshaft.machine.transition import READY, Transition
from camshaft.machine.transition_table import TransitionTable

__all__ = ["LoopMachine"]


class _Model:
    """The model object of ``transitions``. Its ``state`` is the place."""

    state: str

    def __init__(self) -> None:
        self.context = Context()


class LoopMachine(TransitionTable, Machine):
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
        TransitionTable.__init__(self, loop)
        model = _Model()
        Machine.__init__(self, model=model, states=list(self.paths), initial=READY, auto_transitions=False)
        for transition in (each for row in self.table.values() for each in row.values()):
            self.add_transition(
                transition.event,
                transition.source,
                # an interrupt leaves no state: without a destination, ``transitions`` makes it an internal transition
                None if transition.dest == transition.source and transition.event == "interrupt" else transition.dest,
                conditions=[partial(_allows, guard, model) for guard in transition.guards],
                after=[partial(_apply, transition, model)],
            )

    def __getstate__(self) -> dict[str, Any]:
        model: Any = self.model
        return {"loop": self.loop, "place": model.state, "context": model.context}

    def __setstate__(self, state: dict[str, Any]) -> None:
        LoopMachine.__init__(self, state["loop"])  # guards and effects are compiled anew
        model: Any = self.model
        model.state, model.context = state["place"], state["context"].copy()

    def __repr__(self) -> str:
        return f"<LoopMachine of {self.loop.name}: {len(self.table)} places>"

    def __str__(self) -> str:
        return machine_text(self.loop, self.table)


def _allows(guard: Guard, model: _Model) -> bool:
    return guard.test(model.context) is not False


def _apply(transition: Transition, model: _Model) -> None:
    transition.apply(model.context)
