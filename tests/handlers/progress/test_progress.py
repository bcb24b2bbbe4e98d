"""Progress bars as a user sees them: real runs in a real pseudo-terminal, read by a terminal emulator; and in logs."""

import gc
import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
import textwrap
import weakref
from contextlib import suppress

import numpy
import pyte
import pytest
import torch
from rich.console import Console
from torch import nn

import camshaft
from camshaft import (
    DATA,
    Engine,
    Events,
    Loop,
    Phase,
    create_supervised_evaluator,
    create_supervised_trainer,
    record,
)
from camshaft.handlers import ProgressBar
from camshaft.metrics import Accuracy
from support.steps import echo

PRELUDE = """
import logging, os, signal, sys, time, warnings
from camshaft import Engine, Events
from camshaft.handlers.progress import ProgressBar
"""


class Seen:
    """What a terminal showed: the screen before each redrawing of the bars, and at the end."""

    def __init__(self, raw, columns):
        screen, self.screens = pyte.Screen(columns, 40), []
        stream = pyte.ByteStream(screen)
        for piece in re.split(rb"(?=\r\x1b\[2K)", raw):
            stream.feed(piece)
            self.screens.append([line.rstrip() for line in screen.display if line.strip()])
        self.lines = self.screens[-1]
        self.cursor_hidden = screen.cursor.hidden
        self.column = screen.cursor.x

    def during(self, *patterns):
        """Whether at some moment the last lines of the screen were these."""
        return any(
            len(lines) >= len(patterns) and all(map(re.fullmatch, patterns, lines[-len(patterns) :]))
            for lines in self.screens
        )


def raw_output(program, *argv, columns=100, stderr=None):
    """Run a program in a pseudo-terminal of its own; returns the bytes that it sent to the screen."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, columns))
    before, raw = termios.tcgetattr(slave), b""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), *argv],
        stdin=slave,
        stdout=slave,
        stderr=stderr or slave,
        env=environment | {"TERM": "xterm-256color", "PYTHONWARNINGS": "ignore::DeprecationWarning"},
        start_new_session=True,
    )
    while True:
        over = child.poll() is not None  # asked before reading: what it wrote last is there
        if select.select([master], [], [], 0.05)[0]:
            raw += os.read(master, 1 << 16)
        elif over:
            break
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    assert child.returncode == 0, raw.decode()
    return raw


def in_terminal(program, *argv, columns=100, stderr=None):
    return Seen(raw_output(program, *argv, columns=columns, stderr=stderr), columns)


def in_pipe(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def log():
    """A bar that writes to a file, and what it has written, without times."""

    class Log:
        def __init__(self):
            self.file = io.StringIO()
            self.bar = ProgressBar(console=Console(file=self.file))

        @property
        def lines(self):
            return [
                re.sub(r"  \d+:\d\d( < \d+:\d\d)?(  \S+/s)?", "", line) for line in self.file.getvalue().splitlines()
            ]

    return Log()


# -- in a terminal --------------------------------------------------------------------------------------------------

NESTED = """
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def slowly(engine, batch):
        time.sleep(0.03)
        return 1 / engine.state.iteration

    trainer, evaluator = Engine(slowly, name="trainer"), Engine(slowly, name="evaluator")
    bar = ProgressBar(**eval(sys.argv[1]))
    bar.attach(trainer, output_transform=lambda loss: {"loss": loss})
    bar.attach(evaluator)
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=range(12))

    @trainer.on(Events.ITERATION_COMPLETED(every=5))
    def talk(engine):
        print("printed in", engine.state.iteration, "[bold]as it is[/nothing]")
        logging.info("logged in %d", engine.state.iteration)
        print("begun, ", end="", flush=True)
        print("and ended")
        print("long" * 40, file=sys.stderr)

    trainer.run(range(10), max_epochs=2)
    logging.info("logged after")
    print("streams restored:", sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__)
