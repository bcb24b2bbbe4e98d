"""The declaration: a training loop as a frozen tree of states.

A :class:`Loop` repeats its body; a :class:`Phase` does one thing; both fire an event when they are entered and one
when they are left. Nothing here runs. The generated source, the machine, the picture and the tests are all derived
from this tree, and insertion returns a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from camshaft._views import Picture, view
from camshaft.events import EventEnum, event_key, event_name, state_of
from camshaft.exceptions import LoopError
from camshaft.loop.rules import check_loop
from camshaft.loop.states import (
    DATA,
    CustomState,
    Nested,
    OpaqueStep,
    Phase,
    _events,
)
from camshaft.loop.text import loop_text
from camshaft.loop.tree import LoopTree

__all__ = ["Loop"]


@attrs.frozen(init=False, repr=False, slots=False)
class Loop(LoopTree):
    """A state that repeats its body, with an event at the start and at the end of each pass.

    Passes are counted in ``state.<name in lower case>``, over the whole run.

    Args:
        name: the state, in capitals.
        body: phases, loops, an opaque step, marks; :class:`Nested` engines too, which run at their event.
        over: :data:`DATA`, or an iterable, or ``over(engine) -> iterable``: one pass an element, kept in
            ``state.<name>_item`` (for DATA in ``state.batch``).
        times: a number of passes.
        until: ``until(engine) -> bool``, asked after each pass.
        started, completed: the events of a pass, ``<name>_started`` and ``<name>_completed`` unless given.

    An inner loop needs one of ``over``, ``times`` and ``until``; the outermost is limited by ``max_epochs``.

    Raises:
        LoopError: the loop cannot run as declared.
    """

    def __init__(
        self,
        name: str,
        *body: Any,
        over: Any = None,
        times: int | None = None,
        until: Callable[[Any], bool] | None = None,
        started: Any = None,
        completed: Any = None,
        custom_states: tuple[CustomState, ...] = (),
        nested: tuple[Nested, ...] = (),
    ) -> None:
        states = tuple(item for item in body if not isinstance(item, Nested))
        nested += tuple(item for item in body if isinstance(item, Nested))
        for item in states:  # what an inner loop says of the whole belongs to the outermost one
            if isinstance(item, Loop):
                custom_states, nested = custom_states + item.custom_states, nested + item.nested
        states = tuple(
            item.evolve(custom_states=(), nested=())
            if isinstance(item, Loop) and (item.custom_states or item.nested)
            else item
            for item in states
        )
        events = _events(started, completed)
        self.__attrs_init__(name, states, over, times, until, **events, custom_states=custom_states, nested=nested)
        check_loop(self)

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def events(self) -> type[EventEnum]:
        """An enum of every event that this loop can fire: ``loop.events.CLIP_COMPLETED``."""
        members = {event_name(key).replace(".", "_"): key for key in self.event_keys}
        make: Any = EventEnum  # the functional interface of enums, which EventEnum's filters hide from type checkers
        return make("LoopEvents", members)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return loop_text(self)

    def diagram(self, level: str = "overview", *, control: bool = False) -> Picture:
        """The picture of the loop.

        Args:
            level: ``"overview"``: the states that were declared, long bodies folded; ``"full"``: every place and every
                transition of the machine.
            control: show what control calls and failures bring, instead of one edge for all of it.

        Raises:
            ValueError: there is no such level.
        """
        picture: Picture = view("loop_diagram")(self, level, control)
        return picture

    # -- changing: each returns a new loop -----------------------------------------------------------------------

    def insert(
        self, *items: Any, after: str | None = None, before: str | None = None, within: str | None = None
    ) -> Loop:
        """A loop with these states put after or before a state, or at the end of the body of ``within``.

        Args:
            items: phases, loops or marks, in order.
            after, before: the state to stand next to; one of them, unless ``within`` is given.
            within: a loop; together with ``after`` or ``before`` it says where that state must be.

        Raises:
            LoopError: there is no such place, or the result is no valid loop.
        """
        if (after is not None) and (before is not None):
            raise LoopError(f"loop {self.name}: after={after!r} and before={before!r} exclude each other; give one")
        anchor = after if after is not None else before
        if anchor is None and within is None:
            raise LoopError(f"loop {self.name}: say where: after=, before= or within= a state")
        parent = self.parent_of(anchor, within) if anchor is not None else self._loop_named(str(within))
        index = len(parent.body)
        if anchor is not None:
            index = [item.name for item in parent.body].index(anchor) + (after is not None)
        return self._with_body(parent, (*parent.body[:index], *items, *parent.body[index:]))

    def replace(self, name: str, item: Any) -> Loop:
        """A loop in which the state ``name`` is ``item`` instead."""
        parent = self.parent_of(name)
        return self._with_body(parent, tuple(item if old.name == name else old for old in parent.body))

    def remove(self, name: str) -> Loop:
        """A loop without the state ``name``."""
        parent = self.parent_of(name)
        return self._with_body(parent, tuple(item for item in parent.body if item.name != name))

    def evolve(self, **changes: Any) -> Loop:
        """A loop with some of its fields changed, as ``attrs.evolve`` does for other classes."""
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Loop)} | changes
        name, body = fields.pop("name"), fields.pop("body")
        return Loop(name, *body, **fields)

    def parent_of(self, name: Any, within: str | None = None) -> Loop:
        """The loop in whose body the state ``name`` stands.

        Raises:
            LoopError: there is none, or it is not ``within``.
        """
        for _, item in self.walk():
            if isinstance(item, Loop) and any(child.name == name for child in item.body):
                if within is not None and item.name != within:
                    raise LoopError(f"loop {self.name}: {name} is in {item.name}, not in {within}")
                return item
        raise self._unknown(name)

    def _loop_named(self, name: str) -> Loop:
        found = self.find(name)
        if not isinstance(found, Loop):
            raise self._unknown(name)
        return found

    def _unknown(self, name: Any) -> LoopError:
        name = event_key(name)
        if name == self.name:
            return LoopError(f"loop {name}: it is the outermost state, nothing stands beside it; use within={name!r}")
        if any(custom_states.name == name for custom_states in self.custom_states):
            return LoopError(
                f"loop {self.name}: the state {name} is free, your own code fires its events, so nothing can be placed "
                f"beside it; give that event a place first"
            )
        names = [item.name for _, item in self.walk()]
        nearest = [state for state in (name.upper(), state_of(event_key(name))[0]) if state in names]
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(names)}"
        return LoopError(f"loop {self.name}: there is no state {name}; {hint}")

    def _with_body(self, parent: Loop, body: tuple[Any, ...]) -> Loop:
        if self is parent:
            return self.evolve(body=body)
        changed = tuple(item._with_body(parent, body) if isinstance(item, Loop) else item for item in self.body)
        if all(new is old for new, old in zip(changed, self.body, strict=True)):
            return self
        return self.evolve(body=changed)


# -- lint: what cannot run is refused when it is declared -----------------------------------------------------------


def as_loop(process: Any) -> Loop:
    """Return the loop that an engine runs for a step function, a list of phases, or a loop.

    Raises:
        TypeError: ``process`` is none of these.
        LoopError: the loop cannot run as declared.
    """
    if isinstance(process, Loop):
        return process
    if isinstance(process, (list, tuple)):
        if not process:
            raise TypeError("an iteration without phases does nothing: give at least one Phase")
        return Loop("EPOCH", Loop("ITERATION", *process, over=DATA))
    if isinstance(process, Phase):
        raise TypeError(f"a single phase needs its brackets: Engine([{process.name}])")
    if not callable(process):
        raise TypeError(
            f"{process!r} is no step: give a function (engine, batch) -> output, a list of phases, or a Loop"
        )
    return Loop("EPOCH", Loop("ITERATION", OpaqueStep(process), over=DATA))
