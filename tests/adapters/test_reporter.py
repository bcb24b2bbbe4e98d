"""Loops that camshaft does not run: what they report is recorded and judged as the events of engines are."""

from __future__ import annotations

import contextlib
import contextvars
import enum
import gc
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft import (
    DATA,
    BackpropEvents,
    Engine,
    EventEnum,
    EventOrderError,
    Events,
    Free,
    Loop,
    Mark,
    Phase,
    Trace,
    every,
    record,
)
from camshaft.context import Context
from camshaft.machine import LoopMachine, OrderChecker
from camshaft.run import executing
from camshaft.testing import Reporter, illegal_traces, loops, traces
from support import path_of

HERE = path_of(__file__)

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
    """What is illegal, without the events around it; None when nothing is."""
    try:
        trace.assert_legal()
    except EventOrderError as error:
        return "\n".join(line for line in str(error).splitlines() if not line.startswith("    ") and "  > " not in line)
    return None


@pytest.fixture(autouse=True)
def nothing_is_left_around():
    """Whatever happens to a reporter, what runs later is not nested in it."""
    yield
    assert executing.get() is None


# -- what is legal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        run(epoch(2)),
        run(epoch(2), epoch(2)),
        run(epoch(2), epoch(1)),
        run(epoch(0)),
        run(),
        run(epoch(2, FETCH), epoch(2, FETCH)),
        run(epoch(2), epoch(2, FETCH)),
        run(epoch(2, FETCH, after=["get_batch_started"])),
        run(epoch(2, FETCH, after=["get_batch_started"]), epoch(2, FETCH, after=["get_batch_started"])),
        run(epoch(2), end=["terminate", "completed"]),
        run(epoch(2), end=["terminate"]),
        run(["epoch_started"], end=["terminate", "completed"]),
        run(["epoch_started", *ITERATION, "terminate_single_epoch", "epoch_completed"], epoch(2)),
        run(["epoch_started", "terminate_single_epoch"], epoch(1)),
        run(["epoch_started", "iteration_started", "iteration_skipped", *ITERATION, "epoch_completed"]),
        run(["epoch_started", "iteration_started"], end=["exception_raised"]),
        run(["epoch_started", "iteration_started"], end=["interrupt"]),
    ],
)
def test_orders_that_are_legal(events):
    trace = recorded(events)
    assert trace == events
    assert [event.engine for event in trace] == ["by hand"] * len(events)
    trace.assert_legal()


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            ["epoch_started", "epoch_completed", "completed"],
            "by hand event #1 EPOCH_STARTED is illegal in READY\n"
            "  expected: STARTED\n  nearest legal order: STARTED comes first",
        ),
        (
            run(["epoch_started", "forward_started"]),
            "by hand event #3 FORWARD_STARTED is illegal in EPOCH 1\n"
            "  expected: GET_BATCH_STARTED | ITERATION_STARTED | EPOCH_COMPLETED | TERMINATE | INTERRUPT | "
            "TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED\n  nearest legal order: ITERATION_STARTED comes first",
        ),
        (
            run(["epoch_started", "iteration_started", "iteration_completed", "epoch_completed"]),
            "by hand event #4 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1\n"
            "  expected: FORWARD_STARTED | ITERATION_SKIPPED | TERMINATE | INTERRUPT | TERMINATE_SINGLE_EPOCH | "
            "EXCEPTION_RAISED\n  nearest legal order: FORWARD_STARTED and FORWARD_COMPLETED come first",
        ),
    ],
)
def test_what_is_said_about_an_order_that_is_not(events, message):
    assert verdict(recorded(events)) == message


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        (run(["epoch_started", *ITERATION]), "#7 COMPLETED is illegal in EPOCH 1 / after ITERATION 1"),
        (run(["epoch_started", *ITERATION[:3], "epoch_completed"]), "#6 EPOCH_COMPLETED is illegal in EPOCH 1 / ITER"),
        (run(ITERATION), "#2 ITERATION_STARTED is illegal in STARTED"),
        (run(epoch(1, FETCH[1:])), "#3 GET_BATCH_COMPLETED is illegal in EPOCH 1"),
        (run(epoch(1, FETCH[:1])), "#4 ITERATION_STARTED is illegal in EPOCH 1 / GET_BATCH"),
        (run(epoch(1), end=["completed", "completed"]), "#9 COMPLETED is illegal in READY"),
        (run(epoch(1), end=["completed", "epoch_started"]), "#9 EPOCH_STARTED is illegal in READY"),
        (run(["epoch_started"], end=["exception_raised", "epoch_completed"]), "#4 EPOCH_COMPLETED is illegal in READY"),
        (run(epoch(1), end=["terminate", "epoch_started"]), "#9 EPOCH_STARTED is illegal in TERMINATED"),
    ],
)
def test_orders_that_are_illegal(events, wrong):
    assert verdict(recorded(events)).startswith(f"by hand event {wrong}")


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "events"),
    [
        ({"max_epochs": 2}, run(epoch(3), epoch(1))),
        ({"epoch_length": 2}, run(epoch(2), epoch(2), epoch(2))),
        ({"epoch_length": 2, "max_epochs": 1}, run(epoch(2, FETCH))),
        ({"epoch_length": 0}, run(epoch(0))),
        ({"max_iters": 3}, run(epoch(2), epoch(1))),
        ({"max_iters": 3, "epoch_length": 2}, run(epoch(2), epoch(1, after=["terminate"])[:-1])),
        ({"epoch_length": 2}, run(epoch(1, FETCH, after=RESTARTED))),
        ({"max_epochs": 5, "epoch_length": 5}, run(epoch(1, after=["terminate"])[:-1])),
        ({"max_epochs": 5}, run(epoch(1), end=["terminate", "completed"])),
    ],
)
def test_runs_within_limits_that_are_known(limits, events):
    assert verdict(recorded(events, **limits)) is None


