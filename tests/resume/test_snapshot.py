"""A resumed run equals an uninterrupted one, bit for bit: weights, states, metrics, batches and events."""

import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from camshaft import Engine, Events, Loop, Phase, Snapshot, event, record, supervised_loop
from camshaft.resume.storage import load
from support.learning import Unsized, batches, classifier, criterion, same, sgd
from support.snapshots import LOADERS, WITH_WORKERS, Training, check, generator, left_at, snapshots


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("moment", "at"),
    [("iteration_completed", 10), ("iteration_completed", 14), ("epoch_completed", 2), ("epoch_started", 2)],
)
def test_resumed_equals_uninterrupted(tmp_path, load, moment, at):
    check(tmp_path, LOADERS[load], moment, at)


@pytest.mark.parametrize("load", WITH_WORKERS)
@pytest.mark.parametrize("at", [10, 14])
def test_resumed_equals_uninterrupted_with_workers(tmp_path, load, at):
    check(tmp_path, WITH_WORKERS[load], "iteration_completed", at)


def without(*path):
    """Return a function that replaces one part of a saved state."""

    def change(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = CHANGED[path[-1]](state[path[-1]]) if path[-1] in CHANGED else type(state[path[-1]])()

    return change


CHANGED = {
    "python": lambda _: random.Random(5).getstate(),
    "numpy": lambda state: (state[0], [1] * 624, *state[2:]),
    "torch": lambda _: torch.Generator().manual_seed(5).get_state(),
    "began": lambda began: (
        began | {"process": began["process"] | {"torch": torch.Generator().manual_seed(5).get_state()}}
    ),
    "output": lambda _: 5.0,
    "fetched": lambda fetched: fetched - 1,
    "event_counts": lambda counts: dict.fromkeys(counts, 0),
}
PARTS = {
    "python": ("noisy", "iteration_completed", 10, without("random", "python")),
    "numpy": ("noisy", "iteration_completed", 10, without("random", "numpy")),
    "torch": ("shuffled", "iteration_completed", 10, without("random", "torch")),
    "generators": ("generator", "iteration_completed", 10, without("in data", "inside", "generators")),
    "gradients": ("shuffled", "iteration_completed", 10, without("modules", "model", "gradients")),
    "output": ("shuffled", "iteration_completed", 14, without("output")),
    "metrics": ("shuffled", "iteration_completed", 10, without("metrics", "evaluator")),
    "order of data": ("shuffled", "iteration_completed", 10, without("data", "began")),
    "place in data": ("shuffled", "iteration_completed", 10, without("progress", "fetched")),
    "counts of filters": ("shuffled", "iteration_completed", 10, without("progress", "event_counts")),
}


# -- each part of a file is needed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_without_any_part_of_the_file_the_run_differs(tmp_path, monkeypatch, part):
    load, moment, at, change = PARTS[part]
    whole = Snapshot._state

    def lacking(snapshot):
        state = whole(snapshot)
        change(state)
        return state

    monkeypatch.setattr(Snapshot, "_state", lacking)
    with pytest.raises((AssertionError, ValueError, UserWarning)):
        check(tmp_path, LOADERS[load], moment, at)


@pytest.mark.parametrize(
    "name", ["trainer: EMA", "trainer: LRScheduler", "trainer: loss", "trainer: mean", "evaluator: EarlyStopping"]
)
def test_every_handler_with_a_state_is_in_the_file(tmp_path, name):
    training = Training(tmp_path)
    left_at(training, "iteration_completed", 10)
    (path,) = tmp_path.iterdir()
    handlers = torch.load(path, weights_only=True)["handlers"]
    assert name in handlers
    assert sorted(handlers) == sorted(training.snapshot._objects.handlers())


# -- where it is requested ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["forward_started", "backward_completed", "get_batch_completed", "iterations_5_started"]
)
def test_asked_for_in_an_iteration_it_is_written_after_it(tmp_path, moment):
    training = Training(tmp_path)
    training.trainer.add_event_handler(event(moment, once=2), training.snapshot)
    training.run(max_epochs=2)
    (path,) = tmp_path.iterdir()
    iteration = {"iterations_5_started": 6, "get_batch_completed": 3}.get(moment, 2)
    assert path.name == f"snapshot_000001_iteration_{iteration}.pt"


def test_asked_for_by_an_evaluator_it_is_written_after_the_epoch(tmp_path):
    training = Training(tmp_path)
    training.evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), training.snapshot)
    training.run(max_epochs=1)
    (path,) = tmp_path.iterdir()
    cursor = torch.load(path, weights_only=True)["progress"]
    assert (cursor["epoch"], cursor["iteration"], cursor["position"]) == (1, 7, None)


def test_whatever_its_priority_all_handlers_have_had_the_event(tmp_path):
    engine = Engine(lambda engine, batch: None)
    engine.state.late = 0
    engine.state_dict_user_keys.append("late")
    snapshot = Snapshot(engine, tmp_path)
    engine.add_event_handler(event(Events.ITERATION_COMPLETED, priority=5), snapshot)
    engine.add_event_handler(
        event(Events.ITERATION_COMPLETED, priority=-5),
        lambda engine: setattr(engine.state, "late", engine.state.iteration),
    )
    engine.run([1, 2, 3])
    assert [torch.load(path, weights_only=True)["progress"]["late"] for path in sorted(tmp_path.iterdir())] == [2, 3]


