"""Tests of the position of a progress bar, also after a restart and when it closes early."""

from contextlib import suppress

import pytest

import camshaft
from camshaft import DATA, Engine, Events, Loop, Phase
from support.steps import echo


def test_data_of_unknown_length_is_counted_for_one_epoch(log):
    seen = []
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: seen.append(e.state.epoch_length))

    class Stream:
        def __iter__(self):
            return iter(range(7))

    engine.add_event_handler(Events.ITERATION_COMPLETED(once=[3, 10]), engine.interrupt)
    for _ in range(3):
        engine.run(Stream() if engine.state.dataloader is None else None, max_epochs=2)
    assert seen == [None]
    assert log.lines == [
        "trainer epoch 1/2  3",
        "trainer epoch 1/2  7/7  100%",
        "trainer epoch 2/2  3/7  42%",
        "trainer epoch 2/2  7/7  100%",
    ]


@pytest.mark.parametrize(
    ("options", "limits", "expected"),
    [
        ({}, {"max_epochs": 2}, ["trainer epoch 1/2  4/4  100%", "trainer epoch 2/2  4/4  100%"]),
        ({}, {"max_epochs": 1}, ["trainer  4/4  100%"]),
        ({}, {"max_iters": 6}, ["trainer epoch 1  4/4  100%", "trainer epoch 2  2/2  100%"]),
        ({"closing_event_name": Events.COMPLETED}, {"max_epochs": 2}, ["trainer iteration  8/8  100%"]),
        ({"closing_event_name": Events.COMPLETED}, {"max_iters": 6}, ["trainer iteration  6/6  100%"]),
        ({"event_name": Events.EPOCH_COMPLETED}, {"max_epochs": 3}, ["trainer epoch  3/3  100%"]),
        ({"event_name": Events.ITERATION_COMPLETED(every=3)}, {"max_epochs": 1}, ["trainer  4/4  100%"]),
        ({"event_name": "custom"}, {"max_epochs": 1}, ["trainer  4/4  100%"]),
    ],
)
def test_a_bar_follows_what_it_is_attached_to(log, options, limits, expected):
    engine = Engine(lambda engine, batch: engine.fire_event("custom"), name="trainer")
    engine.register_events("custom")
    log.bar.attach(engine, **options)
    engine.run(range(4), **limits)
    assert log.lines == expected


def test_an_iteration_that_is_skipped_counts(log):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, output_transform=lambda output: output + 1)  # a skipped iteration has no output
    engine.add_event_handler(Events.ITERATION_STARTED(once=[2, 4]), lambda e: e.skip_iteration())
    engine.run(range(4))
    assert log.lines == ["trainer  4/4  100%  output=3"]


def test_a_run_without_data_has_its_bar(log):
    engine = Engine(lambda engine, batch: None, name="trainer")
    log.bar.attach(engine)
    engine.run(epoch_length=3, max_epochs=1)
    assert log.lines == ["trainer  3/3  100%"]


def test_loops_of_other_names_have_bars(log):
    def act(engine, batch):
        return engine.state.timestep

    def over(engine):
        return engine.state.timestep % 5 == 0

    rollout = Loop("EPISODE", Loop("TIMESTEP", Phase("ACT", act), until=over))
    engine = Engine(rollout, name="agent")
    log.bar.attach(engine)
    log.bar.attach(engine, event_name="timestep_completed")
    engine.run(max_epochs=2)
    assert log.lines == ["agent episode 1/2  5", "agent episode 2/2  5", "agent episode  2/2  100%"]


def test_folds_multiply(log):
    folds = Loop("FOLD", Loop("EPOCH", Loop("ITERATION", Phase("STEP_UP", echo), over=DATA), times=2), times=3)
    engine = Engine(folds, name="trainer")
    log.bar.attach(engine, closing_event_name="fold_completed")
    log.bar.attach(engine, closing_event_name=Events.COMPLETED)
    engine.run(range(5), max_epochs=None)
    assert log.lines == [
        "trainer fold 1/3  10/10  100%",
        "trainer fold 2/3  10/10  100%",
        "trainer fold 3/3  10/10  100%",
        "trainer iteration  30/30  100%",
    ]


def test_a_loop_over_data_alone_has_a_bar(log):
    engine = Engine(Loop("ITERATION", Phase("STEP_UP", echo), over=DATA), name="reader")
    log.bar.attach(engine)
    engine.run(range(5), max_iters=5)
    assert log.lines == ["reader iteration  5/5  100%"]


