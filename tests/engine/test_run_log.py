"""What engines log at INFO: starts, ends, epochs, control calls and failures. By default, nothing."""

import logging
import re
import subprocess
import sys

import pytest

from camshaft import DATA, Engine, Events, Loop, Phase, Snapshot
from camshaft.handlers import EarlyStopping, TerminateOnNan, TimeLimit
from support.steps import no_op


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="camshaft")
    return lambda: [re.sub(r"\d+\.\d{3} s", "_ s", line.getMessage()) for line in caplog.records]


def test_a_run_and_its_epochs_are_logged(lines):
    Engine(no_op).run([1, 2, 3], max_epochs=2)
    assert lines() == [
        "run starts with max_epochs=2, epoch_length=3",
        "EPOCH 1 completed in _ s",
        "EPOCH 2 completed in _ s",
        "run completed in _ s, after epoch 2, iteration 6",
    ]


def test_a_nested_run_is_logged_inside_the_epoch(lines, caplog):
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
    trainer.run([1, 2])
    assert [line.name.partition(".")[2] for line in caplog.records] == [
        "trainer",
        *["evaluator"] * 3,
        *["trainer"] * 2,
    ]


@pytest.mark.parametrize("how", ["run", "steps"])
def test_a_pause_and_what_follows_are_logged(lines, how):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    for call in ({"data": [1, 2, 3]}, {}):
        if how == "run":
            engine.run(**call)
        else:
            for _ in engine.steps(**call):
                pass
    assert lines() == [
        "run starts with max_epochs=1, epoch_length=3",
        "run paused in EPOCH 1 / ITERATION 2",
        "run continues after epoch 1, iteration 2, with max_epochs=1, epoch_length=3",
        "EPOCH 1 completed in _ s",
        "run completed in _ s, after epoch 1, iteration 3",
    ]


def test_a_resumed_run_says_after_what(tmp_path, lines):
    for resume in (None, "latest"):
        engine = Engine(no_op)
        snapshot = Snapshot(engine, tmp_path)
        if resume is None:
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: (snapshot(), engine.interrupt()))
        engine.run([1, 2, 3], resume=resume)
    assert lines()[2] == "run continues after epoch 1, iteration 2, with max_epochs=1, epoch_length=3"


def stop_by_hand(engine):
    engine.terminate()


def early(engine):
    return EarlyStopping(1, lambda _: 1.0, engine)


ENDS = {
    "by hand": (lambda engine: stop_by_hand, rf"terminate\(\) was called at .*{__name__.rpartition('.')[2]}.*"),
    "attached": (lambda engine: engine.terminate, r"terminate\(\) was called"),
    "a reason": (lambda engine: lambda: engine.terminate(reason="enough"), "enough"),
    "a flag": (lambda engine: lambda: setattr(engine, "should_terminate", True), r"should_terminate was set at .*"),
    "EarlyStopping": (early, "EarlyStopping: 1 scores without improvement over 1.0"),
    "TerminateOnNan": (lambda engine: TerminateOnNan(), "TerminateOnNan: output is nan"),
    "TimeLimit": (lambda engine: TimeLimit(1e-9), "TimeLimit: the run has reached its limit of 1e-09 s"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_who_ends_a_run_is_logged_and_kept(lines, kind):
    make, words = ENDS[kind]
    engine = Engine(lambda engine, batch: float("nan"))
    engine.add_event_handler(Events.ITERATION_COMPLETED, make(engine))
    engine.run([1, 2, 3])
    (line,) = [line for line in lines() if line.startswith("the run is to end: ")]
    place = f"in EPOCH 1 / ITERATION {2 if kind == 'EarlyStopping' else 1}"
    assert re.fullmatch(f"the run is to end: {words}, {place}", line)
    assert engine.end_reason == line.partition(": ")[2]
    assert re.fullmatch(r"run completed in _ s, after epoch 1, iteration \d", lines()[-1])
    engine.close()
    while engine.handlers(Events.ITERATION_COMPLETED):
        engine.remove_event_handler(engine.handlers(Events.ITERATION_COMPLETED)[0].function, Events.ITERATION_COMPLETED)
    engine.run([1])
    assert engine.end_reason is None


def test_a_run_without_completed_is_logged_too(lines):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: engine.terminate(skip_completed=True))
    engine.run([1, 2])
    assert lines()[-1] == "run terminated, after epoch 1, iteration 1"


def test_a_failure_is_logged_with_its_place(lines):
    engine = Engine([Phase("FORWARD", lambda engine, batch: 1 / batch)])
    with pytest.raises(ZeroDivisionError):
        engine.run([1, 0])
    assert lines()[-1] == "run failed in EPOCH 1 / ITERATION 2 / FORWARD: ZeroDivisionError('division by zero')"
    engine = Engine(no_op)

    @engine.on(Events.EPOCH_STARTED)
    def prepare(engine):
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        engine.run([1])
    name = "test_a_failure_is_logged_with_its_place.prepare"
    assert lines()[-1] == f"run failed in EPOCH 1, at EPOCH_STARTED, in handler {name}: OSError('full')"


def test_other_loops_are_logged_with_their_names(lines):
    loop = Loop("ROUND", Loop("PLAY", Phase("ACT", no_op), times=2))
    Engine(loop).run(max_epochs=1)
    assert lines() == [
        "run starts with max_epochs=1",
        "ROUND 1 completed in _ s",
        "run completed in _ s, after round 1, play 2",
    ]


def test_nothing_is_printed_unless_logging_is_set_up():
    program = "from camshaft import Engine; e = Engine(lambda e, b: e.terminate()); e.run([1]); print(e.end_reason)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == (
        "terminate() was called at <string>:1 in <lambda>, in EPOCH 1 / ITERATION 1\n",
        "",
    )


def test_iterations_of_a_loop_without_epochs_are_not_logged(lines):
    Engine(Loop("ITERATION", Phase("ACT", no_op), over=DATA)).run([1, 2, 3])
    assert lines() == ["run starts with epoch_length=3", "run completed in _ s, after iteration 3"]


@pytest.mark.parametrize("event", [Events.COMPLETED, Events.TERMINATE, Events.EXCEPTION_RAISED])
def test_a_call_without_effect_is_no_reason(lines, event):
    engine = Engine(lambda engine, batch: 1 / batch)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: engine.terminate(reason="first"))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: engine.terminate(reason="second"))
    engine.add_event_handler(event, lambda *_: engine.terminate(reason="late") or True)
    engine.run([0 if event is Events.EXCEPTION_RAISED else 1, 1])
    reason = None if event is Events.EXCEPTION_RAISED else "first, in EPOCH 1 / ITERATION 1"
    assert engine.end_reason == reason
    assert not any("second" in line or "late" in line for line in lines())
    engine.terminate(reason="outside")
    assert engine.end_reason == reason and engine.should_terminate is True
