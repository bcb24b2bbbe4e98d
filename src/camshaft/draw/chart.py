"""A picture as data: its nodes and boxes, and the edges between them.

States are nodes. Loops are boxes, with one node on the outline for entering and one for leaving. If a place of the
machine has several transitions, the chart has a *choice*; where several edges meet, it has a *merge*. One transition
of the machine is therefore a path of edges: one of them carries the event, and each may add conditions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import attrs

from camshaft.events import Filter, event_name
from camshaft.loop.loop import Loop

__all__ = ["Box", "Chart", "Edge", "Element", "Line", "Node", "Rows", "printable"]

Line: TypeAlias = list[tuple[str, str]]
"""One line of a label: its parts as (role, text)."""


class _Visited:
    visits: int | None
    share: float | None

    @property
    def visits_text(self) -> str:
        """The number of visits and the share of the time as text; empty without a trace."""
        if self.visits is None:
            return ""
        return f"×{self.visits:,}" + (f" · {self.share:.0%}" if self.share is not None and self.share >= 0.005 else "")


@attrs.define(eq=False)
class Node(_Visited):
    """An element without elements inside.

    Attributes:
        id: unique in its chart; for a place of the machine, the name of the place.
        kind: ``"start"``, ``"state"``, ``"entry"`` and ``"exit"`` of a box, ``"point"`` between two edges,
            ``"choice"``, ``"merge"``, ``"nested"`` for an engine that runs there, ``"folded"`` for hidden states,
            ``"history"`` for the point where an interrupted run resumes, ``"final"``.
        label: the text in it; may be empty.
        note: a second line.
        is_custom: True if it was added by registering events.
        is_observed: True if it is known from a trace only.
        is_current: True if the engine is in this state now.
        visits: how often it was entered; None without a trace.
        share: its share of the time of the trace, 0 to 1; None without a trace.
        engine_name, filter: for ``"nested"``, the name of the engine and the filter of its event.
        role, custom_state: for a custom state without a fixed place, the part shown by this node (``"outside"``,
            ``"in"``, ``"after"``) and the name of the state; for an observed order, ``"begin"`` or ``"end"`` and the
            name of the loop.
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
    """An element with elements inside.

    Attributes:
        id: unique in its chart.
        kind: ``"engine"``, ``"run"``, ``"loop"``, ``"step"``, or ``"region"`` for custom states without a fixed place.
        label, note: its name, and the condition of its passes.
        lines: further lines of its head.
        caller: the name of the code that fires the events of the custom states inside.
        rows: its contents from top to bottom. The first element of each row is in the column, others are beside it.
        entry, exit: the ids of the nodes on its outline; None without them.
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
    """A line from one element to another.

    Attributes:
        source, target: ids of nodes or boxes.
        event: the key of the event fired on the edge; None without one.
        guards: the conditions, in the words of the machine.
        kind: ``"flow"``; ``"back"`` if it repeats a loop; ``"boundary"`` if it can be taken anywhere inside its
            source; ``"observed"`` if it is known from a trace only.
        lane: the side on which it passes other elements, ``"left"`` or ``"right"``; None for an edge in the column.
        events: the keys of all events, if one edge stands for several.
        count: how often it was taken; None without a trace.
        counts: how often it was taken, by event, if one edge stands for several.
        handlers: the handlers called on the edge, in order.
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
    def event_keys(self) -> tuple[str, ...]:
        """The keys of all events on the edge: several, one or none."""
        return self.events or ((self.event,) if self.event is not None else ())


@attrs.define(eq=False)
class Chart:
    """The picture of a loop as data.

    Attributes:
        name: of the engine, or of the outermost loop.
        loop: the loop that is shown.
        rows: the outermost elements, from top to bottom.
        edges: all edges.
        places: by place of the machine (without custom states), the id of the node that shows it.
    """

    name: str
    loop: Loop
    rows: Rows
    edges: list[Edge]
    places: dict[str, str]

    @property
    def title(self) -> str:
        """The subject of the picture, in a few words."""
        return printable(f"{self.name}: the states of {self.loop.name} and the events between them")

    @property
    def description(self) -> str:
        """The states in order, in one line, for screen readers."""
        return "; ".join(printable(line.strip()) for line in str(self.loop).splitlines())

    def label(self, edge: Edge) -> list[Line]:
        """Return the label of an edge.

        The roles are ``"event"``, ``"guard"``, ``"handler"``, ``"note"``, and ``"count"`` for the number after an
        event or, on an edge without events, after the first condition.
        """
        lines: list[Line] = [[("event", printable(event_name(key)))] for key in edge.event_keys]
        lines += [[("guard", f"[{printable(guard)}]")] for guard in edge.guards]
        lines += [[("handler", printable(line))] for line in edge.handlers]
        lines += [[("note", "from anywhere inside")]] * bool(edge.events)
        if edge.kind == "observed" and not lines and edge.count is not None:
            return [[("count", f"×{edge.count:,}")]]
        counted = edge.count is not None and bool(edge.event_keys or edge.guards)
        for line, key in zip(lines, edge.event_keys or ("",), strict=False):
            number = edge.counts.get(key, 0) if edge.events else edge.count
            # a control call that never happened gets no "×0": most runs have none
            if counted and (number or edge.kind != "boundary"):
                line.append(("count", f"×{number:,}"))
        return lines

    def label_texts(self, edge: Edge) -> list[str]:
        """Return the label of an edge as one text for each line."""
        return [" ".join(text for _, text in line) for line in self.label(edge)]

    def elements(self) -> Iterator[Element]:
        """Yield every node and box: a box before its contents, rows from top to bottom."""
        yield from _elements(self.rows)

    @property
    def nodes(self) -> list[Node]:
        """All nodes."""
        return [element for element in self.elements() if isinstance(element, Node)]

    @property
    def boxes(self) -> list[Box]:
        """All boxes."""
        return [element for element in self.elements() if isinstance(element, Box)]

    def enclosing_boxes(self) -> dict[str, tuple[str, ...]]:
        """Return, by id of an element, the ids of the boxes around it, outermost first."""
        found: dict[str, tuple[str, ...]] = {}

        def visit(rows: Rows, path: tuple[str, ...]) -> None:
            for element in (element for row in rows for element in row):
                found[element.id] = path
                if isinstance(element, Box):
                    visit(element.rows, (*path, element.id))

        visit(self.rows, ())
        return found


def printable(text: str) -> str:
    """Return a text with line ends and other unprintable characters escaped, as ``repr`` writes them."""
    return "".join(part if part.isprintable() else repr(part)[1:-1] for part in text)


def _elements(rows: Rows) -> Iterator[Element]:
    for element in (element for row in rows for element in row):
        yield element
        if isinstance(element, Box):
            yield from _elements(element.rows)
