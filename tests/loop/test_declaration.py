"""A loop says what it is."""

from __future__ import annotations

from camshaft import Engine, Events, Mark, Nested, Phase, every
from support.declared import standard
from support.steps import nothing


def test_a_loop_says_what_it_is():
    loop = standard(Phase("FORWARD", nothing), Phase("OPTIM_STEP", nothing, when=every(4)), Mark("clipped"))
    evaluator = Engine(nothing, name="evaluator")
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
