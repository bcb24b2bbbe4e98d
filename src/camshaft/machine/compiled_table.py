"""The compiled table: the transitions of a loop, prepared for checking the events of a run quickly.

Each transition links to the transitions that may follow it. Guards that cannot fail in such a run are removed. To check
an event then takes one dictionary look-up and at most one function call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.machine.context import Context, Effect, Guard, function
from camshaft.machine.transition import READY, STARTED, Transition, place_of

__all__ = ["CompiledTable", "CompiledTransition"]


class Row(dict[str, "CompiledTransition"]):
    """The transitions out of a place, by event, as far as they were looked up already.

    Attributes:
        place: the place.
        is_complete: True if there are no others.
    """

    __slots__ = ("is_complete", "place")

    def __init__(self, place: str, is_complete: bool = False) -> None:
        super().__init__()
        self.place = place
        self.is_complete = is_complete


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
        next_by_event: Row,
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

    def leading_to(self, next_by_event: Row) -> CompiledTransition:
        """Return the same transition with others after it."""
        return CompiledTransition(self.place, next_by_event, self.event, self.loop, self._guards, self._effects)

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
        row: a function ``row(place)`` that returns all transitions out of a place, by event.
        has_data: True or False if all runs to be checked have data, or none has. None if this is unknown, or if guards
            can query a live run.
    """

    def __init__(
        self,
        loop: Loop,
        find: Callable[[str, str], Transition | None],
        row: Callable[[str], Mapping[str, Transition]],
        has_data: bool | None,
    ) -> None:
        self._loop, self._find, self._row = loop, find, row
        self._context = Context(has_data=has_data)
        self._loop_of_event = counter_loop_by_event(loop)
        self._rows: dict[str, Row] = {}

    def start(self, place: str, context: Context) -> CompiledTransition:
        """Return the start of a check at a place. A run that is resumed inside loops enters them in their middle.

        Args:
            place: the place.
            context: the context at the start of the check.
        """
        if place == READY and context.resumed:
            return self._resumed_start(context)
        return CompiledTransition(place, self._row_of(place))

    def find(self, last: CompiledTransition, event: str) -> CompiledTransition | None:
        """Return the transition of an event after another one, and add it to its row; None if there is none."""
        row = last.next_by_event
        return row.get(event) if row.is_complete else self.at(row.place, event)

    def at(self, place: str, event: str) -> CompiledTransition | None:
        """Return the transition of an event at a place; None if there is none."""
        row = self._row_of(place)
        transition = None if event in row else self._find(place, event)
        if transition is not None:
            row[event] = self._compiled(transition)
        return row.get(event)

    def _row_of(self, place: str) -> Row:
        if place not in self._rows:
            self._rows[place] = Row(place)
        return self._rows[place]

    def _compiled(self, transition: Transition) -> CompiledTransition:
        context = self._context
        guards = [guard for guard in transition.guards if context.has_data is None or not _always_holds(guard, context)]
        loop = self._loop_of_event[transition.event]
        following = self._row_of(transition.dest)
        return CompiledTransition(transition.dest, following, transition.event, loop, guards, transition.effects)

    # -- runs that are resumed inside loops ----------------------------------------------------------------------------

    def _resumed_start(self, context: Context) -> CompiledTransition:
        """Return the start of the check of a run that is resumed inside a pass of the outermost loop.

        Such a run fires the start events of the loops that it was in, and then goes on where it was saved. So it stands
        after a pass of an inner loop, without any event of the states before that loop.
        """
        path = self._loop.data_path
        inside = [name for name in path if name in context.resumed]
        following: Row | None = None
        for depth in range(len(inside), 0, -1):
            item = self._loop.find(inside[depth - 1])
            assert isinstance(item, Loop)
            before = place_of(path[:depth], left=True) if depth > 1 else STARTED
            entering = self.at(before, item.started)
            assert entering is not None
            if following is None and context.position.get(path[depth], 0):
                following = self._row_of(place_of(path[: depth + 1], left=True))
            if following is not None:
                entering = entering.leading_to(following)
            following = self._with_entrance(before, item.started, entering)
        started = self.at(READY, "started")
        assert following is not None
        assert started is not None
        ready = Row(READY, is_complete=True)
        ready["started"] = started.leading_to(following)
        return CompiledTransition(READY, ready)

    def _with_entrance(self, place: str, event: str, entrance: CompiledTransition) -> Row:
        """Return the transitions out of a place, with another one for an event, also inside custom states."""
        changed = Row(place, is_complete=True)
        inner = {f"{place}/{custom.name}" for custom in self._loop.custom_states}
        for key, transition in self._row(place).items():
            compiled = self._compiled(transition)
            stays = transition.dest == place or transition.dest in inner
            changed[key] = compiled.leading_to(changed) if stays else compiled
        changed[event] = entrance
        return changed


def _always_holds(guard: Guard, context: Context) -> bool:
    """Return whether a guard allows its transition in every run that agrees with ``context`` about data."""
    return guard.is_settled and guard.test(context) is not False
