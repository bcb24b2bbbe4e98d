"""A project for the command line."""

from __future__ import annotations

from camshaft import Engine, Events, record

# what is written twice in one second would be taken for what was compiled before
ENV = {"COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"}

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
