"""Event coverage: the transitions of each machine that a test suite took, and those that it never took.

Transitions count as in the declaration of the loop:

- A transition of the loop itself counts once, no matter which custom states were active.
- An event of a custom state counts once, wherever it fired.
- The event of a control call or of a failure counts once, wherever it fired.
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

from camshaft.engine.observing import ObservedRun, observing
from camshaft.events import ANYWHERE as AT_ANY_PLACE
from camshaft.events import FACTS, Scope, event_name
from camshaft.loop.loop import Loop
from camshaft.loop.serialize import from_dict, to_dict
from camshaft.loop.states import RUN, OpaqueStep
from camshaft.machine.transition import Transition
from camshaft.machine.transition_table import TransitionTable

__all__ = ["EventCoverage", "MachineCoverage"]

ANYWHERE = ""
"""The place of a transition that counts once, wherever it is taken."""

Covered = tuple[str, str]
"""A transition as it is counted: its place and its event."""

NAMES = 8
"""The maximum number of names of engines, or of states, in a line of the report."""


@attrs.define
class MachineCoverage:
    """The coverage of one machine.

    Attributes:
        states: the names of the states of its loop, then the names of nested engines in brackets.
        transitions: all transitions that count, in words.
        steps: by place and event: the transition as it is counted, and the next place.
        engines: the names of the engines that ran the machine. A dict, to keep their order.
        taken: the transitions that were taken.
    """

    states: list[str]
    transitions: dict[Covered, str]
    steps: dict[Covered, tuple[Covered, str]]
    engines: dict[str, None] = attrs.field(factory=dict)
    taken: set[Covered] = attrs.field(factory=set)

    @classmethod
    def of(cls, loop: Loop) -> MachineCoverage:
        """Return the coverage of the machine of a loop, with no transition taken."""
        table = TransitionTable(loop)
        transitions = [transition for row in table.table.values() for transition in row.values()]
        custom = {event: state.within for state in loop.custom_states for event in state.events}
        anywhere = {event: RUN if FACTS[event].scope is Scope.RUN else loop.name for event in sorted(AT_ANY_PLACE)}
        scopes = custom | anywhere
        steps = {
            (transition.source, transition.event): (_counted(transition, loop, scopes), transition.dest)
            for transition in transitions
        }
        own = [
            transition
            for transition in transitions
            if transition.event not in scopes and _host(transition.source, loop) == transition.source
        ]
        words = {
            (each.source, each.event): f"{each.source} -- {event_name(each.event)} --> {each.dest}" for each in own
        }
        possible = {transition.event for transition in transitions}
        for event, scope in scopes.items():
            if event in possible:
                where = "in the run" if scope == RUN else f"within {scope}"
                words[ANYWHERE, event] = f"{event_name(event)} anywhere {where}"
        states = [item.name for _, item in loop.walk() if not isinstance(item, OpaqueStep)]
        states += [state.name for state in loop.custom_states] + [f"[{nested.name}]" for nested in loop.nested]
        return cls(states, words, steps)

    def report(self) -> Iterator[str]:
        """Yield a line with the coverage, and a line for each transition that was never taken."""
        score = _score(len(self.taken), len(self.transitions))
        yield f"{_listed(sorted(self.engines))} ({_listed(self.states)}): {score}"
        yield from (f"  {words}" for counted, words in self.transitions.items() if counted not in self.taken)


def _host(place: str, loop: Loop) -> str:
    """Return the place at which a custom state was entered. Any other place is returned as it is."""
    host, _, name = place.rpartition("/")
    return host if host and any(name == state.name for state in loop.custom_states) else place


def _counted(transition: Transition, loop: Loop, scopes: dict[str, str]) -> Covered:
    """Return a transition as it is counted. ``scopes`` has the events that count once, wherever they fire."""
    return (ANYWHERE if transition.event in scopes else _host(transition.source, loop)), transition.event


class _Position:
    """The current place of one run in its machine."""

    def __init__(self, machine: MachineCoverage, place: str) -> None:
        self.machine = machine
        self.place = place

    def follow(self, event: str, engine: Any) -> None:
        """Take the transition of an event, and count it."""
        step = self.machine.steps.get((self.place, event))
        if step is not None:  # an illegal event has no transition
            counted, self.place = step
            self.machine.taken.add(counted)


class EventCoverage:
    """The transitions taken by all engines that run inside :meth:`observing`.

    Attributes:
        machines: the coverage of each machine, by its loop as JSON. Engines with equal loops share a machine.
    """

    def __init__(self) -> None:
        self.machines: dict[str, MachineCoverage] = {}
        self._positions: WeakKeyDictionary[ObservedRun, _Position] = WeakKeyDictionary()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Record the transitions of all engines that run in the block."""
        with observing(self):
            yield

    def on_run_start(self, run: ObservedRun) -> Callable[[str], Callable[[Any], None]]:
        """Return a function of an event key. It returns the observer of that event in this run."""
        loop = run.engine.loop
        machine = self._machine(json.dumps(to_dict(loop)), loop)
        machine.engines[run.engine.name] = None
        if run not in self._positions:
            self._positions[run] = _Position(machine, run.machine_position()[0])
        position = self._positions[run]
        return lambda event: partial(position.follow, event)

    def on_run_end(self, run: ObservedRun, outcome: str) -> None:
        """Do nothing: transitions are recorded as they happen."""

    def _machine(self, key: str, loop: Loop) -> MachineCoverage:
        if key not in self.machines:
            self.machines[key] = MachineCoverage.of(loop)
        return self.machines[key]

    # -- between processes -------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """Return the taken transitions as JSON, for :meth:`merge`."""
        taken = {key: [list(machine.engines), sorted(machine.taken)] for key, machine in self.machines.items()}
        return json.dumps(taken)

    def merge(self, dumped: str) -> None:
        """Add the transitions that another process took.

        Args:
            dumped: the result of :meth:`dump` there.
        """
        for key, (engines, taken) in json.loads(dumped).items():
            machine = self._machine(key, from_dict(json.loads(key)))
            machine.engines |= dict.fromkeys(engines)
            machine.taken |= {(place, event) for place, event in taken}

    # -- results -----------------------------------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """The number of taken transitions, over all machines."""
        return sum(len(machine.taken) for machine in self.machines.values())

    @property
    def total(self) -> int:
        """The number of transitions, over all machines."""
        return sum(len(machine.transitions) for machine in self.machines.values())

    def report(self) -> Iterator[str]:
        """Yield the lines of the report: each machine, then the total."""
        if not self.machines:
            yield "no engine ran"
            return
        # with pytest-xdist the order of the machines differs between sessions: sort them
        for machine in sorted(self.machines.values(), key=lambda machine: (sorted(machine.engines), machine.states)):
            yield from machine.report()
        yield f"total: {_score(self.taken, self.total)}"

    def shortfall(self, percentage: float) -> str | None:
        """Return a message if less than this percentage of all transitions was taken; None otherwise."""
        if self.taken * 100 >= percentage * self.total and (self.machines or not percentage):
            return None
        reached = f"{_percent(self.taken, self.total)} is" if self.machines else "no engine ran, so it is"
        return f"event coverage: {reached} less than the required {percentage:g}%"


def _score(taken: int, total: int) -> str:
    return f"{taken}/{total} transitions taken, {_percent(taken, total)}"


def _percent(taken: int, total: int) -> str:
    """Return a percentage with one decimal, rounded down: only ``taken == total`` gives 100%."""
    return f"{math.floor(1000 * taken / total) / 10:g}%"


def _listed(names: Iterable[str]) -> str:
    """Return names separated by commas, shortened to the first of them."""
    listed = list(names)
    more = [f"{len(listed) - NAMES} more"] if len(listed) > NAMES else []
    return ", ".join(listed[:NAMES] + more)