"""

TALK = [
    said
    for iteration in (5, 10, 15, 20)
    for said in (
        f"printed in {iteration} [bold]as it is[/nothing]",
        f"logged in {iteration}",
        "begun, and ended",
        "long" * 25,
        "long" * 15,
    )
]


def test_bars_of_trainer_and_evaluator_stand_below_what_is_printed_and_logged_and_leave_nothing():
    seen = in_terminal(NESTED, "{}")
    trainer, evaluator = (
        r"trainer epoch 2/2 ━+ 10/10 100% 0:\d\d +\d+\.\d/s loss=0.05",
        r"evaluator +━+[╸╺]?━* +\d+/12 +\d+% 0:00( < 0:00)? +\d+\.\d/s",
    )
    assert seen.during("long" * 15, trainer, evaluator)
    assert seen.during("long" * 15, r"trainer epoch 1/2 +[━╸╺]+ +\d/10 +\d0% 0:00 < 0:00 \d+\.\d/s loss=0\.\d+")
    assert seen.lines == [*TALK, "logged after", "streams restored: True"]
    assert (seen.cursor_hidden, seen.column) == (False, 0)


def test_bars_that_persist_stay_in_the_order_in_which_they_closed():
    seen = in_terminal(NESTED, "{'persist': True}")
    rows = [line for line in seen.lines if "━" in line]
    assert [re.match(r"(.*?) +━+ (\S+) 100% ", row).groups() for row in rows] == [
        ("evaluator", "12/12"),
        ("trainer epoch 1/2", "10/10"),
        ("evaluator", "12/12"),
        ("trainer epoch 2/2", "10/10"),
    ]
    assert [line for line in seen.lines if "━" not in line] == [*TALK, "logged after", "streams restored: True"]
    assert not seen.cursor_hidden


def test_a_narrow_terminal_cuts_values_and_never_numbers():
    seen = in_terminal(NESTED, "{}", columns=56)
    assert seen.during(
        r"trainer epoch 2/2 ━+ 10/10 100% 0:\d\d +\d+\.\d/s \S*…",
        r"evaluator +[━╸╺]+ +\d+/12 +\d+% 0:00( < 0:00)? +\d+\.\d/s",
    )


def test_values_may_have_brackets_and_new_lines():
    seen = in_terminal("""
        engine = Engine(lambda engine, batch: time.sleep(0.03) or "[red]\\nx[/]", name="[b]engine[/b]")
        ProgressBar().attach(engine, output_transform=lambda output: output)
        engine.run(range(10))
    """)
    assert seen.during(r"\[b\]engine\[/b\] .*/10 .* output=\[red\] x\[/\]")
    assert seen.lines == []


ENDINGS = """
    for how in sys.argv[1:]:  # each in a process of its own
        print("=====", how, flush=True)
        child = os.fork()
        if not child:
            break
        os.waitpid(child, 0)
    else:
        sys.exit()

    trainer = Engine(lambda engine, batch: time.sleep(0.02), name="trainer")
    evaluator = Engine(lambda engine, batch: time.sleep(0.02), name="evaluator")
    bar = ProgressBar()
    bar.attach(trainer, closing_event_name=Events.COMPLETED if how == "whole run" else None)
    bar.attach(evaluator)

    def fail():
        raise ArithmeticError("fault")

    @trainer.on(Events.ITERATION_COMPLETED(once=7))
    def act(engine):
        if how in ("terminate", "whole run"):
            engine.terminate()
        elif how == "terminate, no COMPLETED":
            engine.terminate(skip_completed=True)
        elif how == "terminate_epoch":
            engine.terminate_epoch()
        elif how == "terminate_epoch, no EPOCH_COMPLETED":
            engine.terminate_epoch(skip_epoch_completed=True)
        elif how == "interrupt":
            engine.interrupt()
        elif how == "Ctrl+C":
            signal.raise_signal(signal.SIGINT)
        elif how in ("exception", "swallowed", "fails twice"):
            fail()
        elif how in ("evaluator fails", "evaluator pauses"):
            evaluator.run(range(10))

    if how == "evaluator fails":
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=5), fail)
    if how == "evaluator pauses":
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=5), evaluator.interrupt)
    if how == "swallowed":
        trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: True)
    if how == "fails twice":
        trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: fail())
    try:
        if how == "steps left":
            for event in trainer.steps(range(10), max_epochs=2):
                if trainer.state.iteration == 7:
                    break
            sys.exit()
        trainer.run(range(10), **({"max_iters": 7} if how == "max_iters" else {"max_epochs": 2}))
    except (ArithmeticError, KeyboardInterrupt) as error:
        print("left run():", type(error).__name__)
    print("streams restored:", sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__)
