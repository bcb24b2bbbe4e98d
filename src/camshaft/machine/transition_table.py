"""The transition table of a loop: by place and event, with custom states, control calls and failures.

A custom state can be entered at every place of its scope, and control calls can be made almost everywhere. A loop with
many places and many custom states would have a very large table. So a transition is made when it is first looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from camshaft.loop.loop import Loop
from camshaft.loop.states import RUN, CustomState, LoopItem, Path
from camshaft.machine.compiled_table import CompiledTable
from camshaft.machine.context import Context, Effect, Guard, unknown_answer
from camshaft.machine.declared_transitions import DeclaredTransitions
from camshaft.machine.expressions import leave, none_entered, not_passed
from camshaft.machine.search import shortest_path
from camshaft.machine.transition import ENDS, FAILED, READY, STARTED, TERMINATED, Transition, place_of

__all__ = ["TransitionTable"]


class TransitionTable:
    """All places of a loop, and the transitions between them.

    Args:
        loop: the loop.

    Attributes:
        loop: see above.
        declared: the transitions that the declaration gives.
        items: for each place inside a declared state, that state.
        paths: for each place, the names of the states around it, outermost first.
        table: the transitions by place and event. Those of one place are in the order in which their guards are
            evaluated.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.declared = DeclaredTransitions(loop)
        self.items: dict[str, LoopItem] = self.declared.items
        self.paths: Mapping[str, Path] = _Paths(self)
        self.table: Mapping[str, Mapping[str, Transition]] = _Rows(self)
        self._declared_rows: dict[str, dict[str, Transition]] = {place: {} for place in self.declared.paths}
        for transition in self.declared.transitions:
            self._declared_rows[transition.source][transition.event] = transition
        self._custom_by_name = {custom.name: custom for custom in loop.custom_states}
        self._custom_by_event = {event: custom for custom in loop.custom_states for event in custom.events}
        self._ended_by_order: dict[tuple[str, ...], list[tuple[int, str]]] = {}
        for custom in loop.custom_states:
            if custom.order and custom.is_pair:
                index = custom.order.index(str(custom.completed))
                self._ended_by_order.setdefault(custom.order, []).append((index, custom.name))
        # a pass that was to be resumed is given up: its inner loops begin anew in the next one
        give_up = ("context.resumed.clear()", "context.position.clear()")
        leave_inner = leave(custom.name for custom in loop.custom_states if custom.within != RUN)
        self._end_pass = (*leave_inner, *give_up)
        self._leave_all = tuple(leave(custom.name for custom in loop.custom_states))
        self._compiled: dict[bool | None, CompiledTable] = {}

    # -- look-up -----------------------------------------------------------------------------------------------------

    def find(self, place: str, event: str) -> Transition | None:
        """Return the transition of an event at a place; None if there is none."""
        host, inside = self.host_of(place)
        declared = self._declared_rows[host].get(event)
        if declared is not None:
            return declared if inside is None else attrs.evolve(declared, source=place)
        custom = self._custom_by_event.get(event)
        if custom is not None:
            return self._custom(custom, event, place, host) if self._can_enter(host, custom) else None
        return self._control(place, event)

    def row(self, place: str) -> dict[str, Transition]:
        """Return all transitions out of a place, by event."""
        host, inside = self.host_of(place)
        declared = self._declared_rows[host]
        customs = [
            event for custom in self.loop.custom_states if self._can_enter(host, custom) for event in custom.events
        ]
        keys = [*declared, *customs] if inside is None else [*customs, *declared]
        keys += ["terminate", "interrupt", "terminate_single_epoch", "exception_raised"]
        found = ((event, self.find(place, event)) for event in keys)
        return {event: transition for event, transition in found if transition is not None}

    def host_of(self, place: str) -> tuple[str, CustomState | None]:
        """Split a place into the place around it and its custom state, which is None without one.

        Raises:
            KeyError: there is no such place.
        """
        if place in self.declared.paths:
            return place, None
        host, _, name = place.rpartition("/")
        custom = self._custom_by_name[name]
        if host not in self.declared.paths or host in ENDS or not self._can_enter(host, custom):
            raise KeyError(place)
        return host, custom

    def customs_at(self, host: str) -> Iterator[CustomState]:
        """Yield the custom states that are inner states of a place."""
        if host not in ENDS:
            yield from (custom for custom in self.loop.custom_states if self._can_enter(host, custom))

    def expected(self, place: str, context: Context | None = None) -> list[str]:
        """Return the events that may follow at a place.

        Args:
            place: the place.
            context: the limits and counters there. Without a context the guards are ignored.

        Returns:
            The keys of the events: first those of the loop itself, then those of control calls and failures.
        """
        transitions = [
            transition
            for transition in self.table[place].values()
            if context is None or transition.denied_by(context) is None
        ]
        return [transition.event for transition in sorted(transitions, key=lambda transition: transition.is_control)]

    def path_to(self, event: str, place: str, context: Context) -> list[str] | None:
        """Return the shortest sequence of the loop's own events after which an event may follow.

        Args:
            event: the key of the event to reach.
            place: the place to start from.
            context: the limits and counters there.

        Returns:
            The keys of the events before it. None if the search near ``place`` does not find the event.
        """
        path = shortest_path(self.table, event, place, context) if event in self.loop.event_keys else None
        return None if path is None else [transition.event for transition in path[:-1]]

    def compiled(self, context: Context) -> CompiledTable:
        """Return the compiled table for checks with this context."""
        has_data = context.has_data if context.ask is unknown_answer else None
        if has_data not in self._compiled:
            self._compiled[has_data] = CompiledTable(self.loop, self.find, self.row, has_data)
        return self._compiled[has_data]

    # -- custom states -----------------------------------------------------------------------------------------------

    def _can_enter(self, host: str, custom: CustomState) -> bool:
        """Return whether the events of a custom state may fire at a place."""
        if host == READY:
            return False
        if custom.within == RUN:  # handlers of the last event still belong to the run
            return True
        path = self.declared.paths[host]
        return custom.within in path and not (path[-1] == custom.within and host == place_of(path, left=True))

    def _custom(self, custom: CustomState, event: str, source: str, host: str) -> Transition:
        """Return the transition of an event of a custom state.

        A custom state is an inner state of each place, ``<place>/<custom state>``. The transitions out of the place
        also start from there, because the loop continues while a custom state is entered.
        """
        is_outside = Guard(f"not in {custom.name}", none_entered({custom.name}))
        is_inside = is_outside.negated(f"in {custom.name}")
        guards: tuple[Guard, ...] = ()
        effects: tuple[Effect, ...] = ()
        if custom.order:
            # Two guards enforce the declared order. The first one: events may be left out, but none may repeat or
            # come after a later one. The second one: a state must have been left if its end is earlier in order.
            index = custom.order.index(event)
            ended = {name for end, name in self._ended_by_order.get(custom.order, ()) if end < index}
            guards = (
                Guard("declared order", not_passed(custom.order, index)),
                Guard("declared order", none_entered(ended)),
            )
            effects = (f"context.order_positions[{custom.order!r}] = {index + 1}",)
        if custom.is_pair:
            enters = event == custom.started
            guards += (is_outside if enters else is_inside,)
            effects += (f"context.entered.{'add' if enters else 'discard'}({custom.name!r})",)
        leaves = custom.is_pair and event == custom.completed
        dest = host if leaves or host in ENDS else f"{host}/{custom.name}"
        return Transition(source, event, dest, guards, effects, is_free=not effects)

    # -- control calls and failures ----------------------------------------------------------------------------------

    def _control(self, place: str, event: str) -> Transition | None:
        """Return the transition of a control call or of a failure at a place; None if it cannot happen there."""
        terminated_pass = self.declared.terminated_pass
        dest: str | None = None
        effects: tuple[Effect, ...] = ()
        if place in (READY, FAILED):
            return None
        if event == "exception_raised":
            dest = FAILED
        elif event == "terminate" and place not in ENDS:
            dest, effects = TERMINATED, self._leave_all
        elif event == "interrupt" and place not in ENDS:
            dest = place
        elif event == "terminate_single_epoch" and terminated_pass is not None:
            is_terminated = place == terminated_pass or place.startswith(f"{terminated_pass}/")
            if place.partition("/")[0] == self.loop.name and not is_terminated:
                dest, effects = terminated_pass, self._end_pass
        return None if dest is None else Transition(place, event, dest, (), effects, is_control=True)


class _Paths(Mapping[str, Path]):
    """The paths of all places, in the order in which a run reaches them."""

    def __init__(self, table: TransitionTable) -> None:
        self._table = table

    def __getitem__(self, place: str) -> Path:
        host, custom = self._table.host_of(place)
        path = self._table.declared.paths[host]
        return path if custom is None else (*path, custom.name)

    def __iter__(self) -> Iterator[str]:
        places = self._table.declared.paths
        for host in places:
            if host not in ENDS:
                yield host
                if host != STARTED:
                    yield from (f"{host}/{custom.name}" for custom in self._table.customs_at(host))
        yield from (f"{STARTED}/{custom.name}" for custom in self._table.customs_at(STARTED))
        yield from (place for place in places if place in ENDS)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Rows(Mapping[str, Mapping[str, Transition]]):
    """The rows of the table, by place. A row is made when it is first looked up."""

    def __init__(self, table: TransitionTable) -> None:
        self._table = table
        self._made: dict[str, dict[str, Transition]] = {}

    def __getitem__(self, place: str) -> dict[str, Transition]:
        if place not in self._made:
            self._made[place] = self._table.row(place)
        return self._made[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.paths)

    def __len__(self) -> int:
        return len(self._table.paths)