def test_outside_of_a_run_it_is_written_at_once(tmp_path):
    engine = Engine(lambda engine, batch: None)
    snapshot = Snapshot(engine, tmp_path)
    snapshot()
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot_000001_iteration_0.pt"]


def test_at_exception_raised_it_is_refused(tmp_path):
    def fail(engine, batch):
        raise ArithmeticError

    engine = Engine(fail)
    engine.add_event_handler(Events.EXCEPTION_RAISED, Snapshot(engine, tmp_path))
    with pytest.raises(
        TypeError, match="a run that failed in mid-iteration cannot be resumed: attach the snapshot to another event"
    ):
        engine.run([1])


# -- loops and data of every kind --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    samples=st.integers(1, 7),
    epoch_length=st.none() | st.integers(1, 9),
    max_epochs=st.integers(1, 4),
    at=st.integers(1, 12),
    moment=st.sampled_from(["iteration_completed", "epoch_completed", "epoch_started", "started", "completed"]),
    sized=st.booleans(),
)
def test_batches_and_events_go_on_as_if_the_run_had_not_been_left(
    tmp_path_factory, samples, epoch_length, max_epochs, at, moment, sized
):
    folder = tmp_path_factory.mktemp("snapshots")
    data = list(range(samples)) if sized else Unsized(list(range(samples)))

    def build():
        engine, seen = Engine(lambda engine, batch: batch, "trainer"), []
        for key in engine.loop.event_keys:
            engine.add_event_handler(
                key,
                lambda *_, key=key: seen.append(
                    (
                        key,
                        engine.state.epoch,
                        engine.state.iteration,
                        engine.state.batch if key == "iteration_completed" else None,
                    )
                ),
            )
        return engine, seen, Snapshot(engine, folder, n_saved=50)

    engine, seen, snapshot = build()
    taken = []
    count = [0]

    @engine.on(event(moment, priority=-2_000_000_000))
    def take():
        count[0] += 1
        if count[0] == at:
            taken.append(len(seen))

    engine.add_event_handler(event(moment, event_filter=lambda engine, n: count[0] + 1 == at), snapshot)
    engine.run(data, max_epochs=max_epochs, epoch_length=epoch_length)
    if not taken:
        return
    other, resumed, _ = build()
    assert other.resume() is not None
    with record() as trace:
        other.run(data)
    trace.assert_legal()
    again = [one for one in resumed if one[0] in ("started", "epoch_started")]
    rest = seen[taken[0] :]
    if moment == "completed":
        assert resumed == [] or [one[0] for one in resumed][-1] == "completed"
        return
    skipped = 1 + (moment in ("iteration_completed", "epoch_started"))
    assert resumed[skipped:] == rest
    assert [one[0] for one in again[:skipped]] == ["started", "epoch_started"][:skipped]


def test_a_loop_of_episodes_goes_on_with_the_next(tmp_path):
    def build():
        policy = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)

        def act(engine, _):
            policy(torch.rand(2)).sum().backward()

        def update(engine, _):
            optimizer.step()
            optimizer.zero_grad()

        engine = Engine(Loop("EPISODE", Loop("TIMESTEP", Phase("ACT", act), times=3), Phase("UPDATE", update)))
        return engine, policy, Snapshot(engine, tmp_path, policy=policy, optimizer=optimizer)

    torch.manual_seed(0)
    whole, expected, _ = build()
    whole.run(max_epochs=5)
    torch.manual_seed(0)
    left, _, snapshot = build()
    left.add_event_handler("act_completed", lambda: left.state.timestep == 5 and snapshot())
    left.add_event_handler(event("episode_started", once=3), left.terminate)
    left.run(max_epochs=5)
    resumed, policy, _ = build()
    resumed.run(max_epochs=5, resume="latest")
    assert resumed.state.episode == 5
    assert same(policy, expected)


@pytest.mark.parametrize("iteration", range(1, 8))
def test_a_window_of_accumulation_is_resumed(tmp_path, iteration):
    def build():
        model = classifier()
        optimizer = sgd(model)
        engine = Engine(supervised_loop(model, optimizer, criterion, gradient_accumulation_steps=3))
        snapshot = Snapshot(engine, tmp_path, model=model, optimizer=optimizer)
        return engine, model, snapshot

    whole, expected, _ = build()
    torch.manual_seed(5)
    whole.run(batches(), max_epochs=2)
    left, _, snapshot = build()
    left.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), snapshot)
    torch.manual_seed(5)
    left.run(batches(), max_epochs=2)
    resumed, model, _ = build()
    resumed.run(batches(), resume="latest")
    assert same(model, expected)


