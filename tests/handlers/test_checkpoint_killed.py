"""Tests of checkpoints of trainings that are killed repeatedly."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from camshaft.resume.storage import is_temporary, load
from support.checkpoints import SERIAL, names, same

# This process forks a training for each line that it reads, so that torch is imported only once.
TRAININGS = '''
import os, sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from camshaft import Events, create_supervised_trainer
from camshaft.handlers import Checkpoint
from camshaft.resume.storage import is_temporary, load

EPOCHS, BATCHES, WIDTH = 20, 4, 700


class DiesInside:
    """Object that is pickled into each checkpoint. It kills the process in the middle of the chosen one."""

    def __init__(self, dies_at):
        self.saves, self.dies_at = 0, dies_at

    def state_dict(self):
        return {"inside": self}

    def load_state_dict(self, state):
        pass

    def __reduce__(self):
        self.saves += 1
        if self.saves == self.dies_at:
            os.kill(os.getpid(), 9)
        return OrderedDict, ()


def train(folder, dies_at):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    parts = {"model": model, "inside": DiesInside(dies_at), "optimizer": optimizer, "trainer": trainer}
    handler = Checkpoint(parts, folder, n_saved=2, require_empty=False)
    parts["checkpoint"] = handler
    steps = [int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("checkpoint_*.pt")]
    if steps:
        Checkpoint.load_objects(parts, Path(folder) / f"checkpoint_{max(steps)}.pt")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, handler)

    @trainer.on(Events.ITERATION_COMPLETED)
    def report():
        print("saved", trainer.state.iteration, flush=True)

    data = torch.Generator().manual_seed(1)
    batches = [(torch.randn(4, 8, generator=data), torch.randint(2, (4,), generator=data)) for _ in range(BATCHES)]
    trainer.run(batches, max_epochs=EPOCHS)


torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()  # imports what torch imports late, before forking

for line in sys.stdin:
    folder, dies_at = line.split()
    child = os.fork()
    if not child:
        status = 1
        try:
            train(folder, int(dies_at))
            status = 0
        finally:
            os._exit(status)
    print("pid", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
'''


class Trainings:
    """Runner of trainings in processes of their own, one after the other. It kills them."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAININGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=SERIAL
        )

    def run(self, folder, dies_at=0, watch=lambda pid: None):
        """Run a training; ``watch(pid)`` is called once it runs. Returns its exit status and the saved iterations."""
        self.process.stdin.write(f"{folder} {dies_at}\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        pid = int(next(lines).removeprefix("pid "))
        watch(pid)
        saved = []
        for line in lines:
            word, number = line.split()
            if word == "ended":
                return int(number), saved
            saved.append(int(number))
        raise AssertionError("the process that starts trainings has ended")

    def close(self):
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def trainings():
    started = Trainings()
    yield started
    started.close()


@pytest.fixture(scope="module")
def uninterrupted(trainings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    status, saved = trainings.run(folder)
    assert (status, saved) == (0, list(range(1, 81)))
    return load(folder / "checkpoint_80.pt")


def check(folder, reported):
    """Check that every file is complete and the last reported one exists. Returns the steps of the files."""
    files = [path for path in folder.iterdir() if not is_temporary(path)]
    steps = sorted(int(re.fullmatch(r"checkpoint_(\d+)\.pt", path.name)[1]) for path in files)
    for path in files:
        assert load(path)["trainer"]["iteration"] == int(path.stem.rpartition("_")[2])
    if reported:
        assert reported[-1] in steps
        assert len(steps) > 1 or reported[-1] == 1
    assert len(steps) <= 3 and steps == list(range(steps[0], steps[0] + len(steps))) if steps else True
    assert len(list(folder.iterdir())) - len(files) <= 1
    return steps


def test_killed_trainings_leave_whole_files_and_end_the_same(trainings, uninterrupted, tmp_path):
    chance = random.Random(5)

    def wait_for(is_so):
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.0002)

    def at_random(pid):
        before = set(tmp_path.glob("*.pt"))
        wait_for(lambda: set(tmp_path.glob("*.pt")) != before)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)

    def half_written():
        for path in tmp_path.glob(".camshaft-*"):
            try:
                if 100_000 < path.stat().st_size < 3_000_000:
                    return True
            except FileNotFoundError:
                pass
        return False

    def while_tensors_are_written(pid):
        wait_for(half_written)
        os.kill(pid, signal.SIGKILL)

    def before_the_superseded_is_removed(pid):
        wait_for(lambda: len(list(tmp_path.glob("*.pt"))) == 3)
        os.kill(pid, signal.SIGKILL)

    steps, kills = [], 0
    for dies_at, watch in [
        (1, None),
        (4, None),
        (0, while_tensors_are_written),
        (0, at_random),
        (1, None),
        (0, before_the_superseded_is_removed),
        (2, None),
        (0, while_tensors_are_written),
        (0, before_the_superseded_is_removed),
        (0, at_random),
        (3, None),
        (0, while_tensors_are_written),
        (0, at_random),
        (0, at_random),
    ]:
        status, reported = trainings.run(tmp_path, dies_at, watch or (lambda pid: None))
        assert status == -signal.SIGKILL
        kills += 1
        if watch is None:
            assert len(reported) == dies_at - 1
            assert len([path for path in tmp_path.iterdir() if is_temporary(path)]) == 1
        steps = check(tmp_path, reported or steps)  # at most one file is written but not reported
    assert kills >= 10 and 0 < steps[-1] < 80

    status, reported = trainings.run(tmp_path)
    assert status == 0 and reported[0] == steps[-1] + 1
    assert names(tmp_path) == ["checkpoint_79.pt", "checkpoint_80.pt"]
    final = load(tmp_path / "checkpoint_80.pt")
    assert same(final["model"], uninterrupted["model"])
    assert final["trainer"] == uninterrupted["trainer"]
    assert final["checkpoint"]["saved"][-1][1] == "checkpoint_80.pt"
