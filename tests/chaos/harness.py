"""Starts trainings, kills them, has others go on, and compares what comes of it with a training that nobody killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, cycle, islice, zip_longest
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import attrs
import torch

from camshaft.exceptions import StorageError
from camshaft.resume import storage
from chaos.training import PLACES, Stop, kept, train, uninterrupted

__all__ = ["Report", "chaos"]

PATIENCE = 120
"""Seconds after which a process that has neither come to its place nor ended is given up."""

TIMES = {"handler": 12, "write": 250, "evaluation": 8, "fetch": 32, "worker": 200}
"""At which time at a place a process is killed, at most; at the first one where not given."""

ITERATIONS = 12
"""How many iterations a process does before times count, at most."""

Spoil = Callable[[dict[str, Any]], None]

# Processes are forked from one that has imported what takes long, and has done nothing yet.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch._dynamo", "sklearn.datasets", "camshaft.handlers", "camshaft.metrics"])


@attrs.define
class Report:
    """What happened.

    Attributes:
        asked, kills: by place, how many kills were asked for, and how many there were.
        trainings: how many were begun, killed again and again, and came to their end.
        resumes: how many processes went on from a snapshot.
        unfinished: the temporary names of snapshots that kills have left unfinished.
        damaged: snapshots under their final names that cannot be loaded after a kill.
        differences: what is not as in the training that nobody killed.
    """

    asked: Counter[str]
    kills: Counter[str] = attrs.field(factory=Counter)
    trainings: int = 0
    resumes: int = 0
    unfinished: set[str] = attrs.field(factory=set)
    damaged: int = 0
    differences: list[str] = attrs.field(factory=list)

    @property
    def is_good(self) -> bool:
        """Whether there were all kills that were asked for, and nothing came of them."""
        return self.kills == self.asked and not self.damaged and not self.differences


def chaos(kills: int, seed: int, folder: Path, spoil: Spoil | None = None) -> Report:
    """Kill so many times, at all places in turn: a training that was killed goes on, and is killed again until it ends.

    Args:
        kills: how many.
        seed: decides which place comes when, and how far a training gets before.
        folder: an empty one, which takes the files of all trainings.
        spoil: changes the contents of each snapshot before a process goes on from it.
    """
    places = list(islice(cycle(PLACES), kills))
    report = Report(Counter(places))
    chance = random.Random(seed)
    chance.shuffle(places)
    whole = folder / "uninterrupted"
    whole.mkdir()
    with _Process(uninterrupted, whole, 0) as process:
        process.end()
    while places:
        report.trainings += 1
        left, training = len(places), folder / f"training_{report.trainings}"
        training.mkdir()
        try:
            _kill_again_and_again(training, places, chance, report, spoil)
            found = [*_wrong_lines(kept(training), kept(whole)[0]), *_wrong_states(training, whole)]
        except _Failed as failed:
            found = [str(failed)]
        report.differences += [f"training {report.trainings}: {one}" for one in found]
        if len(places) == left:  # a whole training has not come there
            places.pop()
    return report


def _kill_again_and_again(
    folder: Path, places: list[str], chance: random.Random, report: Report, spoil: Spoil | None
) -> None:
    """Kill a training at places that are taken from the end of a list, until it has ended.

    Raises:
        _Failed: it ended otherwise.
    """
    for number in count():
        report.resumes += any(folder.glob("snapshot_*.pt"))
        if not places:
            with _Process(train, folder, number, None) as process:
                process.end()
            return
        ours, theirs = processes.Pipe(duplex=False)
        times = chance.randint(1, TIMES.get(places[-1], 1))
        stop = Stop(places[-1], chance.randint(0, ITERATIONS), times, theirs)
        with ours, _Process(train, folder, number, stop) as process:
            theirs.close()
            if not process.comes_to_its_place(ours):
                process.end()
                return
            process.kill()
        report.kills[places.pop()] += 1
        _look_through(folder, report, spoil)


class _Failed(Exception):
    """A process did not end as it was meant to."""


class _Process:
    """A process of a training, which lives as long as the ``with`` block at most."""

    def __init__(self, program: Callable[..., None], folder: Path, number: int, *args: Any) -> None:
        self.name = f"process {number}"
        self._printed = folder / f"printed_{number:03}.txt"
        self._process = processes.Process(target=_printing, args=(self._printed, program, folder, number, *args))

    def __enter__(self) -> _Process:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its workers, which would notice after some seconds

    def comes_to_its_place(self, there: Connection) -> bool:
        """Wait until it says that it has come there; False when it ends without."""
        wait([there, self._process.sentinel], PATIENCE)
        with suppress(EOFError):
            return there.poll() and there.recv()
        return False

    def kill(self) -> None:
        """Kill it, and not its workers.

        Raises:
            _Failed: it has ended before.
        """
        self._process.kill()
        self._process.join()
        if self._process.exitcode != -signal.SIGKILL:
            raise _Failed(f"{self.name} ended with {self._process.exitcode} before it was killed")

    def end(self) -> None:
        """Wait until it has ended by itself.

        Raises:
            _Failed: it does not, or not well.
        """
        self._process.join(PATIENCE)
        if self._process.exitcode is None:
            raise _Failed(f"{self.name} did not end in {PATIENCE} s")
        if self._process.exitcode:
            raise _Failed(f"{self.name} ended with {self._process.exitcode}: {self._printed.read_text()}")


def _printing(path: Path, program: Callable[..., None], *args: Any) -> None:
    """Run a program whose errors, and those of the workers that it leaves behind, go into a file."""
    os.setpgrp()  # so that these workers can be ended
    sys.stderr = path.open("x", buffering=1)
    program(*args)


def _look_through(folder: Path, report: Report, spoil: Spoil | None) -> None:
    """See what a process has left."""
    report.unfinished |= {path.name for path in folder.iterdir() if storage.is_temporary(path)}
    for path in folder.glob("snapshot_*.pt"):
        try:
            state = storage.load(path)
        except StorageError:
            report.damaged += 1
            continue
        if spoil is not None:
            spoil(state)
            storage.save(path, state)


def _wrong_lines(logs: list[list[list[Any]]], whole: list[list[Any]]) -> Iterator[str]:
    """Compare all that processes have written down, what is behind their last snapshots too, with the lines of one."""
    past = 0
    for number, lines in enumerate(logs):
        first = lines[0][0] if lines else past
        if first > past:
            yield f"process {number} began with line {first}, and no other had written line {past}"
        past = first + len(lines)
        for line, expected in zip_longest(lines, whole[first:past]):
            if line != expected:
                yield f"process {number} wrote {line}, and the run that nobody killed {expected}"
                break
    if past != len(whole):
        yield f"there are {past} lines, and not {len(whole)}"


def _wrong_states(folder: Path, whole: Path) -> Iterator[str]:
    """Compare what has become of everything, bit by bit."""
    found, expected = (dict(_leaves(storage.load(one / "end.pt"))) for one in (folder, whole))
    for place in found | expected:
        if found.get(place) != expected.get(place):
            yield f"{place} differs"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """All values in a nest, by where they are; of tensors, what they consist of."""
    if isinstance(value, dict):
        value = value.items()
    elif isinstance(value, (list, tuple)):
        value = enumerate(value)
    elif isinstance(value, torch.Tensor):
        yield place, (value.dtype, value.shape, value.numpy().tobytes())
        return
    else:
        yield place, repr(value)
        return
    for key, inner in value:
        yield from _leaves(inner, f"{place}.{key}".removeprefix("."))
