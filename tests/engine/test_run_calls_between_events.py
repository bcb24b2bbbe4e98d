"""Control calls from a user's code that runs between two events: conditions, elements of a loop, data as it ends."""

from __future__ import annotations

import pytest

from camshaft import DATA, Engine, EventOrderError, Loop, Phase, State, every, record
from support.steps import no_op

CALLS = {
    "terminate": lambda engine: engine.terminate(),
    "terminate skip_completed": lambda engine: engine.terminate(skip_completed=True),
    "interrupt": lambda engine: engine.interrupt(),
}


def once(call, answer, at=1):
    """Return a condition that makes a control call at its ``at``-th evaluation."""
    evaluations = []

    def condition(engine):
        evaluations.append(None)
        if len(evaluations) == at:
            call(engine)
        return answer(len(evaluations))

    return condition


def events_of(engine, *args, **limits):
    """Run to the end, through all pauses, and check the trace. Returns its events, without INTERRUPT."""
    with record() as trace:
        engine.run(*args, **limits)
        while engine.current_run is not None:
            engine.run()
    trace.assert_legal()
    return [event.event for event in trace if event.event != "interrupt"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("at", [1, 2])
def test_a_call_in_until_acts_before_the_next_pass_is_counted(call, at):
    until = once(CALLS[call], lambda evaluations: evaluations == 3, at)
    engine = Engine(Loop("ROUND", Phase("PLAY", no_op), until=until))
    events_of(engine)
    assert engine.state.round == (3 if call == "interrupt" else at)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_in_until_as_the_loop_ends(call):
    engine = Engine(Loop("ROUND", Phase("PLAY", no_op), until=once(CALLS[call], lambda evaluations: True)))
    assert events_of(engine)[-2:] == ["round_completed", "completed"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_call_in_elements_acts_before_the_pass_is_counted(call, at):
    def elements(engine):
        for number in range(3):
            if number == at:
                CALLS[call](engine)
            yield number

    engine = Engine(Loop("ROUND", Phase("PLAY", no_op), over=elements))
    fired = events_of(engine)
    assert engine.state.round == fired.count("round_started") == (3 if call == "interrupt" else at)


@pytest.mark.parametrize("place", ["until", "elements"])
def test_a_pause_before_a_pass_goes_on_in_a_trace_of_its_own(place):
    def elements(engine):
        yield 0
        engine.interrupt()
        yield 1

    until = {"until": once(CALLS["interrupt"], lambda evaluations: evaluations == 2), "over": None}
    kinds = {"until": {"until": until["until"]}, "elements": {"over": elements}}
    engine = Engine(Loop("ROUND", Phase("PLAY", no_op), **kinds[place]))
    engine.run()
    with record() as rest:
        engine.run()
    rest.assert_legal()
    assert rest == ["round_started", "play_started", "play_completed", "round_completed", "completed"]


@pytest.mark.parametrize("inner", [{"times": 2}, {"over": range(2)}])
def test_a_pause_before_the_first_inner_pass_resumes_legally(inner):
    engine = Engine(
        Loop("EPOCH", Phase("ASK", lambda engine, batch: engine.interrupt()), Loop("TIMESTEP", Phase("ACT"), **inner))
    )
    for phase in ("first", "rest"):  # the first run pauses after ASK
        with record() as trace:
            engine.run()
        trace.assert_legal()
        assert phase == "first" or trace.count("timestep_started") == 2
    assert engine.state.timestep == 2


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize(
    "last",
    [[Phase("LAST")], [Phase("STEP", no_op), Phase("LAST")], [Loop("INNER", Phase("ACT"), times=1), Phase("LAST")]],
)
def test_an_epoch_ended_in_its_last_condition_is_not_completed(last, holds):
    def when(engine):
        if engine.state.epoch == 1:
            engine.terminate_epoch(skip_epoch_completed=True)
        return holds

    *before, phase = last
    engine = Engine(Loop("EPOCH", *before, Phase(phase.name, no_op, when=when)))
    fired = events_of(engine, max_epochs=2)
    assert fired.count("terminate_single_epoch") == 1
    assert fired.count("epoch_completed") == 1
    assert engine.state.epoch == 2


def test_an_epoch_ended_before_a_phase_left_out_is_not_completed():
    def act(engine, batch):
        engine.terminate_epoch(skip_epoch_completed=True)

    engine = Engine(Loop("EPOCH", Phase("ACT", act), Phase("RARE", no_op, when=every(5))))
    fired = events_of(engine, max_epochs=2)
    assert fired.count("terminate_single_epoch") == 2
    assert "epoch_completed" not in fired


@pytest.mark.parametrize("call", [*CALLS, "terminate_epoch", "terminate_epoch skip"])
@pytest.mark.parametrize("has_more", [False, True])
def test_a_call_in_data_of_unknown_length_as_it_first_runs_out(call, has_more):
    calls = CALLS | {
        "terminate_epoch": lambda engine: engine.terminate_epoch(),
        "terminate_epoch skip": lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
    }

    class Ending:
        def __iter__(self):
            yield 1
            yield 2
            if engine.state.epoch == 1:
                calls[call](engine)
            if has_more:
                yield 3

    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ACT", no_op), over=DATA)))
    events_of(engine, Ending(), max_epochs=2)


def test_data_that_a_call_ended_has_no_length_yet():
    def ending():
        yield 1
        engine.terminate()

    engine = Engine(no_op)
    assert events_of(engine, ending())[-2:] == ["terminate", "completed"]
    assert engine.state.epoch_length is None


INNER_CALLS = CALLS | {
    "terminate_epoch": lambda engine: engine.terminate_epoch(),
    "terminate_epoch skip": lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
}


def counted_as_fired(engine, fired):
    """Return whether the counter of each loop equals the number of its passes in a list of events."""
    loops = [item for _, item in engine.loop.walk() if isinstance(item, Loop)]
    return all(getattr(engine.state, loop.name.lower()) == fired.count(loop.started) for loop in loops)


@pytest.mark.parametrize("call", INNER_CALLS)
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("strict", [False, True])
def test_a_call_in_inner_until_acts_before_the_next_pass(call, at, strict):
    until = once(INNER_CALLS[call], lambda evaluations: evaluations % 2 == 0, at)
    engine = Engine(Loop("EPOCH", Loop("TIMESTEP", Phase("ACT"), until=until)), strict=strict)
    assert counted_as_fired(engine, events_of(engine, max_epochs=2))


@pytest.mark.parametrize("call", INNER_CALLS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_call_in_inner_elements_acts_before_the_pass(call, at):
    def elements(engine):
        for number in range(3):
            if engine.state.epoch == 1 and number == at:
                INNER_CALLS[call](engine)
            yield number

    engine = Engine(Loop("EPOCH", Loop("PART", Phase("ACT"), over=elements)))
    assert counted_as_fired(engine, events_of(engine, max_epochs=2))


BEFORE = {
    "until": Loop("WARM_UP", Phase("WARM"), until=lambda engine: engine.calls(engine)),
    "when": Phase("RARE", no_op, when=lambda engine: not engine.calls(engine)),
    "step": Loop("WARM_UP", Phase("WARM", lambda engine, batch: engine.calls(engine) and None), times=1),
}


@pytest.mark.parametrize("call", INNER_CALLS)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", [{"times": 2}, {"over": range(2)}, {"over": DATA}])
def test_a_call_before_an_inner_loop_acts_before_its_first_pass(call, before, after):
    called = []

    def calls(engine):
        if not called:
            called.append(None)
            INNER_CALLS[call](engine)
        return True

    engine = Engine(Loop("EPOCH", BEFORE[before], Loop("PART", Phase("ACT"), **after)))
    engine.calls = calls
    limits = {"max_epochs": 2} | ({"epoch_length": 2} if engine.loop.data_loop else {})
    assert counted_as_fired(engine, events_of(engine, **limits))

    called.clear()
    engine.run(**limits)
    if call == "interrupt":  # the rest of the run is legal in a trace of its own
        engine.strict = True
        events_of(engine)


@pytest.mark.parametrize("kind", ["until", "over", "when"])
def test_a_pause_after_the_loop_over_data_resumes_legally(kind):
    def asks(engine):
        if engine.state.epoch == 1:
            engine.interrupt()
        return True

    def elements(engine):
        asks(engine)
        yield 1

    after = {
        "until": Loop("LATE", Phase("ACT"), until=asks),
        "over": Loop("LATE", Phase("ACT"), over=elements),
        "when": Phase("LATE", no_op, when=asks),
    }
    for data in (None, [1, 2]):
        engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("STEP", no_op), over=DATA), after[kind]))
        engine.run(data, epoch_length=2, max_epochs=2)
        assert engine.current_run is not None
        assert counted_as_fired(
            engine, ["epoch_started", *["iteration_started"] * 2, *["late_started"] * (kind == "until")]
        )
        engine.strict = True
        assert events_of(engine)[-1] == "completed"


