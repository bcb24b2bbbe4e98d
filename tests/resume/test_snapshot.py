"""Resumed equals uninterrupted: weights, states, metrics, batches and events, whatever was going on, bit for bit."""

import copy
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from camshaft import (
    BackpropEvents,
    Engine,
    Events,
    Loop,
    Phase,
    Snapshot,
    create_supervised_evaluator,
    create_supervised_trainer,
    event,
    record,
    supervised_loop,
)
from camshaft.handlers import EMA, CustomPeriodicEvent, EarlyStopping, LRScheduler
from camshaft.metrics import RUNNING_EPOCH, Accuracy, Loss, RunningAverage
from camshaft.storage import StorageError, load
from support.learning import Unsized, batches, classifier, dataset, same, sgd

criterion = nn.CrossEntropyLoss()


class Noisy(Dataset):
    """Adds noise of every process-wide generator to what it gives."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        x, y = self.inner[index]
        return x + torch.rand(()) + random.random() + float(np.random.rand()), y


class Stream(IterableDataset):
    """The samples one by one, noisy, in shares of the workers."""

    def __init__(self, inner):
        self.inner = Noisy(inner)

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, len(self.inner), step):
            yield self.inner[index]


class Batched(torch.utils.data.Sampler):
    """Gives the indices of whole batches, so that the loader makes none."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        yield from torch.randperm(len(self.data)).split(8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LOADERS = {
    "in order": lambda: DataLoader(dataset(), batch_size=8),
    "shuffled": lambda: DataLoader(dataset(), batch_size=8, shuffle=True),
    "generator": lambda: DataLoader(dataset(), batch_size=8, shuffle=True, generator=generator()),
    "with replacement": lambda: DataLoader(
        dataset(), 8, sampler=torch.utils.data.RandomSampler(dataset(), replacement=True, generator=generator())
    ),
    "batches are samples": lambda: DataLoader(dataset(), batch_size=None, sampler=Batched(dataset())),
    "noisy": lambda: DataLoader(Noisy(dataset()), batch_size=8, shuffle=True),
    "list": lambda: list(DataLoader(dataset(), batch_size=8)),
    "unknown length": lambda: Unsized(DataLoader(dataset(), batch_size=8, shuffle=True)),
    "stream": lambda: DataLoader(Stream(dataset()), batch_size=8),
}
WITH_WORKERS = {
    "two workers": lambda: DataLoader(dataset(), batch_size=8, shuffle=True, num_workers=2),
    "two workers, noisy": lambda: DataLoader(Noisy(dataset()), batch_size=8, shuffle=True, num_workers=2),
    "two workers, generator": lambda: DataLoader(
        Noisy(dataset()), batch_size=8, shuffle=True, num_workers=2, generator=generator()
    ),
    "two workers, stream": lambda: DataLoader(Stream(dataset()), batch_size=5, num_workers=2),
}


class Training:
    """A training with everything that has a state, and what it did."""

    def __init__(self, folder, load=LOADERS["shuffled"], steps=2, **options):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
        self.trainer = create_supervised_trainer(
            self.model, self.optimizer, criterion, gradient_accumulation_steps=steps, scaler=self.scaler, **options
        )
        self.ema = EMA(self.model, 0.9)
        self.data = load()
        trainer = self.trainer
        self.schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 30))
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.ema)
        trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, self.schedule)
        RunningAverage().attach(trainer, "loss")
        Loss(lambda a, b: a).attach(trainer, "mean", lambda loss: (torch.tensor(loss), [0]), RUNNING_EPOCH)
        self.evaluator = create_supervised_evaluator(self.ema.model, {"accuracy": Accuracy(), "loss": Loss(criterion)})
        validation = DataLoader(dataset(), batch_size=16, shuffle=True, generator=generator(7))
        trainer.nest(self.evaluator, on=Events.EPOCH_COMPLETED, data=validation)
        self.stopping = EarlyStopping(50, lambda engine: -engine.state.metrics["loss"], trainer)
        self.evaluator.add_event_handler(Events.COMPLETED, self.stopping)
        self.period = CustomPeriodicEvent(n_iterations=5)
        self.period.attach(trainer)
        self.seen = []
        trainer.add_event_handler(event("optim_step_completed", every=3), self.note, "third step")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.note, "iteration")
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.note, "epoch")
        self.snapshot = Snapshot(trainer, folder, model=self.model, optimizer=self.optimizer, scaler=self.scaler)

    def note(self, engine, what):
        state = engine.state
        metrics = {
            f"{inner.name} {name}": value
            for inner in (engine, self.evaluator)
            for name, value in inner.state.metrics.items()
        }
        self.seen.append(
            (what, state.epoch, state.iteration, state.iterations_5, state.output, torch.rand(()).item(), metrics)
        )

    def run(self, **limits):
        with record() as trace:
            self.trainer.run(self.data, **{"max_epochs": 3} | limits)
        trace.assert_legal()
        return self

    def states(self):
        objects = (self.model, self.optimizer, self.scaler, self.ema, self.schedule, self.stopping)
        return [copy.deepcopy(obj.state_dict()) for obj in objects] + [
            random.random(),
            np.random.rand(),
            torch.rand(()),
        ]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def left_at(training, moment, at):
    """Run until a snapshot was asked for at that moment, and leave."""
    trainer = training.trainer

    class Left(Exception):
        pass

    def leave():
        raise Left

    def ask():
        training.snapshot()
        write = training.snapshot._write

        def write_and_leave(engine):
            write(engine)
            leave()

        training.snapshot._write = write_and_leave

    trainer.add_event_handler(event(moment, event_filter=lambda engine, count: count == at), ask)
    with pytest.raises(Left):
        training.run()
    return len(training.seen)


def check(folder, load, moment, at, **options):
    whole = Training(folder / "whole", load, **options).run()
    expected = whole.states()
    left = Training(folder / "left", load, **options)
    had = left_at(left, moment, at)
    assert left.seen == whole.seen[:had]

    torch.manual_seed(99)
    random.seed(99)
    resumed = Training(folder / "left", load, **options)
    torch.manual_seed(123)
    next(resumed.model.parameters()).data.zero_()
    assert resumed.trainer.resume() is not None
    resumed.run()
    assert resumed.seen == whole.seen[had:]
    assert equal(resumed.states(), expected)


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


# -- each part of a file is needed ------------------------------------------------------------------------------------


def without(*path):
    """Takes something out of the state before it is loaded."""

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
    "generators": ("generator", "iteration_completed", 10, without("generators")),
    "gradients": ("shuffled", "iteration_completed", 10, without("gradients", "model")),
    "output": ("shuffled", "iteration_completed", 14, without("output")),
    "metrics": ("shuffled", "iteration_completed", 10, without("metrics", "evaluator")),
    "order of data": ("shuffled", "iteration_completed", 10, without("data", "began")),
    "place in data": ("shuffled", "iteration_completed", 10, without("cursor", "fetched")),
    "counts of filters": ("shuffled", "iteration_completed", 10, without("cursor", "event_counts")),
}


@pytest.mark.parametrize("part", PARTS)
def test_without_any_part_of_the_file_the_resumed_run_is_another_one(tmp_path, monkeypatch, part):
    load, moment, at, change = PARTS[part]
    whole = Snapshot._state

    def lacking(snapshot):
        state = whole(snapshot)
        change(state)
        return state

    monkeypatch.setattr(Snapshot, "_state", lacking)
    with pytest.raises((AssertionError, ValueError)):
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
    assert sorted(handlers) == sorted(training.snapshot._handlers())


# -- where it is asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["forward_started", "backward_completed", "get_batch_completed", "iterations_5_started"]
)
def test_asked_for_in_the_middle_of_an_iteration_it_is_written_when_that_is_over(tmp_path, moment):
    training = Training(tmp_path)
    training.trainer.add_event_handler(event(moment, once=2), training.snapshot)
    training.run(max_epochs=2)
    (path,) = tmp_path.iterdir()
    iteration = {"iterations_5_started": 6, "get_batch_completed": 3}.get(moment, 2)
    assert path.name == f"snapshot_000001_iteration_{iteration}.pt"


def test_asked_for_by_a_nested_evaluator_it_is_written_when_the_epoch_is_over(tmp_path):
    training = Training(tmp_path)
    training.evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), training.snapshot)
    training.run(max_epochs=1)
    (path,) = tmp_path.iterdir()
    cursor = torch.load(path, weights_only=True)["cursor"]
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
    assert [torch.load(path, weights_only=True)["cursor"]["late"] for path in sorted(tmp_path.iterdir())] == [2, 3]


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
        TypeError, match="a run that failed in mid-iteration cannot be gone on with: attach it elsewhere"
    ):
        engine.run([1])


