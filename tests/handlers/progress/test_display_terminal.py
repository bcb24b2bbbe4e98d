"""Tests of progress bars in a terminal: real runs in a pseudo-terminal, read by a terminal emulator."""

import re

import pytest

from support.terminal import Seen, in_terminal, raw_output

NESTED = """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

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
        logging.warning("logged in %d", engine.state.iteration)
        print("begun, ", end="", flush=True)
        print("and ended")
        print("long" * 40, file=sys.stderr)

    trainer.run(range(10), max_epochs=2)
    logging.warning("logged after")
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


def test_bars_stand_below_what_is_printed_and_leave_nothing():
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


ENDS = [
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
    parts = re.split(rb"===== (.*)\r\n", raw_output(ENDINGS, *ENDS))[1:]
    return {how.decode(): Seen(raw, 100) for how, raw in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("how", ENDS)
def test_however_a_run_ends_the_terminal_is_left_as_it_was(endings, how):
    seen = endings[how]
    total = {"whole run": 20, "max_iters": 7}.get(how, 10)
    assert seen.during(rf"trainer.* [1-7]/{total} .*")
    assert seen.during(r"trainer.*", r"evaluator.* \d/10 .*") == (how in ("evaluator fails", "evaluator pauses"))
    left = {"Ctrl+C": "KeyboardInterrupt", "swallowed": None}
    error = left.get(how, "ArithmeticError" if how in ("exception", "fails twice", "evaluator fails") else None)
    expected = [f"left run(): {error}"] if error else []
    if how in ("terminate", "terminate, no COMPLETED", "whole run"):
        told = seen.lines.pop(0)
        assert re.fullmatch(
            r"trainer ends: terminate\(\) was called at <string>:\d+ in act, in EPOCH 1 / ITERATION 7", told
        )
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


def test_a_bar_on_standard_error_leaves_standard_output_alone(tmp_path):
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
