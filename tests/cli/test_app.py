"""The command line, run as a user runs it."""

from __future__ import annotations

import pytest

from camshaft import Engine, Phase, record


@pytest.mark.parametrize("target", ["train.py:trainer", "train:trainer", "train.py:loop"])
def test_source_prints_the_loop_that_runs(run, target):
    assert run("source", target).stdout == Engine(lambda engine, batch: batch).source()


def test_show_prints_the_tree_and_the_machine(run):
    shown = run("show", "train.py:trainer").stdout
    assert shown.startswith("STARTED\nEPOCH\n  ITERATION  for each batch\n    STEP  (opaque)\nCOMPLETED\n")
    assert "  EPOCH_STARTED -> EPOCH\n      if epoch < max_epochs\n" in shown


def test_check_judges_a_recorded_trace(run, tmp_path):
    with record() as trace:
        Engine(lambda engine, batch: batch).run([1, 2])
    trace.save(tmp_path / "run.jsonl")
    done = run("check", "run.jsonl")
    assert (done.returncode, done.stdout) == (0, "run.jsonl: 12 events in 1 run, all legal\n")
    text = (tmp_path / "run.jsonl").read_text()
    (tmp_path / "run.jsonl").write_text(text.replace('"iteration_started", 2', '"iteration_started", 3'))
    done = run("check", "run.jsonl")
    assert done.returncode == 1
    assert "ITERATION_STARTED is miscounted" in done.stderr
    (tmp_path / "run.jsonl").write_text(text[:-30])
    for unread in ("run.jsonl", "nowhere.jsonl"):  # what cannot be judged is not illegal
        done = run("check", unread)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_check_judges_by_another_loop(run, tmp_path):
    engine = Engine([Phase("FORWARD", lambda engine, batch: None), Phase("BACKWARD")], "trainer")
    with record() as trace:
        engine.run([1, 2])
    trace.save(tmp_path / "run.jsonl")
    (tmp_path / "loops.py").write_text(
        "from camshaft import DATA, Loop, Phase\n"
        "def loop(*names):\n"
        "    return Loop('EPOCH', Loop('ITERATION', *map(Phase, names), over=DATA))\n"
        "def same(): return loop('FORWARD', 'BACKWARD')\n"
        "def other(): return loop('FORWARD', 'CLIP', 'BACKWARD')\n"
    )
    assert run("check", "run.jsonl", "--loop", "loops.py:same").returncode == 0
    done = run("check", "run.jsonl", "--loop", "loops:other")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "EventOrderError: trainer event #8 BACKWARD_STARTED is illegal in EPOCH 1 / ITERATION 1 / after FORWARD",
        "    6  FORWARD_STARTED",
        "    7  FORWARD_COMPLETED",
        "  > 8  BACKWARD_STARTED",
        "  expected: CLIP_STARTED | TERMINATE | INTERRUPT | TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED",
        "  nearest legal order: CLIP_STARTED and CLIP_COMPLETED come first",
    ]
    done = run("check", "run.jsonl", "--loop", "loops.py:nothing")
    assert done.returncode == 2
    assert "has no attribute 'nothing'" in done.stderr