def test_the_newest_files_are_kept_over_restarts_too(tmp_path):
    for restart in range(2):
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, tmp_path, n_saved=3))
        engine.run(range(4))
        last = 4 * (restart + 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f"snapshot_{number:06}_iteration_{number - 4 * restart}.pt" for number in range(last - 2, last + 1)
        ]


# -- loops and data of every kind -------------------------------------------------------------------------------------


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
def test_a_window_of_accumulation_goes_on_in_any_engine_of_that_loop(tmp_path, iteration):
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


def test_handlers_that_set_up_know_that_the_run_is_resumed_and_leave_no_trace(tmp_path):
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
    trained = [parameter.clone() for parameter in trainer.snapshot._modules["model"].parameters()]
    trainer.resume()
    trainer.close()
    assert not trainer.state.resumed
    trainer.run(batches(), max_iters=1)
    assert (trainer.state.epoch, trainer.state.iteration) == (1, 1)
    assert not any(map(torch.equal, trained, trainer.snapshot._modules["model"].parameters()))


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
def test_a_control_call_at_the_event_of_the_snapshot_is_gone_on_with(tmp_path, call, iterations):
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
def test_a_state_dict_taken_at_started_of_a_resumed_run_says_where_it_goes_on(tmp_path, moment, position):
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


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("at", [10, 14])
def test_a_stateful_data_loader_keeps_its_own_position(tmp_path, workers, at):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    check(
        tmp_path,
        lambda: stateful(dataset(), batch_size=8, shuffle=True, num_workers=workers, generator=generator()),
        "iteration_completed",
        at,
    )


def pairs(folder, samples, moment=None):
    """Batches of two, two epochs; with a moment, a snapshot is written there and the run left after the first epoch."""
    loader = DataLoader(torch.arange(samples), batch_size=2, shuffle=True, generator=generator())
    trainer = Engine(lambda engine, batch: batch.tolist())
    seen = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(trainer.state.output))
    snapshot = Snapshot(trainer, folder)
    if moment is not None:
        trainer.add_event_handler(moment, snapshot)

        @trainer.on(Events.EPOCH_STARTED(once=2))
        def leave():
            raise KeyboardInterrupt

    return trainer, loader, seen


def left(folder, samples, moment):
    trainer, loader, _ = pairs(folder, samples, moment)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(loader, max_epochs=2, resume="latest")


def second_epoch(folder, samples):
    whole, loader, seen = pairs(folder / "whole", samples)
    whole.run(loader, max_epochs=2)
    trainer, loader, rest = pairs(folder, samples)
    trainer.run(loader, max_epochs=2, resume="latest")
    return rest, seen[len(seen) // 2 :]


def test_a_snapshot_that_is_written_before_a_resumed_run_reads_has_where_reading_stands(tmp_path):
    left(tmp_path, 5, Events.ITERATION_COMPLETED(once=3))
    left(tmp_path, 5, Events.EPOCH_COMPLETED(once=1))  # resumed behind the last batch, so that it has read nothing yet
    rest, expected = second_epoch(tmp_path, 5)
    assert rest == expected


def test_what_a_sampler_draws_when_it_is_exhausted_is_drawn_by_a_run_that_resumes_behind_the_last_batch(tmp_path):
    left(tmp_path, 4, Events.ITERATION_COMPLETED(once=2))  # the last batch is a full one: nobody has asked for more yet
    rest, expected = second_epoch(tmp_path, 4)
    assert rest == expected


def test_batches_are_passed_over_without_loading_them(tmp_path):
    loaded = []

    class Told(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, index):
            loaded.append(index)
            return index

    def build():
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=8), Snapshot(engine, tmp_path))
        return engine

    build().run(DataLoader(Told(), batch_size=5, shuffle=True, generator=generator()))
    whole, loaded[:] = loaded[:], []
    build().run(DataLoader(Told(), batch_size=5, shuffle=True, generator=generator()), resume="latest")
    assert loaded == whole[40:]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: iter([1, 2, 3]), "can be read once; give data that can be iterated again"),
        (lambda: DataLoader([1, 2, 3], num_workers=1, persistent_workers=True), "persistent_workers=True"),
        (lambda: DataLoader([1, 2, 3], num_workers=1, in_order=False), "in_order=False"),
    ],
)
def test_where_it_cannot_be_exact_a_warning_says_why_once(tmp_path, data, why):
    engine = Engine(lambda engine, batch: None)
    Snapshot(engine, tmp_path)
    with pytest.warns(
        UserWarning, match=f"a run that is resumed in the middle of its data may go on with others: .*{why}"
    ) as told:
        engine.run(data(), max_epochs=1)
    assert len(told) == 1