@pytest.mark.parametrize(
    ("limits", "events", "wrong"),
    [
        ({"max_epochs": 2}, run(epoch(1)), "COMPLETED is illegal after EPOCH 1: [epoch == max_epochs] does not hold"),
        (
            {"max_epochs": 1},
            run(epoch(1), epoch(1)),
            "EPOCH_STARTED is illegal after EPOCH 1: [epoch < max_epochs] does not hold",
        ),
        (
            {"epoch_length": 3},
            run(epoch(2)),
            "EPOCH_COMPLETED is illegal in EPOCH 1 / after ITERATION 2: [iteration == epoch_length] does not hold",
        ),
        (
            {"epoch_length": 1},
            run(epoch(2)),
            "ITERATION_STARTED is illegal in EPOCH 1 / after ITERATION 1: [iteration < epoch_length] does not hold",
        ),
        (
            {"epoch_length": 2},
            run(epoch(2), epoch(3)),
            "ITERATION_STARTED is illegal in EPOCH 2 / after ITERATION 4: [iteration < epoch_length] does not hold",
        ),
        (
            {"max_iters": 2},
            run(epoch(3)),
            "ITERATION_STARTED is illegal in EPOCH 1 / after ITERATION 2: [iteration < max_iters] does not hold",
        ),
        ({"max_iters": 3}, run(epoch(2)), "COMPLETED is illegal after EPOCH 1"),
    ],
)
def test_a_pass_too_few_or_too_many_is_illegal_where_limits_are_known(limits, events, wrong):
    assert wrong in verdict(recorded(events, **limits))


def test_the_length_of_an_epoch_is_learned_where_fetching_is_reported():
    first = epoch(2, FETCH, after=["get_batch_started"])
    assert verdict(recorded(run(first, epoch(2, FETCH)))) is None
    assert "[batch] does not hold" in verdict(recorded(run(first, epoch(3, FETCH))))


def test_a_loop_may_look_for_a_batch_where_it_has_had_all_and_gets_none():
    natural = epoch(2, FETCH, after=["get_batch_started"])
    assert verdict(recorded(run(natural, natural), max_epochs=2, epoch_length=2)) is None
    too_many = epoch(3, FETCH, after=["get_batch_started"])
    assert "[batch] does not hold" in verdict(recorded(run(natural, too_many), max_epochs=2, epoch_length=2))
    too_few = epoch(1, FETCH, after=["get_batch_started"])
    assert "[epoch_length unknown] does not hold" in verdict(recorded(run(natural, too_few), epoch_length=2))


def test_a_condition_by_count_is_judged_and_one_that_only_the_loop_knows_is_not_asked():
    def asked(engine):
        raise AssertionError("it was asked")

    def stepping(when):
        phases = Phase("BACKWARD"), Phase("OPTIM_STEP", when=when)
        return Loop("EPOCH", Loop("ITERATION", *phases, over=DATA))

    def events(*steps):
        phases = [
            ["backward_started", "backward_completed"] + ["optim_step_started", "optim_step_completed"] * step
            for step in steps
        ]
        return run(
            [
                "epoch_started",
                *(e for one in phases for e in ["iteration_started", *one, "iteration_completed"]),
                "epoch_completed",
            ]
        )

    assert verdict(recorded(events(False, True), stepping(every(2)))) is None
    assert "OPTIM_STEP_STARTED is illegal" in verdict(recorded(events(True, True), stepping(every(2))))
    assert "ITERATION_COMPLETED is illegal" in verdict(recorded(events(False, False), stepping(every(2))))
    for steps in ((False, True), (True, True), (False, False)):
        assert verdict(recorded(events(*steps), stepping(asked))) is None


# -- any loop ---------------------------------------------------------------------------------------------------------

LIMITS = ("max_epochs", "max_iters", "epoch_length")


def replayed(trace):
    """The events of a trace of one run, reported anew under the same limits."""
    (ran,) = trace.runs
    limits = {name: getattr(ran.context, name) for name in LIMITS}
    with record() as again, Reporter(ran.loop, ran.engine, **limits) as report:
        tell(report, *(event.event for event in trace))
    return again


