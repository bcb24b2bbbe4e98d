"""Pictures in the formats of Mermaid and Graphviz, as read by their own parsers."""

from __future__ import annotations

from typing import Any

from support.picture import Seen

Edges = list[tuple[str, str, str, frozenset[str]]]


def seen_by_mermaid(read: dict[str, Any]) -> Seen:
    """Return the nodes, boxes and edges of a state diagram of Mermaid.

    Args:
        read: the result of ``Mermaid.read``.
    """
    states = read["states"]
    lines = {name: _split(state["label"]) for name, state in states.items()}
    composite = {name for name, state in states.items() if state["composite"]}
    runs = [name for name in composite if _is_run(name, states, lines)]
    steps = {
        name
        for name in composite
        if lines[name][:1] in (["STEP"], ["\u200b"]) or "fires events" in " ".join(lines[name])
    }
    around = {name: _path(name, states) for name in states}
    inmost = max(runs, key=lambda name: len(around[name]))
    start = f"{inmost}_start"
    around[start] = ()  # before the run, so outside its box
    edges: Edges = []
    boundary: Edges = []
    for number, relation in enumerate(read["relations"]):
        source, target, label = relation["from"], relation["to"], _split(relation["label"])
        if source in runs:
            boundary += _edges(source, target, label, f"r{number}", around)
            continue
        source = f"{source}_end" if source in composite - steps else source
        target = f"{target}_start" if target in composite - steps else target
        edges += _edges(source, target, label, f"r{number}", around)
    for name, state in states.items():
        for note in state["notes"]:
            boundary += _edges(around[name][-1], name, _split(note), "", around)
    labels = {
        name: label[0]
        for name, label in lines.items()
        if label and name not in composite and states[name]["type"] == "state" and not label[0].startswith("H*")
    }
    history = [name for name, label in lines.items() if label[:1] == ["H*"]]
    titles = {name: "" if "fires events" in lines[name][0] else lines[name][0] for name in composite}
    exits = {name: f"{name}_end" for name in composite - steps - set(runs)}
    # a custom state is entered from the start of a step and left to its end; the end is no node of the loop
    ends = [(f"{name}_end", f"{name}_start") for name in steps]
    edges = [
        (source, f"{target} outside" if (target, source) in ends else target, *rest) for source, target, *rest in edges
    ]
    return Seen(labels, around, titles, edges, boundary, start, history[0] if history else "", exits)


def _is_run(name: str, states: dict[str, Any], lines: dict[str, list[str]]) -> bool:
    """Return whether a box is the frame around a whole run, with STARTED inside, or the frame around that one."""
    inside = [other for other, state in states.items() if state["parent"] == name]
    return any(lines[other] == ["STARTED"] or _is_run(other, states, lines) for other in inside)


def _path(name: str, states: dict[str, Any]) -> tuple[str, ...]:
    parent = states[name]["parent"]
    return () if parent is None else (*_path(parent, states), parent)


def _split(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\n", "<br>").split("<br>") if line.strip()]


def _edges(source: str, target: str, label: list[str], name: str, around: dict[str, tuple[str, ...]]) -> Edges:
    """Split a transition into one edge for each event of its label.

    Conditions belong to the event before them, and those at the beginning to the first event.

    Args:
        source, target: the ends of the transition.
        label: the lines of its label.
        name: a prefix for the nodes between two edges.
        around: by node, its boxes; the new nodes are added.
    """
    steps: list[tuple[str, set[str]]] = [("", set())]
    for line in label:
        if line == "from anywhere inside":
            continue
        if line.startswith("["):
            steps[-1][1].add(line[1:-1])
        elif steps[-1][0]:
            steps.append((line, set()))
        else:
            steps[-1] = (line, steps[-1][1])
    found: Edges = []
    here = source
    for number, (event, guards) in enumerate(steps):
        there = target if number == len(steps) - 1 else f"{name} {number}"
        around.setdefault(there, around[source])
        found.append((here, there, event, frozenset(guards)))
        here = there
    return found


def seen_by_graphviz(read: dict[str, Any]) -> Seen:
    """Return the nodes, boxes and edges of a graph of Graphviz.

    Args:
        read: the parsed JSON of its layout.
    """
    objects = {thing["_gvid"]: thing for thing in read["objects"]}
    clusters = {number for number, thing in objects.items() if thing["name"].startswith("cluster")}
    around = {
        str(number): tuple(
            str(cluster)
            for cluster in sorted(clusters, key=lambda cluster: -len(objects[cluster].get("nodes", ())))
            if number in objects[cluster].get("nodes", ())
        )
        for number in objects
        if number not in clusters
    }
    labels_of = {str(number): _lines(objects[number]) for number in objects}
    edges: Edges = []
    boundary: Edges = []
    for edge in read["edges"]:
        tail, head = str(edge["tail"]), str(edge["head"])
        is_anywhere = labels_of[tail][:1] and labels_of[tail][0].startswith("anywhere in")
        made = _edges(tail, head, _lines(edge), "", around)
        if is_anywhere:
            boundary += [(around[tail][-1], *rest) for _, *rest in made]
        else:
            edges += made
    labels = {
        number: lines[0]
        for number, lines in labels_of.items()
        if lines and int(number) not in clusters and objects[int(number)]["shape"] == "box"
    }
    titles = {str(number): (labels_of[str(number)] or [""])[0] for number in clusters}
    titles = {number: "" if "fires events" in title else title for number, title in titles.items()}
    targets = {target for _, target, _, _ in edges}
    starts = [name for name, path in around.items() if not path and name not in targets and not labels.get(name)]
    exits = {
        around[str(number)][-1]: str(number)
        for number, thing in objects.items()
        if thing.get("shape") == "doublecircle" and around[str(number)]
    }
    history = [number for number, lines in labels_of.items() if lines[:1] == ["H*"]]
    return Seen(labels, around, titles, edges, boundary, starts[0], history[0] if history else "", exits)


def _lines(thing: dict[str, Any]) -> list[str]:
    return [line for line in thing.get("label", "").split("\\n") if line]
