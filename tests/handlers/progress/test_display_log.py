"""Tests of progress bars without a terminal: one line in the log when a bar closes."""

import re

from camshaft import Engine, Events
from support.steps import echo
from support.terminal import in_pipe


def test_a_log_file_gets_one_plain_line_when_a_bar_closes():
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
        done.stderr,
    )
    assert done.stdout == ""


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
