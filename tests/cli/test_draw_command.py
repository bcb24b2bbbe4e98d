"""`camshaft draw`, as a user runs it."""

from __future__ import annotations

import pytest

from camshaft import Engine, Phase, record
from support.command_line import make_trace


@pytest.mark.parametrize("target", ["train.py:trainer", "train:trainer", "train.py:loop"])
def test_a_picture_goes_to_the_terminal(run, target):
    shown = run("draw", target)
    assert shown.returncode == 0
    assert "│  │  ╭─ ITERATION  for each batch" in shown.stdout


@pytest.mark.parametrize("ending", ["svg", "mmd", "dot", "txt", "html"])
def test_a_picture_goes_to_a_file(run, folder, ending):
    assert run("draw", "train.py:trainer", "-o", f"out.{ending}").returncode == 0
    assert (folder / f"out.{ending}").read_text() == Engine(lambda engine, batch: batch, "trainer").diagram().rendered(
        f".{ending}"
    )


def test_options_say_what_is_shown(run):
    assert "GET_BATCH" not in run("draw", "train.py:trainer").stdout
    assert "[GET_BATCH]" in run("draw", "train.py:trainer", "--level", "full").stdout
    assert "[FAILED]" in run("draw", "train.py:trainer", "--control").stdout
    assert "› celebrate" in run("draw", "train.py:trainer", "--handlers").stdout


def test_a_trace_is_drawn_over_it(run, folder):
    make_trace(folder / "run.jsonl")
    assert "ITERATION_COMPLETED ×6" in run("draw", "train.py:trainer", "--trace", "run.jsonl").stdout
    assert "ITERATION_COMPLETED ×6" in run("draw", "train.py:loop", "--trace", "run.jsonl").stdout
    with record() as trace:
        Engine(lambda engine, batch: batch, name="other").run([1])
    trace.save(folder / "other.jsonl")
    done = run("draw", "train.py:trainer", "--trace", "other.jsonl")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "other.jsonl has no run of trainer; it has runs of other" in done.stderr


def test_a_trace_of_another_loop_is_refused(run, folder):
    with record() as trace:
        Engine([Phase("CLIP", lambda e, b: None)], name="trainer").run([1])
    trace.save(folder / "run.jsonl")
    done = run("draw", "train.py:trainer", "--trace", "run.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        "camshaft: run.jsonl was recorded from another loop: CLIP_STARTED of trainer is no event of this loop\n"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train.py:number"], "camshaft: train.py:number must be an Engine, a Loop, or a function"),
        (["train.py:nothing"], "has no attribute 'nothing'"),
        (["nowhere.py:trainer"], "no file nowhere.py"),
        (["train.py"], "write package.module:name"),
        ([], "give a TARGET"),
        (["train.py:trainer", "--all"], "give a TARGET with its options, or --all"),
        (["--all", "--level", "full"], "give a TARGET with its options, or --all"),
        (["train.py:trainer", "-o", "out.png"], "use .svg, .mmd, .dot, .txt, .html"),
        (["train.py:trainer", "-o", "nowhere/out.svg"], "No such file"),
        (["train.py:trainer", "--trace", "train.py"], "train.py"),
        (["train.py:trainer", "--level", "all"], "'all' is not one of"),
    ],
)
def test_what_cannot_be_drawn_says_why(run, arguments, why):
    done = run("draw", *arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr
