"""Traces: recorded, printed, compared, judged, written and read."""

from __future__ import annotations

import contextlib
import json

import pytest

from camshaft import DATA, Engine, EventOrderError, Events, Loop, Mark, Phase, Trace, TraceError, event, every, record
from camshaft.testing import Reporter
from support import path_of
from support.steps import nothing

HERE = path_of(__file__)


def make_pair():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
    return trainer, evaluator


def record_pair(epochs=2):
    trainer, _ = make_pair()
    with record() as trace:
        trainer.run([1, 2], max_epochs=epochs)
    return trace


def test_a_trace_equals_the_list_of_what_fired():
    with record() as trace:
        Engine(nothing).run([1])
    order = [
        Events.STARTED,
        Events.EPOCH_STARTED,
        "get_batch_started",
        Events.GET_BATCH_COMPLETED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
        Events.COMPLETED,
    ]
    assert trace == order
    assert trace != order[:-1]
    assert [one.event for one in trace[:2]] == ["started", "epoch_started"]
    assert trace[-1].engine == "engine"


def test_counts_and_the_table():
    trace = record_pair()
    assert trace.count(Events.ITERATION_COMPLETED) == 6
    assert trace.count(Events.ITERATION_COMPLETED, engine="evaluator") == 2
    assert trace.table().splitlines()[:3] == [
        "engine     event                      count",
        "trainer    STARTED                        1",
        "trainer    EPOCH_STARTED                  2",
    ]


def test_the_tree_shows_nesting_and_shows_alike_passes_once():
    trainer, _ = make_pair()
    with record() as trace:
        trainer.run([1, 2, 3], max_epochs=1)
    assert str(trace).splitlines() == [
        "trainer",
        "  STARTED 0",
        "  EPOCH_STARTED 1",
        "    GET_BATCH_STARTED 0",
        "    GET_BATCH_COMPLETED 0",
        "    ITERATION_STARTED 1",
        "    ITERATION_COMPLETED 1",
        "    ... and 2 more like this",
        "  EPOCH_COMPLETED 1",
        "    evaluator",
        "      STARTED 0",
        "      EPOCH_STARTED 1",
        "        GET_BATCH_STARTED 0",
        "        GET_BATCH_COMPLETED 0",
        "        ITERATION_STARTED 1",
        "        ITERATION_COMPLETED 1",
        "      EPOCH_COMPLETED 1",
        "      COMPLETED 1",
        "  COMPLETED 1",
    ]


@pytest.mark.parametrize("end", ["terminate", "terminate_epoch", "interrupt", "raise"])
def test_the_tree_of_a_run_that_ends_early_can_be_printed(end):
    trainer, _ = make_pair()
    stop = (lambda: 1 / 0) if end == "raise" else getattr(trainer, end)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), stop)
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        trainer.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert len(str(trace).splitlines()) > 5


def test_nested_runs_are_children_inside_the_event_that_called_them():
    trace = record_pair()
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), ("evaluator", 0), ("evaluator", 0)]
    depths = {one.engine: one.depth for one in trace}
    assert depths == {"trainer": 0, "evaluator": 1}


def test_what_runs_outside_the_block_is_not_recorded():
    engine = Engine(nothing)
    with record() as trace:
        pass
    engine.run([1])
    assert len(trace) == 0
    assert str(trace) == "nothing was recorded"


def test_two_recorders_hear_the_same():
    with record() as outer, record() as inner:
        Engine(nothing).run([1, 2])
    assert outer == inner


def test_engines_that_are_stepped_in_turn_are_legal_each_by_itself():
    first, second = Engine(nothing, name="first"), Engine(nothing, name="second")
    with record() as trace:
        for one, other in zip(first.steps([1, 2]), second.steps([1, 2]), strict=True):
            assert one is other
    trace.assert_legal()
    assert [run.engine for run in trace.runs] == ["first", "second"]
    assert trace == [event for one in first_order() for event in (one, one)]


def first_order():
    return list(Engine(nothing).steps([1, 2]))


