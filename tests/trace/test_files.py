"""Traces in files: saved traces can be read and judged, and a damaged file gives one clear error."""

from __future__ import annotations

import json

import pytest

from camshaft import DATA, Engine, EventOrderError, EventPoint, Loop, Phase, Trace, TraceError, every, record
from support.steps import no_op
from support.traces import record_pair


def test_a_trace_in_a_file_is_judged_by_the_loop_it_carries(tmp_path):
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", no_op, when=every(2)), EventPoint("marked"), over=DATA))
    engine = Engine(loop, name="trainer")
    engine.register_events("x_started", "x_completed")
    engine.nest(Engine(no_op, name="evaluator"), on="marked", data=[1])
    with record() as trace:
        engine.run([1, 2], max_epochs=2)
    trace.save(tmp_path / "run.jsonl")
    read = Trace.load(tmp_path / "run.jsonl")
    assert read == trace
    assert read.runs[0].loop.nested[0].name == "evaluator"
    read.assert_legal()
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert all(json.loads(line) is not None for line in lines)
    first = next(number for number, line in enumerate(lines) if "iteration_started" in line and line.startswith("["))
    lines[first] = lines[first].replace("iteration_started", "iteration_completed")
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(EventOrderError, match="ITERATION_COMPLETED is illegal in"):
        Trace.load(tmp_path / "bad.jsonl").assert_legal()


def broken(tmp_path, change):
    path = tmp_path / "run.jsonl"
    record_pair().save(path)
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace('"version": 1', '"version": 99', 1),
            "version 99, but this camshaft reads version 1",
        ),
        (lambda text: "\n".join(text.splitlines()[:-3]) + "\n", "is cut short after"),
        (lambda text: text[:-20], "is cut short|is damaged or cut short"),
        (lambda text: "\n".join(text.splitlines()[:20])[:-4], "is damaged or cut short"),
        (lambda text: "", "is empty"),
        (lambda text: '{"some": "json"}\n', "is not a trace"),
        (lambda text: "not json\n", "is damaged or cut short"),
        (lambda text: text.replace('"run": {', '"run": {"unknown": 1, ', 1), "is damaged or cut short"),
    ],
)
def test_a_file_that_is_no_whole_trace_is_one_clear_error(tmp_path, change, message):
    with pytest.raises(TraceError, match=message):
        Trace.load(broken(tmp_path, change))
