"""The declaration of a training loop: a frozen tree of states.

A :class:`Loop` repeats its body. A :class:`Phase` runs one function. Both fire an event when they are entered and
another when they are left. Nothing in this module runs: the generated source, the machine, the diagrams and the tests
are derived from the tree. Methods that change a loop return a new one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from camshaft._functions import check_accepts
from camshaft._members import EnumOfEvents
from camshaft._views import Picture, view
from camshaft.events import EventEnum, EventHandle, event_key, event_name, state_of
from camshaft.exceptions import LoopError
from camshaft.loop.rules import check_loop
from camshaft.loop.states import (
    DATA,
    CustomState,
    EventPoint,
    Nested,
    OpaqueStep,
    Phase,
    check_name,
    given_events,
)
from camshaft.loop.text import loop_text
from camshaft.loop.tree import LoopTree

__all__ = ["Loop"]

BodyItem: TypeAlias = "Phase | OpaqueStep | EventPoint | Loop"
"""A state that may be in the body of a loop."""


class _MembersOfALoop(EnumOfEvents):
    """Class of the enums of loops. Type checkers cannot know their members, and accept every name."""

    if TYPE_CHECKING:

        def __getattr__(cls, name: str) -> EventEnum: ...  # noqa: N805


class LoopEvents(EventEnum, metaclass=_MembersOfALoop):
    """Base of the enums of all events of a loop, see :attr:`Loop.events`."""


@attrs.frozen(init=False, repr=False, slots=False)
class Loop(LoopTree):
    """A state that repeats its body, with an event at the start and at the end of each pass.

    ``state.<name in lower case>`` counts the passes of the whole run. An inner loop needs one of ``over``, ``times``
    and ``until``. The outermost loop is limited by ``max_epochs``.

    Args:
        name: the name of the state, in capitals.
        body: phases, loops, opaque steps and event points, in order; also :class:`Nested` engines.
        over: :data:`DATA`, an iterable, or a function ``over(engine) -> iterable``. The loop makes one pass for each
            element. The element is in ``state.<name>_item``, and for DATA in ``state.batch``. Phases get it as their
            batch; those inside the loop over DATA get the batch of the data, also in further loops.
        times: the number of passes, 1 or more.
        until: a function ``until(engine) -> bool``, called after each pass. The loop ends when it returns True.
        started: the event at the start of a pass, ``<name>_started`` by default.
        completed: the event at the end of a pass, ``<name>_completed`` by default.
        custom_states: states without a fixed place, see ``Engine.register_events``.
        nested: engines that run at events of this loop, see ``Engine.nest``.

    Raises:
        LoopError: the loop cannot run as declared.
        TypeError: ``over`` or ``until`` does not accept the engine, or a call would not run it. ``over`` may be a
            generator function.
    """

    def __init__(
        self,
        name: str,
        *body: BodyItem | Nested,
        over: Any = None,
        times: int | None = None,
        until: Callable[[Any], bool] | None = None,
        started: EventHandle | None = None,
        completed: EventHandle | None = None,
        custom_states: tuple[CustomState, ...] = (),
        nested: tuple[Nested, ...] = (),
    ) -> None:
        states: tuple[Any, ...] = tuple(item for item in body if not isinstance(item, Nested))
        nested += tuple(item for item in body if isinstance(item, Nested))
        for item in states:  # only the outermost loop has custom states and nested engines: it takes over those inside
            if isinstance(item, Loop):
                custom_states, nested = custom_states + item.custom_states, nested + item.nested
        states = tuple(
            item.evolve(custom_states=(), nested=())
            if isinstance(item, Loop) and (item.custom_states or item.nested)
            else item
            for item in states
        )
        check_name("loop", name)
        events = given_events(started, completed)
        self.__attrs_init__(name, states, over, times, until, **events, custom_states=custom_states, nested=nested)
        check_loop(self)

    # -- views ------------------------------------------------------------------------------------------------------

    @property
    def events(self) -> type[LoopEvents]:
        """An enum of all events of this loop: ``loop.events.CLIP_COMPLETED``."""
        members: dict[str, str] = {}
        for key in self.event_keys:
            name = event_name(key).replace(".", "_")
            if name.startswith("_") and name.endswith("_"):  # Python keeps such names of an enum for itself
                name = f"EVENT{name}"
            while name in members:  # A.B and a_b
                name += "_"
            members[name] = key
        make: Any = LoopEvents  # EventEnum.__call__ hides the functional interface of enums from type checkers
        return make("LoopEvents", members)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return loop_text(self)

    def diagram(self, level: str = "overview", *, control: bool = False) -> Picture:
        """Return the diagram of the loop.

        Args:
            level: ``"overview"`` for the declared states, with long bodies folded, or ``"full"`` for every place and
                every transition of the machine.
            control: show each transition of control calls and failures, instead of one edge for all of them.

        Raises:
            ValueError: ``level`` is unknown.
        """
        picture: Picture = view("loop_diagram")(self, level, control)
        return picture

    # -- changes: each returns a new loop ---------------------------------------------------------------------------

    def insert(
        self, *items: BodyItem, after: str | None = None, before: str | None = None, within: str | None = None
    ) -> Loop:
        """Return a loop with states inserted after or before a state, or at the end of the body of a loop.

        Args:
            items: phases, loops or event points, in order.
            after: the state before the new ones.
            before: the state after the new ones. Give ``after`` or ``before``, not both.
            within: the name of a loop. Alone, it appends the new states to the body of that loop. With ``after`` or
                ``before``, it is the loop that must contain that state.

        Raises:
            LoopError: the place does not exist, or the result is not a valid loop.
        """
        if (after is not None) and (before is not None):
            raise LoopError(f"loop {self.name}: after={after!r} and before={before!r} exclude each other; give one")
        neighbour = after if after is not None else before
        if neighbour is None and within is None:
            raise LoopError(f"loop {self.name}: give the place of the new states: after=, before= or within=")
        parent = self.parent_of(neighbour, within) if neighbour is not None else self._loop_named(str(within))
        index = len(parent.body)
        if neighbour is not None:
            index = [item.name for item in parent.body].index(neighbour) + (after is not None)
        return self._with_body(parent, (*parent.body[:index], *items, *parent.body[index:]))

    def replace(self, name: str, item: BodyItem) -> Loop:
        """Return a loop with ``item`` in place of the state ``name``.

        Raises:
            LoopError: the state does not exist, or the result is not a valid loop.
        """
        parent = self.parent_of(name)
        return self._with_body(parent, tuple(item if old.name == name else old for old in parent.body))

    def remove(self, name: str) -> Loop:
        """Return a loop without the state ``name``.

        Raises:
            LoopError: the state does not exist, or the result is not a valid loop.
        """
        parent = self.parent_of(name)
        return self._with_body(parent, tuple(item for item in parent.body if item.name != name))

    def evolve(self, **changes: Any) -> Loop:
        """Return a loop with some fields changed, as ``attrs.evolve`` does for other classes.

        Args:
            changes: new values, by the name of the field.
        """
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Loop)} | changes
        name, body = fields.pop("name"), fields.pop("body")
        return Loop(name, *body, **fields)

    def parent_of(self, name: str, within: str | None = None) -> Loop:
        """Return the loop that has the state ``name`` in its body.

        Args:
            name: the state.
            within: the name that the loop must have. None for any loop.

        Raises:
            LoopError: the state does not exist, or its loop is not ``within``.
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
            return LoopError(
                f"loop {name}: it is the outermost state, so no state can be before or after it; use within={name!r}"
            )
        if any(custom.name == name for custom in self.custom_states):
            return LoopError(
                f"loop {self.name}: your own code fires the events of {name}, so this state has no fixed place, and no "
                f"state can be before or after it; register its events with a place first"
            )
        names = [item.name for _, item in self.walk()]
        nearest = [state for state in (name.upper(), state_of(event_key(name))[0]) if state in names]
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(names)}"
        return LoopError(f"loop {self.name}: there is no state {name}; {hint}")

    def _with_body(self, parent: Loop, body: tuple[Any, ...]) -> Loop:
        """Return this loop with another body for ``parent``, which is this loop or one inside it."""
        if self is parent:
            return self.evolve(body=body)
        changed: tuple[Any, ...] = tuple(
            item._with_body(parent, body) if isinstance(item, Loop) else item for item in self.body
        )
        if all(new is old for new, old in zip(changed, self.body, strict=True)):
            return self
        return self.evolve(body=changed)


