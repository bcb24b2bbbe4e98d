"""Sessions of pytest that use the plugin."""

from __future__ import annotations

import itertools

ENGINES = """
import pytest
from camshaft import Engine, Events

def nothing(engine, batch):
    pass

def wrong_order(engine, batch):
    engine.fire_event("backward_completed")
    engine.fire_event("backward_started")

def make(step=nothing, name="trainer"):
    engine = Engine(step, name=name)
    engine.register_events("backward_started", "backward_completed")
    return engine

def make_pair():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
    return trainer, evaluator
"""

ILLEGAL = """\
trainer event #6 BACKWARD_COMPLETED is illegal in EPOCH 1 / ITERATION 1: [in BACKWARD] does not hold
    4  GET_BATCH_COMPLETED
    5  ITERATION_STARTED
  > 6  BACKWARD_COMPLETED
  expected: ITERATION_COMPLETED | BACKWARD_STARTED | ITERATION_SKIPPED | TERMINATE | INTERRUPT | \
TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED
  nearest legal order: BACKWARD_STARTED comes first
"""


class Sessions:
    """Sessions of pytest with a module of tests. Warnings are errors."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path
        options = "--strict-markers --import-mode=importlib -p no:cacheprovider"
        pytester.makeini(f"[pytest]\naddopts = {options}\nfilterwarnings = error\n")

    def write(self, tests):
        self.pytester.makepyfile(test_it=ENGINES + tests)

    def run(self, *args):
        return self.pytester.runpytest_inprocess(*args)

    def output(self, tests, *args, **outcomes):
        """Run a session with these tests, and return its output."""
        self.write(tests)
        result = self.run(*args)
        result.assert_outcomes(**outcomes)
        return str(result.stdout)


def section(output, title):
    """Return the lines under a heading of the report, up to the next heading."""
    lines = iter(output.splitlines())
    for line in lines:
        if line.strip("-=_ ") == title and line != title:
            return list(itertools.takewhile(lambda line: not line.startswith(("---", "===", "___")), lines))
    raise AssertionError(f"no section {title!r} in\n{output}")


GOLDEN = """
def test_golden(golden_trace):
    trainer, evaluator = make_pair()
    with golden_trace("two_epochs") as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
"""

TEXT = """\
# camshaft golden trace 1
trainer STARTED 0
trainer EPOCH_STARTED 1
trainer GET_BATCH_STARTED 0
trainer GET_BATCH_COMPLETED 0
trainer ITERATION_STARTED 1
trainer ITERATION_COMPLETED 1
trainer EPOCH_COMPLETED 1
  evaluator STARTED 0
  evaluator EPOCH_STARTED 1
  evaluator GET_BATCH_STARTED 0
  evaluator GET_BATCH_COMPLETED 0
  evaluator ITERATION_STARTED 1
  evaluator ITERATION_COMPLETED 1
  evaluator EPOCH_COMPLETED 1
  evaluator COMPLETED 1
trainer EPOCH_STARTED 2
trainer GET_BATCH_STARTED 1
trainer DATALOADER_STOP_ITERATION 1
trainer GET_BATCH_COMPLETED 1
trainer ITERATION_STARTED 2
trainer ITERATION_COMPLETED 2
trainer EPOCH_COMPLETED 2
  evaluator STARTED 0
  evaluator EPOCH_STARTED 1
  evaluator GET_BATCH_STARTED 0
  evaluator GET_BATCH_COMPLETED 0
  evaluator ITERATION_STARTED 1
  evaluator ITERATION_COMPLETED 1
  evaluator EPOCH_COMPLETED 1
  evaluator COMPLETED 1
trainer COMPLETED 2
"""
