"""Copies and pickles of traces."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
from torch import nn

from camshaft import Engine, Events, Loop, Phase, Trace, record


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_of_a_trace_stands_by_itself(how):
    model = nn.Linear(1, 1)
    trainer = Engine(functools.partial(lambda model, engine, batch: batch, model), "trainer")
    trainer.nest(Engine([Phase("ACT", lambda engine, batch: None)], "evaluator"), on=Events.EPOCH_COMPLETED, data=[1])
    with record(call_sites=True, handler_times=True) as trace:
        trainer.run([1, 2])
        early, number = how(trace), len(trace)
        trainer.run([1, 2], max_epochs=2)
    late = how(trace)
    for made, past in ((early, number), (late, len(trace))):
        made.assert_legal()
        assert isinstance(made, Trace) and made.trace is made
        assert list(made) == list(trace)[:past]
        assert str(made.diagram().text()) and [one.handler for one in made.handler_times] == ["run evaluator"]
    assert [run.loop == late.runs[0].loop for run in late.runs] == [True, False, True, False]
    events = len(trace)
    late.append(0, "completed", 1, 0.0, "here")
    assert (len(trace), len(late)) == (events, events + 1)


def test_a_pickled_trace_has_no_functions_and_no_models():
    trainer = Engine(functools.partial(lambda model, engine, batch: batch, nn.Linear(999, 999)))
    with record() as trace:
        trainer.run([1, 2])
    assert len(pickle.dumps(trace)) < 10_000
    loops = [item for run in pickled(trace).runs for _, item in run.loop.walk() if not isinstance(item, Loop)]
    with pytest.raises(RuntimeError, match="without its functions"):
        loops[0].run(trainer, 1)


def test_copying_a_trace_copies_no_engine():
    trainer = Engine(functools.partial(lambda model, engine, batch: batch, nn.Linear(1, 1)))
    with record() as trace:
        trainer.run([1, 2])
    made, engine = copy.deepcopy((trace, trainer))
    assert made.runs[0].loop is trainer.loop
    assert engine.loop.find("STEP").run.args[0] is not trainer.loop.find("STEP").run.args[0]
