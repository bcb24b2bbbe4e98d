"""Tests of handlers that end a run, compared with pytorch-ignite if it has the same handler."""

import itertools
import logging
import math
import re
import time
from collections import namedtuple

import ignite.engine
import ignite.handlers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from camshaft import DATA, Engine, Events, Loop, Phase, create_supervised_evaluator, create_supervised_trainer, record
from camshaft.handlers import EarlyStopping, TerminateOnNan, TimeLimit
from camshaft.metrics import Loss

NAN, INF = float("nan"), float("inf")


def trainer_and_evaluator(scores, **options):
    """Return a trainer whose evaluator has these scores, one in each epoch."""
    trainer, evaluator = Engine(lambda engine, batch: None, "trainer"), Engine(lambda engine, batch: None, "evaluator")
    handler = EarlyStopping(score_function=lambda engine: scores[trainer.state.epoch - 1], trainer=trainer, **options)
    evaluator.add_event_handler(Events.COMPLETED, handler)
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[0])
    return trainer, handler


def epochs_until_stop(scores, **options):
    trainer, _ = trainer_and_evaluator(scores, **options)
    return trainer.run([0, 1], max_epochs=len(scores)).epoch


# -- EarlyStopping ----------------------------------------------------------------------------------------------------


def test_training_ends_after_patience_epochs_without_improvement():
    assert epochs_until_stop([1, 2, 2, 3, 3, 2, 3, 9], patience=3) == 7
    assert epochs_until_stop([1, 2, 2, 3, 3, 2, 4, 9], patience=3) == 8


def test_the_evaluator_finishes_and_then_the_trainer_is_terminated(caplog):
    trainer, _ = trainer_and_evaluator([2, 1, 1], patience=1)
    with caplog.at_level(logging.INFO, "camshaft.trainer"), record() as trace:
        trainer.run([0, 1], max_epochs=3)
    fired = [(event.engine, event.event) for event in trace][-4:]
    assert fired == [
        ("evaluator", "epoch_completed"),
        ("evaluator", "completed"),
        ("trainer", "terminate"),
        ("trainer", "completed"),
    ]
    assert "EarlyStopping: 1 scores without improvement over 2" in caplog.text
    trace.assert_legal()


def test_it_stops_a_real_training_on_the_validation_loss():
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    y = torch.randint(2, (40,))  # random labels, so that the validation loss soon rises
    model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    trainer = create_supervised_trainer(model, torch.optim.Adam(model.parameters(), 0.05), nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"loss": Loss(nn.CrossEntropyLoss())})
    losses = []

    def score_function(engine):
        losses.append(engine.state.metrics["loss"])
        return -losses[-1]

    handler = EarlyStopping(patience=3, score_function=score_function, trainer=trainer)
    evaluator.add_event_handler(Events.COMPLETED, handler)
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[(x[20:], y[20:])])
    trainer.run([(x[:20], y[:20])], max_epochs=100)
    best = losses.index(min(losses))
    assert len(losses) == trainer.state.epoch == best + 4 < 100
    assert handler.best_score == -losses[best]


def same_as_ignite(scores, patience, min_delta, cumulative):
    ours, theirs = Engine(lambda engine, batch: None), ignite.engine.Engine(lambda engine, batch: None)
    mine = EarlyStopping(patience, lambda engine: scores[engine.state.epoch - 1], ours, min_delta, cumulative)
    foreign = ignite.handlers.EarlyStopping(
        patience, lambda engine: scores[engine.state.epoch - 1], theirs, threshold=min_delta, cumulative=cumulative
    )

    def note(engine, handler, history):
        history.append((handler.counter, handler.best_score))

    seen = []
    for engine, handler, events in ((ours, mine, Events), (theirs, foreign, ignite.engine.Events)):
        history = []
        engine.add_event_handler(events.EPOCH_COMPLETED, handler)
        engine.add_event_handler(events.EPOCH_COMPLETED, note, handler, history)
        engine.run([0], max_epochs=len(scores))
        seen.append((history, engine.state.epoch))
    return seen


on_a_grid = st.integers(-6, 6).map(
    lambda number: number / 4
)  # includes equal scores, and improvements of exactly min_delta


@given(
    scores=st.lists(on_a_grid | st.floats(allow_nan=False), min_size=1, max_size=12),
    patience=st.integers(1, 4),
    min_delta=st.sampled_from([0.0, 0.25, 0.5, 1]),
    cumulative=st.booleans(),
)
@settings(deadline=None)
def test_it_counts_and_stops_as_ignite_does(scores, patience, min_delta, cumulative):
    mine, theirs = same_as_ignite(scores, patience, min_delta, cumulative)
    assert mine == theirs


