"""The check of event orders against a machine."""

from __future__ import annotations

from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.machine.context import Context
from camshaft.machine.transition import ENDS, READY
from camshaft.machine.transition_table import TransitionTable

__all__ = ["OrderChecker"]


class OrderChecker:
    """A checker that follows the events of one run through the machine.

    Args:
        machine: the transitions of the loop.
        name: the name of the engine, for messages.
        context: the limits and counters at the start of the check.
        place: the place at the start of the check.

    Attributes:
        compiled: the compiled transitions.
        last_transition: the transition taken by the last event.
        seen: the number of events so far.
    """

    __slots__ = ("compiled", "context", "last_transition", "machine", "name", "seen")

    def __init__(
        self, machine: TransitionTable, name: str = "engine", context: Context | None = None, place: str = READY
    ) -> None:
        self.machine = machine
        self.name = name
        self.context = Context() if context is None else context
        self.compiled = machine.compiled(self.context)
        self.last_transition = self.compiled.start(place, self.context)
        self.seen = 0

    @property
    def place(self) -> str:
        """The place after the last event."""
        return self.last_transition.place

    @property
    def last(self) -> str | None:
        """The last event, or None before the first one."""
        return self.last_transition.event

    def advance(self, event: str) -> None:
        """Take the transition of an event.

        Args:
            event: the key of the event.

        Raises:
            EventOrderError: there is no such transition at this place, or a guard denies it.
        """
        self.seen += 1
        transition = self.last_transition.next_by_event.get(event) or self.compiled.find(self.last_transition, event)
        if transition is None or (transition.try_take is not None and not transition.try_take(self.context)):
            raise self.error(event)
        self.last_transition = transition

    def finish(self) -> None:
        """Check that the run may end at this place.

        Raises:
            EventOrderError: the place is not an end, and the last event is not INTERRUPT.
        """
        if self.place not in ENDS and self.last != "interrupt":
            expected = " | ".join(map(event_name, self.expected()))
            raise EventOrderError(
                f"{self.name} stops with event #{self.seen}, {self._where_with_preposition()}\n  expected: {expected}"
            )

    def expected(self) -> list[str]:
        """Return the events that may come next."""
        return self.machine.expected(self.place, self.context)

    def where(self) -> str:
        """Return the states around the current place with their counters: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
        path = self.machine.paths[self.place]
        if not path:
            return self.place
        entered = [state for state in sorted(self.context.entered) if state not in path]
        states = [
            f"{state} {self.context.counts[state]}" if state in self.context.counts else state
            for state in (*path, *entered)
        ]
        if "after " in self.place and self.place.endswith(f"after {path[-1]}"):
            states[len(path) - 1] = f"after {states[len(path) - 1]}"
        return " / ".join(states)

    def _where_with_preposition(self) -> str:
        where = self.where()
        return where if where.startswith("after") else f"in {where}"

    def error(self, event: str) -> EventOrderError:
        """Return the error for an event that is illegal at this place."""
        transition = self.machine.find(self.place, event)
        denied = transition.denied_by(self.context) if transition is not None else None
        expected = " | ".join(map(event_name, self.expected()))
        why = f": [{denied.text}] does not hold" if denied is not None and denied.text else ""
        number = f"#{self.seen} " if self.seen else ""
        what = f"{self.name} event {number}{event_name(event)} is illegal"
        lines = [f"{what} {self._where_with_preposition()}{why}", f"  expected: {expected}"]
        missing = self.machine.path_to(event, self.place, self.context)
        if missing:
            lines.append(f"  nearest legal order: {_listed(missing)} come{'s' * (len(missing) == 1)} first")
        return EventOrderError("\n".join(lines))


def _listed(events: list[str]) -> str:
    names = [event_name(event) for event in events]
    if len(names) > 6:
        names[4:-1] = [f"{len(names) - 5} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
