"""The checker of event orders."""

from __future__ import annotations

from camshaft.events import event_name
from camshaft.exceptions import EventOrderError
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition_table import ENDS, READY

__all__ = ["OrderChecker"]


class OrderChecker:
    """Follows the events of one run through the machine.

    Args:
        machine: the machine of the loop that runs.
        name: the engine's name, for messages.
        context: limits and counters where the run begins.
        place: the place where it begins.
    """

    __slots__ = ("context", "last_transition", "machine", "name", "seen")

    def __init__(
        self, machine: LoopMachine, name: str = "engine", context: Context | None = None, place: str = READY
    ) -> None:
        self.machine = machine
        self.name = name
        self.context = Context() if context is None else context
        self.last_transition = machine.compiled(self.context)[place]
        self.seen = 0

    @property
    def place(self) -> str:
        """Where the run stands."""
        return self.last_transition.place

    @property
    def last(self) -> str | None:
        """The event that came last; None before the first."""
        return self.last_transition.event

    def advance(self, event: str) -> None:
        """Take the transition of an event.

        Raises:
            EventOrderError: the machine has none here, or a guard denies it.
        """
        self.seen += 1
        transition = self.last_transition.next_by_event.get(event)
        if transition is None or (transition.try_take is not None and not transition.try_take(self.context)):
            raise self.error(event)
        self.last_transition = transition

    def finish(self) -> None:
        """Judge that the run ends here.

        Raises:
            EventOrderError: it stands neither at an end nor at an interrupt.
        """
        if self.place not in ENDS and self.last != "interrupt":
            expected = " | ".join(map(event_name, self.expected()))
            raise EventOrderError(
                f"{self.name} stops with event #{self.seen}, {self._stands()}\n  expected: {expected}"
            )

    def expected(self) -> list[str]:
        """The events that may come next."""
        return self.machine.expected(self.place, self.context)

    def where(self) -> str:
        """Where the run stands, in words: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
        path = self.machine.paths[self.place]
        if not path:
            return self.place
        entered = [state for state in sorted(self.context.entered) if state not in path]
        counted = [
            f"{state} {self.context.counts[state]}" if state in self.context.counts else state
            for state in (*path, *entered)
        ]
        if "after " in self.place and self.place.endswith(f"after {path[-1]}"):
            counted[len(path) - 1] = f"after {counted[len(path) - 1]}"
        return " / ".join(counted)

    def _stands(self) -> str:
        where = self.where()
        return where if where.startswith("after") else f"in {where}"

    def error(self, event: str) -> EventOrderError:
        """What there is to say of an event that is illegal here."""
        transition = self.machine.table[self.place].get(event)
        denied = transition.denied_by(self.context) if transition is not None else None
        expected = " | ".join(map(event_name, self.expected()))
        why = f": [{denied.text}] does not hold" if denied is not None and denied.text else ""
        number = f"#{self.seen} " if self.seen else ""
        what = f"{self.name} event {number}{event_name(event)} is illegal"
        lines = [f"{what} {self._stands()}{why}", f"  expected: {expected}"]
        first = self.machine.path_to(event, self.place, self.context)
        if first:
            lines.append(f"  nearest legal order: {_listed(first)} come{'s' * (len(first) == 1)} first")
        return EventOrderError("\n".join(lines))


def _listed(events: list[str]) -> str:
    names = [event_name(event) for event in events]
    if len(names) > 6:
        names[4:-1] = [f"{len(names) - 5} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
