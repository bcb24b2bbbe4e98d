"""State dicts: a run saved at any event continues from there."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, Phase, event, record
from support.engines import E, legal
from support.steps import echo, no_op


def test_a_state_saved_as_a_restored_run_begins_has_its_position():
    saved = []
    first = Engine(echo)
    first.add_event_handler(E.ITERATION_COMPLETED(once=7), lambda engine: saved.append(engine.state_dict()))
    first.run(range(5), max_epochs=3)
    second = Engine(echo)
    second.load_state_dict(saved[0])
    second.add_event_handler(
        E.STARTED | E.EPOCH_STARTED, lambda engine: engine.state.resumed and saved.append(engine.state_dict())
    )
    second.run(range(5))
    assert [state["position"] for state in saved] == [2, 2, 2]


def test_a_state_dict_says_in_which_states_the_run_stood():
    engine, where = Engine([Phase("BACKWARD", echo)]), []
    for moment in (E.STARTED, E.GET_BATCH_COMPLETED, "backward_started", E.ITERATION_COMPLETED, E.EPOCH_COMPLETED):
        engine.add_event_handler(moment, lambda: where.append(engine.state_dict()["where"]))
    engine.run([1])
    inside = ["EPOCH", "ITERATION"]
    assert where == [[], ["EPOCH", "GET_BATCH"], [*inside, "BACKWARD"], inside, ["EPOCH"]]


def test_a_state_dict_of_another_loop_is_refused():
    saved = Engine([Phase("BACKWARD", echo)]).state_dict() | {"where": ["EPOCH", "ITERATION", "BACKWARD"]}
    with pytest.raises(
        ValueError, match="saved in 'EPOCH / ITERATION / BACKWARD', where a run of the loop EPOCH cannot"
    ):
        Engine(echo).load_state_dict(saved)


def test_a_restored_epoch_that_is_terminated_has_a_successor():
    saved = []
    first = Engine(echo)
    first.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: saved.append(engine.state_dict()))
    first.run([1, 2, 3], max_epochs=2)
    second = Engine(echo)
    second.load_state_dict(saved[0])
    second.add_event_handler(E.EPOCH_STARTED(once=1), second.terminate_epoch)
    legal(second, [1, 2, 3])
    assert (second.state.epoch, second.state.iteration) == (2, 5)


def make(seen, name="trainer"):
    return Engine(lambda engine, batch: seen.append((engine.state.epoch, batch)), name=name)


def saved_at_every_event(data, epochs):
    """Return, for each event of a run, the event, the number of batches seen so far, and the state; and all batches."""
    seen = []
    engine = make(seen)
    return [(one, len(seen), engine.state_dict()) for one in engine.steps(data, max_epochs=epochs)], seen


@pytest.mark.parametrize("index", range(len(saved_at_every_event("abc", 3)[0]) - 2))
def test_a_run_saved_at_any_event_goes_on_with_the_iteration_after(index):
    saved, uninterrupted = saved_at_every_event("abc", 3)
    one, done, state = saved[index]
    seen = []
    engine = make(seen)
    engine.load_state_dict(state)
    with record() as trace:
        engine.run("abc")
    trace.assert_legal()
    if one is Events.ITERATION_STARTED:
        done += 1  # this iteration was counted before the state was saved, so the run continues with the next one
    assert seen == uninterrupted[done:]
    assert (engine.state.epoch, engine.state.iteration) == (3, 9)


def test_a_loaded_run_needs_its_data_again():
    engine = Engine(no_op)
    engine.load_state_dict({"epoch": 1, "epoch_length": 3, "max_epochs": 2})
    with pytest.raises(ValueError, match="data=None needs epoch_length"):
        engine.run()


def test_a_filter_on_a_custom_event_counts_on_when_its_run_goes_on():
    counts = []
    engine = Engine(lambda engine, batch: engine.fire_event("custom"))
    engine.register_events("custom")
    engine.add_event_handler(event("custom", every=3), lambda engine: counts.append(engine.state.iteration))
    engine.run(range(4), max_epochs=1)
    engine.run(range(4), max_epochs=3)
    assert counts == [3, 6, 9, 12]


class Unsized:
    """An iterable of unknown length."""

    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter(range(self.length))


@pytest.mark.parametrize("position", range(1, 7))
def test_a_run_resumes_in_an_epoch_that_is_longer_than_its_data(position):
    saved, seen, again = [], [], []
    engine = make(seen)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=position), lambda engine: saved.append(engine.state_dict())
    )
    engine.run([1, 2, 3], max_epochs=2, epoch_length=6)
    resumed = make(again)
    resumed.load_state_dict(saved[0])
    resumed.run([1, 2, 3])
    assert again == seen[position:]


def test_a_run_resumes_at_the_end_of_data_of_unknown_length():
    saved = []
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: saved.append(engine.state_dict()))
    engine.run(Unsized(3), max_epochs=2)
    resumed = Engine(no_op)
    resumed.load_state_dict(saved[0])
    state = resumed.run(Unsized(3))
    assert (state.epoch, state.iteration, state.epoch_length) == (2, 6, 3)