def test_an_evaluator_that_two_trainers_share_and_one_that_is_nested_twice():
    evaluator = Engine(nothing, name="evaluator")
    trainers = [Engine(nothing, name="one"), Engine(nothing, name="other")]
    for trainer in trainers:
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED | Events.STARTED, data=[1])
    with record() as trace:
        for _ in zip(*[trainer.steps([1, 2], max_epochs=2) for trainer in trainers], strict=True):
            pass
    trace.assert_legal()
    assert [run.parent for run in trace.runs if run.engine == "evaluator"].count(0) == 3


@pytest.mark.parametrize("end", ["terminate", "interrupt", "raise"])
def test_an_evaluator_that_ends_its_trainer_or_fails_leaves_a_legal_trace(end):
    trainer, evaluator = make_pair()
    stop = (lambda: 1 / 0) if end == "raise" else getattr(trainer, end)
    evaluator.add_event_handler(Events.ITERATION_STARTED, stop)
    with record() as trace, contextlib.suppress(ZeroDivisionError):
        trainer.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == {
        "terminate": ["completed", "completed"],
        "interrupt": ["interrupted", "completed"],
        "raise": ["failed", "failed"],
    }[end]


def test_recording_changes_nothing():
    log = []
    engine = Engine(lambda engine, batch: log.append((batch, engine.where)))
    engine.run([1, 2])
    with record():
        engine.run([1, 2])
    assert log[:2] == log[2:]


def test_a_run_goes_on_in_the_same_record_after_an_interrupt():
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    with record() as trace:
        engine.run([1, 2, 3])
        engine.run()
    assert len(trace.runs) == 1
    assert trace.count(Events.INTERRUPT) == 1
    assert trace.runs[0].outcome == "completed"
    trace.assert_legal()


@pytest.mark.parametrize("step", [nothing, [Phase("A", nothing), Phase("B", nothing, when=every(2))]])
@pytest.mark.parametrize("place", [Events.ITERATION_COMPLETED, Events.EPOCH_STARTED, Events.GET_BATCH_COMPLETED])
def test_a_record_that_begins_at_a_pause_is_legal(step, place):
    engine = Engine(step)
    engine.add_event_handler(
        event(place, once=1) if place is not Events.GET_BATCH_COMPLETED else place, engine.interrupt
    )
    engine.run([1, 2, 3], max_epochs=2)
    for handler in engine.handlers(place):
        engine.remove_event_handler(handler.function, place)
    with record() as trace:
        engine.run()
    assert trace.runs[0].place != "READY"
    trace.assert_legal()


def test_a_record_of_a_resumed_epoch_is_legal():
    engine = Engine(nothing)
    engine.load_state_dict(
        {"epoch": 1, "iteration": 2, "position": 2, "epoch_length": 3, "max_epochs": 2, "max_iters": None}
    )
    with record() as trace:
        engine.run([3, 4, 5])
    assert engine.state.iteration == 6
    trace.assert_legal()


def test_an_engine_that_ran_elsewhere_is_not_legal():
    """An evaluator's events that fall outside the event of the trainer that called it."""
    trace = record_pair(epochs=1)
    trace.segments[1][1] -= 1
    with pytest.raises(EventOrderError, match="trainer event #.* fell inside evaluator"):
        trace.assert_legal()


def test_an_event_of_the_outer_engine_between_those_of_the_inner_one_is_not_legal():
    trace = record_pair(epochs=1)
    inner = next(index for index in range(len(trace)) if trace[index].engine == "evaluator")
    trace._run[inner + 2] = 0
    with pytest.raises(EventOrderError, match="trainer event #.* is illegal after EPOCH 1"):
        trace.assert_legal()


def test_the_message_shows_what_stood_before_and_what_was_expected():
    engine = Engine([Phase("FORWARD", nothing), Phase("OPTIM_STEP", nothing)], name="trainer")
    with record() as trace:
        engine.run([1])
    made = Trace()
    made.runs = trace.runs
    made.segments = [[0, 0, len(trace) - 1]]
    for index, one in enumerate(trace):
        if index != 6:
            made.append(0, one.event, one.count, one.time)
    with pytest.raises(EventOrderError) as caught:
        made.assert_legal()
    assert str(caught.value).splitlines() == [
        "trainer event #7 OPTIM_STEP_STARTED is illegal in EPOCH 1 / ITERATION 1 / FORWARD",
        "    5  ITERATION_STARTED",
        "    6  FORWARD_STARTED",
        "  > 7  OPTIM_STEP_STARTED",
        "  expected: FORWARD_COMPLETED | TERMINATE | INTERRUPT | TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED",
        "  nearest legal order: FORWARD_COMPLETED comes first",
    ]


