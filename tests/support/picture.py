"""A picture as it was read, compared transition by transition with the machine of its loop."""

from __future__ import annotations

import attrs

from camshaft import Loop
from camshaft.events import event_name
from camshaft.machine.machine import LoopMachine


@attrs.define
class Seen:
    """A picture as it was read from any format.

    Attributes:
        labels: the text in each node; empty without text.
        boxes: for each node and box, the boxes around it, outermost first.
        titles: the title of each box.
        edges: (source, target, event, conditions), with the names of events as shown.
        boundary: the same, for edges that can be taken anywhere inside their source.
        start: the node where a run begins.
        history: the target of interrupted runs, which resume at their place.
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
    """Return the differences between a picture and the machine of its loop; empty if they are equal.

    Both are walked together from the start, so that each node of the picture gets a place of the machine. Custom
    states without a fixed place are left out: see ``shown_custom_states``.
    """
    machine = LoopMachine(loop)
    ignored = {event for custom in loop.custom_states for event in custom.events}
    custom_names = {custom.name for custom in loop.custom_states}
    found: list[str] = []
    place_of = {seen.start: "READY"}
    waiting = [seen.start]
    while waiting and not found:
        node = waiting.pop()
        place = place_of[node]
        shown = _shown_transitions(seen, node)
        expected = {
            transition.event: (transition.dest, frozenset(guard.text for guard in transition.guards))
            for transition in machine.table[place].values()
            if transition.event not in ignored
        }
        shown_guards = {event: guards for event, (_, guards) in shown.items()}
        expected_guards = {event.upper(): guards for event, (_, guards) in expected.items()}
        if shown_guards != expected_guards:
            found.append(f"at {place}: the picture has {shown_guards}, the machine {expected_guards}")
            continue
        for event, (dest, _) in expected.items():
            target = shown[event.upper()][0]
            if target == seen.history:
                if dest != place:
                    found.append(f"{event} at {place} stays there in the picture, but not in the machine")
                continue
            if target not in place_of:
                place_of[target] = dest
                waiting.append(target)
                found += _misnamed(seen, target, dest)
            elif not _are_equal(machine, place_of[target], dest, ignored):
                found.append(f"{event} at {place} leads to {place_of[target]}, not to {dest}")
    reached = set(place_of.values())
    places = {place for place in machine.table if place.rpartition("/")[2] not in custom_names or "/" not in place}
    missing = [place for place in places if not any(_are_equal(machine, place, other, ignored) for other in reached)]
    return found + [f"{place} is missing" for place in missing]


def shown_custom_states(seen: Seen) -> set[tuple[str, str, str, str]]:
    """Return the custom states without a fixed place, as (loop, state, event that enters, event that leaves or "")."""
    targets = {target for _, target, _, _ in (*seen.edges, *seen.boundary)}
    sources = {source for source, _, _, _ in seen.edges}
    found = set()
    for source, state, event, guards in seen.edges:
        # the point outside such a state is the only node, besides the start, to which no edge leads
        if source in targets or source == seen.start:
            continue
        after = [target for inner, target, _, _ in seen.edges if inner == state]
        assert not any(seen.labels.get(node) or node in sources for node in after), f"{state} leads into the loop"
        leaving = [left for inner, _, left, _ in seen.edges if inner == state]
        assert len(leaving) == 1, f"{state} has {len(leaving)} edges that leave it"
        conditions = [guards, *(more for inner, _, _, more in seen.edges if inner == state)]
        assert not any(conditions), f"{state} has conditions"
        scopes = [seen.titles[box] for box in seen.boxes[state] if seen.titles[box] not in ("", "STEP")]
        found.add((scopes[-1], seen.labels[state], event, *leaving))
    return found


def declared_custom_states(loop: Loop) -> set[tuple[str, str, str, str]]:
    """Return the custom states of a loop in the form of ``shown_custom_states``."""
    return {
        (custom.within, custom.name, *map(event_name, custom.events), *[""] * (not custom.is_pair))
        for custom in loop.custom_states
    }


def _are_equal(machine: LoopMachine, place: str, other: str, ignored: set[str]) -> bool:
    """Return whether two places have the same transitions; a picture may show them as one node."""
    return place == other or _transitions(machine, place, ignored) == _transitions(machine, other, ignored)


def _transitions(machine: LoopMachine, place: str, ignored: set[str]) -> dict[str, object]:
    return {
        transition.event: (
            "here" if transition.dest == place else transition.dest,
            frozenset(guard.text for guard in transition.guards),
        )
        for transition in machine.table[place].values()
        if transition.event not in ignored
    }


def _misnamed(seen: Seen, node: str, place: str) -> list[str]:
    """Return a message if the labels of a node and its boxes do not name a place."""
    label = seen.labels.get(node, "")
    if not label:
        return []
    boxes = [seen.titles[box] for box in seen.boxes[node] if seen.titles[box]]
    path = [part for part in place.split("/") if part != "GET_BATCH" or place.endswith("GET_BATCH")]
    named = [*boxes, label]
    return [] if named[-len(path) :] == path else [f"{label} in {boxes} is {place}"]


def _shown_transitions(seen: Seen, node: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return, by event, the target reached from a node and all conditions on the path to it."""
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
            assert event not in found, f"{event} has two edges from {node}"
            found[event] = (target, guards | more)
    enclosing = seen.boxes[node]
    for box, target, event, guards in seen.boundary:
        is_inside = box in enclosing and node != target
        leaves = box in seen.boxes[target] and node == seen.exits.get(box)
        if is_inside and not leaves:
            found[event] = (target, guards)
    return found
