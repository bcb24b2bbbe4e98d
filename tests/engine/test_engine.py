"""The standard loop of an engine: its order of events, the arguments and results of a step, and freed memory."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils.data import DataLoader

from camshaft import DATA, Engine, Loop, Phase, State
from support.engines import ITERATION, ClipEvents, E, collect, legal, standard
from support.steps import echo, fires, no_op


def test_the_standard_loop_fires_its_events_in_this_order():
    assert legal(Engine(echo), [1, 2], max_epochs=2) == standard(2, 2)


def test_epochs_and_iterations_are_counted_before_they_start():
    engine = Engine(echo)
    epochs = collect(engine, E.EPOCH_STARTED, lambda engine: engine.state.epoch)
    fetched = collect(engine, E.GET_BATCH_COMPLETED)
    iterations = collect(engine, E.ITERATION_STARTED)
    engine.run([1, 2], max_epochs=2)
    assert (epochs, fetched, iterations) == ([1, 2], [0, 1, 2, 3], [1, 2, 3, 4])


def test_get_batch_events_fire_only_when_there_is_data():
    trace = legal(Engine(no_op), max_epochs=2, epoch_length=2)
    assert trace == [E.STARTED, *[E.EPOCH_STARTED, *ITERATION[2:] * 2, E.EPOCH_COMPLETED] * 2, E.COMPLETED]


@pytest.mark.parametrize("event", [E.ITERATION_STARTED, E.GET_BATCH_COMPLETED])
def test_a_handler_may_replace_the_batch_before_the_step(event):
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(event, lambda engine: setattr(engine.state, "batch", engine.state.batch * 10))
    engine.run([1, 2])
    assert stepped == [10, 20]


def test_output_is_set_at_iteration_completed_and_not_before():
    engine = Engine(echo)
    before = collect(engine, E.ITERATION_STARTED, lambda engine: engine.state.output)
    after = collect(engine, E.ITERATION_COMPLETED, lambda engine: engine.state.output)
    assert (engine.run([1, 2]).output, before, after) == (2, [None, None], [1, 2])


def test_phases_and_custom_events_fire_inside_an_iteration():
    engine = Engine([Phase("FORWARD", fires("grads_clipped")), Phase("BACKWARD", no_op)])
    engine.register_events("grads_clipped")
    inside = ["forward_started", "grads_clipped", "forward_completed", "backward_started", "backward_completed"]
    assert legal(engine, [1]) == [
        E.STARTED,
        E.EPOCH_STARTED,
        *ITERATION[:3],
        *inside,
        E.ITERATION_COMPLETED,
        E.EPOCH_COMPLETED,
        E.COMPLETED,
    ]


def test_run_returns_the_state():
    engine = Engine(echo)
    state = engine.run([1, 2])
    assert isinstance(state, State)
    assert state is engine.state
    assert (state.epoch, state.iteration, state.epoch_length, state.max_epochs) == (1, 2, 2, 1)


def test_run_takes_one_limit_and_does_one_epoch_without():
    assert Engine(echo).run([1, 2, 3]).iteration == 3
    assert Engine(echo).run([1, 2, 3], max_epochs=3).iteration == 9
    assert Engine(echo).run([1, 2, 3], max_iters=7).iteration == 7
    with pytest.raises(ValueError, match=r"max_epochs.*max_iters"):
        Engine(echo).run([1], max_epochs=1, max_iters=1)


def test_what_a_phase_returns_becomes_output_unless_none():
    calls = []
    first = Phase("FIRST", lambda engine, batch: calls.append((engine, batch)) or "first")
    second = Phase("SECOND", no_op)
    engine = Engine([first, second])
    assert engine.run([5]).output == "first"
    assert calls == [(engine, 5)]
    assert Engine([first, Phase("LAST", lambda engine, batch: 0)]).run([5]).output == 0


class Thing:
    pass


def inner_steps(step):
    return Loop("EPOCH", Loop("ITERATION", Loop("TIMESTEP", Phase("ACT", step), times=2), over=DATA))


@pytest.mark.parametrize("event", [E.ITERATION_STARTED, E.ITERATION_COMPLETED])
@pytest.mark.parametrize(
    "process",
    [
        lambda step: step,
        lambda step: [Phase("FORWARD", step), Phase("BACKWARD", no_op)],
        lambda step: [Phase("A", no_op), Phase("B", step)],
        inner_steps,
    ],
    ids=["opaque", "first phase", "last phase", "inner loop"],
)
def test_no_batch_or_output_of_an_earlier_iteration_is_kept_alive(process, event):
    batches, outputs, alive = [], [], []

    def made(into):
        thing = Thing()
        into.append(weakref.ref(thing))
        return thing

    class Data:
        def __iter__(self):
            return (made(batches) for _ in range(3))

    engine = Engine(process(lambda engine, batch: made(outputs)))
    current = 1 if event is E.ITERATION_COMPLETED else 0

    @engine.on(event)
    def look():
        kept_outputs = outputs[:-current] if current else outputs
        alive.append([ref() is not None for ref in batches[:-1] + kept_outputs])

    engine.run(Data(), max_epochs=2, epoch_length=3)
    assert not any(any(kept) for kept in alive)
    assert len(alive) == 6


def test_no_graph_of_an_earlier_iteration_is_kept_alive():
    model, graphs, alive = torch.nn.Linear(2, 1), [], []

    def step(engine, batch):
        loss = model(batch).sum()
        graphs.append(weakref.ref(loss))
        return loss

    engine = Engine(step)
    engine.add_event_handler(E.ITERATION_STARTED, lambda: alive.append([graph() is not None for graph in graphs]))
    engine.run(DataLoader(torch.ones(6, 2), batch_size=2), max_epochs=2)
    assert alive == [[False] * done for done in range(6)]


def test_nothing_about_one_engine_leaks_into_another():
    first, second = Engine(echo, "first"), Engine(echo, "second")
    states = list(second.machine.states)
    first.register_events(*ClipEvents)
    seen = collect(first, E.ITERATION_COMPLETED)
    first.state.mine = 1
    assert not second.has_registered_events(ClipEvents.CLIP_STARTED)
    with pytest.raises(ValueError, match="not registered in second"):
        second.add_event_handler(ClipEvents.CLIP_STARTED, print)
    second.run([1])
    assert seen == []
    assert list(second.machine.states) == states
    assert not hasattr(second.state, "mine")


def test_an_inner_loop_sees_what_the_phase_before_it_gave():
    seen = []
    inner = Loop("TIMESTEP", Phase("ACT", lambda engine, batch: seen.append(engine.state.output)), times=2)
    engine = Engine(Loop("EPISODE", Phase("RESET", lambda engine, batch: f"reset {engine.state.episode}"), inner))
    engine.run(max_epochs=2)
    assert seen == ["reset 1", "reset 1", "reset 2", "reset 2"]
    engine = Engine(Loop("EPOCH", Loop("ITERATION", Phase("ENCODE", lambda engine, batch: batch), inner, over=DATA)))
    seen.clear()
    engine.run([7])
    assert seen == [7, 7]


def test_until_is_asked_after_each_pass_a_skipped_one_too():
    asked = []

    def until(engine):
        asked.append(engine.state.episode)
        return engine.state.episode == 3

    engine = Engine(Loop("EPISODE", Phase("A", no_op), until=until))
    engine.add_event_handler("a_started", lambda engine: engine.terminate_epoch(skip_epoch_completed=True))
    engine.run()
    assert asked == [1, 2, 3]
