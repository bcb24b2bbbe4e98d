"""A loop says what it is."""

from __future__ import annotations

from camshaft import Engine, EventPoint, Events, Nested, Phase, every
from support.declared import standard
from support.steps import no_op


def test_a_loop_says_what_it_is():
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
