"""Event coverage: which transitions of which machines a test suite never took.

What is counted is what a person would count in the declaration: each transition of the loop itself once, whichever
free states were entered meanwhile; each event of a free state once, and once each what a control call or a failure
brings, wherever it happened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from camshaft.engine.observing import ObservedRun, observers
from camshaft.events import ANYWHERE as AT_ANY_PLACE
from camshaft.events import FACTS, Scope, event_name
from camshaft.loop.loop import Loop
from camshaft.loop.serialize import from_dict, to_dict
from camshaft.loop.states import RUN, OpaqueStep
from camshaft.machine.transition_table import Transition, TransitionTable

__all__ = ["EventCoverage", "MachineCoverage"]

ANYWHERE = ""
"""Stands for the place of a transition that is counted once, wherever it is taken."""

Covered = tuple[str, str]
"""A place and an event."""

NAMES = 8
"""How many names of engines and states are shown in a line."""


@attrs.define
class MachineCoverage:
    """What was taken of one machine.

    Attributes:
        states: the states of its loop, and in brackets the engines nested in it.
        transitions: all that can be taken, in words.
        steps: for each place of the machine and each event there, what counts as taken, and the place it leads to.
        engines: the names of the engines that ran it.
        taken: what was taken.
    """

    states: list[str]
    transitions: dict[Covered, str]
    steps: dict[Covered, tuple[Covered, str]]
    engines: dict[str, None] = attrs.field(factory=dict)
    taken: set[Covered] = attrs.field(factory=set)

    @classmethod
    def of(cls, loop: Loop) -> MachineCoverage:
        """Nothing taken yet of the machine of a loop."""
        table = TransitionTable(loop)
        order = {place: number for number, place in enumerate(table.paths)}
        transitions = sorted(table.transitions, key=lambda transition: order[transition.source])
        custom = {event: state.within for state in loop.custom_states for event in state.events}
        anywhere = {event: RUN if FACTS[event].scope is Scope.RUN else loop.name for event in sorted(AT_ANY_PLACE)}
        aside = custom | anywhere
        steps = {
            (transition.source, transition.event): (_counted(transition, loop, aside), transition.dest)
            for transition in transitions
        }
        own = [
            transition
            for transition in transitions
            if transition.event not in aside and _host(transition.source, loop) == transition.source
        ]
        words = {(one.source, one.event): f"{one.source} -- {event_name(one.event)} --> {one.dest}" for one in own}
        possible = {transition.event for transition in transitions}
        for event, scope in aside.items():
            if event in possible:
                where = "in the run" if scope == RUN else f"within {scope}"
                words[ANYWHERE, event] = f"{event_name(event)} anywhere {where}"
        states = [item.name for _, item in loop.walk() if not isinstance(item, OpaqueStep)]
        states += [state.name for state in loop.custom_states] + [f"[{nested.name}]" for nested in loop.nested]
        return cls(states, words, steps)

    def report(self) -> Iterator[str]:
        """A line that says how much was taken, and one for each transition that never was."""
        score = _score(len(self.taken), len(self.transitions))
        yield f"{_listed(sorted(self.engines))} ({_listed(self.states)}): {score}"
        yield from (f"  {words}" for counted, words in self.transitions.items() if counted not in self.taken)


def _host(place: str, loop: Loop) -> str:
    """The place itself; for the place of a free state the one that it was entered at."""
    host, _, name = place.rpartition("/")
    return host if host and any(name == state.name for state in loop.custom_states) else place


def _counted(transition: Transition, loop: Loop, aside: dict[str, str]) -> Covered:
    """As what a transition counts."""
    return (ANYWHERE if transition.event in aside else _host(transition.source, loop)), transition.event


class _Position:
    """Where one run stands in its machine."""

    def __init__(self, machine: MachineCoverage, place: str) -> None:
        self.machine = machine
        self.place = place

    def follow(self, event: str, engine: Any) -> None:
        """Take note of an event."""
        step = self.machine.steps.get((self.place, event))
        if step is not None:  # an illegal event takes no transition
            counted, self.place = step
            self.machine.taken.add(counted)


class EventCoverage:
    """Takes note of the transitions of all engines that run while it observes.

    Attributes:
        machines: by the declaration of their loops, as JSON.
    """

    def __init__(self) -> None:
        self.machines: dict[str, MachineCoverage] = {}
        self._positions: WeakKeyDictionary[ObservedRun, _Position] = WeakKeyDictionary()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Watch the engines that run in the block."""
        token = observers.set((*observers.get(), self))
        try:
            yield
        finally:
            observers.reset(token)

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]]:
        """A run begins or goes on."""
        loop = run.engine.loop
        machine = self._machine(json.dumps(to_dict(loop)), loop)
        machine.engines[run.engine.name] = None
        if run not in self._positions:
            self._positions[run] = _Position(machine, run.machine_position()[0])
        position = self._positions[run]
        return lambda event: partial(position.follow, event)

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """It is over or paused: what it took is noted already."""

    def _machine(self, key: str, loop: Loop) -> MachineCoverage:
        if key not in self.machines:
            self.machines[key] = MachineCoverage.of(loop)
        return self.machines[key]

    # -- between processes -------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """What was taken, as JSON."""
        seen = {key: [list(one.engines), sorted(one.taken)] for key, one in self.machines.items()}
        return json.dumps(seen)

    def merge(self, dumped: str) -> None:
        """Add what another process has taken."""
        for key, (engines, taken) in json.loads(dumped).items():
            machine = self._machine(key, from_dict(json.loads(key)))
            machine.engines |= dict.fromkeys(engines)
            machine.taken |= {(place, event) for place, event in taken}

    # -- judging -----------------------------------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """How many transitions were taken, in all machines."""
        return sum(len(machine.taken) for machine in self.machines.values())

    @property
    def total(self) -> int:
        """How many transitions there are, in all machines."""
        return sum(len(machine.transitions) for machine in self.machines.values())

    def report(self) -> Iterator[str]:
        """The report, machine by machine, with the total last."""
        if not self.machines:
            yield "no engine ran"
            return
        # workers send what they saw in any order
        for machine in sorted(self.machines.values(), key=lambda machine: (sorted(machine.engines), machine.states)):
            yield from machine.report()
        yield f"total: {_score(self.taken, self.total)}"

    def shortfall(self, percentage: float) -> str | None:
        """What to say when less than a percentage was taken; None when it was enough."""
        if self.taken * 100 >= percentage * self.total and (self.machines or not percentage):
            return None
        reached = _percent(self.taken, self.total) if self.machines else "no engine ran, which"
        return f"event coverage: {reached} is less than the {percentage:g}% asked for"


def _score(taken: int, total: int) -> str:
    return f"{taken}/{total} transitions taken, {_percent(taken, total)}"


def _percent(taken: int, total: int) -> str:
    """A percentage, rounded down: only all is 100%."""
    return f"{math.floor(1000 * taken / total) / 10:g}%"


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = [f"{len(listed) - NAMES} more"] if len(listed) > NAMES else []
    return ", ".join(listed[:NAMES] + more)