def test_the_nearest_legal_order_may_be_far():
    engine = Engine([Phase("FORWARD", nothing), Phase("BACKWARD", nothing), Phase("OPTIM_STEP", nothing)])
    with record() as trace:
        engine.run([1, 2])
    keys = [event.event for event in trace]

    def first_lines(*lost):
        with pytest.raises(EventOrderError) as caught:
            without(trace, lost).assert_legal()
        return str(caught.value).splitlines()[-1]

    backward = keys.index("forward_completed")
    assert first_lines(backward, backward + 1, backward + 2, backward + 3) == (
        "  nearest legal order: "
        "FORWARD_COMPLETED, BACKWARD_STARTED, BACKWARD_COMPLETED and OPTIM_STEP_STARTED come first"
    )
    assert first_lines(*range(5, len(trace) - 2)) == (
        "  nearest legal order: FORWARD_STARTED, FORWARD_COMPLETED, BACKWARD_STARTED, BACKWARD_COMPLETED, "
        "12 more and ITERATION_COMPLETED come first"
    )
    assert first_lines(len(trace) - 1) == "  expected: COMPLETED | TERMINATE | INTERRUPT | EXCEPTION_RAISED"


def without(trace, lost):
    made = Trace()
    made.runs = trace.runs
    for index, one in enumerate(trace):
        if index not in lost:
            made.append(0, one.event, one.count, one.time, one.site)
    made.segments = [[0, 0, len(made)]]
    return made


# -- selections ------------------------------------------------------------------------------------------------------


def test_events_are_selected_by_engine_event_and_state():
    trace = record_pair()
    inner = trace.select(engine="evaluator")
    assert inner[:3] == ["started", "epoch_started", Events.GET_BATCH_STARTED]
    assert len(inner) == 16
    assert {event.depth for event in inner} == {1}
    assert [event.count for event in trace.select(engine="trainer", event=Events.EPOCH_COMPLETED)] == [1, 2]
    both = trace.select(event=[Events.EPOCH_STARTED, "completed"])
    assert both == [*["epoch_started", "epoch_started", "completed"] * 2, "completed"]
    assert both.count(Events.COMPLETED) == 3
    assert both.count(Events.COMPLETED, engine="trainer") == 1


def test_what_is_inside_a_state_lies_between_its_two_events_nested_engines_too():
    trainer, evaluator = Engine([Phase("FORWARD", nothing), Phase("BACKWARD")], "trainer"), Engine(nothing, "evaluator")
    trainer.add_event_handler("forward_completed", lambda: evaluator.run([1]))
    with record() as trace:
        trainer.run([1])
    assert trace.select(inside="FORWARD") == []
    inside = trace.select(inside="ITERATION")
    assert inside[0].event == "forward_started"
    assert inside[-1].event == "backward_completed"
    assert inside.select(engine="evaluator") == trace.select(engine="evaluator")
    assert trace.select(inside="ITERATION", engine="trainer") == [
        "forward_started",
        "forward_completed",
        "backward_started",
        "backward_completed",
    ]


def test_a_slice_of_a_trace_is_a_selection():
    trace = record_pair()
    part = trace[2:9][1:3]
    assert part == ["get_batch_completed", "iteration_started"]
    assert [event.number for event in part] == [4, 5]
    assert (
        str(trace[7:10]) == "trainer GET_BATCH_COMPLETED 1\ntrainer ITERATION_STARTED 2\ntrainer ITERATION_COMPLETED 2"
    )
    assert part.table().splitlines()[1] == "trainer  GET_BATCH_COMPLETED      1"
    assert repr(part) == "<Selection: 2 events>"
    assert part != trace
    assert part == trace[3:5]


def test_selecting_what_was_not_recorded_is_an_error():
    trace = record_pair()
    with pytest.raises(ValueError, match="no engine 'validator' was recorded; recorded are trainer, evaluator"):
        trace.select(engine="validator")
    with pytest.raises(ValueError, match="does not know BACKWARD_STARTED, so counting it proves nothing"):
        trace.select(event="backward_started")
    with pytest.raises(ValueError, match="no engine entered a state 'BACKWARD'; entered were EPOCH, GET_BATCH, ITER"):
        trace.select(inside="BACKWARD")


# -- what is recorded ------------------------------------------------------------------------------------------------


def test_only_the_engines_that_are_named_are_recorded():
    trainer, evaluator = make_pair()
    with record(evaluator) as trace:
        trainer.run([1, 2], max_epochs=2)
    assert {event.engine for event in trace} == {"evaluator"}
    assert [run.parent for run in trace.runs] == [None, None]
    trace.assert_legal()
    cannot = "<object object at .* cannot be recorded: give an Engine, a Reporter, or an"
    with pytest.raises(TypeError, match=cannot), record(object()):
        pass


def test_call_sites_say_where_each_event_was_fired():
    def step(engine, batch):
        engine.fire_event("backward_completed")

    engine = Engine(step, name="trainer")
    engine.register_events("backward_started", "backward_completed")
    with record(call_sites=True) as trace:
        engine.run([1])
    line = step.__code__.co_firstlineno + 1
    assert trace[5].site == f"{HERE}:{line} in step"
    assert trace[0].site.endswith("of the generated epoch_loop")
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    assert f"  > 6  BACKWARD_COMPLETED  fired by {HERE}:{line} in step" in str(caught.value).splitlines()


def test_call_sites_of_faults_and_pauses_name_the_loop(tmp_path):
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: 1 / 0)
    with record(call_sites=True) as trace, pytest.raises(ZeroDivisionError):
        engine.run([1])
    assert all(event.site for event in trace)
    trace.save(tmp_path / "run.jsonl")
    assert [event.site for event in Trace.load(tmp_path / "run.jsonl")] == [event.site for event in trace]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_trace_survives_a_file_and_is_judged_by_the_loop_it_carries(tmp_path):
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", nothing, when=every(2)), Mark("marked"), over=DATA))
    engine = Engine(loop, name="trainer")
    engine.register_events("x_started", "x_completed")
    engine.nest(Engine(nothing, name="evaluator"), on="marked", data=[1])
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
            "version 99, and this camshaft reads version 1",
        ),
        (lambda text: "\n".join(text.splitlines()[:-3]) + "\n", "is cut short after"),
        (lambda text: text[:-20], "is cut short|is damaged or cut short"),
        (lambda text: "\n".join(text.splitlines()[:20])[:-4], "is damaged or cut short"),
        (lambda text: "", "is empty"),
        (lambda text: '{"some": "json"}\n', "is no trace"),
        (lambda text: "not json\n", "is damaged or cut short"),
        (lambda text: text.replace('"run": {', '"run": {"unknown": 1, ', 1), "is damaged or cut short"),
    ],
)
def test_a_file_that_is_no_whole_trace_of_this_version_is_one_clear_error(tmp_path, change, message):
    with pytest.raises(TraceError, match=message):
        Trace.load(broken(tmp_path, change))


def test_engines_may_be_nested_to_any_depth(tmp_path):
    loop = Loop("EPOCH", Phase("A"), times=1)
    reporters = [Reporter(loop, name=f"engine {number}") for number in range(1500)]
    with record(*reporters) as trace:
        for report in reporters:
            report("started")
            report("epoch_started")
            report("a_started")
        for report in reversed(reporters):
            report("a_completed")
            report("epoch_completed")
            report("completed")
    trace.assert_legal()
    assert trace[4499].depth == 1499
    assert len(str(trace).splitlines()) == len(trace) == 9000
    trace.save(tmp_path / "run.jsonl")
    assert Trace.load(tmp_path / "run.jsonl") == trace
    order = [*range(len(trace))]
    order[4600], order[4601] = order[4601], order[4600]
    with pytest.raises(EventOrderError, match="engine 1466 event #4601 COMPLETED is illegal in EPOCH 1 / after A"):
        trace.rearranged(order).assert_legal()


def test_a_run_that_is_stepped_to_its_last_event_is_legal():
    engine = Engine(nothing)
    with record() as trace:
        for event in engine.steps([1]):
            if event is Events.COMPLETED:
                break
        del event
    trace.assert_legal()
    assert trace.runs[0].outcome == "completed"


