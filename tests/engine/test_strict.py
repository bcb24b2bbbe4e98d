"""Enforced order: strict engines and declared orders refuse an illegal event as it fires."""

from __future__ import annotations

import pytest

from camshaft import Engine, EventOrderError, Phase, every, record
from support.engines import CALLS, WITHIN, Closing, E
from support.steps import fires, no_op


@pytest.mark.parametrize("case", list(WITHIN))
def test_a_strict_engine_enforces_everything_as_it_happens(case):
    engine = Engine(fires(*WITHIN[case]), "trainer", strict=True)
    engine.register_events("clip_started", "clip_completed")
    with pytest.raises(EventOrderError, match=r"(?s)trainer.*EPOCH 1 / ITERATION 1.*expected: "):
        engine.run([1, 2])
    assert engine.state.iteration == 1


def test_a_strict_engine_runs_what_is_legal():
    for call in CALLS.values():
        engine = Engine(
            [Phase("FORWARD", fires("clip_started", "clip_completed")), Phase("STEP", no_op, when=every(2))],
            strict=True,
        )
        engine.register_events("clip_started", "clip_completed")
        handle = engine.add_event_handler(
            E.ITERATION_STARTED(once=2), lambda engine, call: call(engine) or handle.remove(), call
        )
        with record() as trace:
            engine.run(Closing(3), max_epochs=3)
            if engine.current_run is not None:
                engine.run()
        trace.assert_legal()