def test_small_steps_add_up_only_when_cumulative():
    creeping = [0.0, 0.4, 0.8, 1.2, 1.6]
    assert epochs_until_stop(creeping, patience=3, min_delta=0.5) == 4
    assert epochs_until_stop(creeping, patience=3, min_delta=0.5, cumulative=True) == 5


def test_a_score_of_nan_is_no_improvement_and_no_best_score():
    assert epochs_until_stop([NAN, NAN, 1, 2], patience=2) == 2
    assert epochs_until_stop([1, NAN, 0, 2, 3], patience=2) == 3
    trainer, handler = trainer_and_evaluator([NAN, 1, NAN, 2, NAN], patience=2)
    assert trainer.run([0], max_epochs=5).epoch == 5
    assert (handler.counter, handler.best_score) == (1, 2)


def test_scores_of_one_element_are_kept_as_plain_numbers():
    trainer, handler = trainer_and_evaluator([torch.tensor(1.5), torch.tensor([2.5])], patience=2)
    trainer.run([0], max_epochs=2)
    assert handler.state_dict() == {"counter": 0, "best_score": 2.5}
    assert type(handler.best_score) is float


@pytest.mark.parametrize("score", ["0.5", None, torch.ones(2), 1j])
def test_a_score_that_is_no_number_is_an_error(score):
    trainer, _ = trainer_and_evaluator([score], patience=1)
    with pytest.raises(TypeError, match=r"EarlyStopping: score_function must return a number, got "):
        trainer.run([0])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"patience": 0}, "EarlyStopping: patience must be an integer of 1 or more, got 0"),
        ({"patience": 1.5}, "patience must be an integer of 1 or more, got 1.5"),
        ({"patience": True}, "patience must be an integer of 1 or more, got True"),
        ({"score_function": 3}, "EarlyStopping: score_function must be a function, got 3"),
        ({"trainer": None}, "EarlyStopping: trainer must be an Engine, got None: give the one to terminate"),
        ({"min_delta": -0.1}, "EarlyStopping: min_delta must be a number of 0 or more, got -0.1"),
        ({"min_delta": NAN}, "min_delta must be a number of 0 or more, got nan"),
        ({"min_delta": "1"}, "min_delta must be a number of 0 or more, got '1'"),
    ],
)
def test_wrong_arguments_of_early_stopping_are_named(argument, message):
    right = {"patience": 1, "score_function": lambda engine: 0, "trainer": Engine(lambda engine, batch: None)}
    with pytest.raises((TypeError, ValueError), match=message):
        EarlyStopping(**(right | argument))


@given(
    scores=st.lists(on_a_grid | st.just(NAN), min_size=2, max_size=10),
    patience=st.integers(1, 4),
    cumulative=st.booleans(),
    data=st.data(),
)
@settings(deadline=None)
def test_a_restarted_training_stops_at_the_same_epoch(scores, patience, cumulative, data):
    options = {"patience": patience, "min_delta": 0.25, "cumulative": cumulative}
    whole, reference = trainer_and_evaluator(scores, **options)
    whole.run([0, 1], max_epochs=len(scores))

    first, handler = trainer_and_evaluator(scores, **options)
    saved = []
    first.add_event_handler(
        Events.EPOCH_COMPLETED(once=data.draw(st.integers(1, whole.state.epoch))),
        lambda: saved.extend([first.state_dict(), handler.state_dict()]),
    )
    first.run([0, 1], max_epochs=len(scores))
    second, restored = trainer_and_evaluator(scores, **options)
    second.load_state_dict(saved[0])
    restored.load_state_dict(saved[1])
    if not (restored.counter >= patience or saved[0]["epoch"] == len(scores)):  # not ended before
        second.run([0, 1])
        assert second.state.epoch == whole.state.epoch
    assert restored.state_dict() == reference.state_dict()


@pytest.mark.parametrize("state", [{}, {"counter": 1}, None, {"counter": 1, "best_score": 2, "more": 3}])
def test_a_state_that_is_not_of_early_stopping_is_refused(state):
    _, handler = trainer_and_evaluator([1], patience=1)
    with pytest.raises(ValueError, match="EarlyStopping: state_dict must have counter and best_score, got"):
        handler.load_state_dict(state)


def test_on_an_evaluator_that_runs_by_itself_it_does_nothing():
    trainer = Engine(lambda engine, batch: None)
    evaluator = Engine(lambda engine, batch: None)
    handler = EarlyStopping(1, lambda engine: 1.0, trainer)
    evaluator.add_event_handler(Events.COMPLETED, handler)
    for _ in range(3):
        evaluator.close()
        evaluator.run([0])
    assert handler.counter == 2
    assert trainer.run([0], max_epochs=2).epoch == 2


