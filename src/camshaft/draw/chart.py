"""The picture as data: which nodes and boxes there are, and which edges lead from where to where.

States are nodes, loops are boxes with a place to enter and a place to leave. Where the machine has several ways out of
a place, the chart has a *choice*; where ways meet, a *merge*: a way from one place to the next is a path through these,
along which one edge carries the event and each edge the conditions that it adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import attrs

from camshaft.events import Filter, event_name
from camshaft.loop.loop import Loop

__all__ = ["Box", "Chart", "Edge", "Element", "Line", "Node", "Rows", "visible"]

Line: TypeAlias = list[tuple[str, str]]
"""A line of words: (role, text) for each part of it."""


class _Visited:
    visits: int | None
    share: float | None

    @property
    def seen(self) -> str:
        """How often it was entered, and its share of the time, in words; empty where no trace tells."""
        if self.visits is None:
            return ""
        return f"×{self.visits:,}" + (f" · {self.share:.0%}" if self.share is not None and self.share >= 0.005 else "")


@attrs.define(eq=False)
class Node(_Visited):
    """What edges lead from and to.

    Attributes:
        id: unique in its chart; that of a place is the place's name.
        kind: ``"start"``, ``"state"``, ``"entry"`` and ``"exit"`` of a box, ``"point"`` on the way, ``"choice"``,
            ``"merge"``, ``"nested"`` for an engine that runs there, ``"folded"`` for states that are not shown,
            ``"history"`` for the place where an interrupted run goes on, ``"final"``.
        label: what is written in it; empty for those without text.
        note: a second line.
        is_custom: whether it came in by registration.
        is_observed: whether it is known from a trace only.
        is_current: whether the engine stands in it.
        visits: how often it was entered; None where no trace tells.
        share: its share of the time of the trace, 0 to 1.
        engine_name, filter: the name of the engine that runs there, and the filter of its event.
        role, custom_state: for a custom state without a place, the part that the node shows (``"outside"``, ``"in"``,
            ``"after"``) and the name of the state; for an observed order, ``"begin"`` or ``"end"`` and the loop.
    """

    id: str
    kind: str
    label: str = ""
    note: str = ""
    is_custom: bool = False
    is_observed: bool = False
    is_current: bool = False
    visits: int | None = None
    share: float | None = None
    engine_name: str = ""
    filter: Filter | None = None
    role: str = ""
    custom_state: str = ""


@attrs.define(eq=False)
class Box(_Visited):
    """A state with states inside.

    Attributes:
        id: unique in its chart.
        kind: ``"engine"``, ``"run"``, ``"loop"``, ``"step"``, or ``"region"``: custom states without a place of their
            own.
        label, note: its name, and what its passes go by.
        lines: what else is to be said of it.
        caller: what code fires the events of custom states in it.
        rows: what is inside, from top to bottom; each row has one element in line and others to the right of it.
        entry, exit: the ids of the nodes on its outline, if it has them.
        is_custom, is_observed, is_current, visits, share: as for a :class:`Node`.
    """

    id: str
    kind: str
    label: str
    note: str = ""
    lines: list[str] = attrs.field(factory=list)
    caller: str = ""
    rows: Rows = attrs.field(factory=list)
    entry: str | None = None
    exit: str | None = None
    is_custom: bool = False
    is_observed: bool = False
    is_current: bool = False
    visits: int | None = None
    share: float | None = None


Element: TypeAlias = Node | Box
Rows: TypeAlias = list[list[Element]]


@attrs.define(eq=False)
class Edge:
    """A way from one element to the next.

    Attributes:
        source, target: ids of nodes or boxes.
        event: the key of the event that is fired on the way, if one is.
        guards: the conditions, as the machine writes them.
        kind: ``"flow"``, ``"back"`` for the one that repeats a loop, ``"boundary"`` for one that can be taken
            anywhere inside its source, ``"observed"`` for one that is known from a trace only.
        lane: on which side it passes what lies between: ``"left"`` or ``"right"``; None for one that is in line.
        events: all of them, where several are drawn as one edge.
        count: how often it was taken; None where no trace tells.
        counts: the same by event, where several are drawn as one edge.
        handlers: what is called on the way, in order.
    """

    source: str
    target: str
    event: str | None = None
    guards: tuple[str, ...] = ()
    kind: str = "flow"
    lane: str | None = None
    events: tuple[str, ...] = ()
    count: int | None = None
    counts: dict[str, int] = attrs.field(factory=dict)
    handlers: list[str] = attrs.field(factory=list)

    @property
    def fired(self) -> tuple[str, ...]:
        """The keys of its events."""
        return self.events or ((self.event,) if self.event is not None else ())


@attrs.define(eq=False)
class Chart:
    """The picture of a loop as data.

    Attributes:
        name: of the engine, or of the outermost loop.
        loop: what is shown.
        rows: the outermost elements, from top to bottom.
        edges: all edges.
        places: by place of the machine (without free states), the id of the node that shows it.
    """

    name: str
    loop: Loop
    rows: Rows
    edges: list[Edge]
    places: dict[str, str]

    @property
    def title(self) -> str:
        """What the picture shows, in a few words."""
        return visible(f"{self.name}: the states of {self.loop.name} and the events that lead from one to the next")

    @property
    def description(self) -> str:
        """The states in order, in one line, for those who do not see the picture."""
        return "; ".join(visible(line.strip()) for line in str(self.loop).splitlines())

    def words(self, edge: Edge) -> list[Line]:
        """What is written on an edge.

        The roles are ``"event"``, ``"guard"``, ``"handler"``, ``"note"``, and ``"count"`` behind the first line.
        """
        lines: list[Line] = [[("event", visible(event_name(key)))] for key in edge.fired]
        lines += [[("guard", f"[{visible(guard)}]")] for guard in edge.guards]
        lines += [[("handler", visible(line))] for line in edge.handlers]
        lines += [[("note", "from anywhere inside")]] * bool(edge.events)
        if edge.kind == "observed" and not lines and edge.count is not None:
            return [[("count", f"×{edge.count:,}")]]
        counted = edge.count is not None and bool(edge.fired or edge.guards)
        for line, key in zip(lines, edge.fired or ("",), strict=False):
            number = edge.counts.get(key, 0) if edge.events else edge.count
            if counted and (number or edge.kind != "boundary"):
                line.append(("count", f"×{number:,}"))
        return lines

    def lines(self, edge: Edge) -> list[str]:
        """The same as texts."""
        return [" ".join(text for _, text in line) for line in self.words(edge)]

    def elements(self) -> Iterator[Element]:
        """Every node and box, from the outside in and from top to bottom."""
        yield from _elements(self.rows)

    @property
    def nodes(self) -> list[Node]:
        """Every node."""
        return [element for element in self.elements() if isinstance(element, Node)]

    @property
    def boxes(self) -> list[Box]:
        """Every box."""
        return [element for element in self.elements() if isinstance(element, Box)]

    def enclosing_boxes(self) -> dict[str, tuple[str, ...]]:
        """By id, the ids of the boxes around each element, outermost first."""
        found: dict[str, tuple[str, ...]] = {}

        def visit(rows: Rows, path: tuple[str, ...]) -> None:
            for element in (element for row in rows for element in row):
                found[element.id] = path
                if isinstance(element, Box):
                    visit(element.rows, (*path, element.id))

        visit(self.rows, ())
        return found


def visible(text: str) -> str:
    """A text with its line ends and other characters that cannot be seen written as Python would."""
    return "".join(part if part.isprintable() else repr(part)[1:-1] for part in text)


def _elements(rows: Rows) -> Iterator[Element]:
    for element in (element for row in rows for element in row):
        yield element
        if isinstance(element, Box):
            yield from _elements(element.rows)
