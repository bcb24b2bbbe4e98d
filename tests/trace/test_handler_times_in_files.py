"""Times of handlers in files of traces: they can be read back, and a damaged one gives one clear error."""

from __future__ import annotations

import json
import math

import attrs
import pytest

from camshaft import Engine, Events, Trace, TraceError, record
from support.steps import no_op


def log(engine):
    """Do nothing."""


@pytest.fixture
def saved(tmp_path):
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, log)
    with record(handler_times=True) as trace:
        trainer.run([1, 2], max_epochs=2)
    path = tmp_path / "run.jsonl"
    trace.save(path)
    return trace, path


def test_times_survive_a_file(saved, tmp_path):
    trace, path = saved
    read = Trace.load(path)
    assert read.handler_times == trace.handler_times
    assert [one.mean for one in read.handler_times] == [one.mean for one in trace.handler_times]
    read.assert_legal()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1] == {"end": len(trace)}
    assert all("handler" in line for line in lines[-3:-1])
    read.save(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_a_file_without_times_has_none(saved):
    trace, path = saved
    lines = [line for line in path.read_text().splitlines() if not line.startswith('{"handler"')]
    assert len(lines) == len(path.read_text().splitlines()) - 2
    path.write_text("\n".join(lines) + "\n")
    assert Trace.load(path) == trace
    assert Trace.load(path).handler_times == []


GOOD = {"engine": "trainer", "event": "started", "handler": "log", "count": 2, "total": 0.5, "maximum": 0.25}


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "log",
        {},
        {key: value for key, value in GOOD.items() if key != "maximum"},
        GOOD | {"unknown": 1},
        GOOD | {"engine": None},
        GOOD | {"event": 1},
        GOOD | {"handler": ["log"]},
        GOOD | {"count": 0},
        GOOD | {"count": -1},
        GOOD | {"count": 1.5},
        GOOD | {"count": True},
        GOOD | {"total": "0.5"},
        GOOD | {"total": -0.5, "maximum": -0.5},
        GOOD | {"total": math.nan},
        GOOD | {"total": math.inf, "maximum": math.inf},
        GOOD | {"maximum": None},
        GOOD | {"maximum": 0.75},
        GOOD | {"maximum": math.nan},
    ],
)
def test_a_damaged_time_is_one_clear_error(saved, fields):
    _, path = saved
    *lines, end = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps({"handler": GOOD}), end]) + "\n")
    assert attrs.asdict(Trace.load(path).handler_times[-1]) == GOOD
    path.write_text("\n".join([*lines, json.dumps({"handler": fields}), end]) + "\n")
    with pytest.raises(TraceError, match=rf"line {len(lines) + 1} is damaged or cut short.*record the trace again"):
        Trace.load(path)


def test_a_file_that_is_cut_short_in_its_times_is_an_error(saved):
    _, path = saved
    text = path.read_text()
    for length in range(text.index('{"handler"'), len(text) - 1):
        path.write_text(text[:length])
        with pytest.raises(TraceError, match="record the trace again"):
            Trace.load(path)
