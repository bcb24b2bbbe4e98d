"""The observed order of the custom states of an opaque step."""

from __future__ import annotations

from camshaft import Engine, record
from support.overlays import make


def test_the_order_of_an_opaque_step_is_observed():
    trainer = make()
    with record() as trace:
        trainer.run([1, 2])
    chart = trace.diagram().chart
    observed = [(edge.source, edge.event, edge.target, edge.count) for edge in chart.edges if edge.kind == "observed"]
    assert observed == [
        ("begin of custom states in ITERATION", "backward_started", "in BACKWARD", 2),
        ("in BACKWARD", "backward_completed", "after BACKWARD", 2),
        ("after BACKWARD", "optim_step_completed", "in OPTIM_STEP", 2),
        ("in OPTIM_STEP", None, "end of custom states in ITERATION", 2),
    ]
    assert 'class="wire observed"' in trace.diagram().svg()
    assert 'class="wire observed"' not in trainer.diagram().svg()


def test_an_order_that_varies_is_counted_step_by_step():
    def vary(engine, batch):
        if engine.state.iteration % 2:
            engine.fire_event("a")
        if engine.state.iteration % 4:
            engine.fire_event("b")

    trainer = Engine(vary, name="trainer")
    trainer.register_events("a", "b")
    with record() as trace:
        trainer.run(range(8))
    chart = trace.diagram().chart
    begin, end = (f"{part} of custom states in ITERATION" for part in ("begin", "end"))
    counts = {}
    for edge in chart.edges:
        source = edge.source.partition(", choice")[0]
        if edge.kind == "observed" and ", choice" not in edge.target:
            counts[source, edge.target] = edge.count
    assert counts == {(begin, "in A"): 4, ("in A", "in B"): 4, ("in B", end): 6, (begin, "in B"): 2, (begin, end): 2}
