"""Reports of loops outside camshaft: they are recorded and judged like the events of engines."""

from __future__ import annotations

import enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft import (
    DATA,
    BackpropEvents,
    CustomState,
    EventEnum,
    EventOrderError,
    EventPoint,
    Events,
    Loop,
    Phase,
    every,
    record,
)
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.testing import Reporter, illegal_traces, loops, traces
from support.reported import FETCH, ITERATION, LOOP, RESTARTED, epoch, recorded, run, tell, verdict

# -- what is legal -----------------------------------------------------------------------------------------------------


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


# -- limits ------------------------------------------------------------------------------------------------------------


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
            "EPOCH_COMPLETED is illegal in EPOCH 1 / after ITERATION 2: "
            "[iteration in epoch == epoch_length] does not hold",
        ),
        (
            {"epoch_length": 1},
            run(epoch(2)),
            "ITERATION_STARTED is illegal in EPOCH 1 / after ITERATION 1: "
            "[iteration in epoch < epoch_length] does not hold",
        ),
        (
            {"epoch_length": 2},
            run(epoch(2), epoch(3)),
            "ITERATION_STARTED is illegal in EPOCH 2 / after ITERATION 4: "
            "[iteration in epoch < epoch_length] does not hold",
        ),
        (
            {"max_iters": 2},
            run(epoch(3)),
            "ITERATION_STARTED is illegal in EPOCH 1 / after ITERATION 2: [iteration < max_iters] does not hold",
        ),
        ({"max_iters": 3}, run(epoch(2)), "COMPLETED is illegal after EPOCH 1"),
    ],
)
def test_a_pass_too_few_or_too_many_is_illegal(limits, events, wrong):
    assert wrong in verdict(recorded(events, **limits))


def test_the_length_of_an_epoch_is_learned_from_fetches():
    first = epoch(2, FETCH, after=["get_batch_started"])
    assert verdict(recorded(run(first, epoch(2, FETCH)))) is None
    assert "[batch] does not hold" in verdict(recorded(run(first, epoch(3, FETCH))))


def test_a_loop_may_look_for_a_batch_and_get_none():
    natural = epoch(2, FETCH, after=["get_batch_started"])
    assert verdict(recorded(run(natural, natural), max_epochs=2, epoch_length=2)) is None
    too_many = epoch(3, FETCH, after=["get_batch_started"])
    assert "[batch] does not hold" in verdict(recorded(run(natural, too_many), max_epochs=2, epoch_length=2))
    too_few = epoch(1, FETCH, after=["get_batch_started"])
    assert "[epoch_length unknown] does not hold" in verdict(recorded(run(natural, too_few), epoch_length=2))


def test_only_a_condition_by_count_is_judged():
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


LIMITS = ("max_epochs", "max_iters", "epoch_length")


def replayed(trace):
    """Report the events of a trace of one run again, under the same limits."""
    (ran,) = trace.runs
    limits = {name: getattr(ran.context, name) for name in LIMITS}
    with record() as again, Reporter(ran.loop, ran.engine, **limits) as report:
        tell(report, *(event.event for event in trace))
    return again


# -- any loop ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(traces(loops()))
def test_any_legal_run_is_recorded_with_the_same_counts(trace):
    """Test any loop with any run allowed by its machine."""
    again = replayed(trace)
    assert again == trace
    again.assert_legal()
    assert [record.outcome for record in again.runs] == [record.outcome for record in trace.runs]


@settings(max_examples=100)
@given(illegal_traces(loops()))
def test_any_other_order_is_illegal_where_the_machine_says_so(trace):
    """Test any loop with orders of events that differ little from a legal one."""
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
    """Test any events in any order: each is recorded once, and later recordings are not affected."""
    trace = recorded(events)
    assert trace == events
    verdict(trace)
    assert len(trace.segments) == len(trace.runs)
    assert verdict(recorded(run(epoch(1)))) is None


# -- counters ----------------------------------------------------------------------------------------------------------


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


# -- events ------------------------------------------------------------------------------------------------------------


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
        ("", "the name of an event must not be empty"),
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
    with (
        Reporter(LOOP) as report,
        pytest.raises(TypeError, match="is not an event: give a member of an EventEnum or Enum"),
    ):
        report(event)


class Own(EventEnum):
    CLIPPED = "clipped"
    SAVE_STARTED = "save_started"
    SAVE_COMPLETED = "save_completed"


class Numbered(enum.Enum):
    TICK = 1


def test_members_of_enums_and_custom_states_are_events():
    free = (
        CustomState("SAVE", "save_started", "save_completed", "EPOCH"),
        CustomState("TICK", "Numbered.TICK", None, "ITERATION"),
    )
    loop = Loop("EPOCH", Loop("ITERATION", Phase("BACKWARD"), EventPoint("clipped"), over=DATA), custom_states=free)
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
