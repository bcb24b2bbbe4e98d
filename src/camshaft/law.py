"""The law of a loop: its table as the events of one run are judged by it, one after the other.

The places are linked, what is the same at every event of a run is decided beforehand, and all that is left to test and
to do at an event is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from camshaft.context import Context, Guard, function
from camshaft.table import Row

__all__ = ["Move", "Place", "law_of"]


class Place:
    """A place: by event, what leads on from it."""

    __slots__ = ("moves", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.moves: dict[str, Move] = {}


class Move:
    """A transition to a place.

    Attributes:
        dest: where it leads.
        refuse: does to a context what taking the transition does, unless a guard denies it: then it changes nothing
            and returns True. None where there is nothing to test or to do.
    """

    __slots__ = ("_guards", "_row", "dest", "refuse")

    def __init__(self, row: Row, dest: Place, guards: tuple[Guard, ...]) -> None:
        self.dest = dest
        self._row = row
        self._guards = guards
        self.refuse: Callable[[Context], bool | None] | None = self._make if guards or row.effects else None

    def _make(self, context: Context) -> bool | None:
        """Write the function when it is wanted for the first time."""
        tests = [f"if ({guard.holds}) is False: return True" for guard in self._guards]
        names = {name: value for guard in self._guards for name, value in guard.names.items()}
        self.refuse = function([*tests, *self._row.effects], names)
        return self.refuse(context)  # type: ignore[no-any-return]


def law_of(table: Mapping[str, Mapping[str, Row]], has_data: bool | None) -> dict[str, Place]:
    """The places of a table.

    Args:
        table: by place and event, the row.
        has_data: whether the runs to be judged have data; None when that is not known, or when there is a run to ask.
    """
    given = Context(has_data=has_data)
    places = {name: Place(name) for name in table}
    for name, rows in table.items():
        for event, row in rows.items():
            guards = tuple(guard for guard in row.guards if has_data is None or not _is_granted(guard, given))
            places[name].moves[event] = Move(row, places[row.dest], guards)
    return places


def _is_granted(guard: Guard, given: Context) -> bool:
    """Whether a guard never denies anything in such runs."""
    return guard.is_settled and guard.test(given) is not False
