"""The law of a loop: its table as the events of one run are judged by it, one after the other.

The places are linked, what is the same at every event of a run is decided beforehand, and all that is left to test and
to do at an event is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from camshaft.loop.counting import counters
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context, Effect, Guard, function
from camshaft.machine.transition_table import Row

__all__ = ["Move", "law_of"]


class Move:
    """A transition, as it is taken in a run.

    Attributes:
        loop: the loop whose passes are counted with the event.
        event: the event; None for standing at a place without having come there.
        place: where it leads.
        then: by event, the moves that lead on from there.
        refuse: does to a context what taking the transition does, unless a guard denies it: then it changes nothing
            and returns True. None where there is nothing to test or to do.
    """

    __slots__ = ("_effects", "_guards", "event", "loop", "place", "refuse", "then")

    def __init__(
        self,
        place: str,
        then: dict[str, Move],
        event: str | None = None,
        loop: str = "",
        guards: Sequence[Guard] = (),
        effects: Sequence[Effect] = (),
    ) -> None:
        self.place = place
        self.then = then
        self.event = event
        self.loop = loop
        self._guards = guards
        self._effects = effects
        self.refuse: Callable[[Context], bool | None] | None = self._make if guards or effects else None

    def _make(self, context: Context) -> bool | None:
        """Write the function when it is wanted for the first time."""
        tests = [f"if ({guard.holds}) is False: return True" for guard in self._guards]
        names = {name: value for guard in self._guards for name, value in guard.names.items()}
        self.refuse = function([*tests, *self._effects], names)
        return self.refuse(context)  # type: ignore[no-any-return]


def law_of(loop: Loop, table: Mapping[str, Mapping[str, Row]], has_data: bool | None) -> dict[str, Move]:
    """By place, the move to begin with where a run stands there.

    Args:
        loop: the declaration.
        table: its rows, by place and event.
        has_data: whether the runs to be judged have data; None when that is not known, or when there is a run to ask.
    """
    given, counted = Context(has_data=has_data), counters(loop)
    moves: dict[str, dict[str, Move]] = {place: {} for place in table}
    for place, rows in table.items():
        for event, row in rows.items():
            guards = [guard for guard in row.guards if has_data is None or not _is_granted(guard, given)]
            moves[place][event] = Move(row.dest, moves[row.dest], event, counted[event], guards, row.effects)
    return {place: Move(place, moves[place]) for place in table}


def _is_granted(guard: Guard, given: Context) -> bool:
    """Whether a guard never denies anything in such runs."""
    return guard.is_settled and guard.test(given) is not False
