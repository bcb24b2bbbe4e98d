"""Nested engines in a picture."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, record
from support.overlays import CUSTOM, fired, make, visits
from support.steps import no_op


def test_an_engine_that_a_handler_runs_is_observed():
    trainer, evaluator = make(), Engine(lambda engine, batch: batch, name="evaluator")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record() as trace:
        trainer.run([1, 2], max_epochs=3)
    node = next(node for node in trace.diagram().chart.nodes if node.kind == "nested")
    assert (node.label, node.visits, node.is_observed) == ("evaluator", 3, True)


def test_one_engine_nested_several_times_at_one_event():
    trainer, inner = make(), Engine(no_op, name="evaluator")
    for data in ([1], [1, 2], [1, 2, 3]):
        trainer.nest(inner, on=Events.EPOCH_COMPLETED, data=data)
    with record() as trace:
        trainer.run([1], max_epochs=2)
    nodes = [node for node in trace.diagram().chart.nodes if node.engine_name]
    assert [node.visits for node in nodes] == [2, 2, 2]


def test_each_filter_has_its_own_count():
    trainer, inner = make(), Engine(no_op, name="evaluator")
    for n in (2, 3):
        trainer.nest(inner, on=Events.EPOCH_COMPLETED(every=n), data=[1])
    with record() as trace:
        trainer.run([1], max_epochs=6)
    assert visits(trace.diagram())["evaluator(every=2)"] == 3
    assert visits(trace.diagram())["evaluator(every=3)"] == 2


def test_engines_run_by_handlers_and_declared_are_told_apart():
    trainer, inner = make(), Engine(no_op, name="evaluator")
    trainer.nest(inner, on=Events.EPOCH_COMPLETED(once=1), data=[1])
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: inner.run([1]))
    with record() as trace:
        trainer.run([1], max_epochs=3)
    nodes = [(node.label, node.visits, node.is_observed) for node in trace.diagram().chart.nodes if node.engine_name]
    assert nodes == [("evaluator(once=1)", 1, False), ("evaluator", 3, True)]


@pytest.mark.parametrize("event", CUSTOM)
def test_engines_at_custom_events_are_counted_as_observed(event):
    trainer, declared, by_hand = make(), Engine(no_op, name="declared"), Engine(no_op, name="by hand")
    trainer.nest(declared, on=event, data=[1])
    trainer.add_event_handler(event, lambda: by_hand.run([1]))
    with record() as trace:
        trainer.run([1, 2, 3])
    chart = trace.diagram().chart
    assert [(node.label, node.visits) for node in chart.nodes if node.engine_name] == [("declared", 3), ("by hand", 3)]
    assert fired(trace.diagram())[event.value] == 3
    assert visits(trace.diagram())["BACKWARD"] == 3
    reached = {edge.target for edge in chart.edges}
    assert all(node.id in reached for node in chart.nodes if node.engine_name)


@pytest.mark.parametrize("event", list(Events))
def test_an_engine_at_any_event_is_shown_or_mentioned(event):
    for level in ("overview", "full"):
        for control in (False, True):
            trainer = make()
            trainer.nest(Engine(no_op, name="evaluator"), on=event, data=[1])
            assert "▸ evaluator" in trainer.diagram(level, control=control).text()