# -- files that cannot be gone on with --------------------------------------------------------------------------------


def snapshots(folder, iterations=3, model=None):
    model = classifier() if model is None else model
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(trainer, folder, model=model))
    trainer.run(batches(), max_iters=iterations)
    return trainer, sorted(folder.iterdir())


def resume(folder, path="latest", **objects):
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    Snapshot(trainer, folder, **{"model": model} | objects)
    return trainer.resume(path), trainer


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_newest_file_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    _, (older, newest) = snapshots(tmp_path)
    damage(newest)
    with pytest.warns(UserWarning) as told:
        path, trainer = resume(tmp_path)
    assert path == older
    assert trainer.state.iteration == 2
    (message,) = (str(one.message) for one in told)
    assert newest.name in message
    assert older.name in message
    with pytest.raises(StorageError, match="is damaged, cut short, or was not written"):
        resume(tmp_path, newest)
    damage(older)
    with pytest.raises(StorageError, match=f"{newest.name} is damaged"):
        resume(tmp_path)


@settings(max_examples=40)
@given(data=st.data())
def test_any_flipped_byte_is_noticed_or_does_not_matter(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    _, (_, newest) = snapshots(folder, model=nn.Linear(6, 3))
    content = bytearray(newest.read_bytes())
    whole = torch.load(newest, weights_only=True)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    newest.write_bytes(content)
    try:
        loaded = load(newest)
    except StorageError:
        return
    assert equal(loaded, whole)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("it ran",))

    torch.save({"camshaft snapshot": 1, "cursor": Runs()}, tmp_path / "snapshot_000001_iteration_1.pt")
    with pytest.raises(StorageError, match="holds .*print, and loading that could run code"):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"camshaft snapshot": 2}, "is of version 2 of snapshots, and this camshaft reads 1: update it"),
        ({"camshaft snapshot": None}, "is no snapshot: give a file that a Snapshot has written"),
        ({"objects": {}}, "has no state of model: it was written with none"),
    ],
)
def test_files_of_another_kind_give_one_clear_error(tmp_path, change, says):
    _, (_, newest) = snapshots(tmp_path)
    torch.save(torch.load(newest, weights_only=True) | change, newest)
    with pytest.raises(ValueError, match=f"{newest.name} {says}"):
        resume(tmp_path)


def test_a_file_of_another_model_gives_one_clear_error(tmp_path):
    snapshots(tmp_path, model=nn.Linear(6, 3))
    with pytest.raises(ValueError, match=r"snapshot_000003_iteration_3.pt: the state of model does not fit: Error"):
        resume(tmp_path)


def test_a_file_of_a_program_with_other_handlers_says_so(tmp_path):
    snapshots(tmp_path)
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    Snapshot(trainer, tmp_path, model=model)
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, EMA(model))
    message = "is of a program with other handlers: trainer: EMA is not in the file"
    with pytest.warns(UserWarning, match=message) as told:
        trainer.resume()
        trainer.run(batches(), max_iters=4)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda engine, folder: Snapshot("trainer", folder), TypeError, "'trainer' is no Engine"),
        (lambda engine, folder: Snapshot(engine, folder, 0), ValueError, "n_saved=0 is no whole number of 1 or more"),
        (
            lambda engine, folder: Snapshot(engine, folder, lr=0.1),
            TypeError,
            r"lr=0.1 has no state_dict\(\) and load_state",
        ),
        (lambda engine, folder: [Snapshot(engine, folder) for _ in range(2)], ValueError, "has one already"),
        (lambda engine, folder: engine.resume(), RuntimeError, "has nothing to resume with: make a Snapshot"),
        (
            lambda engine, folder: Snapshot(engine, folder) and engine.resume(folder / "x.pt"),
            StorageError,
            "does not exist",
        ),
    ],
)
def test_wrong_calls_are_refused(tmp_path, wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(Engine(lambda engine, batch: None), tmp_path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(StorageError, match="file/snapshots cannot be made: .*; choose another"):
        Snapshot(engine, tmp_path / "file" / "snapshots")()


def test_resuming_a_run_that_is_under_way_is_refused(tmp_path):
    engine = Engine(lambda engine, batch: engine.resume())
    Snapshot(engine, tmp_path)
    with pytest.raises(RuntimeError, match="has a run that is not over: resume before"):
        engine.run([1])
