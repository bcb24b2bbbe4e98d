"""A transition of the machine of a loop, and the names of places."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import attrs

from camshaft.loop.states import OpaqueStep, Path
from camshaft.machine.context import Context, Effect, Guard, function

__all__ = ["COMPLETED", "ENDS", "FAILED", "READY", "STARTED", "TERMINATED", "Transition", "place_of"]

READY, STARTED, COMPLETED, TERMINATED, FAILED = "READY", "STARTED", "COMPLETED", "TERMINATED", "FAILED"
ENDS = {COMPLETED, TERMINATED, FAILED}
"""The places at which a run may end."""


def place_of(path: Path, left: bool = False) -> str:
    """Return the name of the place inside the state at ``path``, or with ``left=True`` of the place after it."""
    return "/".join((*path[:-1], f"after {path[-1]}") if left else path)


@attrs.frozen(eq=False, slots=False)
class Transition:
    """A transition of the machine.

    Attributes:
        source: the place before it.
        event: the key of the event that triggers it.
        dest: the place after it.
        guards_and_steps: its guards in the order in which a run evaluates them, and between them the opaque steps that
            run before the event.
        effects: the changes that it makes to the context.
        is_control: True if a control call or a failure causes the event.
        is_free: True if the event may fire at its place any number of times and changes nothing that follows.
        guards: the guards alone. The transition is allowed unless one of them is False.
    """

    source: str
    event: str
    dest: str
    guards_and_steps: tuple[Guard | OpaqueStep, ...] = ()
    effects: tuple[Effect, ...] = ()
    is_control: bool = False
    is_free: bool = False
    guards: tuple[Guard, ...] = attrs.field(init=False)

    @guards.default
    def _guards_alone(self) -> tuple[Guard, ...]:
        return tuple(part for part in self.guards_and_steps if isinstance(part, Guard))

    def denied_by(self, context: Context) -> Guard | None:
        """Return the first guard that is False in a context, or None."""
        for guard in self.guards:
            if guard.test(context) is False:
                return guard
        return None

    @cached_property
    def apply(self) -> Callable[[Context], None]:
        """A function that applies the effects to a context."""
        return function(self.effects or ["pass"])