"""


WAYS = [
    "completed",
    "terminate",
    "terminate, no COMPLETED",
    "whole run",
    "terminate_epoch",
    "terminate_epoch, no EPOCH_COMPLETED",
    "max_iters",
    "interrupt",
    "Ctrl+C",
    "exception",
    "swallowed",
    "fails twice",
    "evaluator fails",
    "evaluator pauses",
    "steps left",
]


@pytest.fixture(scope="module")
def endings():
    parts = re.split(rb"===== (.*)\r\n", raw_output(ENDINGS, *WAYS))[1:]
    return {how.decode(): Seen(raw, 100) for how, raw in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("how", WAYS)
def test_however_a_run_ends_the_terminal_is_left_as_it_was(endings, how):
    seen = endings[how]
    total = {"whole run": 20, "max_iters": 7}.get(how, 10)
    assert seen.during(rf"trainer.* [1-7]/{total} .*")
    assert seen.during(r"trainer.*", r"evaluator.* \d/10 .*") == (how in ("evaluator fails", "evaluator pauses"))
    left = {"Ctrl+C": "KeyboardInterrupt", "swallowed": None}
    error = left.get(how, "ArithmeticError" if how in ("exception", "fails twice", "evaluator fails") else None)
    expected = [f"left run(): {error}"] if error else []
    assert seen.lines == ([] if how == "steps left" else [*expected, "streams restored: True"])
    assert (seen.cursor_hidden, seen.column) == (False, 0)


def test_a_run_that_was_interrupted_goes_on_where_the_bar_stood():
    seen = in_terminal("""
        engine = Engine(lambda engine, batch: time.sleep(0.05), name="trainer")
        ProgressBar().attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=17), engine.interrupt)
        engine.run(range(10), max_epochs=2)
        print("paused")
        engine.run()
    """)
    first = next(screen[1] for screen in seen.screens if len(screen) > 1 and screen[0] == "paused")
    assert re.match(r"trainer epoch 2/2 [━╸╺]+ +8/10 +80% ", first)
    assert seen.during("paused", r"trainer epoch 2/2 ━+ 10/10 100% .*")
    assert seen.lines == ["paused"]


def test_workers_of_a_dataloader_may_print_while_the_bar_stands():
    seen = in_terminal("""
        from torch.utils.data import DataLoader, Dataset
        class Talking(Dataset):
            def __len__(self):
                return 6
            def __getitem__(self, index):
                print("worker read", index)
                time.sleep(0.05)
                return index
        engine = Engine(lambda engine, batch: batch.item(), name="trainer")
        ProgressBar().attach(engine)
        engine.run(DataLoader(Talking(), num_workers=1, prefetch_factor=1), max_epochs=2)
    """)
    assert seen.lines == [f"worker read {index}" for index in range(6)] * 2
    assert not seen.cursor_hidden


def test_what_is_redirected_to_a_file_stays_out_of_the_terminal(tmp_path):
    path = tmp_path / "err.log"
    with path.open("w") as file:
        seen = in_terminal(NESTED, "{}", stderr=file)
    assert path.read_text().splitlines() == [
        *(said for i in (5, 10, 15, 20) for said in (f"logged in {i}", "long" * 40)),
        "logged after",
    ]
    assert not any("logged" in line for lines in seen.screens for line in lines)
    assert seen.during("begun, and ended", r"trainer epoch 2/2 .*")


def test_a_bar_on_standard_error_leaves_standard_output_to_its_file(tmp_path):
    seen = in_terminal(
        """
        from rich.console import Console
        sys.stdout = open(sys.argv[1], "w")
        engine = Engine(lambda engine, batch: print("step", batch) or time.sleep(0.05), name="trainer")
        ProgressBar(console=Console(stderr=True)).attach(engine)
        engine.run(range(5))
    """,
        str(tmp_path / "out.log"),
    )
    assert seen.during(r"trainer +━+ +5/5 100% .*")
    assert seen.lines == []
    assert (tmp_path / "out.log").read_text() == "".join(f"step {i}\n" for i in range(5))


# -- without a terminal ---------------------------------------------------------------------------------------------


def test_a_log_file_gets_one_plain_line_when_a_bar_closes_even_with_colours_forced():
    done = in_pipe(
        """
        trainer = Engine(lambda engine, batch: 0.25, name="trainer")
        evaluator = Engine(lambda engine, batch: time.sleep(0.3), name="evaluator")
        bar = ProgressBar()
        bar.attach(trainer, output_transform=lambda loss: {"loss": loss})
        bar.attach(evaluator)
        trainer.nest(evaluator, on=Events.COMPLETED, data=[1])
        trainer.run(range(2000), max_epochs=2)
    """,
        FORCE_COLOR="1",
    )
    rate = r"  [\d.]+/s"
    assert re.fullmatch(
        rf"trainer epoch 1/2  2000/2000  100%  0:00{rate}  loss=0.25\n"
        rf"trainer epoch 2/2  2000/2000  100%  0:00{rate}  loss=0.25\n"
        rf"evaluator  1/1  100%  0:00{rate}\n",
        done.stdout,
    )
    assert done.stderr == ""


def test_nothing_is_written_to_a_log_where_bars_shall_not_persist(log):
    log.bar.persist = False
    engine = Engine(echo)
    log.bar.attach(engine)
    engine.run([1, 2], max_epochs=3)
    assert log.lines == []


def test_a_line_is_not_wrapped_and_stands_beside_messages(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, output_transform=lambda output: {f"a long name {i}": output for i in range(20)})
    engine.add_event_handler(Events.COMPLETED, lambda: log.bar.log_message("[b]all done[/b] :smile: " + "x" * 100))
    engine.run([1])
    assert len(log.lines) == 2
    assert log.lines[0].endswith("a long name 19=1")
    assert log.lines[1] == "[b]all done[/b] :smile: " + "x" * 100


def test_data_of_unknown_length_is_counted_until_the_first_epoch_tells(log):
    seen = []
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: seen.append(e.state.epoch_length))

    class Stream:
        def __iter__(self):
            return iter(range(7))

    engine.add_event_handler(Events.ITERATION_COMPLETED(once=[3, 10]), engine.interrupt)
    for _ in range(3):
        engine.run(Stream() if engine.state.dataloader is None else None, max_epochs=2)
    assert seen == [None]
    assert log.lines == [
        "trainer epoch 1/2  3",
        "trainer epoch 1/2  7/7  100%",
        "trainer epoch 2/2  3/7  42%",
        "trainer epoch 2/2  7/7  100%",
    ]


# -- what it follows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "limits", "expected"),
    [
        ({}, {"max_epochs": 2}, ["trainer epoch 1/2  4/4  100%", "trainer epoch 2/2  4/4  100%"]),
        ({}, {"max_epochs": 1}, ["trainer  4/4  100%"]),
        ({}, {"max_iters": 6}, ["trainer epoch 1  4/4  100%", "trainer epoch 2  2/2  100%"]),
        ({"closing_event_name": Events.COMPLETED}, {"max_epochs": 2}, ["trainer iteration  8/8  100%"]),
        ({"closing_event_name": Events.COMPLETED}, {"max_iters": 6}, ["trainer iteration  6/6  100%"]),
        ({"event_name": Events.EPOCH_COMPLETED}, {"max_epochs": 3}, ["trainer epoch  3/3  100%"]),
        ({"event_name": Events.ITERATION_COMPLETED(every=3)}, {"max_epochs": 1}, ["trainer  4/4  100%"]),
        ({"event_name": "custom"}, {"max_epochs": 1}, ["trainer  4/4  100%"]),
    ],
)
def test_a_bar_follows_what_it_is_attached_to(log, options, limits, expected):
    engine = Engine(lambda engine, batch: engine.fire_event("custom"), name="trainer")
    engine.register_events("custom")
    log.bar.attach(engine, **options)
    engine.run(range(4), **limits)
    assert log.lines == expected


def test_an_iteration_that_is_skipped_counts(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, output_transform=lambda output: output + 1)  # which the skipped one does not have
    engine.add_event_handler(Events.ITERATION_STARTED(once=[2, 4]), lambda e: e.skip_iteration())
    engine.run(range(4))
    assert log.lines == ["trainer  4/4  100%  output=3"]


def test_a_run_without_data_has_its_bar(log):
    engine = Engine(lambda engine, batch: None, name="trainer")
    log.bar.attach(engine)
    engine.run(epoch_length=3, max_epochs=1)
    assert log.lines == ["trainer  3/3  100%"]


def test_loops_of_other_names_have_bars(log):
    def act(engine, batch):
        return engine.state.timestep

    def over(engine):
        return engine.state.timestep % 5 == 0

    rollout = Loop("EPISODE", Loop("TIMESTEP", Phase("ACT", act), until=over))
    engine = Engine(rollout, name="agent")
    log.bar.attach(engine)
    log.bar.attach(engine, event_name="timestep_completed")
    engine.run(max_epochs=2)
    assert log.lines == ["agent episode 1/2  5", "agent episode 2/2  5", "agent episode  2/2  100%"]


def test_folds_multiply(log):
    folds = Loop("FOLD", Loop("EPOCH", Loop("ITERATION", Phase("STEP_UP", echo), over=DATA), times=2), times=3)
    engine = Engine(folds, name="trainer")
    log.bar.attach(engine, closing_event_name="fold_completed")
    log.bar.attach(engine, closing_event_name=Events.COMPLETED)
    engine.run(range(5), max_epochs=None)
    assert log.lines == [
        "trainer fold 1/3  10/10  100%",
        "trainer fold 2/3  10/10  100%",
        "trainer fold 3/3  10/10  100%",
        "trainer iteration  30/30  100%",
    ]


def test_a_loop_over_data_alone_has_a_bar(log):
    engine = Engine(Loop("ITERATION", Phase("STEP_UP", echo), over=DATA), name="reader")
    log.bar.attach(engine)
    engine.run(range(5), max_iters=5)
    assert log.lines == ["reader iteration  5/5  100%"]


def test_a_run_that_is_restored_in_mid_epoch_shows_the_position_it_was_saved_at(log):
    saved = []
    first = Engine(echo)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda e: saved.append(e.state_dict()) or e.terminate())
    first.add_event_handler(Events.ITERATION_COMPLETED(once=3), first.terminate_epoch)  # epochs of 3, 5, 5
    first.run(range(5), max_epochs=3)
    second = Engine(echo, name="trainer")
    second.load_state_dict(saved[0])
    log.bar.attach(second)
    log.bar.attach(second, closing_event_name=Events.COMPLETED)
    second.add_event_handler(Events.ITERATION_COMPLETED(once=8), second.terminate)
    second.run(range(5))
    assert log.lines == ["trainer epoch 2/3  5/5  100%", "trainer iteration  8/15  53%"]


def test_a_bar_that_is_attached_in_mid_epoch_finds_its_position(log):
    engine = Engine(echo, name="trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=8), lambda e: log.bar.attach(e))
    engine.run(range(5), max_epochs=2)
    assert log.lines == ["trainer epoch 2/2  5/5  100%"]


# -- closing early --------------------------------------------------------------------------------------------------


def act_at(event, call):
    """An engine of two phases that does something once, in the fourth iteration."""
    phases = [Phase("HALF", lambda engine, batch: "half"), Phase("WHOLE", echo)]
    engine = Engine(phases, name="trainer")
    engine.add_event_handler(event, lambda e: call(e) if e.state.iteration == 4 else None)
    return engine


def fails(engine):
    raise ArithmeticError


@pytest.mark.parametrize(
    "call",
    [
        fails,
        lambda engine: engine.terminate(),
        lambda engine: engine.terminate(skip_completed=True),
        lambda engine: engine.terminate_epoch(),
        lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
        lambda engine: engine.interrupt(),
    ],
)
@pytest.mark.parametrize(
    ("event", "done"),
    [(Events.ITERATION_STARTED, 3), ("whole_started", 3), ("whole_completed", 3), (Events.ITERATION_COMPLETED, 4)],
)
def test_the_last_line_of_a_bar_that_closes_early_has_what_is_over_and_its_values(log, event, done, call):
    engine = act_at(event, call)
    computing = camshaft.event(Events.ITERATION_COMPLETED, priority=1)
    engine.add_event_handler(computing, lambda e: e.state.metrics.update(seen=e.state.iteration))
    log.bar.attach(engine, ["seen"], output_transform=lambda output: output)
    with suppress(ArithmeticError):
        engine.run("abcdefghij", max_epochs=2)
    first = log.lines[0]
    assert first == f"trainer epoch 1/2  {done}/10  {done}0%  seen={done}  output={'abcd'[done - 1]}"


@pytest.mark.parametrize("how", ["terminate", "interrupt"])
def test_an_epoch_that_was_not_completed_does_not_count(log, how):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, event_name=Events.EPOCH_COMPLETED)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=7), getattr(engine, how))
    engine.run(range(5), max_epochs=3)
    assert log.lines == ["trainer epoch  1/3  33%"]
    if how == "interrupt":
        engine.run()
        assert log.lines[1:] == ["trainer epoch  3/3  100%"]


def test_neither_does_one_in_which_a_run_was_restored_and_ended_again(log):
    saved = []
    first = Engine(echo)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda e: saved.append(e.state_dict()))
    first.run(range(5), max_epochs=3)
    second = Engine(echo, name="trainer")
    second.load_state_dict(saved[0])
    log.bar.attach(second, event_name=Events.EPOCH_COMPLETED)
    second.add_event_handler(Events.ITERATION_COMPLETED(once=8), second.terminate)
    second.run(range(5))
    assert log.lines == ["trainer epoch  1/3  33%"]


def test_a_bar_that_moves_at_a_phase_counts_the_passes_that_had_it(log):
    engine = act_at("whole_completed", fails)
    log.bar.attach(engine, event_name="half_completed", output_transform=lambda output: output)
    with pytest.raises(ArithmeticError):
        engine.run("abcdefghij")
    assert log.lines == ["trainer  4/10  40%  output=half"]


def test_a_value_that_cannot_be_read_does_not_hide_what_ended_the_run(log):
    def transform(output):
        if output == "d":
            raise TypeError
        return output

    engine = act_at(Events.ITERATION_COMPLETED(every=2), fails)
    log.bar.attach(engine, event_name=Events.ITERATION_COMPLETED(every=3), output_transform=transform)
    with pytest.raises(ArithmeticError):
        engine.run("abcdefghij")
    assert log.lines == ["trainer  4/10  40%  output=c"]


# -- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (1e-7, "1e-07"),
        (12, "12"),
        (123456, "123456"),
        (True, "True"),
        (float("nan"), "nan"),
        ("two\nlines", "two lines"),
        (torch.tensor(0.5), "0.5"),
        (torch.tensor([[3]]), "3"),
        (torch.zeros(2, 3), "of shape (2, 3)"),
        (torch.zeros(0), "of shape (0,)"),
        (numpy.float32(0.25), "0.25"),
        (numpy.zeros(4), "of shape (4,)"),
        ((torch.tensor(1.0), 0.333333), "(1, 0.3333)"),
        ({}, None),
    ],
)
def test_values_are_brief(log, value, shown):
    engine = Engine(lambda engine, batch: value, name="engine")
    log.bar.attach(engine, output_transform=lambda output: output)
    engine.run([1])
    assert log.lines == ["engine  1/1  100%" + (f"  output={shown}" if shown is not None else "")]


def test_metrics_output_and_attributes_of_a_real_training_stand_beside_the_bar(log):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    data = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(3)]
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()}, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=data)
    trainer.state.lr = 0.1
    log.bar.attach(trainer, metric_names=["loss"], output_transform=lambda out: {"loss": out}, state_attributes=["lr"])
    log.bar.attach(evaluator, metric_names="all")
    with record() as trace:
        trainer.run(data, max_epochs=1)
    trace.assert_legal()
    accuracy, loss = evaluator.state.metrics["accuracy"], trainer.state.output
    assert log.lines == [
        f"evaluator  3/3  100%  accuracy={accuracy:.4g}",
        f"trainer  3/3  100%  loss={float(loss):.4g}  lr=0.1",
    ]


def test_a_name_that_is_not_there_is_one_warning_at_the_end_of_the_first_epoch(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, metric_names=["los"], state_attributes=["rate"])
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(loss=1))
    with pytest.warns(UserWarning) as caught:
        engine.run([1], max_epochs=3)
    assert [str(warning.message) for warning in caught] == [
        "ProgressBar: trainer has no los and no rate to show; its metrics are loss"
    ]


def test_values_are_read_when_the_bar_is_drawn_and_not_at_each_iteration(log):
    reads = []
    engine = Engine(echo)
    log.bar.attach(engine, output_transform=reads.append)
    engine.run(range(20_000))
    assert 1 <= len(reads) < 2_000


def test_a_transform_that_fails_fails_the_run_and_closes_the_bar(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, output_transform=lambda output: output["loss"])
    with pytest.raises(TypeError):
        engine.run([1, 2])
    assert log.lines == ["trainer  1/2  50%"]


def test_no_output_and_no_engine_is_kept_alive(log):
    outputs = []

    def step(engine, batch):
        output = torch.zeros(3)
        outputs.append(weakref.ref(output))
        return output

    engine = Engine(step)
    log.bar.attach(engine, output_transform=lambda output: output)
    engine.run(range(3))
    alive = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert alive() is None
        assert [output() for output in outputs] == [None] * 3
    finally:
        gc.enable()


# -- wrong arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metric_names": "loss"}, TypeError, r"metric_names='loss' is no list of names: give .*\"all\""),
        ({"metric_names": [1]}, TypeError, r"metric_names=\[1\] is no list of names"),
        ({"state_attributes": "lr"}, TypeError, r"state_attributes='lr' is no list of names"),
        ({"output_transform": "loss"}, TypeError, r"output_transform='loss' is no function of state.output"),
        ({"event_name": "unknown"}, ValueError, r"UNKNOWN is not registered in trainer"),
        ({"event_name": Events.EPOCH_STARTED | Events.COMPLETED}, TypeError, "is no event"),
        (
            {"closing_event_name": Events.EPOCH_STARTED},
            ValueError,
            r"closing_event_name=.* around ITERATION .*: give EPOCH_COMPLETED or COMPLETED",
        ),
        ({"closing_event_name": Events.EPOCH_COMPLETED(every=2)}, ValueError, r"give EPOCH_COMPLETED or COMPLETED"),
        (
            {"event_name": Events.EPOCH_COMPLETED, "closing_event_name": Events.EPOCH_COMPLETED},
            ValueError,
            r"around EPOCH each time that it ends: give COMPLETED",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_attached(arguments, error, message):
    engine = Engine(echo, name="trainer")
    with pytest.raises(error, match=message):
        ProgressBar().attach(engine, **arguments)
    assert not any(engine.handlers(key) for key in engine.loop.event_keys)


@pytest.mark.parametrize("options", [{"persist": 1}, {"console": sys.stdout}])
def test_options_of_another_kind_are_refused(options):
    with pytest.raises(TypeError, match=f"ProgressBar: {next(iter(options))}="):
        ProgressBar(**options)


def test_only_an_engine_can_have_a_bar():
    with pytest.raises(TypeError, match="ProgressBar: None is no Engine"):
        ProgressBar().attach(None)


def test_handlers_are_listed_under_the_name_of_the_bar():
    engine = Engine(echo)
    ProgressBar().attach(engine)
    names = [handler.name for handler in engine.handlers(Events.EPOCH_COMPLETED)]
    assert names == ["ProgressBar.fill", "ProgressBar.finish"]


def test_importing_the_handler_does_not_import_rich():
    done = in_pipe("print(sorted(name for name in sys.modules if name.split('.')[0] == 'rich'))")
    assert done.stdout == "[]\n"
