"""A project for the command line, and runs of the command line in processes that do not import torch again."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

from camshaft import Engine, Events, record

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["camshaft.cli", "camshaft.draw.report"])

FILE = """
from camshaft import Engine, Events
trainer = Engine(lambda engine, batch: batch, name="trainer")
@trainer.on(Events.COMPLETED)
def celebrate(): ...
def loop():
    return trainer.loop
number = 3
"""

PROJECT = """
[tool.camshaft.diagrams]
"pictures/loop.svg" = "train.py:trainer"
"pictures/loop.txt" = { target = "train:loop", level = "full", control = true }
"""


def make_trace(path, handler_times=False):
    with record(handler_times=handler_times) as trace:
        trainer = Engine(lambda engine, batch: batch, name="trainer")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: None)
        trainer.run([1, 2, 3], max_epochs=2)
    trace.save(path)
    return trace


def _main(arguments: list[str], cwd: str, out: str, err: str) -> None:
    """Run ``python -m camshaft`` in this process, in a folder, with files instead of stdout and stderr."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ["COLUMNS"] = "300"
    sys.dont_write_bytecode = True  # a file written twice in one second would be taken for what was compiled before
    sys.path.insert(0, cwd)
    sys.argv = ["camshaft", *arguments]
    runpy.run_module("camshaft", run_name="__main__", alter_sys=True)


def run_command(arguments: list[str], cwd: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process.

    Args:
        arguments: the arguments after ``camshaft``.
        cwd: the working directory.
        folder: the folder of the files that replace stdout and stderr.
    """
    out, err = (folder / f"{name}.txt" for name in ("stdout", "stderr"))
    process = PROCESSES.Process(target=_main, args=(arguments, str(cwd), str(out), str(err)))
    process.start()
    process.join(120)
    assert process.exitcode is not None, f"camshaft {arguments} takes too long"
    said = [path.read_text(encoding="utf-8") for path in (out, err)]
    for path in (out, err):
        path.unlink()
    return subprocess.CompletedProcess(["camshaft", *arguments], process.exitcode, *said)
