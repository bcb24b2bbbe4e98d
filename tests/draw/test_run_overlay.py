"""Runs drawn over a picture: counts, shares of the time, and observed states."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft import BackpropEvents, Engine, Events, Phase, Trace, record
from camshaft.testing import loops, scenarios
from support.drawn import check_readable
from support.overlays import fired, make, shares, step, visits
from support.steps import no_op

few = settings(max_examples=settings.default.max_examples // 10)


def test_a_trace_gives_counts_and_shares():
    trainer, evaluator = make(), Engine(step, name="evaluator")
    evaluator.register_events(
        BackpropEvents.BACKWARD_STARTED, BackpropEvents.BACKWARD_COMPLETED, BackpropEvents.OPTIM_STEP_COMPLETED
    )
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2, 3])
    with record() as trace:
        trainer.run(range(5), max_epochs=2)
    chart = trace.diagram(level="full").chart
    visits = {element.label: element.visits for element in chart.elements() if element.visits is not None}
    assert visits == {
        "STARTED": 1,
        "EPOCH": 2,
        "GET_BATCH": 10,
        "RESTART": 1,
        "ITERATION": 10,
        "STEP": 10,
        "BACKWARD": 10,
        "OPTIM_STEP": 10,
        "evaluator": 2,
        "COMPLETED": 1,
    }
    counts = {edge.event: edge.count for edge in chart.edges if edge.event is not None}
    assert counts["iteration_completed"] == 10
    assert counts["epoch_completed"] == 2
    backs = {edge.guards[0]: edge.count for edge in chart.edges if edge.kind == "back"}
    assert backs == {"iteration in epoch < epoch_length": 8, "epoch < max_epochs": 1}
    leaves = [element.share for element in chart.nodes if element.share is not None]
    assert 0 < sum(leaves) <= 1.0001
    assert next(box.share for box in chart.boxes if box.label == "EPOCH") <= 1
    assert trace.diagram("evaluator").chart.name == "evaluator"


def test_an_engine_that_was_not_recorded_is_refused():
    with record() as trace:
        make().run([1])
    with pytest.raises(ValueError, match="no run of evaluator; it has runs of trainer"):
        trace.diagram("evaluator")
    with record() as trace:
        pass
    with pytest.raises(ValueError, match="nothing was recorded"):
        trace.diagram()


# -- any run -----------------------------------------------------------------------------------------------------------


@few
@given(scenario=loops().flatmap(scenarios), level=st.sampled_from(["overview", "full"]), control=st.booleans())
def test_every_drawn_event_is_counted_wherever_it_came_from(page, mermaid, graphviz, scenario, level, control):
    trace = scenario.play().trace
    diagram = trace.diagram(level=level, control=control)
    record, name = trace.runs[0], trace.runs[0].engine
    if any(other.engine == name and other.loop != record.loop for other in trace.runs):
        return
    counts = {event: number for (engine, event), number in trace.counts().items() if engine == name}
    shown = fired(diagram)
    assert {event: number for event, number in shown.items() if number} == {
        event: number for event, number in counts.items() if event in shown
    }
    assert all(share <= 1.0001 for share in shares(diagram).values())
    page.show(diagram.svg(), width=1400)
    check_readable(page)
    mermaid.read(diagram.mermaid())
    graphviz(diagram.dot())


@few
@given(data=st.data(), loop=loops(), level=st.sampled_from(["overview", "full"]), control=st.booleans())
def test_handlers_and_engines_at_any_event_can_be_read(page, mermaid, graphviz, data, loop, level, control):
    engine = Engine(loop, name="trainer")
    for event in data.draw(st.lists(st.sampled_from(loop.event_keys), max_size=6)):
        if data.draw(st.booleans()):
            engine.nest(Engine(no_op, name="an_evaluator_of_long_name"), on=event, data=[1])
        else:
            engine.add_event_handler(event, test_handlers_and_engines_at_any_event_can_be_read_by_name)
    diagram = engine.diagram(level, handlers=True, control=control)
    page.show(diagram.svg(), width=1400)
    check_readable(page)
    mermaid.read(diagram.mermaid())
    graphviz(diagram.dot())
    text = diagram.text()
    assert text.count("an_evaluator_of_long_name") >= len(engine.loop.nested)
    own = [handler for key in loop.event_keys for handler in engine.handlers(key) if "by_name" in handler.name]
    assert text.count("by_name") >= len(own)


def test_handlers_and_engines_at_any_event_can_be_read_by_name(*_):
    """Do nothing: a handler with a long name."""


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_pause_is_nobodys_time():
    trainer = Engine([Phase("A", lambda engine, batch: time.sleep(0.01))], name="trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt())
    with record() as trace:
        trainer.run([1, 2, 3, 4])
        time.sleep(0.3)
        trainer.run()
    assert shares(trace.diagram())["A"] > 0.5


def test_an_engine_that_pauses_inside_takes_no_more_than_its_time():
    trainer, inner = (
        Engine([Phase("A", lambda engine, batch: time.sleep(0.01))], name="trainer"),
        Engine(no_op, name="v"),
    )
    inner.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.interrupt())
    trainer.nest(inner, on=Events.ITERATION_COMPLETED, data=range(100))
    with record() as trace:
        trainer.run(range(5))
    assert all(share <= 1 for share in shares(trace.diagram(level="full")).values())
    assert shares(trace.diagram())["A"] > 0.5


def test_a_custom_state_that_stays_open_has_the_time():
    trainer = Engine(no_op, name="trainer")
    trainer.register_events("a_started", "a_completed", within="EPOCH")
    trainer.add_event_handler(Events.ITERATION_STARTED(once=1), lambda engine: engine.fire_event("a_started"))

    def leave(engine):
        time.sleep(0.05)
        engine.fire_event("a_completed")

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), leave)
    with record() as trace:
        trainer.run([1, 2])
    assert shares(trace.diagram())["A"] > 0.5


# -- control -----------------------------------------------------------------------------------------------------------


def test_the_collapsed_edge_tells_its_events_apart():
    trainer = make()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate)
    with record() as trace:
        trainer.run(range(5))
    text = trace.diagram().text()
    assert "TERMINATE ×1  INTERRUPT  EXCEPTION_RAISED" in text
    assert "COMPLETED ×1" in text


def test_a_run_that_was_paused_before_is_counted_from_there():
    trainer = make()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    trainer.run([1, 2, 3])
    with record() as trace:
        trainer.run()
    assert fired(trace.diagram(level="full"))["get_batch_started"] == 2
    assert visits(trace.diagram())["ITERATION"] == 2


def test_engines_of_one_name_are_not_mixed_up():
    one, other = Engine(no_op, name="trainer"), Engine([Phase("A", no_op)], name="trainer")
    with record() as trace:
        one.run([1])
        other.run([1, 2, 3])
    assert visits(trace.diagram())["ITERATION"] == 3
    assert visits(trace.diagram())["A"] == 3
    from camshaft.draw.report import report

    assert report(trace).count("<figure>") == 3


def test_a_trace_from_a_file_is_drawn_alike(tmp_path):
    trainer, inner = make(), Engine(no_op, name="evaluator")
    trainer.register_events("x_started", "x_completed", after="ITERATION")
    trainer.nest(inner, on=Events.EPOCH_COMPLETED(every=2), data=[1])
    with record() as trace:
        trainer.run([1], max_epochs=4)
    trace.save(tmp_path / "run.jsonl")
    for level in ("overview", "full"):
        assert Trace.load(tmp_path / "run.jsonl").diagram(level=level).svg() == trace.diagram(level=level).svg()