def test_generators_of_a_users_own_are_saved_when_they_are_named(tmp_path):
    def build():
        own = {"torch_rng": generator(), "python_rng": random.Random(3), "numpy_rng": np.random.default_rng(3)}
        drawn = []
        engine = Engine(
            lambda engine, batch: drawn.append(
                (
                    torch.rand((), generator=own["torch_rng"]).item(),
                    own["python_rng"].random(),
                    own["numpy_rng"].random(),
                )
            )
        )
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), Snapshot(engine, tmp_path, **own))
        return engine, drawn

    engine, drawn = build()
    engine.run(range(6))
    other, resumed = build()
    other.run(range(6), resume="latest")
    assert resumed == drawn[3:]


def test_handlers_that_set_up_know_that_the_run_is_resumed(tmp_path):
    def build():
        model = nn.Linear(1, 1)
        engine, told = Engine(lambda engine, batch: None), []
        snapshot = Snapshot(engine, tmp_path, model=model)
        engine.add_event_handler(Events.STARTED, lambda: nn.init.zeros_(model.weight))
        engine.add_event_handler(
            Events.STARTED | Events.EPOCH_STARTED | Events.ITERATION_STARTED(once=(3, 4)),
            lambda engine: told.append((engine.last_event_name.name, engine.state.resumed, model.weight.item())),
        )
        return engine, model, snapshot, told

    engine, model, snapshot, _ = build()
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: nn.init.constant_(model.weight, 5.0))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), snapshot)
    engine.run([1, 2, 3, 4])
    engine, model, _, told = build()
    engine.resume()
    assert model.weight.item() == 5.0
    engine.run([1, 2, 3, 4])
    assert told == [("STARTED", True, 0.0), ("EPOCH_STARTED", True, 0.0), ("ITERATION_STARTED", False, 5.0)]


def test_a_closed_engine_starts_anew_although_it_was_to_be_resumed(tmp_path):
    trainer, _ = snapshots(tmp_path)
    trained = [parameter.clone() for parameter in trainer.snapshot._objects._named["model"].obj.parameters()]
    trainer.resume()
    trainer.close()
    assert not trainer.state.resumed
    trainer.run(batches(), max_iters=1)
    assert (trainer.state.epoch, trainer.state.iteration) == (1, 1)
    assert not any(map(torch.equal, trained, trainer.snapshot._objects._named["model"].obj.parameters()))


def test_an_evaluator_that_is_named_begins_its_next_run_anew(tmp_path):
    def build():
        trainer, evaluator, ran = (
            Engine(lambda engine, batch: None),
            Engine(lambda engine, batch: None, "evaluator"),
            [],
        )
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: evaluator.run([1, 2, 3]))
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: ran.append(trainer.state.iteration))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(trainer, tmp_path, evaluator=evaluator))
        return trainer, ran

    first, _ = build()
    first.run(range(5))
    second, ran = build()
    second.run(range(5), resume=tmp_path / "snapshot_000004_iteration_4.pt", max_epochs=2)
    assert ran == [6, 6, 6, 8, 8, 8, 10, 10, 10]


@pytest.mark.parametrize(("call", "iterations"), [("terminate", 4), ("terminate_epoch", 9)])
def test_a_control_call_at_the_event_of_the_snapshot_is_kept(tmp_path, call, iterations):
    def build():
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), getattr(engine, call))
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), Snapshot(engine, tmp_path))
        return engine

    engine = build()
    engine.run(range(5), max_epochs=2)
    assert engine.state.iteration == iterations
    resumed = build()
    with record() as trace:
        resumed.run(range(5), max_epochs=2, resume="latest")
    trace.assert_legal()
    assert resumed.state.iteration == iterations


class Named(NamedTuple):
    loss: float


@pytest.mark.parametrize("output", [Named(1.0), {"a": np.float64(1.0)}, {"a": [object()]}, object()])
def test_an_output_or_metric_that_cannot_be_saved_is_left_out(tmp_path, output):
    engine = Engine(lambda engine, batch: output)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: engine.state.metrics.update(odd=output, plain=1.0))
    engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, tmp_path))
    engine.run([1])
    state = load(next(tmp_path.iterdir()))
    assert (state["output"], state["metrics"]) == (None, {"engine": {"plain": 1.0}})


@pytest.mark.parametrize(("moment", "position"), [(Events.EPOCH_COMPLETED, None), (Events.EPOCH_STARTED, 0)])
def test_a_state_dict_at_started_says_where_the_run_resumes(tmp_path, moment, position):
    def build():
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(moment(once=1), Snapshot(engine, tmp_path))
        return engine

    build().run([1, 2], max_epochs=2)
    engine, states = build(), []
    engine.add_event_handler(Events.STARTED, lambda: states.append(engine.state_dict()))
    engine.run([1, 2], resume="latest")
    assert [(state["epoch"], state["position"]) for state in states] == [(1, position)]


def test_a_first_run_has_nothing_to_resume(tmp_path):
    engine = Engine(lambda engine, batch: None)
    Snapshot(engine, tmp_path / "not there yet")
    assert engine.resume() is None
    assert engine.run([1, 2], resume="latest").iteration == 2