@settings(max_examples=100)
@given(traces(loops()))
def test_any_legal_run_is_recorded_with_the_same_counts_and_is_legal(trace):
    """For any loop and any run that its machine allows."""
    again = replayed(trace)
    assert again == trace
    again.assert_legal()
    assert [record.outcome for record in again.runs] == [record.outcome for record in trace.runs]


@settings(max_examples=100)
@given(illegal_traces(loops()))
def test_any_other_order_is_illegal_exactly_where_the_machine_says_so(trace):
    """For any loop and any order of events that is next to a legal one."""
    (ran,) = trace.runs
    context = Context(has_data=None, **{name: getattr(ran.context, name) for name in LIMITS})
    checker = OrderChecker(LoopMachine(ran.loop), context=context)
    is_legal = True
    try:
        for event in trace:
            checker.advance(event.event)
        checker.finish()
    except EventOrderError:
        is_legal = False
    assert (verdict(replayed(trace)) is None) == is_legal


@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted({*run(epoch(1, FETCH)), "terminate", "interrupt"})), max_size=12))
def test_no_order_of_events_confuses_the_recording(events):
    """For any events in any order: each is recorded once, and what comes after is not touched."""
    trace = recorded(events)
    assert trace == events
    verdict(trace)
    assert len(trace.segments) == len(trace.runs)
    assert verdict(recorded(run(epoch(1)))) is None


# -- counters ---------------------------------------------------------------------------------------------------------


def test_passes_are_counted_over_a_run_and_anew_in_the_next():
    seen = []
    with Reporter(LOOP) as report:
        for _ in range(2):
            for event in run(epoch(2), epoch(1)):
                report(event)
                seen.append((report.state.epoch, report.state.iteration))
    once = [(0, 0), (1, 0), *[(1, 1)] * 4, *[(1, 2)] * 4, (1, 2), (2, 2), *[(2, 3)] * 4, (2, 3), (2, 3)]
    assert seen == once * 2


def test_loops_of_other_names_count_in_attributes_of_theirs():
    loop = Loop("EPISODE", Phase("RESET"), Loop("TIMESTEP", Phase("ACT"), until=lambda engine: True))
    report = Reporter(loop, "by hand", max_epochs=2)
    assert (report.state.episode, report.state.timestep) == (0, 0)
    step = ["timestep_started", "act_started", "act_completed", "timestep_completed"]
    episode = ["episode_started", "reset_started", "reset_completed", *step * 2, "episode_completed"]
    with record() as trace, report:
        tell(report, "started", *episode, *episode, "completed")
    trace.assert_legal()
    assert (report.state.episode, report.state.timestep) == (2, 4)
    assert [event.count for event in trace.select(event="act_started")] == [1, 2, 3, 4]
    assert [event.count for event in trace.select(event="reset_started")] == [1, 2]


def test_what_a_trace_can_be_asked_holds_for_what_was_reported():
    trace = recorded(run(epoch(2), epoch(2)))
    trace.assert_matches("STARTED (EPOCH[ITERATION[FORWARD]{2}]){2} COMPLETED")
    trace.assert_matches("STARTED (EPOCH_STARTED ITERATION{2} EPOCH_COMPLETED){2} COMPLETED")
    assert trace.count(Events.ITERATION_COMPLETED, engine="by hand") == 4
    assert trace.select(event="epoch_started") == [Events.EPOCH_STARTED] * 2
    assert trace.select(inside="FORWARD") == []
    assert trace.select(inside="ITERATION") == ["forward_started", "forward_completed"] * 4


# -- where a run ends -------------------------------------------------------------------------------------------------


def test_several_runs_of_one_reporter_are_judged_each():
    trace = recorded([*run(epoch(1)), *run(epoch(2), epoch(1))])
    trace.assert_legal()
    assert [record.outcome for record in trace.runs] == ["completed"] * 2
    assert [segment[1:] for segment in trace.segments] == [[0, 8], [8, 26]]
    assert verdict(recorded([*run(epoch(1)), *run(ITERATION)])).startswith("by hand event #10 ITERATION_STARTED is")


def test_a_run_without_an_end_is_illegal_when_its_block_is_left():
    with pytest.raises(EventOrderError) as caught:
        recorded(run(epoch(1), end=())).assert_legal()
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("by hand stops with event #7, after EPOCH 1")
    assert rest == [
        "    5  FORWARD_COMPLETED",
        "    6  ITERATION_COMPLETED",
        "  > 7  EPOCH_COMPLETED",
        "  expected: EPOCH_STARTED | COMPLETED | TERMINATE | INTERRUPT | EXCEPTION_RAISED",
    ]


def test_a_run_without_an_end_is_illegal_when_the_next_one_starts():
    trace = recorded([*run(epoch(1), end=()), *run(epoch(1))])
    assert [len(trace.runs), trace.segments[0][1:]] == [2, [0, 7]]
    assert verdict(trace).startswith("by hand stops with event #7, after EPOCH 1")


