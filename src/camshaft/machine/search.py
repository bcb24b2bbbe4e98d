"""The search over a machine: breadth first, so that the first path found is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import attrs

from camshaft.machine.context import Context
from camshaft.machine.transition_table import ENDS, Transition

__all__ = ["breadth_first", "shortest_path", "unguarded_path"]

Node = TypeVar("Node")
Rows = Mapping[str, Mapping[str, Transition]]

NEAREST = 2000
"""How many places and contexts :func:`shortest_path` looks at. Messages need near paths only."""


def breadth_first(
    start: Node,
    following: Callable[[Node], Iterable[Node]],
    key: Callable[[Node], Hashable],
    limit: float = float("inf"),
) -> Iterator[Node]:
    """Yield a node and all that can be reached from it, the nearest first.

    Every node that is generated is yielded, so that a caller sees each way to arrive. Of nodes with equal keys only the
    first is followed further.

    Args:
        start: where the search begins.
        following: gives the nodes one step after a node.
        key: what two nodes have in common when the same can follow them.
        limit: how many different keys are followed at most.
    """
    yield start
    waiting, seen = deque([start]), {key(start)}
    while waiting:
        for node in following(waiting.popleft()):
            yield node
            known = key(node)
            if known not in seen and len(seen) < limit:
                seen.add(known)
                waiting.append(node)


@attrs.frozen
class _Visit:
    """A place, the context there, and the transitions that lead to it."""

    place: str
    context: Context
    path: tuple[Transition, ...] = ()

    @property
    def last(self) -> Transition | None:
        return self.path[-1] if self.path else None


def shortest_path(table: Rows, event: str, place: str, context: Context) -> list[Transition] | None:
    """Return the fewest transitions that lead to an event, the last of which fires it.

    Only transitions that their guards allow are taken, and control calls only for ``event`` itself.

    Args:
        table: the transitions, by place and event.
        event: the event to come.
        place: where the run stands.
        context: limits and counters there.

    Returns:
        The transitions; None where none of the nearest paths has the event.
    """
    if not any(event in transitions for transitions in table.values()):
        return None

    def following(visit: _Visit) -> Iterator[_Visit]:
        if visit.last is not None and (visit.last.is_control or visit.place in ENDS):
            return
        for transition in table[visit.place].values():
            is_wanted = transition.event == event
            if (transition.is_control and not is_wanted) or transition.denied_by(visit.context) is not None:
                continue
            after = visit.context.copy()
            transition.apply(after)
            yield _Visit(transition.dest, after, (*visit.path, transition))

    visits = breadth_first(_Visit(place, context), following, lambda visit: (visit.place, *visit.context.key), NEAREST)
    return next((list(visit.path) for visit in visits if visit.last is not None and visit.last.event == event), None)


def unguarded_path(table: Rows, event: str, place: str) -> list[Transition] | None:
    """Return the fewest transitions that lead to an event, whatever their guards say.

    Control calls and ends are not passed, except by ``event`` itself.

    Args:
        table: the transitions, by place and event.
        event: the event to come.
        place: where the run stands.

    Returns:
        The transitions, the last of which fires the event; None where it cannot be reached from here.
    """

    def following(path: tuple[Transition, ...]) -> Iterator[tuple[Transition, ...]]:
        here = path[-1].dest if path else place
        if path and (path[-1].is_control or here in ENDS):
            return
        for transition in table[here].values():
            if transition.event == event or not transition.is_control:
                yield (*path, transition)

    start: tuple[Transition, ...] = ()
    paths = breadth_first(start, following, lambda path: path[-1].dest if path else place)
    return next((list(path) for path in paths if path and path[-1].event == event), None)
