"""The declaration: a training loop as a frozen tree of states.

A :class:`Loop` repeats its body; a :class:`Phase` does one thing; both fire an event when they are entered and one
when they are left. Nothing here runs. The generated source, the machine, the picture and the tests are all derived
from this tree, and insertion returns a new one.
"""

from __future__ import annotations

import enum
import keyword
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs

from camshaft.events import EventEnum, EventHandle, Events, FilteredEvent, event_key, event_name, state_of

if TYPE_CHECKING:
    from camshaft.draw.diagram import Diagram

__all__ = [
    "DATA",
    "RUN",
    "Every",
    "Free",
    "Loop",
    "LoopError",
    "Mark",
    "Nested",
    "Phase",
    "Step",
    "condition",
    "counters",
    "every",
    "filter_counters",
    "own_events",
]

RUN = "RUN"
"""The scope around the outermost loop: from STARTED to COMPLETED."""

MAX_DEPTH = 40
"""How deep loops may be nested: each level costs the interpreter a few frames of its recursion limit."""

Path = tuple[str, ...]

_RESERVED = {RUN, "READY", "STARTED", "GET_BATCH", "RESTART", "COMPLETED", "TERMINATED", "FAILED"}
_STATE_FIELDS = {
    "EPOCH_LENGTH",
    "MAX_EPOCHS",
    "MAX_ITERS",
    "BATCH",
    "OUTPUT",
    "METRICS",
    "TIMES",
    "DATALOADER",
    "RESUMED",
}
BUILT_IN = frozenset(event.value for event in Events)
_STANDARD = {"epoch_started", "epoch_completed", "iteration_started", "iteration_completed"}


class LoopError(ValueError):
    """A loop that cannot run; the message names the loop, the state and the fix."""


class _Data(enum.Enum):
    DATA = "data"

    def __repr__(self) -> str:
        return "DATA"


DATA = _Data.DATA
"""``Loop(..., over=DATA)``: one pass for each batch of the data that is given to ``Engine.run``."""


