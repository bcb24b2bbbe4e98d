"""Programs: debuggers and tracebacks show their source, and loops with the same structure share one."""

from __future__ import annotations

import gc
import subprocess
import sys
import traceback
import weakref

import pytest

from camshaft import Engine, Events, Phase, every
from support.steps import echo


def test_loops_of_one_structure_share_only_their_program():
    first, second = Engine([Phase("A", echo)]), Engine([Phase("A", lambda engine, batch: -batch)])
    assert first._program is second._program
    assert first._namespace is not second._namespace
    assert (first.run([3]).output, second.run([3]).output) == (3, -3)


def test_a_traceback_shows_the_lines_of_the_loop():
    def bad(engine, batch):
        raise ValueError("bad batch")

    with pytest.raises(ValueError, match="bad batch") as caught:
        Engine([Phase("BACKWARD", bad)], name="trainer").run([1, 2])
    text = "".join(traceback.format_exception(caught.value))
    assert "output = backward(engine, state.batch)" in text
    assert "in trainer: EPOCH 1 / ITERATION 1 / BACKWARD" in text


def test_an_uncaught_traceback_shows_the_lines_of_the_loop(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("from camshaft import Engine\nEngine(lambda engine, batch: 1 / 0, name='trainer').run([1])\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "    state.output = step(engine, state.batch)\n" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\nin trainer: EPOCH 1 / ITERATION 1\n")


def test_a_breakpoint_in_the_loop_works_in_pdb(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "from camshaft import Engine\ntrainer = Engine(lambda engine, batch: batch + 1)\ntrainer.run([41])\n"
    )
    number = 1 + Engine(echo).source().splitlines().index(" " * 28 + "state.output = step(engine, state.batch)")
    stop_inside = "b train.py:3\nc\nb trainer._namespace['epoch_loop']\nc\n"
    commands = f"{stop_inside}b {number}\nc\np state.batch\nn\np state.output\nq\n"
    done = subprocess.run(
        [sys.executable, "-m", "pdb", script], input=commands, capture_output=True, text=True, timeout=120
    )
    assert "epoch_loop_" in done.stdout
    assert "state.output = step(engine, state.batch)" in done.stdout
    assert "(Pdb) 41" in done.stdout
    assert "(Pdb) 42" in done.stdout


def test_a_step_that_raises_stop_iteration_leaves_as_runtime_error():
    def stop(engine, batch):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        Engine(stop).run([1])


def test_a_finished_engine_is_freed_without_the_garbage_collector():
    def evaluate():
        engine = Engine([Phase("A", echo, when=every(2))], name="trainer")
        engine.register_events("marked", after="A")
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda engine: None)
        engine.add_event_handler("marked", lambda: None)
        engine.run([1, 2, 3], max_epochs=2)
        list(engine.steps([1, 2, 3], max_epochs=4))
        return weakref.ref(engine)

    evaluate()
    gc.collect()
    gc.disable()
    try:
        assert evaluate()() is None
    finally:
        gc.enable()
