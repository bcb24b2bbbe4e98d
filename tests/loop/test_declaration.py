"""The text of a declaration."""

from __future__ import annotations

from camshaft import DATA, CustomState, Engine, EventPoint, Events, Loop, Nested, Phase, every
from support.declared import standard
from support.steps import no_op


def test_a_loop_is_shown_as_a_tree_of_states():
    loop = standard(Phase("FORWARD", no_op), Phase("OPTIM_STEP", no_op, when=every(4)), EventPoint("clipped"))
    evaluator = Engine(no_op, name="evaluator")
    loop = loop.evolve(nested=(Nested(evaluator, Events.EPOCH_COMPLETED(every=2)),))
    assert str(loop) == "\n".join(
        [
            "STARTED",
            "EPOCH",
            "  ITERATION  for each batch",
            "    FORWARD",
            "    OPTIM_STEP  when iteration % 4 == 0",
            "    CLIPPED",
            "  [evaluator] at EPOCH_COMPLETED(every=2)",
            "COMPLETED",
        ]
    )


def test_the_repr_of_a_loop_declares_the_same_loop():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), EventPoint("clipped"), over=DATA))
    engine = Engine(loop)
    engine.register_events("saved", within="EPOCH")
    names = {"CustomState": CustomState, "DATA": DATA, "EventPoint": EventPoint, "Loop": Loop, "Phase": Phase}
    assert eval(repr(engine.loop), names) == engine.loop
