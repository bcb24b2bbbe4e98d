"""The compiled table: the transitions of a loop, prepared for checking the events of a run quickly.

Each transition links to the transitions that may follow it. Guards that cannot fail in such a run are removed. To check
an event then takes one dictionary look-up and at most one function call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context, Effect, Guard, function
from camshaft.machine.transition import Transition

__all__ = ["CompiledTable", "CompiledTransition"]


class CompiledTransition:
    """A transition with links to the transitions that may follow it.

    Attributes:
        loop: the name of the loop whose passes are counted with the event.
        event: the key of the event. None for the start at a place, which no event has led to.
        place: the destination.
        next_by_event: the transitions out of the destination, by event, as far as they were looked up already.
        try_take: a function ``try_take(context) -> bool``. If the guards allow the transition, it applies the effects
            to the context and returns True. Otherwise it leaves the context as it is and returns False. None if there
            are neither guards nor effects.
    """

    __slots__ = ("_effects", "_guards", "event", "loop", "next_by_event", "place", "try_take")

    def __init__(
        self,
        place: str,
        next_by_event: dict[str, CompiledTransition],
        event: str | None = None,
        loop: str = "",
        guards: Sequence[Guard] = (),
        effects: Sequence[Effect] = (),
    ) -> None:
        self.place = place
        self.next_by_event = next_by_event
        self.event = event
        self.loop = loop
        self._guards = guards
        self._effects = effects
        self.try_take: Callable[[Context], bool] | None = self._compile_and_try if guards or effects else None

    def _compile_and_try(self, context: Context) -> bool:
        """Compile the function at the first call and replace ``try_take`` with it."""
        tests = [f"if ({guard.holds}) is False: return False" for guard in self._guards]
        names = {name: value for guard in self._guards for name, value in guard.names.items()}
        self.try_take = function([*tests, *self._effects, "return True"], names)
        return self.try_take(context)  # type: ignore[no-any-return]


class CompiledTable:
    """The compiled transitions of a loop. Each is compiled when a check first looks it up.

    Args:
        loop: the loop.
        find: a function ``find(place, event)`` that returns the transition of an event at a place, or None.
        has_data: True or False if all runs to be checked have data, or none has. None if this is unknown, or if guards
            can query a live run.
    """

    def __init__(self, loop: Loop, find: Callable[[str, str], Transition | None], has_data: bool | None) -> None:
        self._find = find
        self._context = Context(has_data=has_data)
        self._loop_of_event = counter_loop_by_event(loop)
        self._rows: dict[str, dict[str, CompiledTransition]] = {}

    def start(self, place: str) -> CompiledTransition:
        """Return the start of a check at a place."""
        return CompiledTransition(place, self._rows.setdefault(place, {}))

    def find(self, place: str, event: str) -> CompiledTransition | None:
        """Return the transition of an event at a place, and add it to the row of this place; None if there is none."""
        row = self._rows.setdefault(place, {})
        transition = None if event in row else self._find(place, event)
        if transition is not None:
            has_data = self._context.has_data
            guards = [
                guard for guard in transition.guards if has_data is None or not _always_holds(guard, self._context)
            ]
            following = self._rows.setdefault(transition.dest, {})
            row[event] = CompiledTransition(
                transition.dest, following, event, self._loop_of_event[event], guards, transition.effects
            )
        return row.get(event)


def _always_holds(guard: Guard, context: Context) -> bool:
    """Return whether a guard allows its transition in every run that agrees with ``context`` about data."""
    return guard.is_settled and guard.test(context) is not False
