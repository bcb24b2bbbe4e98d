"""Timelines: traces in the Trace Event Format, read back as a viewer reads them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import Engine, Events, Loop, Phase, Trace, record
from camshaft.testing import Scenario, illegal_traces, loops, scenarios, traces
from camshaft.trace.spans import spans
from support.steps import fires, no_op


def exported(trace: Trace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        trace.export_chrome_trace(path)
        read = json.loads(path.read_text())
    assert read.keys() == {"traceEvents", "displayTimeUnit"}
    assert read["displayTimeUnit"] == "ms"
    return read["traceEvents"]


def titles(events: list[dict[str, Any]]) -> dict[int, str]:
    return {one["tid"]: one["args"]["name"] for one in events if one["name"] == "thread_name"}


def shown(events: list[dict[str, Any]]) -> list[str]:
    """Return each slice and instant as its track, its name and the numbers of its events."""
    named = titles(events)
    return [
        f"{named[one['tid']]} | {one['name']} {one['args']['event']}"
        + (f"..{one['args']['last_event'] or '-'}" if one["ph"] == "X" else "")
        for one in events
        if one["ph"] != "M"
    ]


def recorded(engine: Engine, data: Any = (1,), **limits: Any) -> Trace:
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        engine.run(data, **limits)
    return trace


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_runs_and_states_are_slices_and_nested_ones_lie_inside():
    trainer, evaluator = Engine([Phase("A", no_op)], name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on="a_started", data=[1])
    assert shown(exported(recorded(trainer))) == [
        "engines | trainer 1..18",
        "engines | EPOCH 2..17",
        "engines | GET_BATCH 3..4",
        "engines | ITERATION 5..16",
        "engines | A 6..15",
        "engines | evaluator 7..14",
        "engines | EPOCH 8..13",
        "engines | GET_BATCH 9..10",
        "engines | ITERATION 11..12",
    ]


def test_a_slice_says_when_how_long_and_what_was_counted():
    trace = recorded(Engine(no_op, name="trainer"), [1, 2])
    events = exported(trace)
    run, epoch = (one for one in events if one["name"] in ("trainer", "EPOCH"))
    assert run["cat"] == "run"
    assert run["args"] == {
        "engine": "trainer",
        "count": 0,
        "event": 1,
        "run": 1,
        "outcome": "completed",
        "last_event": len(trace),
    }
    assert epoch["cat"] == "state"
    assert epoch["args"] == {"engine": "trainer", "count": 1, "event": 2, "last_event": len(trace) - 1}
    assert epoch["ts"] == pytest.approx(trace[1].time * 1e6, abs=1e-3)
    assert epoch["ts"] + epoch["dur"] == pytest.approx(trace[-2].time * 1e6, abs=1e-3)


def test_process_and_tracks_have_names():
    events = exported(recorded(Engine(no_op)))
    assert events[0] == {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "camshaft"}}
    assert titles(events) == {1: "engines"}
    assert {one["pid"] for one in events} == {1}


def test_what_neither_enters_nor_leaves_a_state_is_an_instant():
    engine = Engine(no_op, name="trainer")
    engine.add_event_handler(Events.ITERATION_STARTED(once=3), engine.terminate)
    trace = recorded(engine, [1, 2], epoch_length=3)
    instants = [one for one in exported(trace) if one["ph"] == "i"]
    assert [one["name"] for one in instants] == ["DATALOADER_STOP_ITERATION", "TERMINATE"]
    for one in instants:
        fired = trace[one["args"]["event"] - 1]
        assert (one["s"], one["cat"]) == ("t", "event")
        assert one["args"] == {"engine": "trainer", "count": fired.count, "event": fired.number}
        assert one["ts"] == pytest.approx(fired.time * 1e6, abs=1e-3)


def test_a_mark_and_an_event_of_no_state_are_instants():
    engine = Engine([Phase("A", fires("lone"))], name="trainer")
    engine.register_events("lone")
    engine.register_events("mark", after="A")
    found = shown(exported(recorded(engine)))
    assert "engines | LONE 7" in found
    assert "engines | MARK 9" in found


def test_a_termination_that_ends_the_run_is_an_instant_too():
    engine = Engine(no_op, name="trainer")
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: engine.terminate(skip_completed=True))
    assert shown(exported(recorded(engine))) == [
        "engines | trainer 1..3",
        "engines | EPOCH 2..-",
        "engines | TERMINATE 3",
    ]


def test_a_state_that_was_cut_short_lasts_until_the_event_after_it():
    engine = Engine([Phase("A", no_op)], name="trainer")
    engine.add_event_handler("a_started", engine.terminate_epoch)
    trace = recorded(engine)
    cut = next(one for one in exported(trace) if one["name"] == "A")
    span = next(span for span in spans(trace) if span.state == "A")
    assert trace[span.past].event == "terminate_single_epoch"
    assert cut["args"]["last_event"] is None
    assert cut["ts"] + cut["dur"] == pytest.approx(trace[span.past].time * 1e6, abs=1e-3)


def test_what_a_failure_cut_short_ends_with_its_run():
    engine = Engine([Phase("A", lambda engine, batch: 1 / 0)], name="trainer")
    with record() as trace:
        with pytest.raises(ZeroDivisionError):
            engine.run([1])
        Engine(no_op, name="other").run([1])
    slices = {one["name"]: one for one in exported(trace) if one["ph"] == "X" and one["args"]["engine"] == "trainer"}
    failed = trace.select(event="exception_raised")[0]
    for name in ("trainer", "EPOCH", "ITERATION", "A"):
        assert slices[name]["ts"] + slices[name]["dur"] == pytest.approx(failed.time * 1e6, abs=1e-3)


# -- tracks -----------------------------------------------------------------------------------------------------------


def test_an_overlapping_custom_state_has_a_track_of_its_own():
    step = fires("a_started", "c_started", "b", "a_completed", "c_completed")
    engine = Engine(step, name="trainer")
    engine.register_events("a_started", "a_completed", "c_started", "c_completed", "b")
    assert shown(exported(recorded(engine)))[3:] == [
        "engines | ITERATION 5..11",
        "engines | A 6..9",
        "trainer: C | C 7..10",
        "engines | B 8",
    ]


def test_a_phase_keeps_its_track_where_a_custom_state_overlaps_it():
    loop = Loop("EPOCH", Phase("X", fires("a_completed", "a_started")), Phase("Y", no_op), times=2)
    engine = Engine(loop, name="trainer")
    engine.register_events("a_started", "a_completed", within="RUN")
    engine.add_event_handler(Events.STARTED, lambda: engine.fire_event("a_started"))
    with record() as trace:
        engine.run()
    named = {line.split(" | ")[1].split()[0]: line.split(" | ")[0] for line in shown(exported(trace))}
    assert named["A"] == "trainer: A"
    assert {named["X"], named["Y"], named["EPOCH"]} == {"engines"}


def test_a_custom_state_that_overlaps_none_lies_among_the_others():
    engine = Engine(fires("a_started", "a_completed"), name="trainer")
    engine.register_events("a_started", "a_completed")
    assert set(titles(exported(recorded(engine))).values()) == {"engines"}


def test_a_run_that_went_on_after_another_has_a_track_of_its_own():
    engine = Engine(no_op, name="trainer")
    engine.add_event_handler(Events.ITERATION_STARTED(once=1), engine.interrupt)
    with record() as trace:
        engine.run([1, 2])
        Engine(no_op, name="other").run([1])
        engine.run()
    found = titles(exported(trace))
    assert set(found.values()) == {"trainer, run 1", "engines"}
    check(trace)


def test_runs_that_take_steps_by_turns_have_tracks_of_their_own():
    one, two = Engine(no_op, name="one").steps([1]), Engine(no_op, name="two").steps([1])
    with record() as trace:
        for _ in zip(one, two, strict=True):
            pass
    assert set(titles(exported(trace)).values()) == {"one, run 1", "two, run 2"}
    check(trace)


def test_a_trace_of_nothing_is_a_file_of_nothing():
    assert [one["name"] for one in exported(Trace())] == ["process_name"]


def test_the_same_trace_makes_the_same_file(tmp_path):
    trace = recorded(Engine(no_op), [1, 2, 3])
    trace.export_chrome_trace(tmp_path / "one.json")
    trace.export_chrome_trace(str(tmp_path / "two.json"))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    trace.save(tmp_path / "trace.jsonl")
    Trace.load(tmp_path / "trace.jsonl").export_chrome_trace(tmp_path / "three.json")
    assert (tmp_path / "three.json").read_bytes() == (tmp_path / "one.json").read_bytes()


# -- any trace --------------------------------------------------------------------------------------------------------


def ticks(microseconds: float) -> int:
    return round(microseconds * 1000)


def check(trace: Trace) -> None:
    """Check what must be true of every file."""
    events = exported(trace)
    timed = [one for one in events if one["ph"] != "M"]
    slices = [one for one in timed if one["ph"] == "X"]
    assert {one["ph"] for one in events} <= {"M", "X", "i"}
    assert all(ticks(one["ts"]) <= ticks(two["ts"]) for one, two in pairwise(timed))
    assert all(one["ts"] >= 0 and one.get("dur", 0) >= 0 for one in timed)
    assert {one["tid"] for one in timed} == titles(events).keys()
    fired = {run for run, *_ in trace.raw_events()}
    assert sorted(one["args"]["run"] - 1 for one in slices if one["cat"] == "run") == sorted(fired | parents(trace))
    assert len([one for one in slices if one["cat"] == "state"]) == len(spans(trace))
    check_events(trace, timed)
    check_nesting(slices)


def parents(trace: Trace) -> set[int]:
    """Return the runs with nested runs that fired events."""
    found: set[int] = set()
    for run in {run for run, *_ in trace.raw_events()}:
        parent = trace.runs[run].parent
        while parent is not None:
            found.add(parent)
            parent = trace.runs[parent].parent
    return found


def check_events(trace: Trace, timed: list[dict[str, Any]]) -> None:
    """Check that every event either begins or ends a slice, or is an instant."""
    instants = [one["args"]["event"] for one in timed if one["ph"] == "i"]
    ends = set()
    for one in timed:
        if one["cat"] == "state":
            ends |= {one["args"]["event"], one["args"]["last_event"]}
        if one["cat"] == "run":
            numbers = {one["args"]["event"], one["args"]["last_event"]}
            ends |= {number for number in numbers if trace[number - 1].event in ("started", "completed")} - {*instants}
    ends.discard(None)
    assert len(instants) == len({*instants})
    assert not ends & {*instants}
    assert ends | {*instants} == {*range(1, len(trace) + 1)}


def check_nesting(slices: list[dict[str, Any]]) -> None:
    """Check that on each track any two slices are nested or separate."""
    around: dict[int, list[int]] = {}
    for one in slices:
        begin, end = ticks(one["ts"]), ticks(one["ts"] + one["dur"])
        ends = around.setdefault(one["tid"], [])
        while ends and ends[-1] <= begin and ends[-1] < end:
            ends.pop()
        assert not ends or end <= ends[-1]
        ends.append(end)


@given(scenarios(loops(), max_calls=3, depth=2))
def test_every_run_is_shown_whole(scenario: Scenario):
    check(scenario.play(Engine).trace)


@given(traces(loops()))
def test_every_legal_walk_is_shown_whole(trace: Trace):
    check(trace)


@given(illegal_traces(loops()))
def test_every_illegal_trace_is_shown_whole(trace: Trace):
    check(trace)


@given(scenarios(loops(), depth=2), st.randoms(use_true_random=False))
def test_runs_that_were_mixed_up_are_shown_whole(scenario: Scenario, random: Any):
    trace = scenario.play(Engine).trace
    order = [*range(len(trace))]
    for _ in range(3):
        if order:
            order.insert(random.randrange(len(order)), order.pop(random.randrange(len(order))))
    check(trace.rearranged(order))


def test_a_long_trace_is_written_in_seconds(tmp_path):
    trace = recorded(Engine(no_op), range(25_000))
    start = perf_counter()
    trace.export_chrome_trace(tmp_path / "run.json")
    print(f"{len(trace):,} events in {perf_counter() - start:.1f} s")
    assert len(json.loads((tmp_path / "run.json").read_text())["traceEvents"]) > 50_000