def test_a_kept_iterator_over_steps_that_are_all_taken_does_not_hinder_the_next_run():
    engine = Engine(nothing)
    steps = engine.steps([1])
    for fired in steps:
        if fired is Events.COMPLETED:
            break
    assert engine.run([1, 2]).iteration == 2


def test_whether_an_event_fired_is_asked_with_in():
    trace = record_pair()
    assert Events.STARTED in trace
    assert "epoch_completed" in trace[2:]
    assert Events.TERMINATE not in trace
    with pytest.raises(ValueError, match="does not know BACKWARD_STARTED"):
        assert "backward_started" not in trace
    assert trace == list(trace)
    assert trace != [1, None]


def test_the_events_before_an_illegal_one_are_shown_behind_a_long_nested_run():
    trainer, evaluator = Engine(nothing, "trainer"), Engine(nothing, "evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[0] * 30)
    with record() as trace:
        trainer.run([1])
    order = [index for index in range(len(trace)) if trace[index].event != "epoch_completed" or trace[index].depth]
    lost = trace.rearranged([*order, len(trace) - 1])
    with pytest.raises(EventOrderError) as caught:
        lost.assert_legal()
    assert str(caught.value).splitlines()[1:3] == ["      5  ITERATION_STARTED", "      6  ITERATION_COMPLETED"]


def test_a_trace_can_be_judged_while_its_run_goes_on():
    trainer, evaluator = make_pair()
    judged = []
    with record() as trace:

        def judge():
            trace.assert_legal()
            judged.append(len(trace))

        evaluator.add_event_handler(Events.ITERATION_COMPLETED, judge)
        trainer.run([1, 2], max_epochs=2)
        with pytest.raises(EventOrderError, match="trainer event #20 COMPLETED is illegal after EPOCH 1"):
            trace.rearranged([*range(19), len(trace) - 1]).assert_legal()
    assert judged == [17, 36]
    trace.assert_legal()


def test_an_epoch_is_terminated_once():
    engine = Engine(nothing)
    engine.add_event_handler(Events.EPOCH_STARTED(once=1), lambda engine: engine.terminate_epoch())
    with record() as trace:
        engine.run([1], max_epochs=2)
    at = [event.event for event in trace].index("terminate_single_epoch")
    with pytest.raises(EventOrderError, match="TERMINATE_SINGLE_EPOCH is illegal"):
        trace.rearranged([*range(at), at, *range(at, len(trace))]).assert_legal()


def test_no_nested_run_comes_before_the_first_event_of_the_run_around_it():
    trainer, _ = make_pair()
    with record() as trace:
        trainer.run([1])
    trainers = [index for index in range(len(trace)) if not trace[index].depth]
    nested = [index for index in range(len(trace)) if trace[index].depth]
    moved = trace.rearranged([*nested, *trainers])
    moved.segments = [[0, 0, len(moved)], [1, 0, len(nested)]]
    with pytest.raises(EventOrderError, match="fell before the first event of trainer, which called it"):
        moved.assert_legal()


def test_events_are_selected_by_a_union_and_never_by_a_filter():
    trace = record_pair(1)
    both = trace.select(event=Events.STARTED | Events.COMPLETED)
    assert both == ["started", "started", "completed", "completed"]
    for ask in (trace.count, lambda event: trace.select(event=event), lambda event: event in trace):
        with pytest.raises(ValueError, match=r"STARTED\(every=2\) has a filter: a trace tells what fired"):
            ask(Events.STARTED(every=2))


def test_an_event_in_capitals_is_told_from_its_key():
    trace = record_pair(1)
    with pytest.raises(ValueError, match="'EPOCH_COMPLETED' is how the event 'epoch_completed' is shown"):
        trace.count("EPOCH_COMPLETED")


def test_judging_by_something_that_is_no_loop_says_so():
    trace = record_pair(1)
    with pytest.raises(TypeError, match=r"judge by a Loop, such as engine.loop, not by <Engine trainer"):
        trace.assert_legal(make_pair()[0])


def test_a_run_inside_one_that_is_not_recorded_belongs_to_the_recorded_one_around_both():
    trainer, evaluator = make_pair()
    inner = Engine(nothing, name="inner")
    evaluator.nest(inner, on=Events.ITERATION_COMPLETED, data=[1])
    with record(trainer, inner) as trace:
        trainer.run([1])
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), ("inner", 0)]
    trace.assert_legal()
