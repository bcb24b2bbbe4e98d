"""Traces of a trainer and an evaluator that is nested in it."""

from __future__ import annotations

import json

from camshaft import Engine, Events, Trace, record
from support.steps import no_op


def doctored(trace, path, edit):
    """Return a trace whose events, as lists ``[run, event, count, time]``, were edited in a file."""
    trace.save(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    head, events = (
        [line for line in lines[:-1] if isinstance(line, dict)],
        [line for line in lines if isinstance(line, list)],
    )
    edited = edit(events)
    for line in head:
        if "segment" in line:
            line["segment"][2] += len(edited) - len(events)
    path.write_text("\n".join(json.dumps(line) for line in [*head, *edited, {"end": len(edited)}]) + "\n")
    return Trace.load(path)


def renumbered(events, lost):
    """Return events without those of one lost iteration, with later counts reduced by one."""
    kept = [list(each) for index, each in enumerate(events) if index not in lost]
    for each in kept[min(lost) :]:
        each[2] -= "epoch" not in each[1] and each[1] != "completed"
    return kept


def make_pair():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
    return trainer, evaluator


def record_pair(epochs=2):
    trainer, _ = make_pair()
    with record() as trace:
        trainer.run([1, 2], max_epochs=epochs)
    return trace


def without(trace, lost):
    made = Trace()
    made.runs = trace.runs
    for index, one in enumerate(trace):
        if index not in lost:
            made.append(0, one.event, one.count, one.time, one.site)
    made.segments = [[0, 0, len(made)]]
    return made