def test_events_outside_of_a_block_are_refused():
    report = Reporter(LOOP, "by hand")
    message = "^by hand: STARTED is reported outside of a with block; write `with reporter:` around the whole run, so "
    with record() as trace, pytest.raises(RuntimeError, match=message):
        report("started")
    with report:
        tell(report, *run(epoch(1)))
    with pytest.raises(RuntimeError, match="EPOCH_STARTED is reported outside of a with block"):
        report("epoch_started")
    assert len(trace) == 0


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, SystemExit])
def test_an_exception_that_leaves_the_block_is_the_last_event(error):
    report = Reporter(LOOP, "by hand")
    with record() as trace, pytest.raises(error), report:
        tell(report, "started", "epoch_started", "iteration_started")
        raise error
    assert trace == ["started", "epoch_started", "iteration_started", "exception_raised"]
    assert [record.outcome for record in trace.runs] == ["failed"]
    trace.assert_legal()
    with record() as again, report:
        tell(report, *run(epoch(1)))
    again.assert_legal()


def test_an_exception_that_the_loop_reports_itself_is_reported_once():
    with record() as trace, pytest.raises(ArithmeticError), Reporter(LOOP) as report:
        try:
            tell(report, "started", "epoch_started")
            raise ArithmeticError
        except ArithmeticError:
            report(Events.EXCEPTION_RAISED)
            raise
    assert trace == ["started", "epoch_started", "exception_raised"]
    trace.assert_legal()


@pytest.mark.parametrize("events", [[], run(epoch(1))])
def test_an_exception_before_a_run_or_after_it_is_no_event_of_it(events):
    with record() as trace, pytest.raises(ArithmeticError), Reporter(LOOP) as report:
        tell(report, *events)
        raise ArithmeticError
    assert trace == events
    trace.assert_legal()


def test_an_exception_that_the_loop_takes_is_no_event_of_it():
    with record() as trace, Reporter(LOOP) as report:
        tell(report, "started", "epoch_started", *ITERATION[:2])
        with contextlib.suppress(ArithmeticError):
            raise ArithmeticError
        tell(report, *ITERATION[2:], "epoch_completed", "completed")
    trace.assert_legal()
    assert trace.count("exception_raised") == 0


# -- interrupt --------------------------------------------------------------------------------------------------------

PAUSED, REST = (
    run(["epoch_started", *ITERATION[:2]], end=["interrupt"]),
    [*ITERATION[2:], "epoch_completed", "completed"],
)


def test_an_interrupted_run_goes_on_in_the_next_block():
    report = Reporter(LOOP, "by hand", max_epochs=1, epoch_length=1)
    with record() as trace:
        with report:
            tell(report, *PAUSED)
        assert trace.runs[0].outcome == "interrupted"
        trace.assert_legal()
        assert executing.get() is None
        with record() as between:
            Engine(lambda engine, batch: None).run([1])
        with report:
            tell(report, *REST)
    assert [run.outcome for run in trace.runs] == ["completed", "completed"]
    assert [run for run, *_ in trace.segments] == [0, 1, 0]
    assert trace.select(engine="by hand") == PAUSED + REST
    assert (report.state.epoch, report.state.iteration) == (1, 1)
    trace.assert_legal()
    between.assert_legal()


def test_an_interrupted_run_may_go_on_in_the_same_block_too():
    assert verdict(recorded(PAUSED + REST)) is None


def test_an_interrupted_run_that_goes_on_at_the_wrong_place_is_illegal():
    report = Reporter(LOOP, "by hand")
    with record() as trace:
        with report:
            tell(report, *PAUSED)
        with report:
            tell(report, "iteration_completed", "epoch_completed", "completed")
    assert verdict(trace).startswith(
        "by hand event #6 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1 / FORWARD"
    )


def test_an_interrupted_run_is_dropped_when_the_next_one_starts():
    report = Reporter(LOOP, "by hand")
    with record() as trace:
        with report:
            tell(report, *PAUSED)
        with report:
            tell(report, *run(epoch(1)))
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["interrupted", "completed"]


def test_an_interrupted_run_that_fails_when_it_goes_on_ends_there():
    report = Reporter(LOOP, "by hand")
    with record() as trace, contextlib.suppress(ArithmeticError):
        with report:
            tell(report, *PAUSED)
        with report:
            report("forward_completed")
            raise ArithmeticError
    assert trace == [*PAUSED, "forward_completed", "exception_raised"]
    trace.assert_legal()


# -- nested -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair():
    return Reporter(LOOP, "trainer"), Reporter(EVALUATION, "evaluator")


def test_a_reporter_inside_of_an_event_of_another_is_nested_there(pair):
    trainer, evaluator = pair
    with record() as trace, trainer, evaluator:
        tell(trainer, "started")
        for _ in range(2):
            tell(trainer, *epoch(1))
            tell(evaluator, *EVALUATED)
        tell(trainer, "completed")
    trace.assert_legal()
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), ("evaluator", 0), ("evaluator", 0)]
    assert {event.depth for event in trace.select(engine="evaluator")} == {1}
    trace.assert_matches("STARTED (EPOCH evaluator[STARTED ITERATION COMPLETED]){2} COMPLETED", strict=True)