# -- TerminateOnNan ---------------------------------------------------------------------------------------------------

Output = namedtuple("Output", "loss y_pred")


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (NAN, "output is nan"),
        (-INF, "output is -inf"),
        (complex(0, INF), "output is infj"),
        (torch.tensor(NAN), "output has 1 of 1 values that are NaN or infinite"),
        (torch.tensor([[1.0, INF], [NAN, 2.0]], dtype=torch.float16), "output has 2 of 4 values"),
        ({"loss": [1.0, (2, NAN)]}, r"output\['loss'\]\[1\]\[1\] is nan"),
        (Output(0.5, torch.tensor([1.0, NAN])), r"output\[1\] has 1 of 2 values"),
    ],
)
def test_a_run_ends_at_the_first_nan_or_infinity(caplog, output, found):
    outputs = [1.0, 2.0, output, 3.0, 4.0]
    trainer = Engine(lambda engine, batch: outputs[batch], "trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    with record() as trace:
        trainer.run(range(5), max_epochs=2)
    assert trainer.state.iteration == 3
    trace.assert_legal()
    (message,) = caplog.messages
    assert re.search(f"TerminateOnNan: {found}.*, in EPOCH 1 / ITERATION 3; the run ends", message)


@pytest.mark.parametrize(
    "output",
    [
        None,
        "nan",
        10**400,
        True,
        {"text": "inf", "none": None, "scores": (1.0, torch.ones(3))},
        [torch.arange(3), torch.tensor([True, False]), torch.zeros(0)],
        torch.finfo(torch.float32).max,
    ],
)
def test_finite_outputs_and_things_that_are_no_numbers_pass(caplog, output):
    trainer = Engine(lambda engine, batch: output)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    assert trainer.run([0, 1]).iteration == 2
    assert not caplog.messages


def test_only_what_the_transform_picks_is_looked_at():
    trainer = Engine(lambda engine, batch: {"loss": float(batch), "noise": NAN})
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan(lambda output: output["loss"]))
    assert trainer.run([0, 1, INF, 3]).iteration == 3
    with pytest.raises(TypeError, match="TerminateOnNan: output_transform must be a function, got 'loss'"):
        TerminateOnNan("loss")


def test_a_real_training_that_diverges_ends():
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=1e9), nn.MSELoss())
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    trainer.run([(torch.randn(4, 2), torch.randn(4, 1))], max_epochs=1000)
    assert trainer.state.epoch < 50
    assert not math.isfinite(trainer.state.output)


values = (
    st.floats(width=32)
    | st.integers(-(2**63), 2**63 - 1)
    | st.lists(st.floats(width=32), min_size=1, max_size=3).map(torch.tensor)
)
nests = st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(nests)
@settings(deadline=None)
def test_it_ends_the_same_runs_as_ignite(output):
    ended = []
    for make, events, handler in (
        (Engine, Events, TerminateOnNan()),
        (ignite.engine.Engine, ignite.engine.Events, ignite.handlers.TerminateOnNan()),
    ):
        engine = make(lambda engine, batch: output)
        if make is not Engine:
            handler.logger.disabled = True
        engine.add_event_handler(events.ITERATION_COMPLETED, handler)
        ended.append(engine.run([0, 1]).iteration)
    assert ended[0] == ended[1]


# -- TimeLimit --------------------------------------------------------------------------------------------------------


def endless():
    return Engine(Loop("EPOCH", Loop("ITERATION", Phase("WAIT", lambda engine, batch: time.sleep(0.002)), over=DATA)))


def test_a_run_ends_at_the_first_event_after_its_time_is_over(caplog):
    trainer = endless()
    limit = TimeLimit(0.02)
    limit.attach(trainer)
    with caplog.at_level(logging.INFO, "camshaft.engine"), record() as trace:
        trainer.run(itertools.repeat(0), max_epochs=1)
    assert 1 <= trainer.state.iteration <= 10
    assert limit.elapsed >= 0.02
    assert "TimeLimit: the run has reached its limit of 0.02 s, in EPOCH 1 / ITERATION" in caplog.text
    trace.assert_legal()


def test_a_run_within_its_time_is_left_alone():
    trainer = endless()
    TimeLimit(3600).attach(trainer)
    assert trainer.run(range(5), max_epochs=2).iteration == 10


