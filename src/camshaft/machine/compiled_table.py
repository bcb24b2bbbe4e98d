"""The compiled table: the transitions of a loop, prepared for judging the events of one run one after the other.

Each transition links to those that may follow. What is the same at every event of a run is decided beforehand, so that
judging an event is a look-up and at most one function call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context, Effect, Guard, function
from camshaft.machine.transition_table import Transition

__all__ = ["CompiledTransition", "compile_transitions"]


class CompiledTransition:
    """A transition, as it is taken in a run.

    Attributes:
        loop: the loop whose passes are counted with the event.
        event: the event; None for standing at a place without having come there.
        place: where it leads.
        next_by_event: the transitions that lead on from there, by event.
        try_take: ``try_take(context) -> bool``: changes a context as taking the transition does, and returns True; or
            changes nothing and returns False, where a guard denies it. None where there is nothing to test or to do.
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
        self.try_take: Callable[[Context], bool] | None = self._make if guards or effects else None

    def _make(self, context: Context) -> bool:
        """Write the function when it is wanted for the first time."""
        tests = [f"if ({guard.holds}) is False: return False" for guard in self._guards]
        names = {name: value for guard in self._guards for name, value in guard.names.items()}
        self.try_take = function([*tests, *self._effects, "return True"], names)
        return self.try_take(context)  # type: ignore[no-any-return]


def compile_transitions(
    loop: Loop, table: Mapping[str, Mapping[str, Transition]], has_data: bool | None
) -> dict[str, CompiledTransition]:
    """Return, by place, the transition to begin with where a run stands there.

    Args:
        loop: the declaration.
        table: its transitions, by place and event.
        has_data: whether the runs to be judged have data; None when that is not known, or when there is a run to ask.
    """
    given, counted = Context(has_data=has_data), counter_loop_by_event(loop)
    linked: dict[str, dict[str, CompiledTransition]] = {place: {} for place in table}
    for place, transitions in table.items():
        for event, transition in transitions.items():
            guards = [guard for guard in transition.guards if has_data is None or not _is_granted(guard, given)]
            linked[place][event] = CompiledTransition(
                transition.dest, linked[transition.dest], event, counted[event], guards, transition.effects
            )
    return {place: CompiledTransition(place, linked[place]) for place in table}


def _is_granted(guard: Guard, given: Context) -> bool:
    """Whether a guard never denies anything in such runs."""
    return guard.is_settled and guard.test(given) is not False