def test_reporters_fire_what_engines_fire():
    trainer, evaluator = Engine(lambda engine, batch: None, "trainer"), Engine(EVALUATION, "evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    trainer.nest(evaluator, on=Events.ITERATION_STARTED(once=2), data=[1])
    with record() as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    reporters = {engine.name: Reporter(engine.loop, engine.name) for engine in (trainer, evaluator)}
    reporters["trainer"].state.epoch_length = 3
    with record() as again, reporters["trainer"], reporters["evaluator"]:
        for event in trace:
            reporters[event.engine](event.event)
    again.assert_legal()
    assert again == trace
    assert str(again) == str(trace)


@pytest.mark.parametrize("first", ["trainer", "evaluator"])
def test_an_exception_ends_all_that_it_passes_innermost_first_in_whatever_order_they_were_entered(pair, first):
    trainer, evaluator = pair
    blocks = pair if first == "trainer" else pair[::-1]
    with record() as trace, pytest.raises(ArithmeticError), blocks[0], blocks[1]:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED[:2])
        raise ArithmeticError
    trace.assert_legal()
    assert [(event.engine, event.event) for event in trace[-2:]] == [
        ("evaluator", "exception_raised"),
        ("trainer", "exception_raised"),
    ]


def test_a_failed_evaluator_may_be_survived(pair):
    trainer, evaluator = pair
    with record() as trace, trainer:
        tell(trainer, "started", *epoch(1))
        with contextlib.suppress(ArithmeticError), evaluator:
            tell(evaluator, *EVALUATED[:2])
            raise ArithmeticError
        tell(trainer, *epoch(1), "completed")
    trace.assert_legal()
    assert [run.outcome for run in trace.runs] == ["completed", "failed"]


@pytest.mark.parametrize("first", ["trainer", "evaluator"])
def test_an_evaluator_that_never_completes_is_the_one_to_blame(pair, first):
    """It is over when the trainer goes on, whatever it says of itself."""
    trainer, evaluator = pair
    blocks = pair if first == "trainer" else pair[::-1]
    with record() as trace, blocks[0], blocks[1]:
        tell(trainer, "started")
        for _ in range(2):
            tell(trainer, *epoch(1))
            tell(evaluator, *EVALUATED[:-1])
        tell(trainer, "completed")
    assert [segment[1:] for segment in trace.segments] == [[0, 20], [7, 10], [16, 19]]
    said = verdict(trace)
    assert said.startswith("evaluator stops with event #")
    assert "expected: GET_BATCH_STARTED | ITERATION_STARTED | COMPLETED | TERMINATE | INTERRUPT" in said


def test_an_evaluator_without_an_end_in_a_trainer_without_an_end(pair):
    trainer, evaluator = pair
    with record() as trace, evaluator, trainer:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED[:-1])
    assert [run.outcome for run in trace.runs] == ["completed", "completed"]
    assert " stops with event #" in verdict(trace)


def test_events_of_the_evaluator_after_the_trainer_went_on_begin_a_run_that_is_illegal(pair):
    trainer, evaluator = pair
    with record() as trace, trainer, evaluator:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED[:2])
        tell(trainer, "epoch_started")
        tell(evaluator, *EVALUATED[2:])
        tell(trainer, "epoch_completed", "completed")
    assert verdict(trace).startswith("evaluator event #11 ITERATION_COMPLETED is illegal in READY")


def test_three_deep(pair):
    trainer, evaluator = pair
    probe = Reporter(EVALUATION, "probe")
    with record() as trace, trainer, evaluator, probe:
        tell(trainer, "started", "epoch_started")
        tell(evaluator, *EVALUATED[:2])
        tell(probe, *EVALUATED)
        tell(evaluator, *EVALUATED[2:])
        tell(trainer, "epoch_completed", "completed")
        tell(probe, *EVALUATED)
    trace.assert_legal()
    assert [(run.engine, run.parent) for run in trace.runs] == [
        ("trainer", None),
        ("evaluator", 0),
        ("probe", 1),
        ("probe", None),
    ]


# -- engines beside reporters -----------------------------------------------------------------------------------------


def make_engine(name="engine"):
    return Engine(lambda engine, batch: None, name)


def test_an_engine_inside_of_a_reported_run_is_nested_there():
    engine, report = make_engine(), Reporter(LOOP, "by hand")
    with record() as trace, report:
        tell(report, "started", *epoch(1))
        engine.run([1, 2])
        tell(report, "completed")
        engine.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert [(run.engine, run.parent) for run in trace.runs] == [("by hand", None), ("engine", 0), ("engine", None)]
    trace[:20].assert_matches("STARTED EPOCH engine[EPOCH[ITERATION{2}]] COMPLETED")


