"""Charts: the picture as data has the transitions of the machine."""

from __future__ import annotations

import pytest
from hypothesis import given

from camshaft.draw.chart import Chart
from camshaft.draw.from_loop import chart_from_loop
from camshaft.events import event_name
from camshaft.testing import loops
from support.loops import LOOPS
from support.picture import Seen, declared_custom_states, differences, shown_custom_states


def seen_in(chart: Chart) -> Seen:
    edges = [
        (edge.source, edge.target, event_name(edge.event) if edge.event else "", frozenset(edge.guards), edge.kind)
        for edge in chart.edges
    ]
    return Seen(
        labels={node.id: node.label for node in chart.nodes if node.kind == "state"},
        boxes=chart.enclosing_boxes(),
        titles={box.id: box.label for box in chart.boxes},
        edges=[edge[:4] for edge in edges if edge[4] != "boundary"],
        boundary=[edge[:4] for edge in edges if edge[4] == "boundary"],
        start="READY",
        history="history",
        exits={box.id: box.exit for box in chart.boxes if box.exit is not None},
    )


@pytest.mark.parametrize("name", LOOPS)
def test_the_full_chart_is_the_machine(name):
    seen = seen_in(chart_from_loop(LOOPS[name], level="full", control=True))
    assert not differences(seen, LOOPS[name])
    assert shown_custom_states(seen) == declared_custom_states(LOOPS[name])


@given(loops())
def test_the_full_chart_of_any_loop_is_its_machine(loop):
    seen = seen_in(chart_from_loop(loop, level="full", control=True))
    assert not differences(seen, loop)
    assert shown_custom_states(seen) == declared_custom_states(loop)


def changes(chart):
    """Yield each single change of a chart: an edge is gone, or has another event, condition or target."""
    for number in range(len(chart.edges)):
        for field in ("gone", "event", "guards", "target"):
            yield number, field


@pytest.mark.parametrize("name", LOOPS)
def test_a_picture_that_says_something_else_is_noticed(name):
    loop = LOOPS[name]
    for number, field in changes(chart_from_loop(loop, level="full", control=True)):
        chart = chart_from_loop(loop, level="full", control=True)
        edge = chart.edges[number]
        if field == "gone":
            chart.edges.remove(edge)
        elif field == "event":
            edge.event = "other" if edge.event is None else None
        elif field == "guards":
            edge.guards = (*edge.guards, "other")
        else:
            edge.target = "COMPLETED" if edge.target != "COMPLETED" else "STARTED"
        try:
            seen = seen_in(chart)
            noticed = differences(seen, loop) or shown_custom_states(seen) != declared_custom_states(loop)
        except (AssertionError, KeyError):
            noticed = True
        assert noticed, (field, edge)
