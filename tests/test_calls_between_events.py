"""Control calls from a user's code that runs between two events: conditions, elements of a loop, data as it ends."""

import pytest

from camshaft import DATA, Engine, Loop, Phase, every, record

CALLS = {
    "terminate": lambda engine: engine.terminate(),
    "terminate skip_completed": lambda engine: engine.terminate(skip_completed=True),
    "interrupt": lambda engine: engine.interrupt(),
}


def nothing(engine, batch):
    return None


def once(call, answer, at=1):
    """A condition that calls the engine when it is asked for the ``at``-th time."""
    asked = []

    def condition(engine):
        asked.append(None)
        if len(asked) == at:
            call(engine)
        return answer(len(asked))

    return condition


def events_of(engine, *args, **limits):
    """What fires, judged, in a run that is called again until it is over."""
    with record() as trace:
        engine.run(*args, **limits)
        while engine.active is not None:
            engine.run()
    trace.assert_legal()
    return [event.event for event in trace if event.event != "interrupt"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("at", [1, 2])
def test_a_call_in_until_of_the_outermost_loop_acts_before_the_next_pass_is_counted(call, at):
    until = once(CALLS[call], lambda asked: asked == 3, at)
    engine = Engine(Loop("ROUND", Phase("PLAY", nothing), until=until))
    events_of(engine)
    assert engine.state.round == (3 if call == "interrupt" else at)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_in_until_as_the_loop_ends_is_dropped_or_pauses_before_completed(call):
    engine = Engine(Loop("ROUND", Phase("PLAY", nothing), until=once(CALLS[call], lambda asked: True)))
    assert events_of(engine)[-2:] == ["round_completed", "completed"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_call_in_the_elements_of_the_outermost_loop_acts_before_the_pass_is_counted(call, at):
    def elements(engine):
        for number in range(3):
            if number == at:
                CALLS[call](engine)
            yield number

    engine = Engine(Loop("ROUND", Phase("PLAY", nothing), over=elements))
    fired = events_of(engine)
    assert engine.state.round == fired.count("round_started") == (3 if call == "interrupt" else at)


@pytest.mark.parametrize("place", ["until", "elements"])
def test_a_pause_before_a_pass_goes_on_in_a_trace_of_its_own(place):
    def elements(engine):
        yield 0
        engine.interrupt()
        yield 1

    until = {"until": once(CALLS["interrupt"], lambda asked: asked == 2), "over": None}
    kinds = {"until": {"until": until["until"]}, "elements": {"over": elements}}
    engine = Engine(Loop("ROUND", Phase("PLAY", nothing), **kinds[place]))
    engine.run()
    with record() as rest:
        engine.run()
    rest.assert_legal()
    assert rest == ["round_started", "play_started", "play_completed", "round_completed", "completed"]


@pytest.mark.parametrize("inner", [{"times": 2}, {"over": range(2)}])
def test_a_pause_before_the_first_pass_of_an_inner_loop_goes_on_in_a_trace_of_its_own(inner):
    engine = Engine(
        Loop("EPOCH", Phase("ASK", lambda engine, batch: engine.interrupt()), Loop("TIMESTEP", Phase("ACT"), **inner))
    )
    for phase in ("first", "rest"):  # the first pauses behind ASK
        with record() as trace:
            engine.run()
        trace.assert_legal()
        assert phase == "first" or trace.count("timestep_started") == 2
    assert engine.state.timestep == 2


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize(
    "last",
    [[Phase("LAST")], [Phase("STEP", nothing), Phase("LAST")], [Loop("INNER", Phase("ACT"), times=1), Phase("LAST")]],
)
def test_an_epoch_that_is_ended_in_the_condition_of_its_last_phase_has_no_completion(last, holds):
    def when(engine):
        if engine.state.epoch == 1:
            engine.terminate_epoch(skip_epoch_completed=True)
        return holds

    *before, phase = last
    engine = Engine(Loop("EPOCH", *before, Phase(phase.name, nothing, when=when)))
    fired = events_of(engine, max_epochs=2)
    assert fired.count("terminate_single_epoch") == 1
    assert fired.count("epoch_completed") == 1
    assert engine.state.epoch == 2


def test_an_epoch_that_is_ended_in_a_phase_before_one_that_is_left_out_has_no_completion():
    def act(engine, batch):
        engine.terminate_epoch(skip_epoch_completed=True)

    engine = Engine(Loop("EPOCH", Phase("ACT", act), Phase("RARE", nothing, when=every(5))))
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

    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ACT", nothing), over=DATA)))
    events_of(engine, Ending(), max_epochs=2)


def test_data_that_a_call_ended_has_no_length_yet():
    def ending():
        yield 1
        engine.terminate()

    engine = Engine(nothing)
    assert events_of(engine, ending())[-2:] == ["terminate", "completed"]
    assert engine.state.epoch_length is None