def test_a_pause_between_count_and_event_keeps_the_count():
    class Interrupting(State):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if (name, value) in (("part", 2), ("iteration", 1)):
                engine.interrupt()

    for passes in ({"times": 3}, {"over": DATA}):
        name = "PART" if "times" in passes else "ITERATION"
        engine = Engine(Loop("EPOCH", Loop(name, Phase("ACT"), **passes)))
        engine.state.__class__ = Interrupting
        limits = {"epoch_length": 2} if engine.loop.data_loop else {}
        engine.run(**limits)
        assert engine.current_run is not None
        engine.strict = True
        assert events_of(engine)[-1] == "completed"


@pytest.mark.parametrize("strict", [False, True])
def test_an_epoch_can_be_terminated_in_a_state_with_any_name(strict):
    def act(engine, batch):
        if engine.state.epoch == 1:
            engine.terminate_epoch()

    engine = Engine(Loop("EPOCH", Phase("TERMINATED_SOON", act), Phase("LATER")), strict=strict)
    assert events_of(engine, max_epochs=2).count("terminate_single_epoch") == 1


def test_a_run_that_ends_as_it_learns_the_length_is_legal():
    def asks(engine):
        engine.terminate()
        return False

    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ACT"), over=DATA), Phase("LATE", no_op, when=asks)))
    with record() as trace:
        engine.run(iter([1, 2, 3]))
    trace.assert_legal()
    assert engine.state.epoch_length == 3
    trace.runs[0].limits["epoch_length"] = 2
    with pytest.raises(EventOrderError, match="(?s)show no length of an epoch.*expected: epoch_length=2"):
        trace.assert_legal()


def test_max_iters_leaves_the_number_of_times_as_it_is():
    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ACT"), over=DATA), times=3))
    engine.add_event_handler("epoch_started", lambda engine: engine.terminate_epoch())
    assert events_of(engine, [1, 2], max_iters=4).count("epoch_started") == 3


def test_an_interrupt_from_data_as_it_ends_can_be_recorded():
    engine = Engine(no_op)

    class Data:
        def __iter__(self):
            yield from (1, 2)
            engine.interrupt()

    engine.run(Data())
    with record() as trace:
        engine.run()
    trace.assert_legal()
    assert engine.state.iteration == 2