def test_an_engine_that_fails_inside_of_a_reported_run():
    engine = Engine(lambda engine, batch: 1 / 0, "engine")
    with record() as trace, pytest.raises(ZeroDivisionError), Reporter(LOOP, "by hand") as report:
        tell(report, "started", *epoch(1))
        engine.run([1])
    trace.assert_legal()
    assert [(event.engine, event.event) for event in trace[-2:]] == [
        ("engine", "exception_raised"),
        ("by hand", "exception_raised"),
    ]


def test_an_engine_that_pauses_inside_of_a_reported_run_may_go_on_later_inside_of_it():
    engine, report = make_engine(), Reporter(LOOP, "by hand")
    engine.add_event_handler(Events.ITERATION_STARTED(once=1), engine.interrupt)
    with record() as trace, report:
        tell(report, "started", *epoch(1))
        engine.run([1])
        tell(report, *epoch(1))
        engine.run()
        tell(report, "completed")
    trace.assert_legal()
    assert engine.state.iteration == 1
    assert [run.outcome for run in trace.runs] == ["completed", "completed"]


@pytest.mark.parametrize("on", [Events.STARTED, Events.ITERATION_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED])
def test_a_reporter_inside_of_a_handler_is_nested_there(on):
    engine, report = make_engine(), Reporter(EVALUATION, "by hand")

    @engine.on(on)
    def evaluate():
        with report:
            tell(report, *EVALUATED)

    with record() as trace:
        engine.run([1, 2], max_epochs=2)
    trace.assert_legal()
    assert trace.count("completed", engine="by hand") == trace.count(on, engine="engine")
    assert {run.parent for run in trace.runs[1:]} == {0}
    assert engine.parent is None


def test_a_reporter_that_is_left_in_a_handler_does_not_stay_around_the_engine():
    engine, report = make_engine(), Reporter(EVALUATION, "by hand")

    @engine.on(Events.EPOCH_COMPLETED)
    def evaluate():
        with report:
            tell(report, *EVALUATED[:-1])

    with record() as trace:
        engine.run([1], max_epochs=2)
    assert verdict(trace).startswith("by hand stops with event #")
    with record() as after:
        make_engine().run([1])
    assert after.runs[0].parent is None


def test_a_reported_run_that_lasts_longer_than_the_handler_it_began_in_is_illegal():
    engine, report = make_engine(), Reporter(EVALUATION, "by hand")
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: tell(report, *EVALUATED[:2]))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: tell(report, *EVALUATED[2:]))
    with record() as trace, report:
        engine.run([1])
    assert verdict(trace).startswith("engine event #5 GET_BATCH_STARTED fell inside by hand")


# -- what is recorded -------------------------------------------------------------------------------------------------


def test_naming_reporters_records_them_alone(pair):
    trainer, evaluator = pair
    with record(evaluator) as some, record() as whole, record(trainer, evaluator) as both, trainer:
        tell(trainer, "started", *epoch(1))
        tell(evaluator, *EVALUATED)
        make_engine().run([1])
        tell(trainer, "completed")
    assert {event.engine for event in whole} == {"trainer", "evaluator", "engine"}
    assert list(map(str, both)) == [str(event) for event in whole if event.engine != "engine"]
    assert some == EVALUATED
    assert [run.parent for run in some.runs] == [None]
    for trace in (some, whole, both):
        trace.assert_legal()


def test_recording_a_reporter_is_a_block_of_it():
    report = Reporter(LOOP, "by hand")
    with record(report) as trace:
        tell(report, *run(epoch(1)))
    trace.assert_legal()
    with pytest.raises(ArithmeticError), record(report) as failed:
        tell(report, "started", "epoch_started")
        raise ArithmeticError
    assert failed == ["started", "epoch_started", "exception_raised"]
    failed.assert_legal()
    with record(report) as left:
        report("started")
    assert verdict(left).startswith("by hand stops with event #1, in STARTED")
    with pytest.raises(RuntimeError, match="outside of a with block"):
        report("started")


def test_a_block_inside_of_another_ends_what_began_in_it_and_nothing_else():
    report = Reporter(LOOP, "by hand")
    with record() as whole, report:
        tell(report, "started", "epoch_started")
        with record(report) as late, report:
            tell(report, *ITERATION)
        tell(report, "epoch_completed", "completed")
        with record(report) as left:
            report("started")
        tell(report, *run(epoch(1)))
    assert len(late) == 0, "it was recorded from the middle on"
    assert [run.outcome for run in whole.runs] == ["completed"] * 3
    assert verdict(whole) == verdict(left).replace("event #1,", "event #9,")


def test_an_exception_that_leaves_an_inner_block_is_no_event_of_the_run_around_it():
    with record() as trace, Reporter(LOOP) as report:
        tell(report, "started", "epoch_started")
        with contextlib.suppress(ArithmeticError), report:
            raise ArithmeticError
        tell(report, "epoch_completed", "completed")
    trace.assert_legal()
    assert trace.count("exception_raised") == 0


