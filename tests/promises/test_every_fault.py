"""Runs end well after a fault at any event, at any position among its handlers, and in anything that a run uses."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import subprocess
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, event, record
from camshaft.events import event_name
from camshaft.exceptions import StorageError
from camshaft.handlers import Checkpoint, TerminateOnNan
from camshaft.metrics import Accuracy
from camshaft.resume.storage import load
from camshaft.testing import PlantedError, call_at, raise_at
from support.steps import no_op

# -- a training in which everything happens ---------------------------------------------------------------------------


X = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
BATCH = (X, X.sum(dim=1, keepdim=True))
LENGTH = 4


class Training:
    """A trainer that accumulates gradients, with a nested evaluator. Control calls make every event fire.

    The data of both engines is shorter than an epoch. The trainer skips iteration 4 and pauses in iteration 5. It
    terminates the second epoch in iteration 6 and the run in iteration 8. The evaluator pauses after its iteration 3
    and resumes at the end of the trainer's next epoch. There it skips iteration 4, terminates the epoch in iteration 5,
    and then terminates its run.
    """

    def __init__(self):
        model = nn.Linear(2, 1)
        self.trainer = trainer = create_supervised_trainer(
            model,
            torch.optim.SGD(model.parameters(), lr=0.01),
            nn.functional.mse_loss,
            model_fn=partial(self.look_and_call, "trainer"),
            gradient_accumulation_steps=2,
        )
        self.evaluator = evaluator = create_supervised_evaluator(
            model, model_fn=partial(self.look_and_call, "evaluator")
        )
        self.engines = {engine.name: engine for engine in (trainer, evaluator)}
        for engine in self.engines.values():
            add_custom_events(engine)
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[BATCH, BATCH], max_epochs=2, epoch_length=3)

    def script(self):
        """Plant the control calls, and return their handles."""
        trainer, evaluator = self.engines.values()
        return [
            call_at(trainer, Events.ITERATION_STARTED, trainer.skip_iteration, n=4),
            call_at(trainer, "backward_completed", trainer.interrupt, n=4),
            call_at(trainer, Events.ITERATION_COMPLETED, trainer.terminate_epoch, n=5),
            call_at(trainer, Events.ITERATION_STARTED, trainer.terminate, n=8),
            call_at(evaluator, Events.ITERATION_COMPLETED, evaluator.interrupt, n=3),
            call_at(evaluator, Events.ITERATION_STARTED, evaluator.skip_iteration, n=4),
            call_at(evaluator, Events.ITERATION_STARTED, evaluator.terminate_epoch, n=5),
            call_at(evaluator, Events.EPOCH_COMPLETED, evaluator.terminate, n=2),
        ]

    def look_and_call(self, name, model, x):
        self.engines[name].fire_event("looked_at")
        return model(x)

    def run(self):
        """Run, and resume after each pause, to the end."""
        self.trainer.run([BATCH, BATCH, BATCH], max_epochs=3, epoch_length=LENGTH)
        while self.trainer.current_run is not None:
            self.trainer.run()


def add_custom_events(engine):
    """Register custom events of every kind: within ITERATION, RUN, EPOCH and a phase, and after a state."""
    engine.register_events("marked", "span_started", "span_completed")
    engine.register_events("checked_started", "checked_completed", "stamped", after="FORWARD")
    engine.register_events("signed", within="RUN")
    engine.register_events("warmed", within="EPOCH")
    engine.register_events("looked_at", within="FORWARD")
    by_hand = {
        Events.STARTED: ["signed"],
        Events.EPOCH_STARTED: ["warmed"],
        "forward_completed": ["span_started"],
        "stamped": ["marked", "span_completed"],
    }
    for one, fired in by_hand.items():
        for custom in fired:
            engine.add_event_handler(one, lambda engine, custom: engine.fire_event(custom), custom)


# -- faults in handlers -----------------------------------------------------------------------------------------------


FIRST_PLACE = {
    "started": "STARTED",
    "signed": "SIGNED",
    "epoch_started": "EPOCH 1",
    "warmed": "EPOCH 1 / WARMED",
    "get_batch_started": "EPOCH 1 / GET_BATCH",
    "get_batch_completed": "EPOCH 1 / GET_BATCH",
    "iteration_started": "EPOCH 1 / ITERATION 1",
    "forward_started": "EPOCH 1 / ITERATION 1 / FORWARD",
    "looked_at": "EPOCH 1 / ITERATION 1 / FORWARD / LOOKED_AT",
    "forward_completed": "EPOCH 1 / ITERATION 1 / FORWARD",
    "span_started": "EPOCH 1 / ITERATION 1 / FORWARD / SPAN",
    "checked_started": "EPOCH 1 / ITERATION 1 / CHECKED",
    "checked_completed": "EPOCH 1 / ITERATION 1 / CHECKED",
    "stamped": "EPOCH 1 / ITERATION 1 / STAMPED",
    "marked": "EPOCH 1 / ITERATION 1 / STAMPED / MARKED",
    "span_completed": "EPOCH 1 / ITERATION 1 / STAMPED / SPAN",
    "iteration_completed": "EPOCH 1 / ITERATION 1",
    "epoch_completed": "EPOCH 1",
    "terminate_single_epoch": "EPOCH 2",
    "terminate": "TERMINATE",
    "completed": "COMPLETED",
    "exception_raised": "EPOCH 1 / ITERATION 1",
}
FIRST_PLACES = {
    "trainer": FIRST_PLACE
    | {
        "backward_started": "EPOCH 1 / ITERATION 1 / BACKWARD",
        "backward_completed": "EPOCH 1 / ITERATION 1 / BACKWARD",
        "optim_step_started": "EPOCH 1 / ITERATION 2 / OPTIM_STEP",
        "optim_step_completed": "EPOCH 1 / ITERATION 2 / OPTIM_STEP",
        "rescale_started": "EPOCH 1 / RESCALE",
        "rescale_completed": "EPOCH 1 / RESCALE",
        "dataloader_stop_iteration": "EPOCH 1 / GET_BATCH",
        "iteration_skipped": "EPOCH 1 / ITERATION 4",
        "interrupt": "EPOCH 2 / ITERATION 5 / BACKWARD",
    },
    "evaluator": FIRST_PLACE
    | {
        "dataloader_stop_iteration": "EPOCH 1 / GET_BATCH",
        "interrupt": "EPOCH 1 / ITERATION 3",
        "iteration_skipped": "EPOCH 2 / ITERATION 4",
    },
}
"""By engine and event, the place at its first firing. EXCEPTION_RAISED fires after a fault at :data:`CAUSE`."""

CAUSE = Events.ITERATION_COMPLETED
"""The event at which an error makes EXCEPTION_RAISED fire, in tests of a fault at EXCEPTION_RAISED."""


class FaultPosition(NamedTuple):
    """The position of a fault among two other handlers of its event.

    ``attached`` handlers are attached before it, and ``called`` handlers are called before it.
    """

    attached: int
    priority: int
    called: int


POSITIONS = {
    "first": FaultPosition(0, 0, called=0),
    "between": FaultPosition(1, 0, called=1),
    "last": FaultPosition(2, 0, called=2),
    "first by priority": FaultPosition(2, 10, called=0),
    "last by priority": FaultPosition(0, -10, called=2),
}
ENDS = {
    "raised": (PlantedError, False),
    "swallowed": (PlantedError, True),
    "KeyboardInterrupt": (KeyboardInterrupt, True),
    "SystemExit": (SystemExit, True),
}
"""The type of the fault, and whether the handlers of EXCEPTION_RAISED return True."""


class Case(NamedTuple):
    """A fault at the first or the last firing of an event.

    ``passes`` are the engines that the fault passes through, with their places, innermost first.
    """

    engine: str
    event: str
    n: int
    passes: list[tuple[str, str]]
    position: str
    end: str


def firings_without_a_fault():
    """Return the engines around each firing, with their places, by engine and event."""
    training, found = Training(), defaultdict(list)

    def note(engine, one):
        around = list(training.engines.values())[: list(training.engines).index(engine.name) + 1]
        found[engine.name, one].append([(each.name, each.place) for each in reversed(around)])

    for engine in training.engines.values():
        for one in engine.loop.event_keys:
            if one != "exception_raised":
                engine.add_event_handler(one, note, one)
    with record() as trace:
        training.script()
        training.run()
    trace.assert_legal()
    for name in training.engines:
        found[name, "exception_raised"] = found[name, CAUSE.value][:1]
    return dict(found)


FIRINGS = firings_without_a_fault()
CASES = {
    (name, one): [
        Case(name, one, n, passes, position, end)
        for n, passes in {1: firings[0], len(firings): firings[-1]}.items()
        for position in POSITIONS
        for end in ENDS
    ]
    for (name, one), firings in FIRINGS.items()
}


AT_CHECKPOINT = "at EPOCH_COMPLETED, in handler Checkpoint"


def error_of(run):
    try:
        run()
    except BaseException as error:
        return error
    return None


def ends_as_it_should(training, case):
    """Run with one fault, check how the run ends, and run again without it. Return the number of failed runs."""
    trainer, evaluator = training.engines.values()
    engine, position = training.engines[case.engine], POSITIONS[case.position]
    kind, suppresses = ENDS[case.end]
    error, first = kind("planted"), ValueError("first") if case.event == "exception_raised" else None
    called, raised = [], []
    with ExitStack() as stack:
        for each in (trainer, evaluator):
            note = lambda engine, error: raised.append((engine.name, error)) or suppresses
            stack.enter_context(each.add_event_handler(event(Events.EXCEPTION_RAISED, priority=100), note))
        for call in training.script():
            stack.callback(call.remove)
        if first is not None:
            stack.enter_context(raise_at(engine, CAUSE, error=first))
        for index in range(3):
            if index == position.attached:
                planted = event(case.event, priority=position.priority)
                stack.enter_context(raise_at(engine, planted, n=case.n, error=error))
            if index < 2:
                handler = lambda *_, index=index: called.append(index)
                stack.enter_context(engine.add_event_handler(case.event, handler))
        left = error_of(training.run)

    passed, notes, swallowed = [], [], False
    for name, place in case.passes:
        at_failure = first is not None and name == case.engine
        passed.append((name, first if at_failure else error))
        # in the engine around it, a failure of the evaluator is one of the handler that runs it
        at = event_name(case.event) if name == case.engine else "EPOCH_COMPLETED"
        handler = "planted fault" if name == case.engine else "run evaluator"
        notes.append(f"in {name}: {place}{f', at {at}' * (at != place)}, in handler {handler}")
        swallowed = suppresses and isinstance(error, Exception) and not at_failure
        if swallowed:
            break
    assert left is (None if swallowed else error)
    assert raised == passed
    assert error.__notes__ == notes
    assert error.__context__ is first
    if not (swallowed and case.engine == "evaluator" and first is None):  # else the training goes on and fires it again
        assert called == [0, 1] * (case.n - 1) + [0, 1][: position.called]
    assert (trainer.current_run, evaluator.current_run) == (None, None)

    done = trainer.state.iteration + LENGTH * (4 - trainer.state.epoch)
    trainer.run(max_epochs=4)
    assert (trainer.state.epoch, trainer.state.iteration) == (4, done)
    assert (evaluator.state.epoch, evaluator.state.iteration) == (2, 6)
    trainer.close()
    evaluator.close()
    return len(passed)


@pytest.mark.parametrize(("name", "one"), CASES, ids=lambda part: part)
def test_a_fault_in_any_handler_ends_each_run_it_passes_through(name, one):
    training = Training()
    with record() as trace:
        failed = sum(ends_as_it_should(training, case) for case in CASES[name, one])
    trace.assert_legal()
    assert trace.count(Events.EXCEPTION_RAISED) == failed
    assert [run.outcome for run in trace.runs].count("failed") == failed
    assert all((run.parent is None) == (run.engine == "trainer") for run in trace.runs)


def test_every_event_gets_faults_at_all_positions():
    for name, engine in Training().engines.items():
        of_machine = {one for rows in engine.machine.table.values() for one in rows}
        assert {one for other, one in CASES if other == name} == set(engine.loop.event_keys) == of_machine
        assert {one: FIRINGS[name, one][0][0][1] for one in engine.loop.event_keys} == FIRST_PLACES[name]
    cases = [case for several in CASES.values() for case in several]
    parts = (
        f"{part}: " + ", ".join(f"{what} {count:,}" for what, count in Counter(map(of, cases)).items())
        for part, of in (
            ("by engine", lambda case: case.engine),
            ("by end", lambda case: case.end),
            ("by position", lambda case: case.position),
        )
    )
    print(f"{len(cases):,} faults at {len(CASES)} events;", "; ".join(parts))
    planted = sum(min(len(firings), 2) for firings in FIRINGS.values())
    assert len(cases) == planted * len(POSITIONS) * len(ENDS)


# -- faults from outside ----------------------------------------------------------------------------------------------


def fails(run, kind, note, message=""):
    """Return the error that a run raises. Check its note, and that the trace records a failure."""
    with record() as trace:
        error = error_of(run)
    assert isinstance(error, kind)
    assert re.search(message, str(error))
    assert error.__notes__ == ([note] if isinstance(note, str) else note)
    trace.assert_legal()
    assert {one.outcome for one in trace.runs if one.parent is None} == {"failed"}
    assert trace.count(Events.EXCEPTION_RAISED) == [one.outcome for one in trace.runs].count("failed")
    return error.with_traceback(None)  # the traceback would keep a DataLoader and its workers alive


class Dataset(torch.utils.data.Dataset):
    """Ten numbers. Loading item 4 calls ``harm``."""

    def __init__(self, harm):
        self.harm = harm

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 4:
            time.sleep(0.3)  # so that the main process waits for this item
            self.harm()
        return float(index)


def leave():
    os._exit(3)


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def broken(*_, **__):
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (leave, RuntimeError, "exited unexpectedly"),
        (be_killed, RuntimeError, "exited unexpectedly|killed by signal: Killed"),
        (broken, ValueError, "Caught ValueError in DataLoader worker process 0"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_worker_fails_the_run_and_no_worker_is_left(harm, kind, message, workers):
    loader = DataLoader(Dataset(harm), num_workers=workers, prefetch_factor=1, multiprocessing_context="fork")
    engine = Engine(no_op, "trainer")
    fails(lambda: engine.run(loader), kind, "in trainer: EPOCH 1 / GET_BATCH", message)
    assert multiprocessing.active_children() == []
    assert engine.state.iteration == 4
    loader.dataset.harm = float
    assert engine.run(max_epochs=2).iteration == 14
    assert multiprocessing.active_children() == []


class Growing:
    """A state that grows by 0.4 MB in each epoch."""

    def __init__(self, engine):
        self.state = engine.state

    def state_dict(self):
        return {"epoch": self.state.epoch, "filling": torch.ones(100_000 * self.state.epoch)}


def growing_trainer(folder, n_saved=None):
    trainer = Engine(no_op, "trainer")
    checkpoint = Checkpoint({"state": Growing(trainer)}, folder, n_saved=n_saved)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    return trainer, checkpoint


def whole(folder):
    """Load all files in a folder, and return their epochs."""
    return sorted(load(file)["epoch"] for file in folder.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 1.6 MB, and return its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1600k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


def test_a_full_disk_fails_the_run_and_leaves_whole_checkpoints(small_disk):
    trainer, checkpoint = growing_trainer(small_disk)
    fails(
        lambda: trainer.run([1], max_epochs=3),
        StorageError,
        "in trainer: EPOCH 3, at EPOCH_COMPLETED, in handler Checkpoint",
        "No space left on device; free",
    )
    assert whole(small_disk) == [1, 2]
    checkpoint.last_checkpoint.unlink()
    checkpoint.best_checkpoint.with_name("state_1.pt").unlink()
    assert trainer.run(max_epochs=4).epoch == 4
    assert whole(small_disk) == [4]


def test_a_disk_that_turns_read_only_leaves_whole_checkpoints(small_disk):
    trainer, _ = growing_trainer(small_disk)

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True, timeout=60)

    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), remount, "ro")
    fails(
        lambda: trainer.run([1], max_epochs=3),
        StorageError,
        "in trainer: EPOCH 2, at EPOCH_COMPLETED, in handler Checkpoint",
        "Read-only file system; make ",
    )
    assert whole(small_disk) == [1]
    remount("rw")
    trainer.run()
    assert whole(small_disk) == [1, 3]


def test_a_file_that_cannot_grow_leaves_whole_checkpoints(tmp_path):
    trainer, _ = growing_trainer(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        fails(
            lambda: trainer.run([1], max_epochs=3),
            StorageError,
            "in trainer: EPOCH 3, at EPOCH_COMPLETED, in handler Checkpoint",
            "File too large",
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert whole(tmp_path) == [1, 2]


def test_a_folder_that_becomes_a_file_fails_the_run(tmp_path):
    folder = tmp_path / "checkpoints"
    trainer, _ = growing_trainer(folder)

    @trainer.on(Events.STARTED)
    def replace():
        folder.rmdir()
        folder.touch()

    fails(
        lambda: trainer.run([1]),
        StorageError,
        "in trainer: EPOCH 1, at EPOCH_COMPLETED, in handler Checkpoint",
        "Not a directory; make ",
    )


def test_a_loss_of_nan_terminates_the_run_in_legal_order(tmp_path, caplog):
    model = nn.Linear(2, 1)
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=1e30), nn.functional.mse_loss)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    trainer.add_event_handler(Events.ITERATION_STARTED | Events.TERMINATE, Checkpoint({"engine": trainer}, tmp_path))
    with record() as trace:
        state = trainer.run([BATCH] * 10, max_epochs=5)
    trace.assert_legal()
    assert [one.event for one in trace[-3:]] == ["iteration_completed", "terminate", "completed"]
    assert 1 < state.iteration < 10
    assert f"in EPOCH 1 / ITERATION {state.iteration}; the run ends" in caplog.text
    assert [load(file)["iteration"] for file in tmp_path.iterdir()] == [state.iteration]


class Stream:
    """Batches from a generator that can fail at a batch, and when it is closed."""

    def __init__(self, at=None, closing=False):
        self.at, self.closing = at, closing

    def __iter__(self):
        try:
            for number in range(1, 5):
                if number == self.at:
                    raise ValueError("broken")
                yield number
        finally:
            if self.closing:
                raise OSError("cannot close")


def test_data_that_fails_in_the_middle_of_an_epoch_fails_the_run():
    engine = Engine(no_op, "trainer")
    data = Stream(at=3)
    fails(lambda: engine.run(data, max_epochs=2), ValueError, "in trainer: EPOCH 1 / GET_BATCH", "broken")
    assert engine.state.iteration == 2
    data.at = None
    assert engine.run().iteration == 2 + 4


def test_data_that_fails_to_close_fails_the_run():
    engine = Engine(no_op, "trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    fails(lambda: engine.run(Stream(closing=True)), OSError, "in trainer: COMPLETED", "cannot close")
    assert engine.run([1], max_epochs=2).epoch == 2


def test_data_that_fails_to_close_replaces_no_earlier_error():
    engine = Engine(broken, "trainer")
    notes = [
        "in trainer: EPOCH 1 / ITERATION 1",
        "in trainer: closing the data failed too: OSError('cannot close')",
    ]
    fails(lambda: engine.run(Stream(closing=True)), ValueError, notes, "broken")


def test_data_that_fails_to_close_fails_nested_and_outer_run():
    trainer, evaluator = Engine(no_op, "trainer"), Engine(no_op, "evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=Stream(closing=True), epoch_length=2)
    notes = ["in evaluator: COMPLETED", "in trainer: EPOCH 1, at EPOCH_COMPLETED, in handler run evaluator"]
    fails(lambda: trainer.run([1]), OSError, notes, "cannot close")


class BadLength:
    """Data whose ``len()`` raises."""

    def __len__(self):
        raise ValueError("broken")

    def __iter__(self):
        return iter([1, 2])


def test_data_that_fails_to_tell_its_length_is_refused():
    engine, called = Engine(no_op, "trainer"), []
    engine.add_event_handler(Events.STARTED | Events.EXCEPTION_RAISED, lambda *_: called.append(1))
    with record() as trace, pytest.raises(ValueError, match="broken"):
        engine.run(BadLength())
    assert (len(trace.runs), called, engine.current_run) == (0, [], None)
    assert engine.run([1]).iteration == 1
    engine.add_event_handler(Events.ITERATION_STARTED, lambda engine: engine.set_data(BadLength()))
    handler = "test_data_that_fails_to_tell_its_length_is_refused.<lambda>"
    note = f"in trainer: EPOCH 2 / ITERATION 2, at ITERATION_STARTED, in handler {handler}"
    fails(lambda: engine.run(max_epochs=2), ValueError, note, "broken")


def test_a_batch_that_cannot_be_prepared_fails_in_forward():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss, prepare_batch=broken)
    fails(lambda: trainer.run([BATCH]), ValueError, "in trainer: EPOCH 1 / ITERATION 1 / FORWARD", "broken")


@pytest.mark.parametrize("phase", ["FORWARD", "BACKWARD", "OPTIM_STEP"])
def test_a_failure_inside_torch_names_the_phase(phase):
    model, loss_fn = nn.Linear(2, 1), nn.functional.mse_loss
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if phase == "FORWARD":
        model.register_forward_pre_hook(broken)
    elif phase == "BACKWARD":
        model.weight.register_hook(broken)
    else:
        optimizer.register_step_pre_hook(broken)
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    fails(lambda: trainer.run([BATCH]), ValueError, f"in trainer: EPOCH 1 / ITERATION 1 / {phase}", "broken")


class Uncomputable(Accuracy):
    """A metric whose result cannot be computed."""

    def compute(self):
        raise ValueError("broken")


def test_a_metric_that_fails_to_compute_fails_both_runs():
    model = nn.Linear(2, 1)
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.functional.mse_loss)
    transform = lambda x, y, y_pred: (y_pred > 0, y > 0)
    evaluator = create_supervised_evaluator(model, {"accuracy": Uncomputable()}, output_transform=transform)
    trainer.nest(evaluator, on=Events.ITERATION_COMPLETED(every=2), data=[BATCH])
    notes = [
        "in evaluator: EPOCH 1, at EPOCH_COMPLETED, in handler accuracy.compute",
        "in trainer: EPOCH 1 / ITERATION 2, at ITERATION_COMPLETED, in handler run evaluator",
    ]
    fails(lambda: trainer.run([BATCH] * 3), ValueError, notes, "broken")
    assert evaluator.state.metrics == {}
