"""What somebody who knows only the picture can say of a loop: compared, way by way, with its machine."""

from __future__ import annotations

import attrs

from camshaft import Loop
from camshaft.events import event_name
from camshaft.machine.machine import LoopMachine


@attrs.define
class Seen:
    """A picture as it was read, by whichever means.

    Attributes:
        labels: what is written in each node; empty for one without text.
        boxes: for each node and box, the boxes around it, outermost first.
        titles: what is written on each box.
        edges: (source, target, event, conditions), with names of events as they are shown.
        boundary: the same, for edges that can be taken anywhere inside of their source.
        start, history: the nodes where a run begins, and where it stays what it was.
        exits: by box, the node at which it is left.
    """

    labels: dict[str, str]
    boxes: dict[str, tuple[str, ...]]
    titles: dict[str, str]
    edges: list[tuple[str, str, str, frozenset[str]]]
    boundary: list[tuple[str, str, str, frozenset[str]]]
    start: str
    history: str
    exits: dict[str, str]


def differences(seen: Seen, loop: Loop) -> list[str]:
    """Where the picture says something else than the machine; empty when both are the same."""
    machine = LoopMachine(loop)
    aside = {event for free in loop.custom_states for event in free.events}
    inner = {free.name for free in loop.custom_states}
    found: list[str] = []
    place_of = {seen.start: "READY"}
    waiting = [seen.start]
    while waiting and not found:
        node = waiting.pop()
        place = place_of[node]
        ways = _ways(seen, node)
        rows = {
            row.event: (row.dest, frozenset(guard.text for guard in row.guards))
            for row in machine.table[place].values()
            if row.event not in aside
        }
        shown = {event: guards for event, (_, guards) in ways.items()}
        expected = {event.upper(): guards for event, (_, guards) in rows.items()}
        if shown != expected:
            found.append(f"at {place}: the picture has {shown}, the machine {expected}")
            continue
        for event, (dest, _) in rows.items():
            target = ways[event.upper()][0]
            if target == seen.history:
                if dest != place:
                    found.append(f"{event} at {place} does not stay there, but the picture says so")
                continue
            if target not in place_of:
                place_of[target] = dest
                waiting.append(target)
                found += _misnamed(seen, target, dest)
            elif _ways_of(machine, place_of[target], aside) != _ways_of(machine, dest, aside):
                found.append(f"{event} at {place} leads to {place_of[target]}, not to {dest}")
    reached = set(place_of.values())
    hosts = {place for place in machine.table if place.rpartition("/")[2] not in inner or "/" not in place}
    missing = [place for place in hosts if not any(_alike(machine, place, other, aside) for other in reached)]
    return found + [f"{place} is missing" for place in missing]


def customs(seen: Seen) -> set[tuple[str, str, str, str]]:
    """The custom states without a place: (loop, state, the event that enters it, the one that leaves it)."""
    goals = {target for _, target, _, _ in (*seen.edges, *seen.boundary)}
    sources = {source for source, _, _, _ in seen.edges}
    found = set()
    for source, state, event, guards in seen.edges:
        if source in goals or source == seen.start:
            continue
        outside = [goal for inner, goal, _, more in seen.edges if inner == state]
        assert not any(seen.labels.get(goal) or goal in sources for goal in outside), f"{state} leads into the loop"
        leaving = [left for inner, _, left, _ in seen.edges if inner == state]
        assert len(leaving) == 1, f"{state} is left in {len(leaving)} ways"
        assert not any([guards, *(more for inner, _, _, more in seen.edges if inner == state)]), "it has no conditions"
        scopes = [seen.titles[box] for box in seen.boxes[state] if seen.titles[box] not in ("", "STEP")]
        found.add((scopes[-1], seen.labels[state], event, *leaving))
    return found


def frees_of(loop: Loop) -> set[tuple[str, str, str, str]]:
    """The same, of the declaration."""
    return {
        (free.within, free.name, *map(event_name, free.events), *[""] * (not free.is_pair))
        for free in loop.custom_states
    }


def _alike(machine: LoopMachine, place: str, other: str, aside: set[str]) -> bool:
    return place == other or _ways_of(machine, place, aside) == _ways_of(machine, other, aside)


def _ways_of(machine: LoopMachine, place: str, aside: set[str]) -> dict[str, object]:
    return {
        row.event: ("here" if row.dest == place else row.dest, frozenset(guard.text for guard in row.guards))
        for row in machine.table[place].values()
        if row.event not in aside
    }


def _misnamed(seen: Seen, node: str, place: str) -> list[str]:
    label = seen.labels.get(node, "")
    if not label:
        return []
    boxes = [seen.titles[box] for box in seen.boxes[node] if seen.titles[box]]
    path = [part for part in place.split("/") if part != "GET_BATCH" or place.endswith("GET_BATCH")]
    named = [*boxes, label]
    return [] if named[-len(path) :] == path else [f"{label} in {boxes} is {place}"]


def _ways(seen: Seen, node: str) -> dict[str, tuple[str, frozenset[str]]]:
    """By event, where it leads from a node and the conditions that are met on the way."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    waiting = [(node, frozenset[str]())]
    while waiting:
        here, guards = waiting.pop()
        for source, target, event, more in seen.edges:
            if source != here:
                continue
            if not event:
                waiting.append((target, guards | more))
                continue
            assert event not in found, f"{event} leads two ways from {node}"
            found[event] = (target, guards | more)
    around = seen.boxes[node]
    for box, target, event, guards in seen.boundary:
        is_inside = box in around and node != target
        leaves = box in seen.boxes[target] and node == seen.exits.get(box)
        if is_inside and not leaves:
            found[event] = (target, guards)
    return found