def test_recorders_that_begin_between_two_runs_hear_the_second():
    with record() as first, Reporter(LOOP) as report:
        tell(report, *run(epoch(1)))
        with record() as second:
            tell(report, *run(epoch(2)))
    assert len(first) == len(second) + 8
    first.assert_legal()
    second.assert_legal()


@pytest.mark.parametrize(
    ("rest", "wrong"),
    [(REST, None), (REST[1:], "by hand event #1 ITERATION_COMPLETED is illegal in EPOCH 1 / ITERATION 1")],
)
def test_a_run_that_was_interrupted_before_the_recording_is_judged_from_there(rest, wrong):
    report = Reporter(LOOP, "by hand")
    with report:
        tell(report, *PAUSED)
    with record() as trace, report:
        tell(report, *rest)
    assert trace == rest
    assert (verdict(trace) or "").startswith(wrong or "")
    assert (verdict(trace) is None) == (wrong is None)


def test_a_reporter_keeps_no_trace_alive():
    report = Reporter(LOOP)
    with record() as trace, report:
        tell(report, *run(epoch(1)))
    gone = weakref.ref(trace)
    del trace
    gc.collect()
    assert gone() is None


def test_a_trace_is_saved_and_judged_by_the_loop_it_carries(tmp_path, pair):
    trainer, evaluator = pair
    with record(call_sites=True) as trace, trainer, evaluator:
        tell(trainer, "started", *epoch(2, FETCH))
        tell(evaluator, *EVALUATED)
        tell(trainer, "completed")
    trace.save(tmp_path / "run.jsonl")
    read = Trace.load(tmp_path / "run.jsonl")
    assert read == trace
    assert [event.site for event in read] == [event.site for event in trace]
    assert [run.context.has_data for run in read.runs] == [None, None]
    read.assert_legal()
    recorded(run(epoch(1)), max_epochs=2).save(tmp_path / "short.jsonl")
    assert "[epoch == max_epochs] does not hold" in verdict(Trace.load(tmp_path / "short.jsonl"))


# -- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            "epoch_stated",
            "by hand: its loop EPOCH has no event EPOCH_STATED; did you mean EPOCH_STARTED ('epoch_started')?",
        ),
        (
            "EPOCH_STARTED",
            "by hand: its loop EPOCH has no event EPOCH_STARTED; did you mean EPOCH_STARTED ('epoch_started')?",
        ),
        (BackpropEvents.BACKWARD_STARTED, "by hand: its loop EPOCH has no event BACKWARD_STARTED; did you mean "),
        (
            "loss",
            "by hand: its loop EPOCH has no event LOSS; it has STARTED, EPOCH_STARTED, EPOCH_COMPLETED, GET_BATCH_ST",
        ),
        ("", "an event needs a name: the empty string is none"),
    ],
)
def test_an_event_that_the_loop_does_not_have_is_refused_at_once(event, message):
    report = Reporter(LOOP, "by hand")
    with record() as trace, report:
        report("started")
        with pytest.raises(ValueError) as caught:
            report(event)
        tell(report, "epoch_started", "epoch_completed", "completed")
    assert str(caught.value).startswith(message)
    trace.assert_legal()


@pytest.mark.parametrize("event", [None, 3, object()])
def test_what_is_no_event_is_refused(event):
    with Reporter(LOOP) as report, pytest.raises(TypeError, match="is no event: give a member of an EventEnum or Enum"):
        report(event)


class Own(EventEnum):
    CLIPPED = "clipped"
    SAVE_STARTED = "save_started"
    SAVE_COMPLETED = "save_completed"


class Numbered(enum.Enum):
    TICK = 1


def test_members_of_enums_and_custom_states_are_events_like_all_others():
    free = (
        Free("SAVE", "save_started", "save_completed", "EPOCH"),
        Free("TICK", "Numbered.TICK", None, "ITERATION"),
    )
    loop = Loop("EPOCH", Loop("ITERATION", Phase("BACKWARD"), Mark("clipped"), over=DATA), free=free)
    iteration = [
        Events.ITERATION_STARTED,
        Numbered.TICK,
        BackpropEvents.BACKWARD_STARTED,
        Numbered.TICK,
        BackpropEvents.BACKWARD_COMPLETED,
        Own.CLIPPED,
        Events.ITERATION_COMPLETED,
    ]
    around = [Events.STARTED, Events.EPOCH_STARTED], [Events.EPOCH_COMPLETED, Events.COMPLETED]
    trace = recorded([*around[0], *iteration, Own.SAVE_STARTED, *iteration, Own.SAVE_COMPLETED, *around[1]], loop)
    trace.assert_legal()
    assert trace.count(Numbered.TICK) == 4
    assert [event.count for event in trace.select(event=Own.SAVE_STARTED)] == [1]
    left = verdict(recorded([*around[0], Own.SAVE_STARTED, *iteration, *around[1]], loop))
    assert "EPOCH_COMPLETED is illegal in EPOCH 1 / after ITERATION 1 / SAVE: [not in SAVE] does not hold" in left
    early = verdict(recorded([*around[0], iteration[0], Own.CLIPPED], loop))
    assert "CLIPPED is illegal in EPOCH 1 / ITERATION 1" in early