def test_it_ends_the_run_at_the_event_that_it_is_attached_to():
    trainer = endless()
    TimeLimit(1e-9).attach(trainer, Events.EPOCH_COMPLETED(every=2))
    assert trainer.run(range(3), max_epochs=9).iteration == 6
    with pytest.raises(ValueError, match="not registered"):
        TimeLimit(1).attach(trainer, "nonsense_completed")


def test_as_a_plain_handler_it_counts_from_when_it_was_made():
    limit = TimeLimit(0.02)
    time.sleep(0.03)
    trainer = endless()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, limit)
    assert trainer.run(itertools.repeat(0), max_epochs=1).iteration == 1


def test_each_run_has_the_whole_time():
    trainer = endless()
    limit = TimeLimit(3600)
    limit.attach(trainer)
    limit.load_state_dict({"elapsed": 3000.0})
    trainer.run(range(2))
    assert limit.elapsed > 3000
    trainer.close()
    trainer.run(range(2))
    assert 0 < limit.elapsed < 3000
    trainer.run(max_epochs=2)
    assert trainer.state.epoch == 2 and 0 < limit.elapsed < 3000


def test_the_time_after_a_run_does_not_count():
    trainer = endless()
    limit = TimeLimit(3600)
    limit.attach(trainer)
    trainer.run(range(2))
    ended = limit.state_dict()
    time.sleep(0.01)
    assert limit.state_dict() == ended


def test_the_time_after_a_failure_does_not_count():
    trainer = endless()
    limit = TimeLimit(3600)
    limit.attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        trainer.run(range(2))
    ended = limit.elapsed
    time.sleep(0.01)
    assert limit.elapsed == ended


@pytest.mark.parametrize("event", [Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_STARTED])
def test_a_pause_does_not_count_and_the_clock_goes_on_with_the_run(event):
    trainer = endless()
    limit = TimeLimit(3600)
    limit.attach(trainer, Events.EPOCH_COMPLETED)
    trainer.add_event_handler(event(once=1), trainer.interrupt)
    trainer.run(range(4))
    paused = limit.elapsed
    attached = sum(len(trainer.handlers(key)) for key in trainer.loop.event_keys)
    time.sleep(0.05)
    assert limit.elapsed == paused
    began = time.monotonic()
    with record() as trace:
        trainer.run()
    assert paused < limit.elapsed <= paused + (time.monotonic() - began)
    trace.assert_legal()
    assert trainer.state.iteration == 4
    left = sum(len(trainer.handlers(key)) for key in trainer.loop.event_keys)
    assert left == attached - len(trainer.loop.event_keys)


def test_after_a_dropped_pause_the_next_run_has_the_whole_time():
    trainer = endless()
    limit = TimeLimit(3600)
    limit.attach(trainer)
    limit.load_state_dict({"elapsed": 3000.0})
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), trainer.interrupt)
    trainer.run(range(5))
    assert limit.elapsed > 3000
    trainer.close()
    trainer.run(range(2))
    assert 0 < limit.elapsed < 3000


@pytest.mark.parametrize("at", [Events.ITERATION_COMPLETED(once=2), Events.EPOCH_COMPLETED(once=1)])
def test_time_before_a_restart_counts_in_the_resumed_run_alone(at):
    first = endless()
    TimeLimit(3600).attach(first)
    saved = []
    first.add_event_handler(at, lambda: saved.append(first.state_dict()))
    first.run(range(3), max_epochs=2)

    second = endless()
    limit = TimeLimit(3600)
    limit.attach(second)
    second.load_state_dict(saved[0])
    limit.load_state_dict({"elapsed": 3000.0})
    time.sleep(0.01)
    assert limit.state_dict() == {"elapsed": 3000.0}
    second.run(range(3))
    assert second.state.iteration == 6
    assert 3000 < limit.elapsed < 3600
    second.close()
    second.run(range(3))
    assert limit.elapsed < 3000


def test_time_used_up_before_a_restart_ends_the_run():
    trainer = endless()
    limit = TimeLimit(100)
    limit.attach(trainer)
    limit.load_state_dict({"elapsed": 100.5})
    assert trainer.run(range(3)).iteration == 1


@pytest.mark.parametrize("limit_sec", [0, -1, NAN, INF, "1h", None, True])
def test_a_limit_that_is_no_time_is_refused(limit_sec):
    with pytest.raises(ValueError, match="TimeLimit: limit_sec must be a number of seconds above 0, got "):
        TimeLimit(limit_sec)


def test_a_state_that_is_not_of_the_time_limit_is_refused():
    with pytest.raises(ValueError, match="TimeLimit: state_dict must have elapsed, got"):
        TimeLimit(1).load_state_dict({"counter": 3})