@attrs.frozen
class Every:
    """Holds in every n-th pass of the loop around the phase. Made by :func:`every`."""

    n: int = attrs.field()

    @n.validator
    def _positive(self, _: Any, value: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise LoopError(f"every({value!r}) never holds: give a whole number of 1 or more")

    def __repr__(self) -> str:
        return f"every({self.n})"


def every(n: int) -> Every:
    """The condition "every n-th pass" for :class:`Phase`: ``Phase("OPTIM_STEP", optim_step, when=every(4))``."""
    return Every(n)


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name != name.upper():
        raise LoopError(f"{kind} {name!r}: name a state in capitals, as a Python identifier, such as OPTIM_STEP")
    if name in _RESERVED:
        raise LoopError(f"{kind} {name}: this name is taken by a built-in state; choose another")


def _check_callable(owner: str, role: str, value: Any, signature: str) -> None:
    if value is not None and not callable(value):
        raise LoopError(f"{owner}: {role} is {value!r}, which is no callable; give a function {signature}")


def _default_event(suffix: str) -> Any:
    return attrs.Factory(lambda self: f"{self.name.lower()}_{suffix}", takes_self=True)


class _State:
    """Shown as the Python that declares it."""

    def __repr__(self) -> str:
        from camshaft.trace.text import declaration

        return declaration(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same where Hypothesis and IPython print it."""
        printer.text(repr(self))


@attrs.frozen(init=False, repr=False)
class Phase(_State):
    """A state that does one thing, between the event that enters it and the event that leaves it.

    Args:
        name: the state, in capitals.
        run: ``run(engine, batch)``; a value that is not None becomes ``state.output``. None for a state that only
            fires its two events.
        when: :func:`every`, or ``when(engine) -> bool``; where it does not hold, the phase and its events are left out.
        started, completed: the events, ``<name>_started`` and ``<name>_completed`` unless given.
    """

    name: str
    run: Callable[[Any, Any], Any] | None = None
    when: Every | Callable[[Any], bool] | None = None
    started: str = _default_event("started")
    completed: str = _default_event("completed")

    def __init__(
        self,
        name: str,
        run: Callable[[Any, Any], Any] | None = None,
        when: Every | Callable[[Any], bool] | None = None,
        *,
        started: Any = None,
        completed: Any = None,
    ) -> None:
        _check_name("phase", name)
        _check_callable(f"phase {name}", "what it runs", run, "(engine, batch)")
        if not isinstance(when, Every):
            _check_callable(f"phase {name}", "when", when, "(engine) -> bool, or every(n)")
        self.__attrs_init__(name, run, when, **_events(started, completed))
        _check_events(f"phase {name}", self)


@attrs.frozen(repr=False)
class Step(_State):
    """An opaque step: one function does forward, backward and the optimizer's step. It fires no events of its own."""

    run: Callable[[Any, Any], Any] | None = attrs.field(default=None)
    name: str = attrs.field(default="STEP", init=False)

    @run.validator
    def _callable(self, _: Any, value: Any) -> None:
        _check_callable("step", "what it runs", value, "(engine, batch) -> output")


@attrs.frozen(repr=False)
class Mark(_State):
    """A place where the engine fires one event: a state that is entered and left at once."""

    event: str = attrs.field(converter=event_key)
    name: str = attrs.field(init=False)

    @name.default
    def _state(self) -> str:
        return state_of(self.event)[0]


@attrs.frozen(repr=False)
class Free(_State):
    """A state that the user's own code enters and leaves by firing its events, in an order that is not declared.

    Args:
        name: the state.
        started: the event that enters it; None when ``completed`` enters and leaves it at once.
        completed: the event that leaves it; None when ``started`` enters and leaves it at once.
        within: where it can be entered: the loop in whose pass, or the phase in which, it must be left; or ``"RUN"``,
            whose end leaves it.
        order: the declared order of the events it was registered with; empty when their order is free.
    """

    name: str
    started: str | None
    completed: str | None
    within: str
    order: tuple[str, ...] = ()

    @property
    def events(self) -> tuple[str, ...]:
        """The one or two events, in order."""
        return tuple(event for event in (self.started, self.completed) if event is not None)

    @property
    def is_pair(self) -> bool:
        """Whether it stays entered between two events."""
        return len(self.events) == 2


def _as_filtered(on: EventHandle) -> FilteredEvent:
    return on if isinstance(on, FilteredEvent) else FilteredEvent(event_key(on))


@attrs.frozen
class Nested:
    """An engine that runs inside another, at its place among the handlers of an event.

    Args:
        engine: the inner engine; None in a declaration that was read from a file.
        on: the event of the outer engine, filtered or not.
        data: what the inner engine runs over.
        max_epochs, max_iters, epoch_length: the limits of each inner run, as for ``Engine.run``.
    """

    engine: Any
    on: FilteredEvent = attrs.field(converter=_as_filtered)
    data: Any = attrs.field(default=None, eq=False)
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    name: str = attrs.field(kw_only=True)

    @name.default
    def _name(self) -> str:
        return str(self.engine.name)


@attrs.frozen(init=False, repr=False, slots=False)
class Loop(_State):
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

    name: str
    body: tuple[Any, ...] = ()
    over: Any = None
    times: int | None = None
    until: Callable[[Any], bool] | None = None
    started: str = _default_event("started")
    completed: str = _default_event("completed")
    free: tuple[Free, ...] = ()
    nested: tuple[Nested, ...] = ()

    def __init__(
        self,
        name: str,
        *body: Any,
        over: Any = None,
        times: int | None = None,
        until: Callable[[Any], bool] | None = None,
        started: Any = None,
        completed: Any = None,
        free: tuple[Free, ...] = (),
        nested: tuple[Nested, ...] = (),
    ) -> None:
        states = tuple(item for item in body if not isinstance(item, Nested))
        nested += tuple(item for item in body if isinstance(item, Nested))
        for item in states:  # what an inner loop says of the whole belongs to the outermost one
            if isinstance(item, Loop):
                free, nested = free + item.free, nested + item.nested
        states = tuple(
            item.evolve(free=(), nested=()) if isinstance(item, Loop) and (item.free or item.nested) else item
            for item in states
        )
        events = _events(started, completed)
        self.__attrs_init__(name, states, over, times, until, **events, free=free, nested=nested)
        _lint(self)

    # -- looking -------------------------------------------------------------------------------------------------

    @cached_property
    def _below(self) -> tuple[tuple[Path, Any], ...]:
        """What is inside it, with paths; without itself, so that it is not kept alive by what it keeps."""
        return tuple(
            ((self.name, *path), state)
            for item in self.body
            for path, state in (item.walk() if isinstance(item, Loop) else [((item.name,), item)])
        )

    def walk(self) -> Iterator[tuple[Path, Any]]:
        """Every state of the tree with its path, outermost first. Free states are not in the tree."""
        yield (self.name,), self
        yield from self._below

    def find(self, name: str) -> Any:
        """The state of that name, or None."""
        return next((item for _, item in self.walk() if item.name == name), None)

    @property
    def passes(self) -> str | int | None:
        """What its passes go by: ``"data"``, ``"over"``, ``"until"``, a number of times, or None."""
        if self.over is not None:
            return "data" if self.over is DATA else "over"
        return "until" if self.until is not None else self.times

    @cached_property
    def counters(self) -> tuple[str, ...]:
        """The attributes of the state in which its loops count their passes, outermost first."""
        return tuple(item.name.lower() for _, item in self.walk() if isinstance(item, Loop))

    @property
    def data_loop(self) -> Loop | None:
        """The loop that takes the data of the run; None when none does."""
        return self if self.over is DATA else self._data_loop_below

    @cached_property
    def _data_loop_below(self) -> Loop | None:
        return next((item for _, item in self._below if isinstance(item, Loop) and item.over is DATA), None)

    @cached_property
    def event_keys(self) -> tuple[str, ...]:
        """The keys of every event that this loop can fire, each once, built-in ones included."""
        keys = ["started"]
        for _, item in self.walk():
            if isinstance(item, Loop) and item.over is DATA:
                keys += ["get_batch_started", "get_batch_completed", "dataloader_stop_iteration"]
            keys += own_events(item)
            if isinstance(item, Loop) and item.over is DATA:
                keys.append("iteration_skipped")
        keys += [event for free in self.free for event in free.events]
        keys += ["terminate_single_epoch", "completed", "terminate", "interrupt", "exception_raised"]
        return tuple(dict.fromkeys(keys))

    @property
    def events(self) -> type[EventEnum]:
        """An enum of every event that this loop can fire: ``loop.events.CLIP_COMPLETED``."""
        members = {event_name(key).replace(".", "_"): key for key in self.event_keys}
        make: Any = EventEnum  # the functional interface of enums, which EventEnum's filters hide from type checkers
        return make("LoopEvents", members)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        from camshaft.trace.text import loop_text

        return loop_text(self)

    def diagram(self, level: str = "overview", *, control: bool = False) -> Diagram:
        """The picture of the loop.

        Args:
            level: ``"overview"``: the states that were declared, long bodies folded; ``"full"``: every place and every
                transition of the machine.
            control: show what control calls and failures bring, instead of one edge for all of it.

        Raises:
            ValueError: there is no such level.
        """
        from camshaft.draw.diagram import loop_diagram

        return loop_diagram(self, level, control)

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
        if any(free.name == name for free in self.free):
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


def _events(started: Any, completed: Any) -> dict[str, str]:
    given = {"started": started, "completed": completed}
    return {role: event_key(handle) for role, handle in given.items() if handle is not None}


def own_events(item: Any) -> tuple[str, ...]:
    """The keys of the events that a state fires, in order."""
    if isinstance(item, (Phase, Loop)):
        return (item.started, item.completed)
    return (item.event,) if isinstance(item, Mark) else ()


def counters(loop: Loop) -> dict[str, str]:
    """By event, the name of the loop whose passes are counted with it."""
    found = dict.fromkeys(loop.event_keys, loop.name)
    data_loop = loop.data_loop
    if data_loop is not None:
        batch = ("get_batch_started", "get_batch_completed", "dataloader_stop_iteration", "iteration_skipped")
        found |= dict.fromkeys(batch, data_loop.name)
    around = {RUN: loop.name}
    for path, item in sorted(loop.walk(), key=lambda found: len(found[0])):  # an event of two loops goes by the inner
        around[item.name] = item.name if isinstance(item, Loop) else path[-2]
        found |= dict.fromkeys(own_events(item), around[item.name])
    for free in loop.free:
        found |= dict.fromkeys(free.events, around[free.within])
    return found


def filter_counters(loop: Loop) -> dict[str, str]:
    """By event, the attribute of the state that filters on it count; on any other they count its firings."""
    found: dict[str, str] = {}
    for _, item in loop.walk():
        if isinstance(item, Loop):
            counter = item.name.lower()
            found |= {item.started: counter, item.completed: counter}
            if item.over is DATA:
                found |= dict.fromkeys(("get_batch_started", "get_batch_completed", "iteration_skipped"), counter)
    return found


# -- lint: what cannot run is refused when it is declared -----------------------------------------------------------


def _check_events(owner: str, item: Any) -> None:
    if item.started == item.completed:
        raise LoopError(f"{owner}: entering and leaving it fire the same event {item.started!r}; give two")
    for key in (item.started, item.completed):
        if key in BUILT_IN and key not in _STANDARD:
            raise LoopError(f"{owner}: {key!r} is a built-in event of the engine; choose another")


def _lint(loop: Loop) -> None:
    owner = f"loop {loop.name}"
    _check_name("loop", loop.name)
    counter = loop.name.lower()
    if keyword.iskeyword(counter):
        raise LoopError(f"{owner}: its counter would be state.{counter}, a keyword of Python; choose another name")
    if loop.name in _STATE_FIELDS:
        raise LoopError(f"{owner}: its counter would be state.{counter}, which is taken; choose another name")
    _check_events(owner, loop)
    _lint_passes(loop, owner)
    for item in loop.body:
        if not isinstance(item, (Phase, Step, Mark, Loop)):
            hint = f"; wrap it: Phase({item.__name__.upper()!r}, {item.__name__})" if hasattr(item, "__name__") else ""
            raise LoopError(f"{owner}: {item!r} is no state; a body has Phase, Loop, Step and Mark{hint}")
        if isinstance(item, Loop) and item.over is None and item.times is None and item.until is None:
            raise LoopError(
                f"{owner}: there is no way out of the inner loop {item.name}; give it over=, times= or until="
            )
    _lint_names(loop, owner)
    _lint_choices(loop, owner)


def _lint_passes(loop: Loop, owner: str) -> None:
    given = [name for name in ("over", "times", "until") if getattr(loop, name) is not None]
    if len(given) > 1:
        raise LoopError(f"{owner}: {' and '.join(given)} exclude each other; give one")
    if loop.times is not None and (not isinstance(loop.times, int) or isinstance(loop.times, bool) or loop.times < 1):
        raise LoopError(f"{owner}: times={loop.times!r} makes its body unreachable; give a whole number of 1 or more")
    _check_callable(owner, "until", loop.until, "(engine) -> bool")
    if (
        loop.over is not None
        and loop.over is not DATA
        and not callable(loop.over)
        and not isinstance(loop.over, Iterable)
    ):
        raise LoopError(
            f"{owner}: over={loop.over!r} is not iterable; give DATA, an iterable, or a function (engine) -> iterable"
        )
    if not loop.body and loop.over is None and loop.times is None:
        raise LoopError(f"{owner}: it has no body and takes no data, a cycle that does nothing; give it a phase")


def _lint_names(loop: Loop, owner: str) -> None:
    seen: set[str] = set()
    data_loops = []
    for path, item in loop.walk():
        if len(path) > MAX_DEPTH:
            raise LoopError(f"{owner}: {item.name} is nested {len(path)} deep; the limit is {MAX_DEPTH}")
        if item.name in _RESERVED:
            raise LoopError(f"{owner}: {item.name} is the name of a built-in state; choose another")
        if item.name in seen:
            raise LoopError(f"{owner}: two states are named {item.name}; give one of them another name")
        seen.add(item.name)
        if isinstance(item, Loop) and item.over is DATA:
            data_loops.append(item.name)
    if len(data_loops) > 1:
        raise LoopError(
            f"{owner}: {' and '.join(data_loops)} both take the data of the run; "
            f"one can, the others need over= of their own"
        )
    scopes = {RUN} | {item.name for _, item in loop.walk() if isinstance(item, (Loop, Phase))}
    for free in loop.free:
        if free.name in _RESERVED:
            raise LoopError(f"{owner}: {free.name} is the name of a built-in state; name the custom event differently")
        if free.name in seen:
            raise LoopError(f"{owner}: two states are named {free.name}; name the custom event differently")
        seen.add(free.name)
        if free.within not in scopes:
            raise LoopError(
                f"{owner}: within={free.within!r} is no loop or phase of it; it has {', '.join(sorted(scopes))}"
            )


def _lint_choices(loop: Loop, owner: str) -> None:
    """No event may lead two ways out of one place: the events that may come next, gathered from the end."""
    following = {loop.completed}
    for item in reversed(loop.body):
        if isinstance(item, Step):
            continue
        first = item.event if isinstance(item, Mark) else item.started
        always = isinstance(item, Mark) or (isinstance(item, Phase) and item.when is None)
        if always:
            following = set()
        if first in following:
            raise LoopError(
                f"{owner}: {event_name(first)} would lead two ways before {item.name}; give it events of its own"
            )
        following.add(first)


def condition(item: Any, around: str | None = None) -> str:
    """The condition of a phase or the number of passes of a loop, in words; empty when there is none."""
    if isinstance(item, Loop):
        if item.over is DATA:
            return "for each batch"
        if item.over is not None:
            return f"for each of {_named(item.over)}" if callable(item.over) else "for each element"
        if item.times is not None:
            return f"{item.times} times"
        return f"until {_named(item.until)}" if item.until is not None else ""
    when = getattr(item, "when", None)
    if when is None:
        return ""
    return f"when {around} % {when.n} == 0" if isinstance(when, Every) else f"when {_named(when)}"


def _named(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