def test_events_of_other_names():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("LOSS", started="loss_begins", completed="loss_ends"), over=DATA))
    events = ["iteration_started", "loss_begins", "loss_ends", "iteration_completed"]
    assert verdict(recorded(["started", "epoch_started", *events, "epoch_completed", "completed"], loop)) is None


def test_it_says_what_it_is():
    assert repr(Reporter(LOOP, "by hand")) == "<Reporter by hand of the loop EPOCH>"


# -- call sites -------------------------------------------------------------------------------------------------------


def plain_loop(report):
    report("started")
    report("epoch_started")
    raise ArithmeticError


def line(offset, function="plain_loop"):
    return f"{HERE}:{plain_loop.__code__.co_firstlineno + offset} in {function}"


@pytest.fixture(autouse=True)
def in_the_repository(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


def failing(trace):
    """The sites of the two events of the plain loop, and the function that has the site of its failure."""
    *sites, last = [event.site for event in trace]
    return sites, last.split(":")[0], last.rpartition(" in ")[2]


def test_call_sites_name_the_line_of_the_user():
    report = Reporter(LOOP)
    here = HERE, "test_call_sites_name_the_line_of_the_user"
    with record(call_sites=True) as trace, contextlib.suppress(ArithmeticError), report:
        plain_loop(report)
    assert failing(trace) == ([line(1), line(2)], *here)
    with contextlib.suppress(ArithmeticError), record(report, call_sites=True) as trace:
        plain_loop(report)
    assert failing(trace) == ([line(1), line(2)], *here)


def test_call_sites_in_the_fixture_of_the_plugin(event_trace):
    report = Reporter(LOOP)
    with contextlib.suppress(ArithmeticError), event_trace(report, call_sites=True) as trace:
        plain_loop(report)
    here = HERE, "test_call_sites_in_the_fixture_of_the_plugin"
    assert failing(trace) == ([line(1), line(2)], *here)


def test_an_illegal_event_is_shown_with_the_line_that_reported_it():
    def wrong(report):
        report("started")
        report("iteration_started")

    with record(call_sites=True) as trace, Reporter(LOOP, "by hand") as report:
        wrong(report)
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    place = f"{HERE}:{wrong.__code__.co_firstlineno + 2} in wrong"
    assert f"  > 2  ITERATION_STARTED  fired by {place}" in str(caught.value).splitlines()


# -- threads and generators -------------------------------------------------------------------------------------------


def in_thread(call, *args):
    errors = []

    def guarded():
        try:
            call(*args)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert not errors


def test_a_loop_in_another_thread_is_heard_if_it_takes_the_context_along():
    report = Reporter(LOOP, "by hand")
    events = run(epoch(2))
    with record() as alone, report:
        in_thread(tell, report, *events)
    with record() as trace, report:
        in_thread(contextvars.copy_context().run, tell, report, *events)
    assert len(alone) == 0, "as for an engine in another thread"
    assert trace == events
    trace.assert_legal()


def test_events_from_another_thread_belong_to_the_run_that_has_begun():
    report = Reporter(LOOP, "by hand")
    with record() as trace, report:
        tell(report, "started", "epoch_started")
        in_thread(tell, report, *FETCH)
        tell(report, *ITERATION, "epoch_completed", "completed")
    trace.assert_legal()
    assert trace.count("get_batch_completed") == 1


def test_two_loops_in_two_threads_are_not_nested_in_each_other(pair):
    first, second = pair
    turn = threading.Barrier(2, timeout=60)

    def take_turns(report, events):
        for event in events:
            turn.wait()
            report(event)

    with record() as trace, record(first) as one, record(second) as other:
        contexts = contextvars.copy_context(), contextvars.copy_context()
        events = run(epoch(0)), EVALUATED
        threads = [
            threading.Thread(target=context.run, args=(take_turns, report, told))
            for context, report, told in zip(contexts, pair, events, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [run.parent for run in trace.runs] == [None, None]
    one.assert_legal()
    other.assert_legal()


def test_a_loop_that_is_a_generator_reports_as_it_is_asked_for_more():
    def batches(report):
        with report:
            tell(report, "started", "epoch_started")
            for number in range(3):
                report("iteration_started")
                yield number
                tell(report, *ITERATION[1:])
            tell(report, "epoch_completed", "completed")

    report, engine = Reporter(LOOP, "by hand"), make_engine()
    with record() as trace:
        for number in batches(report):
            if number == 1:
                engine.run([1])
    trace.assert_legal()
    assert [run.parent for run in trace.runs] == [None, 0]
    with record() as closed:
        asked = batches(report)
        next(asked)
        asked.close()
    assert closed == ["started", "epoch_started", "iteration_started", "exception_raised"]
    closed.assert_legal()
