"""Breadth-first search over a machine. The first path that it finds is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import attrs

from camshaft.machine.context import Context
from camshaft.machine.transition import ENDS, Transition

__all__ = ["breadth_first", "shortest_path", "unguarded_path"]

Node = TypeVar("Node")
Transitions = Mapping[str, Mapping[str, Transition]]
"""The transitions of a machine, by place and event."""

MAX_VISITS = 2000
"""The maximal number of different places with contexts in :func:`shortest_path`. Messages need only near paths."""


def breadth_first(
    start: Node,
    following: Callable[[Node], Iterable[Node]],
    key: Callable[[Node], Hashable],
    limit: float = float("inf"),
) -> Iterator[Node]:
    """Yield a node and all nodes reachable from it, the nearest first.

    A node reached by several edges is yielded once for each edge. Of all nodes with equal keys, only the first one is
    expanded.

    Args:
        start: the first node.
        following: a function that returns the successors of a node.
        key: a function that returns equal keys for nodes with the same successors.
        limit: the maximal number of different keys to expand.
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
    """A place with its context and the transitions that lead to it."""

    place: str
    context: Context
    path: tuple[Transition, ...] = ()

    @property
    def last(self) -> Transition | None:
        return self.path[-1] if self.path else None


def shortest_path(table: Transitions, event: str, place: str, context: Context) -> list[Transition] | None:
    """Return the shortest sequence of transitions that ends with the transition of an event.

    Every transition in it is allowed by its guards. Transitions of control calls and failures are only taken as the
    last one.

    Args:
        table: the transitions, by place and event.
        event: the key of the event to reach.
        place: the place to start from.
        context: the limits and counters there.

    Returns:
        The transitions. None if the event is not found within :data:`MAX_VISITS`.
    """

    def following(visit: _Visit) -> Iterator[_Visit]:
        if visit.last is not None and (visit.last.is_control or visit.place in ENDS):
            return
        for transition in table[visit.place].values():
            is_wanted = transition.event == event
            if (transition.is_control or transition.is_free) and not is_wanted:
                continue
            if transition.denied_by(visit.context) is not None:
                continue
            after = visit.context.copy()
            transition.apply(after)
            yield _Visit(transition.dest, after, (*visit.path, transition))

    visits = breadth_first(
        _Visit(place, context), following, lambda visit: (visit.place, *visit.context.key), MAX_VISITS
    )
    return next((list(visit.path) for visit in visits if visit.last is not None and visit.last.event == event), None)


def unguarded_path(table: Transitions, event: str, place: str) -> list[Transition] | None:
    """Return the shortest sequence of transitions that ends with the transition of an event, ignoring guards.

    Transitions of control calls and failures are only taken as the last one. A path does not continue after the end of
    the run.

    Args:
        table: the transitions, by place and event.
        event: the key of the event to reach.
        place: the place to start from.

    Returns:
        The transitions. None if the event cannot be reached from this place.
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