def as_loop(process: Any) -> Loop:
    """Return the loop that an engine runs for its argument ``process``.

    Args:
        process: a loop; or a list of phases, the body of ITERATION in the standard loop; or a step function
            ``(engine, batch) -> output``, the only state of that body.

    Raises:
        TypeError: ``process`` is none of these, or a function does not fit.
        LoopError: the loop cannot run as declared.
    """
    if isinstance(process, Loop):
        return process
    if isinstance(process, (list, tuple)):
        if not process:
            raise TypeError("the list of phases is empty: give at least one Phase")
        return Loop("EPOCH", Loop("ITERATION", *process, over=DATA))
    if isinstance(process, Phase):
        raise TypeError(f"a phase must be given in a list: Engine([{process.name}])")
    if isinstance(process, type):
        raise TypeError(f"process is the class {process.__name__}: give an instance, or a function (engine, batch)")
    if not callable(process):
        raise TypeError(
            f"process_function must be a function (engine, batch) -> output, a list of phases, or a Loop, "
            f"got {process!r}"
        )
    forward = getattr(process, "forward", None)
    if inspect.ismethod(forward):  # a model: its call takes any arguments, and passes them on
        check_accepts(f"process {type(process).__name__}.forward", forward, "engine", "batch")
    return Loop("EPOCH", Loop("ITERATION", OpaqueStep(process), over=DATA))