def test_a_restored_run_shows_the_position_it_was_saved_at(log):
    saved = []
    first = Engine(echo)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda e: saved.append(e.state_dict()) or e.terminate())
    first.add_event_handler(Events.ITERATION_COMPLETED(once=3), first.terminate_epoch)  # epochs of 3, 5, 5
    first.run(range(5), max_epochs=3)
    second = Engine(echo, name="trainer")
    second.load_state_dict(saved[0])
    log.bar.attach(second)
    log.bar.attach(second, closing_event_name=Events.COMPLETED)
    second.add_event_handler(Events.ITERATION_COMPLETED(once=8), second.terminate)
    second.run(range(5))
    assert log.lines == [
        "trainer epoch 2/3  5/5  100%",
        "trainer iteration  8/15  53%",
        "trainer ends: terminate() was called, in EPOCH 2 / ITERATION 8",
    ]


def test_a_bar_that_is_attached_in_mid_epoch_finds_its_position(log):
    engine = Engine(echo, name="trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=8), lambda e: log.bar.attach(e))
    engine.run(range(5), max_epochs=2)
    assert log.lines == ["trainer epoch 2/2  5/5  100%"]


def act_at(event, call):
    """Return an engine with two phases that calls a function at an event of the fourth iteration."""
    phases = [Phase("HALF", lambda engine, batch: "half"), Phase("WHOLE", echo)]
    engine = Engine(phases, name="trainer")
    engine.add_event_handler(event, lambda e: call(e) if e.state.iteration == 4 else None)
    return engine


def fails(engine):
    raise ArithmeticError


@pytest.mark.parametrize(
    "call",
    [
        fails,
        lambda engine: engine.terminate(),
        lambda engine: engine.terminate(skip_completed=True),
        lambda engine: engine.terminate_epoch(),
        lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
        lambda engine: engine.interrupt(),
    ],
)
@pytest.mark.parametrize(
    ("event", "done"),
    [(Events.ITERATION_STARTED, 3), ("whole_started", 3), ("whole_completed", 3), (Events.ITERATION_COMPLETED, 4)],
)
def test_a_bar_that_closes_early_ends_with_what_is_over(log, event, done, call):
    engine = act_at(event, call)
    computing = camshaft.event(Events.ITERATION_COMPLETED, priority=1)
    engine.add_event_handler(computing, lambda e: e.state.metrics.update(seen=e.state.iteration))
    log.bar.attach(engine, ["seen"], output_transform=lambda output: output)
    with suppress(ArithmeticError):
        engine.run("abcdefghij", max_epochs=2)
    first = log.lines[0]
    assert first == f"trainer epoch 1/2  {done}/10  {done}0%  seen={done}  output={'abcd'[done - 1]}"


@pytest.mark.parametrize("how", ["terminate", "interrupt"])
def test_an_epoch_that_was_not_completed_does_not_count(log, how):
    engine = Engine(echo, name="trainer")
    log.bar.attach(engine, event_name=Events.EPOCH_COMPLETED)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=7), getattr(engine, how))
    engine.run(range(5), max_epochs=3)
    told = ["trainer ends: terminate() was called, in EPOCH 2 / ITERATION 7"] if how == "terminate" else []
    assert log.lines == ["trainer epoch  1/3  33%", *told]
    if how == "interrupt":
        engine.run()
        assert log.lines[1:] == ["trainer epoch  3/3  100%"]


def test_neither_does_a_restored_one_that_ended_again(log):
    saved = []
    first = Engine(echo)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda e: saved.append(e.state_dict()))
    first.run(range(5), max_epochs=3)
    second = Engine(echo, name="trainer")
    second.load_state_dict(saved[0])
    log.bar.attach(second, event_name=Events.EPOCH_COMPLETED)
    second.add_event_handler(Events.ITERATION_COMPLETED(once=8), second.terminate)
    second.run(range(5))
    assert log.lines[:1] == ["trainer epoch  1/3  33%"]


def test_a_bar_that_moves_at_a_phase_counts_the_passes_that_had_it(log):
    engine = act_at("whole_completed", fails)
    log.bar.attach(engine, event_name="half_completed", output_transform=lambda output: output)
    with pytest.raises(ArithmeticError):
        engine.run("abcdefghij")
    assert log.lines == ["trainer  4/10  40%  output=half"]


def test_an_unreadable_value_does_not_hide_what_ended_the_run(log):
    def transform(output):
        if output == "d":
            raise TypeError
        return output

    engine = act_at(Events.ITERATION_COMPLETED(every=2), fails)
    log.bar.attach(engine, event_name=Events.ITERATION_COMPLETED(every=3), output_transform=transform)
    with pytest.raises(ArithmeticError):
        engine.run("abcdefghij")
    assert log.lines == ["trainer  4/10  40%  output=c"]
