"""Loops that camshaft does not run, and the events that they report."""

from __future__ import annotations

from camshaft import DATA, Engine, EventOrderError, Loop, Phase, record
from camshaft.testing import Reporter

LOOP = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD"), over=DATA))
EVALUATION = Loop("ITERATION", over=DATA)

FETCH = ["get_batch_started", "get_batch_completed"]
ITERATION = ["iteration_started", "forward_started", "forward_completed", "iteration_completed"]
RESTARTED = [FETCH[0], "dataloader_stop_iteration", FETCH[1], *ITERATION]
EVALUATED = ["started", "iteration_started", "iteration_completed", "completed"]


def epoch(iterations, before=(), after=()):
    return ["epoch_started", *[*before, *ITERATION] * iterations, *after, "epoch_completed"]


def run(*epochs, end=("completed",)):
    return ["started", *(event for one in epochs for event in one), *end]


def tell(report, *events):
    for event in events:
        report(event)


def recorded(events, loop=LOOP, **limits):
    with record() as trace, Reporter(loop, "by hand", **limits) as report:
        tell(report, *events)
    return trace


def verdict(trace):
    """Return the message about the first illegal event, without the events around it; None for a legal trace."""
    try:
        trace.assert_legal()
    except EventOrderError as error:
        return "\n".join(line for line in str(error).splitlines() if not line.startswith("    ") and "  > " not in line)
    return None


PAUSED, REST = (
    run(["epoch_started", *ITERATION[:2]], end=["interrupt"]),
    [*ITERATION[2:], "epoch_completed", "completed"],
)


def make_engine(name="engine"):
    return Engine(lambda engine, batch: None, name)
