"""Recording engines of pytorch-ignite: their traces are legal, and recording does not change the engines."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import ignite.engine
import ignite.metrics
import pytest
import torch
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, EarlyStopping
from torch.utils.data import DataLoader, TensorDataset

from camshaft import Engine, Phase, record
from camshaft.exceptions import EventOrderError
from camshaft.loop.loop import Loop
from camshaft.loop.registration import register
from camshaft.loop.states import DATA, OpaqueStep
from camshaft.testing import Call, Data, PlantedError, reporting
from camshaft.trace.trace import Trace
from support.ignite_engines import THEIR, make_trainer, run_out
from support.ignite_parity import CUSTOM, Ignite, Side, program, verdict
from support.steps import fires, no_op

LEGAL = {
    "a list": program(max_epochs=2),
    "data of unknown length": program(data=Data(3, "unsized"), max_epochs=2),
    "an iterator": program(data=Data(3, "once")),
    "no data": program(data=None, epoch_length=2, max_epochs=2),
    "an epoch shorter than the data": program(data=Data(4), epoch_length=3, max_epochs=3),
    "an epoch longer than the data": program(data=Data(2), epoch_length=5),
    "max_iters inside an epoch": program(max_iters=4),
    "max_iters at the end of an epoch": program(max_iters=6),
    "terminate": program(Call("iteration_started", 2, "terminate", False), max_epochs=2),
    "terminate without COMPLETED": program(Call("epoch_completed", 1, "terminate", True), max_epochs=2),
    "terminate_epoch": program(Call("get_batch_completed", 2, "terminate_epoch", False), max_epochs=2),
    "terminate_epoch without EPOCH_COMPLETED": program(Call("STEP", 2, "terminate_epoch", True), max_epochs=2),
    "an interrupt": program(Call("STEP", 2, "interrupt")),
    "an interrupt before the first epoch": program(Call("started", 1, "interrupt")),
    "new data": program(Call("get_batch_started", 2, "set_data", Data(1)), max_epochs=2),
    "a failure": program(Call("STEP", 2, "raise", PlantedError)),
    "a failure that is heard": program(Call("epoch_started", 1, "raise", PlantedError), swallow=True),
    "a failure at the very end": program(Call("completed", 1, "raise", PlantedError)),
    "runs again after a failure": program(
        Call("STEP", 2, "raise", PlantedError), max_epochs=2, again=[(Data(3), {}), (Data(3), {})]
    ),
    "a run that goes on": program(again=[(Data(3), {"max_epochs": 2}), (Data(3), {"max_epochs": 4})]),
    "a run that goes on after a short epoch": program(
        Call("STEP", 2, "terminate_epoch", False), again=[(Data(3), {"max_epochs": 3})]
    ),
    "custom events": program(fires=["z_started", "x_started", "y", "z_completed", "y", "x_completed"], max_epochs=2),
    "a nested engine": program(nested=[(("epoch_completed", "completed"), program(data=Data(2)).scenario)]),
    "a nested engine that stops the outer one": program(
        nested=[(("iteration_completed",), program(Call("STEP", 3, "terminate_parent"), data=Data(2)).scenario)]
    ),
    "a nested engine that pauses": program(
        nested=[(("iteration_completed",), program(Call("STEP", 2, "interrupt"), data=Data(3)).scenario)]
    ),
    "a nested engine that fails": program(
        nested=[(("started",), program(Call("STEP", 2, "raise", PlantedError), data=Data(3)).scenario)]
    ),
}


@pytest.mark.parametrize("program", LEGAL.values(), ids=LEGAL)
def test_a_run_of_ignite_is_legal(program):
    theirs = Side(program, Ignite)
    assert theirs.runs[0].events
    assert [verdict(run.trace) for run in theirs.runs] == ["legal"] * len(theirs.runs)


def test_a_trace_of_ignite():
    trainer = make_trainer()
    with record(trainer) as trace:
        trainer.run([1, 2], max_epochs=1)
    trace.assert_legal()
    trace.assert_matches(
        "STARTED EPOCH_STARTED (GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED){2} "
        "EPOCH_COMPLETED COMPLETED",
        strict=True,
    )
    assert [event.count for event in trace] == [0, 1, 0, 0, 1, 1, 1, 1, 2, 2, 1, 1]
    assert {event.engine for event in trace} == {"engine"}
    assert trace.runs[0].outcome == "completed"
    assert trace.runs[0].limits == {"max_epochs": 1, "max_iters": None, "epoch_length": 2}


def test_it_can_be_saved_and_judged_elsewhere(tmp_path):
    trainer = make_trainer(lambda engine, batch: engine.fire_event("x_started"), "x_started", "x_completed")
    trainer.load_state_dict({"iteration": 2, "epoch_length": 3, "max_epochs": 2})
    with record(trainer) as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    trace.save(tmp_path / "trace.jsonl")
    assert verdict(Trace.load(tmp_path / "trace.jsonl")) == verdict(trace) != "legal"


@pytest.mark.parametrize("iteration", range(7))
def test_a_run_resumed_from_a_checkpoint_in_mid_epoch(iteration):
    trainer = make_trainer()
    trainer.load_state_dict({"iteration": iteration, "epoch_length": 3, "max_epochs": 2})
    with record(trainer) as trace:
        trainer.run([1, 2, 3], max_epochs=3)
    trace.assert_legal()
    assert trainer.state.iteration == 9


@pytest.mark.parametrize("outcome", ["completed", "interrupted", "failed"])
def test_without_interrupts_its_runs_are_legal_as_before(monkeypatch, outcome):
    monkeypatch.setattr(ignite.engine.Engine, "interrupt_resume_enabled", False)
    trainer = make_trainer()
    if outcome != "completed":
        trainer.add_event_handler(THEIR.ITERATION_STARTED, lambda engine: engine.interrupt())
    with record(trainer) as trace:
        if outcome == "completed":
            trainer.run([1, 2], max_epochs=2)
        else:
            assert isinstance(run_out(trainer, [1, 2]), RuntimeError), "it cannot be interrupted then"
    trace.assert_legal()
    assert trace.runs[0].outcome == ("completed" if outcome == "completed" else "failed")


def test_an_engine_of_a_subclass():
    trainer = ignite.engine.DeterministicEngine(no_op)
    with record(trainer) as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    trace.assert_legal()
    assert trace.count("iteration_completed") == 6


# -- custom events
@pytest.mark.parametrize(
    ("fired", "message"),
    [
        (["x_completed"], "X_COMPLETED is illegal in EPOCH 1 / ITERATION 1: [in X] does not hold"),
        (["x_completed", "x_started"], "X_COMPLETED is illegal in EPOCH 1 / ITERATION 1: [in X] does not hold"),
        (["x_started", "x_started"], "X_STARTED is illegal in EPOCH 1 / ITERATION 1 / X: [not in X] does not hold"),
        (["x_started"], "ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / X: [not in X or Z] does not hold"),
        (["y", "z_started", "x_started", "x_completed"], "ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1"),
    ],
)
def test_custom_events_in_the_wrong_order(fired, message):
    trainer = make_trainer(fires(*fired), *CUSTOM)
    with record(trainer) as trace:
        trainer.run([1])
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    assert message in str(caught.value)


def test_custom_events_by_whatever_they_are_called():
    class Backward(ignite.engine.EventEnum):
        BACKWARD_STARTED = "backward_started"
        BACKWARD_COMPLETED = "backward_completed"

    trainer = make_trainer(fires("BACKWARD_STARTED", Backward.BACKWARD_COMPLETED, "note"), *Backward, "note")
    with record(trainer) as trace:
        trainer.run([1])
    trace.assert_legal()
    assert trace.select(inside="ITERATION") == ["backward_started", "backward_completed", "note"]


def test_an_event_of_its_own_is_fired_anywhere():
    trainer = make_trainer(no_op, "saved")
    anywhere = THEIR.STARTED | THEIR.EPOCH_STARTED | THEIR.ITERATION_COMPLETED | THEIR.EPOCH_COMPLETED
    trainer.add_event_handler(anywhere, lambda engine: engine.fire_event("saved"))
    with record(trainer) as trace:
        trainer.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert trace.count("saved") == 1 + 2 + 4 + 2


def test_an_event_that_is_registered_while_it_runs():
    trainer = make_trainer()

    @trainer.on(THEIR.EPOCH_COMPLETED)
    def save(engine):
        if not engine.has_registered_events("saved"):
            engine.register_events("saved")
        engine.fire_event("saved")

    with record(trainer) as trace:
        trainer.run([1], max_epochs=3)
    trace.assert_legal()
    assert trace.count("saved") == 3
    assert [event.depth for event in trace] == [0] * len(trace)


def test_an_event_that_is_registered_while_it_runs_inside_another():
    trainer, evaluator = make_trainer(), make_trainer()
    evaluator.add_event_handler(THEIR.STARTED, lambda engine: engine.register_events("late"))
    evaluator.add_event_handler(THEIR.COMPLETED, lambda engine: trainer.terminate())
    evaluator.add_event_handler(THEIR.EPOCH_STARTED, lambda engine: engine.fire_event("late"))
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(trainer, evaluator) as trace:
        trainer.run([1], max_epochs=3)
    trace.assert_legal()
    assert trace.count("late") == 1
    assert [run.parent for run in trace.runs] == [None, 0]


def test_an_event_fired_outside_of_a_run_is_part_of_none():
    trainer, heard = make_trainer(no_op, "by_hand"), []
    trainer.add_event_handler("by_hand", lambda: heard.append("by hand"))
    with record(trainer) as trace:
        trainer.fire_event("by_hand")
        trainer.run([1])
        trainer.fire_event("by_hand")
    trace.assert_legal()
    assert heard == ["by hand", "by hand"]
    assert trace.count("by_hand") == 0
    with record() as after:
        Engine(no_op).run([1])
    assert after.runs[0].parent is None


# -- a loop of the user's own
PHASES = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), Phase("BACKWARD"), Phase("OPTIM_STEP"), over=DATA))
BACKPROP = [f"{phase}_{role}" for phase in ("forward", "backward", "optim_step") for role in ("started", "completed")]


@pytest.mark.parametrize(
    ("fired", "message"),
    [
        (BACKPROP[2:], "trainer event #6 BACKWARD_STARTED is illegal in EPOCH 1 / ITERATION 1"),
        (
            [*BACKPROP[:2], *BACKPROP[4:], *BACKPROP[2:4]],
            "trainer event #8 OPTIM_STEP_STARTED is illegal in EPOCH 1 / ITERATION 1 / after FORWARD",
        ),
        (
            BACKPROP[:4],
            "trainer event #10 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / after BACKWARD",
        ),
        (["forward_completed"], "expected: FORWARD_STARTED"),
    ],
)
def test_a_declared_loop_judges_an_engine_of_ignite(fired, message):
    for keys in (BACKPROP, fired):
        trainer = make_trainer(fires(*keys), *BACKPROP)
        with reporting(trainer, loop=PHASES, name="trainer"), record() as trace:
            trainer.run([1, 2])
        if keys is BACKPROP:
            trace.assert_legal()
    assert message in verdict(trace)


def test_a_declared_order_judges_an_engine_of_ignite():
    events = ("x_started", "x_completed", "z_started", "z_completed")
    loop = register(Loop("EPOCH", Loop("ITERATION", OpaqueStep(), over=DATA)), events, order="declared")
    for fired, is_legal in [(events, True), (events[2:], True), ((*events[2:], *events[:2]), False)]:
        trainer = make_trainer(fires(*fired), *events)
        with reporting(trainer, loop=loop), record() as trace:
            trainer.run([1, 2])
        assert (verdict(trace) == "legal") == is_legal


def test_an_event_that_the_declared_loop_does_not_have():
    trainer = make_trainer(fires("foward_started"), "foward_started")
    with reporting(trainer, loop=PHASES, name="trainer"), record() as trace:
        error = run_out(trainer, [1])
    hint = "trainer: its loop EPOCH has no event FOWARD_STARTED; did you mean FORWARD_STARTED"
    assert isinstance(error, ValueError)
    assert hint in str(error)
    trace.assert_legal()
    assert trace[-1].event == "exception_raised"


# -- what recording leaves alone
def watched(watch: Callable[[Any], Any]) -> list[Any]:
    """Return what handlers see of a varied run, and the state after it."""
    seen: list[Any] = []

    def note(what, engine, *args):
        state = engine.state
        seen.append((what, state.epoch, state.iteration, state.batch, state.output, engine.last_event_name, args))

    def step(engine, batch):
        engine.fire_event("by_hand")
        return batch * 2

    trainer = make_trainer(step, "by_hand")
    for key in [*THEIR, "by_hand"]:
        if key not in (THEIR.TERMINATE_SINGLE_EPOCH, THEIR.EXCEPTION_RAISED):
            trainer.add_event_handler(key, lambda engine, key=key: note((key, "first"), engine))
            trainer.add_event_handler(key, lambda engine, key=key: note((key, "second"), engine))
    trainer.add_event_handler(THEIR.TERMINATE_SINGLE_EPOCH, lambda engine, iter_counter: note(iter_counter, engine))
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate_epoch())
    trainer.add_event_handler(THEIR.ITERATION_COMPLETED(once=4), lambda engine: engine.interrupt())
    with watch(trainer):
        for _ in range(2):
            state = trainer.run([1, 2, 3], max_epochs=2, epoch_length=3)
            seen.append((state is trainer.state, state.epoch, state.iteration, state.output))
    return seen


def test_handlers_their_order_and_results_are_as_without():
    assert watched(record) == watched(reporting) == watched(lambda trainer: nullcontext())


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_engine_is_as_before(fails):
    trainer = make_trainer()
    attributes = dict(vars(trainer))
    with suppress(ZeroDivisionError), record(trainer):
        assert set(vars(trainer)) - set(attributes) == {"run", "_fire_event"}
        if fails:
            raise ZeroDivisionError
    assert vars(trainer) == attributes
    assert trainer.run.__func__ is ignite.engine.Engine.run
    with record() as trace:
        trainer.run([1])
    assert len(trace) == 0


def test_what_somebody_else_put_in_its_place_is_put_back():
    trainer, fired = make_trainer(), []
    fire = trainer._fire_event
    trainer._fire_event = lambda event, *args, **kwargs: (fired.append(event), fire(event, *args, **kwargs))
    theirs = trainer._fire_event
    with record(trainer) as trace:
        trainer.run([1])
    assert trainer._fire_event is theirs
    assert trace == fired


def test_two_traces_of_one_engine_at_once():
    trainer, evaluator = make_trainer(), make_trainer()
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    with record(trainer) as outer, record(evaluator, trainer) as inner:
        trainer.run([1, 2])
    for trace in (outer, inner):
        trace.assert_legal()
    assert [len(trace.runs) for trace in (outer, inner)] == [1, 2]
    assert vars(trainer).keys().isdisjoint({"run", "_fire_event"})
    with record() as after:
        Engine(no_op).run([1])
    assert after.runs[0].parent is None


def test_the_recorder_hears_an_event_before_the_handlers():
    trainer, heard = make_trainer(fires("by_hand"), "by_hand"), []
    with record(trainer) as trace:
        for event in (THEIR.STARTED, THEIR.ITERATION_COMPLETED, THEIR.COMPLETED, "by_hand"):
            trainer.add_event_handler(event, lambda: heard.append(trace[-1].event))
        trainer.run([1, 2])
    assert heard == ["started", *["by_hand", "iteration_completed"] * 2, "completed"]


def test_call_sites_name_the_lines_of_the_user():
    def step(engine, batch):
        engine.fire_event("by_hand")

    trainer = make_trainer(step, "by_hand")
    with record(trainer, call_sites=True) as trace:
        trainer.run([1])
    sites = {event.event: event.site for event in trace}
    first = step.__code__.co_firstlineno
    assert sites.pop("by_hand") == f"{__file__.removeprefix(f'{os.getcwd()}/')}:{first + 1} in step"
    (site,) = set(sites.values())
    assert site.endswith(f":{first + 5} in test_call_sites_name_the_lines_of_the_user")


def test_without_call_sites_none_are_noted():
    trainer = make_trainer()
    with record(trainer) as trace:
        trainer.run([1])
    assert {event.site for event in trace} == {None}


# -- the real thing
def test_training_with_metrics_and_checkpoints(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    data = DataLoader(TensorDataset(torch.randn(10, 3), torch.randint(2, (10,))), batch_size=4)
    criterion = torch.nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), 0.1), criterion)
    evaluator = create_supervised_evaluator(model, {"loss": ignite.metrics.Loss(criterion)})
    saver = Checkpoint({"model": model}, DiskSaver(tmp_path, create_dir=False), n_saved=2)
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, lambda: evaluator.run(data))
    trainer.add_event_handler(THEIR.EPOCH_COMPLETED, saver)
    stopping = EarlyStopping(1, lambda engine: -engine.state.epoch - trainer.state.epoch, trainer)
    evaluator.add_event_handler(THEIR.COMPLETED, stopping)
    with reporting(trainer, name="trainer"), reporting(evaluator, name="evaluator"), record() as trace:
        trainer.run(data, max_epochs=5)
    trace.assert_legal()
    assert trainer.state.epoch == 2, "it stopped early"
    assert trace.count("saved_checkpoint") == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert trace.select(engine="trainer")[-2:] == ["terminate", "completed"]
    assert {event.depth for event in trace.select(engine="evaluator")} == {1}
