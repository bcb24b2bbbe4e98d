"""Start trainings, kill them, resume them, and compare the results with an uninterrupted training."""

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
from chaos.training import PLACES, Stop, read_logs, train, uninterrupted

__all__ = ["Report", "chaos"]

PATIENCE = 120
"""The seconds after which a process counts as stuck if it has neither reached its place nor ended."""

TIMES = {"handler": 12, "write": 250, "evaluation": 8, "fetch": 32, "worker": 200}
"""By place: the maximum number of times that a process reaches it before it is killed. The default is 1."""

ITERATIONS = 12
"""The maximum number of iterations of a process before the times are counted."""

Spoil = Callable[[dict[str, Any]], None]

# Processes are forked from one that has only imported the slow modules.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch._dynamo", "sklearn.datasets", "camshaft.handlers", "camshaft.metrics"])


@attrs.define
class Report:
    """The results of all kills.

    Attributes:
        planned: by place: the number of planned kills.
        kills: by place: the number of actual kills.
        trainings: the number of trainings. Each was killed several times, and came to its end.
        resumes: the number of processes that resumed from a snapshot.
        unfinished: the temporary names of snapshots that kills left unfinished.
        damaged: the number of snapshots with their final names that could not be loaded after a kill.
        differences: the differences from the uninterrupted training, in words.
        warnings: what each resumed process printed of other data, one a process.
    """

    planned: Counter[str]
    kills: Counter[str] = attrs.field(factory=Counter)
    trainings: int = 0
    resumes: int = 0
    unfinished: set[str] = attrs.field(factory=set)
    damaged: int = 0
    differences: list[str] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)

    @property
    def is_good(self) -> bool:
        """True if all planned kills were made, and no snapshot was damaged and no training differs."""
        return self.kills == self.planned and not self.damaged and not self.differences


def chaos(kills: int, seed: int, folder: Path, spoil: Spoil | None = None, batch_size: int = 32) -> Report:
    """Kill trainings at all places in turn. A killed training is resumed, and killed again, until it ends.

    Args:
        kills: the number of kills.
        seed: the seed of the order of places, and of the number of iterations before a kill.
        folder: an empty folder for the files of all trainings.
        spoil: a function that changes the contents of each snapshot before a process resumes from it.
        batch_size: the number of samples of a batch in processes that resume. At first it is 32.

    Returns:
        The results.
    """
    places = list(islice(cycle(PLACES), kills))
    report = Report(Counter(places))
    generator = random.Random(seed)
    generator.shuffle(places)
    whole = folder / "uninterrupted"
    whole.mkdir()
    with _Process(uninterrupted, whole, 0) as process:
        process.end()
    while places:
        report.trainings += 1
        before, training = len(places), folder / f"training_{report.trainings}"
        training.mkdir()
        try:
            _kill_again_and_again(training, places, generator, report, spoil, batch_size)
            found = [*_wrong_lines(read_logs(training), read_logs(whole)[0]), *_wrong_states(training, whole)]
        except _Failed as failed:
            found = [str(failed)]
        printed = [path.read_text() for path in sorted(training.glob("printed_*.txt"))]
        report.warnings += [text for text in printed if "was written with other data" in text]
        report.differences += [f"training {report.trainings}: {difference}" for difference in found]
        if len(places) == before:  # a whole training did not reach the place
            places.pop()
    return report


def _kill_again_and_again(
    folder: Path, places: list[str], generator: random.Random, report: Report, spoil: Spoil | None, batch_size: int
) -> None:
    """Kill and resume a training until it ends. Each kill takes the next place from the end of the list.

    Raises:
        _Failed: a process did not end as expected.
    """
    for number in count():
        report.resumes += any(folder.glob("snapshot_*.pt"))
        if not places:
            with _Process(train, folder, number, None, batch_size) as process:
                process.end()
            return
        ours, theirs = processes.Pipe(duplex=False)
        times = generator.randint(1, TIMES.get(places[-1], 1))
        stop = Stop(places[-1], generator.randint(0, ITERATIONS), times, theirs)
        with ours, _Process(train, folder, number, stop, batch_size) as process:
            theirs.close()
            if not process.reaches_its_place(ours):
                process.end()
                return
            process.kill()
        report.kills[places.pop()] += 1
        _check_files(folder, report, spoil)


class _Failed(Exception):
    """A process did not end as expected."""


class _Process:
    """A process of a training. The end of the ``with`` block kills it."""

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
            os.killpg(
                self._process.pid, signal.SIGKILL
            )  # the workers of its loader, which would end only after some seconds

    def reaches_its_place(self, connection: Connection) -> bool:
        """Wait until the process reports that it has reached its place. Return False if it ends before."""
        wait([connection, self._process.sentinel], PATIENCE)
        with suppress(EOFError):
            return connection.poll() and connection.recv()
        return False

    def kill(self) -> None:
        """Kill the process, but not its workers.

        Raises:
            _Failed: it had already ended.
        """
        self._process.kill()
        self._process.join()
        if self._process.exitcode != -signal.SIGKILL:
            raise _Failed(f"{self.name} ended with {self._process.exitcode} before it was killed")

    def end(self) -> None:
        """Wait until the process ends.

        Raises:
            _Failed: it does not end in time, or ends with an error.
        """
        self._process.join(PATIENCE)
        if self._process.exitcode is None:
            raise _Failed(f"{self.name} did not end in {PATIENCE} s")
        if self._process.exitcode:
            raise _Failed(f"{self.name} ended with {self._process.exitcode}: {self._printed.read_text()}")


def _printing(path: Path, program: Callable[..., None], *args: Any) -> None:
    """Run a program, and write its errors and those of its workers to a file."""
    os.setpgrp()  # workers that outlive the process are killed with its group
    sys.stderr = path.open("x", buffering=1)
    program(*args)


def _check_files(folder: Path, report: Report, spoil: Spoil | None) -> None:
    """Count the unfinished and damaged snapshots that a killed process left, and spoil the others if requested."""
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
    """Compare the logs of all processes with the log of the uninterrupted one, also after their last snapshots."""
    past = 0
    for number, lines in enumerate(logs):
        first = lines[0][0] if lines else past
        if first > past:
            yield f"process {number} began with line {first}, but no process wrote line {past}"
        past = first + len(lines)
        for line, expected in zip_longest(lines, whole[first:past]):
            if line != expected:
                yield f"process {number} wrote {line}, but the uninterrupted training wrote {expected}"
                break
    if past != len(whole):
        yield f"there are {past} lines instead of {len(whole)}"


def _wrong_states(folder: Path, whole: Path) -> Iterator[str]:
    """Compare all states at the end of the training, bit by bit."""
    found, expected = (dict(_leaves(storage.load(one / "end.pt"))) for one in (folder, whole))
    for place in found | expected:
        if found.get(place) != expected.get(place):
            yield f"{place} differs"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all values of a nested structure with their places. A tensor is yielded as dtype, shape and bytes."""
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
