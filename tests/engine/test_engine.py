"""What an engine promises: the standard loop, events and handlers, control, failure, custom events, legal traces."""

import enum
import json
import multiprocessing
import weakref
from contextlib import suppress
from itertools import chain, count, pairwise

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from camshaft import (
    DATA,
    BackpropEvents,
    Engine,
    EventEnum,
    EventOrderError,
    Events,
    Loop,
    Phase,
    State,
    Trace,
    event,
    every,
    record,
)
from camshaft.events import event_key
from support.steps import echo, fires, nothing

E = Events
FETCH = [E.GET_BATCH_STARTED, E.GET_BATCH_COMPLETED]
ITERATION = [*FETCH, E.ITERATION_STARTED, E.ITERATION_COMPLETED]
RESTARTED = [E.GET_BATCH_STARTED, E.DATALOADER_STOP_ITERATION, *ITERATION[1:]]


class ClipEvents(EventEnum):
    CLIP_STARTED = "clip_started"
    CLIP_COMPLETED = "clip_completed"
    GRADS_CLIPPED = "grads_clipped"


def traced(engine, *args, **limits):
    with record() as trace:
        engine.run(*args, **limits)
    return trace


def legal(engine, *args, **limits):
    trace = traced(engine, *args, **limits)
    trace.assert_legal()
    return trace


def standard(epochs, iterations):
    first = [E.EPOCH_STARTED, *ITERATION * iterations, E.EPOCH_COMPLETED]
    later = [E.EPOCH_STARTED, *RESTARTED, *ITERATION * (iterations - 1), E.EPOCH_COMPLETED]
    return [E.STARTED, *first, *later * (epochs - 1), E.COMPLETED]


def names(events):
    return [event_key(each.event if hasattr(each, "engine") else each) for each in events]


def watch(engine, event, what=lambda engine: engine.state.iteration):
    seen = []
    engine.add_event_handler(event, lambda engine: seen.append(what(engine)))
    return seen


class Closing:
    """Data that notes when each of its iterators is closed."""

    def __init__(self, length=4):
        self.length, self.opened, self.closed = length, 0, 0

    def __iter__(self):
        self.opened += 1
        try:
            yield from range(self.length)
        finally:
            self.closed += 1


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


# -- the standard loop ------------------------------------------------------------------------------------------------


def test_the_standard_loop_fires_its_events_in_this_order():
    assert legal(Engine(echo), [1, 2], max_epochs=2) == standard(2, 2)


def test_epoch_is_counted_before_epoch_started_and_iteration_before_iteration_started():
    engine = Engine(echo)
    epochs = watch(engine, E.EPOCH_STARTED, lambda engine: engine.state.epoch)
    fetched = watch(engine, E.GET_BATCH_COMPLETED)
    iterations = watch(engine, E.ITERATION_STARTED)
    engine.run([1, 2], max_epochs=2)
    assert (epochs, fetched, iterations) == ([1, 2], [0, 1, 2, 3], [1, 2, 3, 4])


def test_get_batch_events_fire_only_when_there_is_data():
    trace = legal(Engine(nothing), max_epochs=2, epoch_length=2)
    assert trace == [E.STARTED, *[E.EPOCH_STARTED, *ITERATION[2:] * 2, E.EPOCH_COMPLETED] * 2, E.COMPLETED]


@pytest.mark.parametrize("event", [E.ITERATION_STARTED, E.GET_BATCH_COMPLETED])
def test_a_handler_may_replace_the_batch_before_the_step(event):
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(event, lambda engine: setattr(engine.state, "batch", engine.state.batch * 10))
    engine.run([1, 2])
    assert stepped == [10, 20]


def test_output_is_set_at_iteration_completed_and_not_before():
    engine = Engine(echo)
    before = watch(engine, E.ITERATION_STARTED, lambda engine: engine.state.output)
    after = watch(engine, E.ITERATION_COMPLETED, lambda engine: engine.state.output)
    assert (engine.run([1, 2]).output, before, after) == (2, [None, None], [1, 2])


def test_phases_and_custom_events_fire_between_iteration_started_and_iteration_completed():
    engine = Engine([Phase("FORWARD", fires("grads_clipped")), Phase("BACKWARD", nothing)])
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


def test_run_takes_max_epochs_or_max_iters_and_does_one_epoch_with_neither():
    assert Engine(echo).run([1, 2, 3]).iteration == 3
    assert Engine(echo).run([1, 2, 3], max_epochs=3).iteration == 9
    assert Engine(echo).run([1, 2, 3], max_iters=7).iteration == 7
    with pytest.raises(ValueError, match=r"max_epochs.*max_iters"):
        Engine(echo).run([1], max_epochs=1, max_iters=1)


def test_data_none_needs_epoch_length():
    engine = Engine(echo)
    with pytest.raises(ValueError, match="epoch_length"):
        engine.run(max_epochs=1)
    state = engine.run(epoch_length=3)
    assert (state.iteration, state.batch) == (3, None)


def test_epoch_length_may_be_other_than_the_length_of_the_data():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.run(range(5), max_epochs=2, epoch_length=2)
    assert stepped == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [Closing(3), DataLoader(Stream(), batch_size=None)])
def test_unknown_length_the_first_exhaustion_sets_epoch_length(data):
    engine = Engine(echo)
    first = [E.EPOCH_STARTED, *ITERATION * 3, E.GET_BATCH_STARTED, E.EPOCH_COMPLETED]
    assert legal(engine, data, max_epochs=1) == [E.STARTED, *first, E.COMPLETED]
    assert engine.state.epoch_length == 3


def test_unknown_length_later_epochs_have_the_length_of_the_first():
    trace = legal(Engine(echo), Closing(2), max_epochs=3)
    assert trace.count(E.ITERATION_COMPLETED) == 6
    assert trace.count(E.EPOCH_COMPLETED) == 3


def test_the_data_iterator_is_kept_across_epochs():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    legal(engine, count(), max_epochs=3, epoch_length=2)
    assert stepped == [0, 1, 2, 3, 4, 5]


def test_data_shorter_than_the_epoch_fires_dataloader_stop_iteration_and_is_restarted():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    trace = legal(engine, [1, 2], epoch_length=3)
    assert trace == [E.STARTED, E.EPOCH_STARTED, *ITERATION * 2, *RESTARTED, E.EPOCH_COMPLETED, E.COMPLETED]
    assert stepped == [1, 2, 1]


def test_data_is_restarted_after_dataloader_stop_iteration_not_before():
    engine, data = Engine(echo), Closing(2)
    opened = watch(engine, E.DATALOADER_STOP_ITERATION, lambda engine: data.opened)
    engine.run(data, epoch_length=5)
    assert opened == [1, 2]
    assert data.opened == 3


def test_an_exhausted_iterator_at_the_start_of_the_next_epoch_fires_dataloader_stop_iteration():
    trace = legal(Engine(echo), Closing(2), max_epochs=2, epoch_length=2)
    first, second = (
        [E.EPOCH_STARTED, *ITERATION * 2, E.EPOCH_COMPLETED],
        [E.EPOCH_STARTED, *RESTARTED, *ITERATION, E.EPOCH_COMPLETED],
    )
    assert trace == [E.STARTED, *first, *second, E.COMPLETED]


def test_a_handler_at_dataloader_stop_iteration_may_replace_the_data():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(E.DATALOADER_STOP_ITERATION, lambda engine: engine.set_data([7, 8, 9]))
    legal(engine, iter([1, 2]), epoch_length=4)
    assert stepped == [1, 2, 7, 8]


def test_data_that_cannot_be_restarted_ends_the_run_like_terminate_with_a_warning_that_gives_both_counts():
    engine = Engine(echo)
    with record() as trace, pytest.warns(UserWarning, match=r"\b2\b.*\b5\b"):
        engine.run(iter([1, 2]), epoch_length=5)
    trace.assert_legal()
    assert names(trace)[-4:] == ["get_batch_started", "dataloader_stop_iteration", "terminate", "completed"]
    assert engine.state.iteration == 2


def test_terminate_epoch_makes_the_next_epoch_start_fresh_data():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate_epoch())
    legal(engine, [1, 2, 3], max_epochs=2)
    assert stepped == [1, 2, 1, 2, 3]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (E.GET_BATCH_STARTED(event_filter=lambda engine, count: engine.state.iteration == 1), [1, 10, 20, 30]),
        (E.GET_BATCH_COMPLETED(event_filter=lambda engine, count: engine.state.iteration == 1), [1, 2, 10, 20]),
        (E.ITERATION_STARTED(once=2), [1, 2, 10, 20]),
        (E.ITERATION_COMPLETED(once=2), [1, 2, 10, 20]),
        (E.EPOCH_STARTED, [10, 20, 30, 40]),
    ],
)
def test_set_data_acts_at_the_next_fetch(event, expected):
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(event, lambda engine: engine.set_data([10, 20, 30, 40]))
    legal(engine, [1, 2, 3, 4])
    assert stepped == expected


def test_set_data_in_a_step_acts_at_the_next_fetch():
    stepped = []

    def step(engine, batch):
        stepped.append(batch)
        if batch == 2:
            engine.set_data([10, 20, 30, 40])

    legal(Engine(step), [1, 2, 3, 4])
    assert stepped == [1, 2, 10, 20]


def test_set_data_at_epoch_completed_acts_in_the_next_epoch():
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch)), []
    engine.add_event_handler(E.EPOCH_COMPLETED(once=1), lambda engine: engine.set_data([10, 20, 30]))
    legal(engine, [1, 2], max_epochs=2)
    assert stepped == [1, 2, 10, 20]


def test_max_iters_reached_inside_an_epoch_ends_as_terminate_does():
    trace = legal(Engine(echo), [1, 2, 3], max_iters=4)
    first = [E.EPOCH_STARTED, *ITERATION * 3, E.EPOCH_COMPLETED]
    assert trace == [E.STARTED, *first, E.EPOCH_STARTED, *RESTARTED, E.TERMINATE, E.COMPLETED]


def test_max_iters_reached_at_the_end_of_an_epoch_completes_the_run():
    assert names(legal(Engine(echo), [1, 2, 3], max_iters=6))[-2:] == ["epoch_completed", "completed"]


def test_run_again_goes_on_where_the_limits_allow_more():
    engine = Engine(echo)
    engine.run([1, 2], max_epochs=2)
    epochs = watch(engine, E.EPOCH_STARTED, lambda engine: engine.state.epoch)
    assert legal(engine, [1, 2], max_epochs=4) == standard(2, 2)
    assert (epochs, engine.state.iteration) == ([3, 4], 8)


def test_run_again_goes_on_where_max_iters_allows_more():
    engine = Engine(echo)
    engine.run([1, 2], max_iters=4)
    legal(engine, [1, 2], max_iters=6)
    assert (engine.state.epoch, engine.state.iteration) == (3, 6)


def test_run_again_starts_anew_when_the_run_was_done():
    engine = Engine(echo)
    engine.run([1, 2], max_epochs=2)
    assert legal(engine, [1, 2, 3], max_epochs=2) == standard(2, 3)
    assert (engine.state.epoch, engine.state.iteration, engine.state.epoch_length) == (2, 6, 3)
    assert legal(engine, [1, 2]) == standard(1, 2)


def test_run_again_after_terminate_goes_on_with_the_next_epoch():
    engine, data = Engine(echo), [1, 2, 3]
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate())
    engine.run(data, max_epochs=3)
    assert (engine.state.epoch, engine.state.iteration) == (1, 2)
    epochs = watch(engine, E.EPOCH_STARTED, lambda engine: engine.state.epoch)
    trace = legal(engine, data)
    assert trace.count(E.ITERATION_COMPLETED) == 6
    assert (epochs, engine.state.iteration) == ([2, 3], 8)


def test_run_again_after_data_that_could_not_be_restarted_goes_on_with_the_next_epoch():
    engine = Engine(echo)
    with pytest.warns(UserWarning, match="restarted"):
        engine.run(iter([1, 2]), max_epochs=2, epoch_length=3)
    legal(engine, [1, 2, 3])
    assert (engine.state.epoch, engine.state.iteration) == (2, 5)


def test_run_again_after_a_failure_goes_on_with_the_next_epoch():
    engine = Engine(lambda engine, batch: 1 / batch)
    with pytest.raises(ZeroDivisionError):
        engine.run([1, 0, 1], max_epochs=2)
    assert legal(engine, [1, 1, 1]).count(E.EPOCH_STARTED) == 1
    assert (engine.state.epoch, engine.state.iteration) == (2, 5)


@pytest.mark.parametrize("limits", [{"max_epochs": 1}, {"max_iters": 3}])
def test_limits_below_what_is_done_are_an_error_that_says_how_to_start_over(limits):
    engine = Engine(echo)
    engine.run([1, 2], **{name: limit + 1 for name, limit in limits.items()})
    before = engine.state_dict()
    with pytest.raises(ValueError, match=r"(?s)max_.*close\(\)"):
        engine.run([1, 2], **limits)
    assert engine.state_dict() == before
    engine.close()
    assert engine.run([1, 2], **limits).iteration == (2 if "max_epochs" in limits else 3)


@pytest.mark.parametrize("stop", [Engine.interrupt, Engine.terminate])
@pytest.mark.parametrize(("first", "then"), [("max_epochs", "max_iters"), ("max_iters", "max_epochs")])
def test_a_change_between_max_epochs_and_max_iters_half_way_is_an_error_that_says_how_to_start_over(first, then, stop):
    engine, data = Engine(echo), [1, 2]
    with engine.add_event_handler(E.ITERATION_COMPLETED(once=1), stop):
        engine.run(data, **{first: 10})
    before = engine.state_dict()
    with pytest.raises(ValueError, match=rf"(?s){first}.*close\(\)"):
        engine.run(data, **{then: 10})
    assert engine.state_dict() == before
    engine.close()
    assert engine.run(data, **{then: 4}).iteration > 1


def test_a_phase_takes_engine_and_batch_and_what_it_returns_becomes_output_unless_none():
    calls = []
    first = Phase("FIRST", lambda engine, batch: calls.append((engine, batch)) or "first")
    second = Phase("SECOND", nothing)
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
        lambda step: [Phase("FORWARD", step), Phase("BACKWARD", nothing)],
        lambda step: [Phase("A", nothing), Phase("B", step)],
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


# -- events and handlers ----------------------------------------------------------------------------------------------


class Numbers(enum.Enum):
    ONE = 1


class Plain(enum.Enum):
    CLIPPED = "grads_clipped"


def test_an_event_is_identified_by_its_value_and_members_and_strings_are_handles_for_it():
    engine = Engine(fires(Plain.CLIPPED, "grads_clipped", ClipEvents.GRADS_CLIPPED))
    engine.register_events(ClipEvents.GRADS_CLIPPED)
    heard = [watch(engine, handle) for handle in (ClipEvents.GRADS_CLIPPED, "grads_clipped", Plain.CLIPPED)]
    assert legal(engine, [1]).count("grads_clipped") == 3
    assert heard == [[1, 1, 1]] * 3
    assert all(map(engine.has_registered_events, (ClipEvents.GRADS_CLIPPED, "grads_clipped", Plain.CLIPPED)))


def test_an_event_with_a_value_that_is_no_string_is_identified_by_class_and_name():
    engine = Engine(fires("Numbers.ONE", Numbers.ONE))
    engine.register_events(Numbers.ONE)
    assert legal(engine, [1]).count(Numbers.ONE) == 2


def test_another_librarys_members_of_a_value_are_handles_for_it():
    ignite = pytest.importorskip("ignite.engine")
    engine = Engine(echo)
    heard = watch(engine, ignite.Events.ITERATION_COMPLETED)
    engine.add_event_handler(ignite.Events.EPOCH_COMPLETED | ignite.Events.COMPLETED, lambda: heard.append("end"))
    assert "iteration_completed" in names(legal(engine, [1, 2]))
    assert heard == [1, 2, "end", "end"]


def test_another_librarys_filters_work():
    ignite = pytest.importorskip("ignite.engine")
    engine = Engine(echo)
    heard = watch(engine, ignite.Events.ITERATION_COMPLETED(every=2))
    engine.run(range(5))
    assert heard == [2, 4]


def test_registering_a_value_that_a_phase_has_adds_a_handle():
    class Mine(enum.Enum):
        AFTER_BACKWARD = "backward_completed"

    engine = Engine([Phase("BACKWARD", nothing)])
    loop = engine.loop
    engine.register_events(Mine.AFTER_BACKWARD)
    heard = watch(engine, Mine.AFTER_BACKWARD)
    legal(engine, [1, 2])
    assert engine.loop == loop
    assert heard == [1, 2]


@pytest.mark.parametrize("event", ["epoch_completed", E.TERMINATE, enum.Enum("Mine", {"X": "started"}).X])
def test_registering_the_value_of_a_built_in_event_is_an_error(event):
    with pytest.raises(ValueError, match="built-in"):
        Engine(echo).register_events(event)


def test_nothing_about_one_engine_leaks_into_another():
    first, second = Engine(echo, "first"), Engine(echo, "second")
    states = list(second.machine.states)
    first.register_events(*ClipEvents)
    heard = watch(first, E.ITERATION_COMPLETED)
    first.state.mine = 1
    assert not second.has_registered_events(ClipEvents.CLIP_STARTED)
    with pytest.raises(ValueError, match="not registered in second"):
        second.add_event_handler(ClipEvents.CLIP_STARTED, print)
    second.run([1])
    assert heard == []
    assert list(second.machine.states) == states
    assert not hasattr(second.state, "mine")


def test_started_and_completed_default_each_by_itself_and_are_reachable_as_loop_events():
    loop = Loop(
        "EPOCH", Loop("ITERATION", Phase("CLIP", nothing), Phase("STEP_DOWN", nothing, started="going_down"), over=DATA)
    )
    assert (loop.find("CLIP").started, loop.find("CLIP").completed) == ("clip_started", "clip_completed")
    assert (loop.find("STEP_DOWN").started, loop.find("STEP_DOWN").completed) == ("going_down", "step_down_completed")
    assert event_key(loop.events.CLIP_COMPLETED) == "clip_completed"
    assert Loop("FOLD", Phase("FIT", nothing), completed="fold_done").started == "fold_started"
    engine = Engine(loop)
    assert watch(engine, loop.events.STEP_DOWN_COMPLETED) == []
    assert names(legal(engine, [1]))[5:9] == ["clip_started", "clip_completed", "going_down", "step_down_completed"]


def test_backprop_events_has_forward_backward_and_optim_step_each_started_and_completed():
    states = ("FORWARD", "BACKWARD", "OPTIM_STEP")
    assert {member.name: member.value for member in BackpropEvents} == {
        f"{state}_{end}": f"{state}_{end}".lower() for state in states for end in ("STARTED", "COMPLETED")
    }


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"every": 3}, [3, 6, 9]),
        ({"once": 4}, [4]),
        ({"once": [2, 9]}, [2, 9]),
        ({"before": 4}, [1, 2, 3]),
        ({"after": 7}, [8, 9, 10]),
        ({"after": 3, "before": 6}, [4, 5]),
        ({"every": 4, "before": 8}, [4]),
        ({"event_filter": lambda engine, count: count in (1, 7)}, [1, 7]),
    ],
)
def test_filters(filter, expected):
    engine = Engine(echo)
    heard = watch(engine, E.ITERATION_STARTED(**filter))
    assert legal(engine, range(5), max_epochs=2).count(E.ITERATION_STARTED) == 10
    assert heard == expected


def test_every_with_after_takes_the_first_count_after_it_then_every_nth():
    engine = Engine(echo)
    heard = watch(engine, E.ITERATION_COMPLETED(every=5, after=8, before=25))
    engine.run(range(40))
    assert heard == [9, 14, 19, 24]


def test_a_filter_counts_what_its_event_counts():
    engine = Engine(echo)
    epochs = watch(engine, E.EPOCH_COMPLETED(every=2), lambda engine: engine.state.epoch)
    fetches = watch(engine, E.GET_BATCH_COMPLETED(every=4))
    skips = watch(engine, E.ITERATION_SKIPPED(once=5))
    engine.add_event_handler(E.ITERATION_STARTED(every=5), lambda engine: engine.skip_iteration())
    engine.run([1, 2, 3], max_epochs=4)
    assert (epochs, fetches, skips) == ([2, 4], [4, 8], [5])


def test_unions_attach_one_handler_to_each_of_their_events():
    engine = Engine(echo)
    union = E.STARTED | E.EPOCH_COMPLETED(every=2) | E.COMPLETED
    heard = watch(engine, union, lambda engine: (event_key(engine.last_event_name), engine.state.epoch))
    engine.run([1], max_epochs=3)
    assert heard == [("started", 0), ("epoch_completed", 2), ("completed", 3)]


def test_a_custom_event_counts_its_own_firings_with_no_extra_mapping():
    engine = Engine(fires("grads_clipped", "grads_clipped"))
    engine.register_events(ClipEvents.GRADS_CLIPPED)
    heard = watch(engine, ClipEvents.GRADS_CLIPPED(every=3))
    legal(engine, range(6))
    assert heard == [2, 3, 5, 6]


def test_an_event_of_a_phase_counts_its_own_firings():
    engine = Engine([Phase("STEP", nothing, when=every(3))])
    heard = watch(engine, event("step_completed", every=2))
    legal(engine, range(12))
    assert heard == [6, 12]


def test_own_firings_are_counted_since_the_attachment():
    engine, heard = Engine(fires("grads_clipped")), []
    engine.register_events("grads_clipped")
    late = event("grads_clipped", every=2)
    engine.add_event_handler(
        E.ITERATION_COMPLETED(once=3),
        lambda engine: engine.add_event_handler(late, lambda engine: heard.append(engine.state.iteration)),
    )
    engine.run(range(8))
    assert heard == [5, 7]


def test_own_firings_are_counted_anew_in_each_run():
    engine = Engine(fires("grads_clipped"))
    engine.register_events("grads_clipped")
    heard = watch(engine, event("grads_clipped", every=2))
    engine.run(range(3))
    engine.run(range(3))
    assert heard == [2, 2]


def test_own_firings_are_counted_on_in_a_run_that_was_paused():
    engine = Engine(fires("grads_clipped"))
    engine.register_events("grads_clipped")
    heard = watch(engine, event("grads_clipped", every=2))
    engine.add_event_handler(E.ITERATION_COMPLETED(once=3), lambda engine: engine.interrupt())
    engine.run(range(6))
    engine.run()
    assert heard == [2, 4, 6]


def test_own_firings_are_saved_with_the_state():
    def make():
        engine = Engine(fires("grads_clipped"))
        engine.register_events("grads_clipped")
        return engine, watch(engine, event("grads_clipped", every=2))

    engine, _ = make()
    engine.run(range(3))
    resumed, heard = make()
    resumed.load_state_dict(engine.state_dict())
    resumed.run(range(3), max_epochs=2)
    assert heard == [4, 6]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: E.STARTED(every=2), "STARTED"),
        (lambda: E.COMPLETED(once=2), "COMPLETED"),
        (lambda: E.ITERATION_STARTED(every=0), "every=0"),
        (lambda: E.ITERATION_STARTED(after=5, before=5), "never due"),
        (lambda: E.ITERATION_STARTED(once=2, every=2), "mixes"),
        (lambda: E.ITERATION_STARTED(event_filter=lambda engine: True), r"\(engine, count\)"),
    ],
)
def test_a_filter_that_cannot_work_is_refused_when_it_is_attached(make, error):
    engine = Engine(echo)
    with pytest.raises((ValueError, TypeError), match=error):
        engine.add_event_handler(make(), print)
    assert not engine.has_event_handler(print)


def test_handlers_run_by_priority_then_in_the_order_of_attachment():
    engine, order = Engine(echo), []
    attached = [("a", 0, None), ("b", 5, None), ("c", 0, 1), ("d", -1, None), ("e", 5, 1), ("f", 0, None)]
    for name, priority, once in attached:
        engine.add_event_handler(E.ITERATION_STARTED(priority=priority, once=once), order.append, name)
    engine.run([1])
    assert "".join(order) == "beacfd"


def test_the_engine_argument_goes_only_to_handlers_that_accept_it():
    engine, got = Engine(echo), []

    class Handler:
        def with_engine(self, engine):
            got.append(engine)

        def without(self):
            got.append("without")

    engine.add_event_handler(E.STARTED, lambda: got.append("none"))
    engine.add_event_handler(E.STARTED, lambda *args: got.append(args))
    engine.add_event_handler(E.STARTED, Handler().with_engine)
    engine.add_event_handler(E.STARTED, Handler().without)
    engine.add_event_handler(E.STARTED, lambda engine, x, y: got.append((engine, x, y)), 1, y=2)
    engine.add_event_handler(E.STARTED, lambda x, *, y: got.append((x, y)), 1, y=2)
    engine.run([1])
    assert got == ["none", (engine,), engine, "without", (engine, 1, 2), (1, 2)]


@pytest.mark.parametrize("filter", [{}, {"before": 100}])
def test_a_handler_added_during_a_firing_runs_from_the_next_firing_on(filter):
    engine, heard = Engine(echo), []
    add = lambda engine: engine.add_event_handler(
        E.ITERATION_STARTED(**filter), lambda engine: heard.append(engine.state.iteration)
    )
    engine.add_event_handler(E.ITERATION_STARTED(once=2), add)
    engine.run(range(4))
    assert heard == [3, 4]


@pytest.mark.parametrize("filter", [{}, {"before": 100}])
def test_a_handler_removed_during_a_firing_does_not_run_again(filter):
    engine, heard = Engine(echo), []

    @engine.on(E.ITERATION_STARTED(once=2))
    def remove():
        handle.remove()

    handle = engine.add_event_handler(
        E.ITERATION_STARTED(**filter), lambda engine: heard.append(engine.state.iteration)
    )
    after = watch(engine, E.ITERATION_STARTED)
    engine.run(range(4))
    assert (heard, after) == ([1], [1, 2, 3, 4])


def test_a_handler_may_remove_itself():
    engine, heard = Engine(echo), []

    @engine.on(E.ITERATION_STARTED)
    def once(engine):
        heard.append(engine.state.iteration)
        engine.remove_event_handler(once, E.ITERATION_STARTED)

    engine.run(range(3))
    assert heard == [1]


@pytest.mark.parametrize("later", ["forward_completed", "backward_started", E.ITERATION_COMPLETED, "grads_clipped"])
def test_a_handler_added_at_one_event_for_a_later_event_of_the_same_iteration_runs_in_that_iteration(later):
    engine, heard = Engine([Phase("FORWARD", nothing), Phase("BACKWARD", fires("grads_clipped"))]), []
    engine.register_events("grads_clipped")
    add = lambda engine: engine.add_event_handler(later, lambda engine: heard.append(engine.state.iteration))
    engine.add_event_handler(E.ITERATION_STARTED(once=2), add)
    engine.run(range(3))
    assert heard == [2, 3]


# -- control ----------------------------------------------------------------------------------------------------------

MOMENTS = [
    E.STARTED,
    E.EPOCH_STARTED,
    E.GET_BATCH_STARTED,
    E.GET_BATCH_COMPLETED,
    E.ITERATION_STARTED,
    E.ITERATION_COMPLETED,
    E.EPOCH_COMPLETED,
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("skip_completed", [False, True])
def test_terminate_fires_terminate_then_completed_unless_skipped(moment, skip_completed):
    engine = Engine(echo)
    engine.add_event_handler(moment, lambda engine: engine.terminate(skip_completed=skip_completed))
    one_epoch = standard(1, 1)
    ends = [E.TERMINATE] if skip_completed else [E.TERMINATE, E.COMPLETED]
    assert legal(engine, [1], max_epochs=2) == one_epoch[: one_epoch.index(moment) + 1] + ends


def test_terminate_epoch_fires_terminate_single_epoch_then_epoch_completed_then_the_next_epoch():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED(once=1), lambda engine: engine.terminate_epoch())
    first = [E.EPOCH_STARTED, *ITERATION[:3], E.TERMINATE_SINGLE_EPOCH, E.EPOCH_COMPLETED]
    assert legal(engine, [1, 2], max_epochs=2) == [E.STARTED, *first, *standard(1, 2)[1:]]


def test_terminate_epoch_may_skip_epoch_completed():
    engine = Engine(echo)
    engine.add_event_handler(E.EPOCH_STARTED(once=1), lambda engine: engine.terminate_epoch(skip_epoch_completed=True))
    assert legal(engine, [1, 2], max_epochs=2) == [
        E.STARTED,
        E.EPOCH_STARTED,
        E.TERMINATE_SINGLE_EPOCH,
        *standard(1, 2)[1:],
    ]


@pytest.mark.parametrize("moment", [E.GET_BATCH_COMPLETED, E.ITERATION_STARTED])
@pytest.mark.parametrize("process", [echo, [Phase("FORWARD", echo)]])
def test_skip_iteration_fires_iteration_skipped_in_place_of_phases_and_iteration_completed_and_the_iteration_counts(
    moment, process
):
    engine = Engine(process)
    engine.add_event_handler(moment, lambda engine: engine.skip_iteration())
    outputs = watch(engine, E.ITERATION_SKIPPED, lambda engine: engine.state.output)
    skipped = [*ITERATION[:3], E.ITERATION_SKIPPED]
    assert legal(engine, [1, 2]) == [E.STARTED, E.EPOCH_STARTED, *skipped * 2, E.EPOCH_COMPLETED, E.COMPLETED]
    assert (engine.state.iteration, outputs) == (2, [None, None])


@pytest.mark.parametrize("moment", [E.EPOCH_STARTED, E.GET_BATCH_STARTED, E.ITERATION_COMPLETED, E.EPOCH_COMPLETED])
def test_skip_iteration_anywhere_else_is_an_error(moment):
    engine = Engine(echo)
    engine.add_event_handler(moment, lambda engine: engine.skip_iteration())
    with pytest.raises(RuntimeError, match="GET_BATCH_COMPLETED or ITERATION_STARTED"):
        engine.run([1])


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("strict", [False, True])
def test_interrupt_fires_interrupt_and_the_next_run_goes_on_at_that_very_point(moment, strict):
    engine, stepped = Engine(lambda engine, batch: stepped.append(batch), strict=strict), []
    handle = engine.add_event_handler(moment, lambda engine: engine.interrupt() or handle.remove())
    with record() as trace:
        engine.run([1, 2], max_epochs=2)
        assert names(trace)[-1] == "interrupt"
        engine.run()
    trace.assert_legal()
    whole = standard(2, 2)
    whole.insert(whole.index(moment) + 1, E.INTERRUPT)
    assert trace == whole
    assert stepped == [1, 2, 1, 2]


def eventful(stepped):
    """A run with short data, a skipped iteration, an epoch ended early and custom events in an opaque step."""

    def step(engine, batch):
        engine.fire_event("grads_clipped")
        stepped.append(batch)

    engine = Engine(step, strict=True)
    engine.register_events("grads_clipped")
    engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: engine.skip_iteration())
    engine.add_event_handler(E.ITERATION_COMPLETED(once=6), lambda engine: engine.terminate_epoch())
    engine.add_event_handler(E.ITERATION_COMPLETED(once=11), lambda engine: engine.terminate())
    return engine


def test_interrupt_after_any_event_goes_on_so_that_nothing_is_lost_or_repeated():
    limits, whole = {"max_epochs": 4, "epoch_length": 4}, []
    expected = names(legal(eventful(whole), Closing(3), **limits))
    controlled = {"iteration_skipped", "terminate_single_epoch", "terminate", "completed"}
    for index in (index for index, following in enumerate(expected[1:]) if following not in controlled):
        stepped, fired = [], []
        engine = eventful(stepped)
        for key in set(expected):
            engine.add_event_handler(
                key, lambda engine: fired.append(1) or (engine.interrupt() if len(fired) == index + 1 else None)
            )
        with record() as trace:
            engine.run(Closing(3), **limits)
            assert engine.active is not None
            engine.run()
        trace.assert_legal()
        assert [name for name in names(trace) if name != "interrupt"] == expected
        assert (stepped, trace.count(E.INTERRUPT)) == (whole, 1)


def test_interrupt_in_a_step_goes_on_behind_the_step():
    engine = Engine(lambda engine, batch: engine.interrupt())
    with record() as trace:
        engine.run([1])
        engine.run()
    trace.assert_legal()
    assert trace == [
        E.STARTED,
        E.EPOCH_STARTED,
        *ITERATION[:3],
        E.INTERRUPT,
        E.ITERATION_COMPLETED,
        E.EPOCH_COMPLETED,
        E.COMPLETED,
    ]


def paused(data=(1, 2, 3), **limits):
    engine = Engine(echo)
    handle = engine.add_event_handler(
        E.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt() or handle.remove()
    )
    engine.run(data, **limits)
    return engine


def test_run_with_other_data_on_a_paused_engine_is_an_error():
    engine = paused()
    with pytest.raises(ValueError, match="paused"):
        engine.run([4, 5])
    assert engine.run().iteration == 3


def test_run_with_the_same_data_on_a_paused_engine_goes_on():
    data = [1, 2, 3]
    assert paused(data).run(data).iteration == 3


def test_close_drops_a_paused_run():
    data = Closing(3)
    engine = paused(data, epoch_length=3)
    assert data.closed == 0
    engine.close()
    assert data.closed == 1
    assert legal(engine, [4, 5]) == standard(1, 2)
    engine.close()


CALLS = {
    "terminate": lambda engine: engine.terminate(),
    "terminate_epoch": lambda engine: engine.terminate_epoch(),
    "skip_iteration": lambda engine: engine.skip_iteration(),
    "set_data": lambda engine: engine.set_data([10, 20, 30]),
    "interrupt": lambda engine: engine.interrupt(),
}


def effects(*calls, apart=False):
    """The events and batches of a run in which these calls are made at the start of iteration 2."""
    stepped = []
    engine = Engine(lambda engine, batch: stepped.append(batch))
    if apart:
        for call in calls:
            engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine, call: CALLS[call](engine), call)
    else:
        engine.add_event_handler(
            E.ITERATION_STARTED(once=2), lambda engine: [CALLS[call](engine) for call in calls] and None
        )
    with record() as trace:
        engine.run([1, 2, 3], max_epochs=2)
        if engine.active is not None:
            engine.run()
    trace.assert_legal()
    return names(trace), stepped


@pytest.mark.parametrize("apart", [False, True], ids=["one handler", "two handlers"])
@pytest.mark.parametrize(
    ("lower", "higher"), [(low, high) for index, high in enumerate(CALLS) for low in list(CALLS)[index + 1 :]]
)
def test_of_several_control_calls_the_higher_goes_first_and_the_lower_ones_are_dropped(lower, higher, apart):
    assert effects(lower, higher, apart=apart) == effects(higher, lower, apart=apart) == effects(higher)


@pytest.mark.parametrize("call", [name for name in CALLS if name != "set_data"])
def test_a_control_call_takes_effect_when_the_firing_in_which_it_was_made_is_over(call):
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED(once=2), CALLS[call])
    rest = watch(engine, E.ITERATION_STARTED)
    engine.run([1, 2])
    assert rest == [1, 2]
    engine.close()


@pytest.mark.parametrize("call", ["terminate", "terminate_epoch", "interrupt"])
def test_a_control_call_takes_effect_when_the_step_in_which_it_was_made_is_over(call):
    ended = []
    engine = Engine(lambda engine, batch: CALLS[call](engine) or ended.append(batch))
    taken = {"terminate": E.TERMINATE, "terminate_epoch": E.TERMINATE_SINGLE_EPOCH, "interrupt": E.INTERRUPT}[call]
    trace = legal(engine, [1, 2])
    assert names(trace)[:6] == names([E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], taken])
    assert ended == [1]


@pytest.mark.parametrize("call", ["terminate", "terminate_epoch"])
def test_a_control_call_takes_effect_when_the_phase_in_which_it_was_made_is_over(call):
    ended = []
    first = Phase("FIRST", lambda engine, batch: CALLS[call](engine) or ended.append("first"))
    trace = legal(Engine([first, Phase("SECOND", lambda engine, batch: ended.append("second"))]), [1, 2])
    assert ended == ["first"]
    assert trace.count("second_started") == 0


def test_terminate_on_an_engine_that_is_not_running_does_nothing():
    engine = Engine(echo)
    engine.terminate()
    assert legal(engine, [1]) == standard(1, 1)
    engine.terminate()
    assert legal(engine, [1]) == standard(1, 1)


def test_terminate_twice_does_nothing_more():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED, lambda engine: engine.terminate() or engine.terminate())
    assert legal(engine, [1, 2], max_epochs=2) == [E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], E.TERMINATE, E.COMPLETED]


@pytest.mark.parametrize("moment", [E.TERMINATE, E.COMPLETED])
def test_terminate_at_terminate_or_completed_does_nothing(moment):
    engine = Engine(echo)
    engine.add_event_handler(moment, lambda engine: engine.terminate(skip_completed=True))
    engine.add_event_handler(E.EPOCH_STARTED, lambda engine: engine.terminate())
    trace = legal(engine, [1])
    assert trace == [E.STARTED, E.EPOCH_STARTED, E.TERMINATE, E.COMPLETED]


def test_terminate_epoch_where_no_epoch_has_begun_is_an_error():
    engine = Engine(echo)
    with pytest.raises(RuntimeError, match="none has begun"):
        engine.terminate_epoch()
    engine.add_event_handler(E.STARTED, lambda engine: engine.terminate_epoch())
    with pytest.raises(RuntimeError, match="none has begun"):
        engine.run([1])


def pair():
    return Engine(echo, "trainer"), Engine(echo, "evaluator")


@pytest.mark.parametrize("declared", [False, True], ids=["called", "nested"])
def test_terminate_from_the_evaluators_handler_lets_the_evaluator_finish_then_stops_the_trainer(declared):
    trainer, evaluator = pair()
    if declared:
        trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1, 2])
    else:
        trainer.add_event_handler(E.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]) and None)
    evaluator.add_event_handler(E.ITERATION_STARTED(once=1), lambda engine: trainer.terminate())
    assert legal(trainer, [1], max_epochs=3) == [*standard(1, 1)[:-1], *standard(1, 2), E.TERMINATE, E.COMPLETED]


def test_a_running_engine_cannot_be_started_again_from_inside_itself():
    engine = Engine(echo, "trainer")

    @engine.on(E.ITERATION_STARTED)
    def again():
        for start in (engine.run, engine.steps):
            with pytest.raises(RuntimeError, match="trainer is running"):
                start([1])

    assert legal(engine, [1, 2]) == standard(1, 2)


def test_a_running_engine_cannot_be_started_again_from_an_engine_inside_it():
    trainer, evaluator = pair()
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    evaluator.add_event_handler(E.STARTED, lambda: trainer.run([1]) and None)
    with pytest.raises(RuntimeError, match="trainer is running"):
        trainer.run([1])


def test_engines_run_inside_handlers_to_any_depth_and_know_the_one_around_them():
    engines = [Engine(echo, f"level {depth}") for depth in range(5)]
    for outer, inner in pairwise(engines):
        outer.add_event_handler(E.ITERATION_STARTED, lambda inner: inner.run([1]) and None, inner)
    parents = [watch(engine, E.ITERATION_STARTED, lambda engine: engine.parent) for engine in engines]
    trace = legal(engines[0], [1])
    assert parents == [[None], *[[engine] for engine in engines[:-1]]]
    assert [run.parent for run in trace.runs] == [None, 0, 1, 2, 3]
    assert all(engine.parent is None for engine in engines)


def test_parent_is_set_only_while_a_transition_of_the_outer_engine_executes():
    trainer, evaluator = pair()
    seen = watch(evaluator, E.STARTED, lambda engine: engine.parent)
    for _ in trainer.steps([1]):
        evaluator.run([1])
    assert set(seen) == {None}
    trainer.add_event_handler(E.ITERATION_STARTED, lambda: evaluator.run([1]) and evaluator.close())
    evaluator.add_event_handler(E.ITERATION_STARTED, lambda engine: engine.interrupt())
    trainer.add_event_handler(E.ITERATION_COMPLETED, lambda: seen.append(evaluator.parent))
    trainer.run([1])
    assert seen[-2:] == [trainer, None]


# -- failure ----------------------------------------------------------------------------------------------------------


def fail(*args):
    raise ValueError("broken")


class Breaks:
    def __iter__(self):
        yield 1
        raise ValueError("broken")


@pytest.mark.parametrize("place", ["step", "data", "event_filter", *MOMENTS, E.COMPLETED])
def test_an_exception_anywhere_fires_exception_raised_once_and_leaves_run(place):
    engine = Engine(fail if place == "step" else echo)
    if isinstance(place, Events):
        engine.add_event_handler(place, fail)
    if place == "event_filter":
        engine.add_event_handler(E.ITERATION_STARTED(event_filter=fail), print)
    raised = []
    engine.add_event_handler(E.EXCEPTION_RAISED, lambda engine, error: raised.append(error))
    with record() as trace, pytest.raises(ValueError, match="broken") as caught:
        engine.run(Breaks() if place == "data" else [1, 2], epoch_length=2)
    trace.assert_legal()
    assert raised == [caught.value]
    assert names(trace)[-1] == "exception_raised"
    assert trace.count(E.EXCEPTION_RAISED) == 1


@pytest.mark.parametrize("filter", [{}, {"event_filter": lambda engine, count: True}])
def test_an_exception_is_swallowed_when_a_handler_returned_true_and_completed_does_not_fire(filter):
    engine = Engine(fail)
    for answer in (None, True, "noted"):
        engine.add_event_handler(E.EXCEPTION_RAISED(**filter), lambda error, answer: answer, answer)
    with record() as trace:
        assert engine.run([1]) is engine.state
    trace.assert_legal()
    assert trace == [E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], E.EXCEPTION_RAISED]


def test_a_handler_of_exception_raised_that_raises_the_new_error_leaves_with_the_first_as_its_context():
    engine = Engine(fail)

    @engine.on(E.EXCEPTION_RAISED)
    def worse(error):
        raise KeyError("worse")

    with record() as trace, pytest.raises(KeyError, match="worse") as caught:
        engine.run([1])
    assert str(caught.value.__context__) == "broken"
    assert trace.count(E.EXCEPTION_RAISED) == 1
    assert engine.active is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_keyboard_interrupt_and_its_kind_always_leave(kind):
    engine, raised = Engine(echo), []

    @engine.on(E.ITERATION_STARTED)
    def stop():
        raise kind

    engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: raised.append(error) or True)
    with record() as trace, pytest.raises(kind):
        engine.run([1])
    trace.assert_legal()
    assert len(raised) == 1


def test_an_exception_in_a_nested_engine_fails_both_unless_swallowed_inside():
    trainer, evaluator = Engine(echo, "trainer"), Engine(fail, "evaluator")
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    with record() as trace, pytest.raises(ValueError, match="broken"):
        trainer.run([1])
    trace.assert_legal()
    assert (trace.count(E.EXCEPTION_RAISED, "trainer"), trace.count(E.EXCEPTION_RAISED, "evaluator")) == (1, 1)
    evaluator.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    assert names(legal(trainer, [1]))[-1] == "completed"


@pytest.mark.parametrize("call", list(CALLS))
def test_control_calls_in_failed_do_nothing(call):
    engine = Engine(lambda engine, batch: 1 / batch)

    @engine.on(E.EXCEPTION_RAISED)
    def control(engine, error):
        if call != "skip_iteration":
            CALLS[call](engine)
        return True

    trace = legal(engine, [1, 0])
    assert names(trace)[-2:] == ["iteration_started", "exception_raised"]
    assert not (engine.should_terminate or engine.should_interrupt or engine.should_terminate_single_epoch)
    assert names(legal(engine, [1, 1]))[-1] == "completed"


def test_wrong_calls_raise_where_they_are_made_and_pass_through_failed():
    engine, caught = Engine(fires("not_there")), []
    engine.add_event_handler(E.EXCEPTION_RAISED, caught.append)
    with pytest.raises(ValueError, match="NOT_THERE") as error:
        engine.run([1])
    assert caught == [error.value]
    assert "step" in [frame.name for frame in error.traceback]


def test_a_step_that_raises_stop_iteration_leaves_as_runtime_error():
    with pytest.raises(RuntimeError) as caught:
        Engine(lambda engine, batch: next(iter([]))).run([1])
    assert isinstance(caught.value.__cause__, StopIteration)


def test_what_leaves_carries_a_note_that_says_where_the_loop_was():
    engine = Engine([Phase("FORWARD", nothing), Phase("BACKWARD", lambda engine, batch: 1 / batch)], "trainer")
    with pytest.raises(ZeroDivisionError) as caught:
        engine.run([1, 1, 1, 1, 0], epoch_length=3, max_epochs=2)
    assert caught.value.__notes__ == ["in trainer: EPOCH 2 / ITERATION 5 / BACKWARD"]


@pytest.mark.parametrize(
    ("place", "note"),
    [
        ("step", "in trainer: EPOCH 1 / ITERATION 1"),
        ("data", "in trainer: EPOCH 1 / GET_BATCH"),
        (E.EPOCH_STARTED, "in trainer: EPOCH 1"),
        (E.EPOCH_COMPLETED, "in trainer: EPOCH 1"),
        ("grads_clipped", "in trainer: EPOCH 1 / ITERATION 1 / GRADS_CLIPPED"),
    ],
)
def test_the_note_names_each_kind_of_place(place, note):
    engine = Engine(fail if place == "step" else fires("grads_clipped"), "trainer")
    engine.register_events("grads_clipped")
    if place not in ("step", "data"):
        engine.add_event_handler(place, fail)
    with pytest.raises(ValueError, match="broken") as caught:
        engine.run(Breaks() if place == "data" else [1, 2])
    assert caught.value.__notes__ == [note]


def test_the_notes_of_nested_engines_go_from_the_inner_to_the_outer():
    trainer, evaluator = Engine(echo, "trainer"), Engine(fail, "evaluator")
    trainer.nest(evaluator, on=E.ITERATION_COMPLETED, data=[1])
    with pytest.raises(ValueError, match="broken") as caught:
        trainer.run([1])
    assert caught.value.__notes__ == ["in evaluator: EPOCH 1 / ITERATION 1", "in trainer: EPOCH 1 / ITERATION 1"]


ENDINGS = {
    "completed": (None, None),
    "terminate": (E.ITERATION_STARTED(once=2), lambda engine: engine.terminate()),
    "terminate without COMPLETED": (E.ITERATION_STARTED(once=2), lambda engine: engine.terminate(skip_completed=True)),
    "failure": (E.ITERATION_STARTED(once=2), fail),
    "swallowed failure": (E.ITERATION_STARTED(once=2), fail),
    "KeyboardInterrupt": (E.ITERATION_STARTED(once=2), lambda: (_ for _ in ()).throw(KeyboardInterrupt)),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
@pytest.mark.parametrize("over", ["data", "inner loop"])
def test_whatever_ends_a_run_closes_the_iterators_it_opened(ending, over):
    data = Closing(4)
    inner = Loop("CHUNK", Phase("ACT", nothing, started="act_started"), over=lambda engine: iter(data))
    engine = Engine(echo) if over == "data" else Engine(Loop("EPOCH", Loop("ITERATION", inner, over=DATA)))
    moment, action = ENDINGS[ending]
    if moment is not None:
        engine.add_event_handler(moment if over == "data" else event("act_started", once=2), action)
    if ending == "swallowed failure":
        engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    try:
        engine.run(data if over == "data" else [1], epoch_length=3)
    except (ValueError, KeyboardInterrupt) as error:
        error.__traceback__ = None
    assert data.opened == data.closed > 0


def test_whatever_ends_a_run_stops_the_workers_of_a_data_loader():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate())
    engine.run(DataLoader(range(8), num_workers=1, multiprocessing_context="fork"))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_whatever_ends_a_run_closes_nested_engines_that_are_paused_in_it(ending):
    trainer, evaluator = pair()
    data = Closing(3)
    trainer.add_event_handler(E.ITERATION_STARTED(once=1), lambda: evaluator.run(data, epoch_length=3) and None)
    evaluator.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: engine.interrupt())
    moment, action = ENDINGS[ending]
    if moment is not None:
        trainer.add_event_handler(moment, action)
    if ending == "swallowed failure":
        trainer.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    with suppress(ValueError, KeyboardInterrupt):
        trainer.run([1, 2])
    assert (data.opened, data.closed, evaluator.active) == (1, 1, None)


# -- custom events are states -----------------------------------------------------------------------------------------


def states_of(engine):
    return {state for place in engine.machine.states for state in place.split("/")}


@pytest.mark.parametrize("place", [{}, {"within": "EPOCH"}, {"order": "declared"}])
def test_before_registration_the_state_is_not_there_after_it_it_is_in_loop_and_machine(place):
    engine = Engine(echo)
    assert not {"BACKWARD", "OPTIM_STEP"} & states_of(engine)
    assert "BACKWARD" not in str(engine.loop)
    engine.register_events(*BackpropEvents, **place)
    assert states_of(engine) >= {"FORWARD", "BACKWARD", "OPTIM_STEP"}
    assert all(
        state in str(engine.loop) and state in str(engine.machine) for state in ("FORWARD", "BACKWARD", "OPTIM_STEP")
    )
    assert all(each.value in engine.loop.event_keys for each in BackpropEvents)


def test_a_placed_event_is_not_there_before_registration_and_is_after_it():
    engine = Engine([Phase("BACKWARD", nothing), Phase("OPTIM_STEP", nothing)])
    assert engine.loop.find("GRADS_CLIPPED") is None
    assert "GRADS_CLIPPED" not in states_of(engine)
    engine.register_events(ClipEvents.GRADS_CLIPPED, after="BACKWARD")
    assert [path for path, item in engine.loop.walk() if item.name == "GRADS_CLIPPED"] == [
        ("EPOCH", "ITERATION", "GRADS_CLIPPED")
    ]
    assert "EPOCH/ITERATION/GRADS_CLIPPED" in engine.machine.states


def test_x_started_and_x_completed_put_the_state_x_into_iteration():
    engine = Engine(fires("clip_started", "clip_completed"))
    engine.register_events(ClipEvents.CLIP_STARTED, ClipEvents.CLIP_COMPLETED)
    inside = watch(engine, ClipEvents.CLIP_STARTED, lambda engine: engine.where)
    legal(engine, [1])
    assert "EPOCH/ITERATION/CLIP" in engine.machine.states
    assert inside == [("EPOCH", "ITERATION", "CLIP")]


@pytest.mark.parametrize("lone", ["clip_completed", "grads_clipped"])
def test_a_lone_x_completed_or_an_event_without_either_ending_is_a_state_entered_and_left_at_once(lone):
    engine = Engine(fires(lone, lone))
    engine.register_events(lone)
    inside = watch(engine, lone, lambda engine: engine.where[2:])
    legal(engine, [1, 2])
    assert inside == [("CLIP" if lone == "clip_completed" else "GRADS_CLIPPED",)] * 4


@pytest.mark.parametrize(
    "fired",
    [
        [],
        ["clip_started", "clip_completed"],
        ["backward_started", "backward_completed", "clip_started", "clip_completed"],
        ["clip_started", "clip_completed", "backward_started", "backward_completed"],
        ["clip_started", "clip_completed", "clip_started", "clip_completed"],
        ["backward_started", "clip_started", "clip_completed", "backward_completed"],
        ["backward_started", "clip_started", "backward_completed", "clip_completed"],
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_order_between_such_states_is_free(fired, strict):
    engine = Engine(fires(*fired), strict=strict)
    engine.register_events("clip_started", "clip_completed", "backward_started", "backward_completed")
    assert legal(engine, [1, 2]) == [
        E.STARTED,
        E.EPOCH_STARTED,
        *[*ITERATION[:3], *fired, E.ITERATION_COMPLETED] * 2,
        E.EPOCH_COMPLETED,
        E.COMPLETED,
    ]


WITHIN = {
    "completed before started": ["clip_completed", "clip_started"],
    "completed without started": ["clip_completed"],
    "not left before ITERATION ends": ["clip_started"],
    "started twice": ["clip_started", "clip_started", "clip_completed"],
    "completed twice": ["clip_started", "clip_completed", "clip_completed"],
}


@pytest.mark.parametrize("case", list(WITHIN))
def test_order_within_such_a_state_is_not_free_and_is_judged_afterwards(case):
    engine = Engine(fires(*WITHIN[case]), "trainer")
    engine.register_events("clip_started", "clip_completed")
    trace = traced(engine, [1, 2])
    assert names(trace)[-1] == "completed"
    with pytest.raises(EventOrderError, match=r"(?s)trainer.*EPOCH 1 / ITERATION 1.*expected: "):
        trace.assert_legal()


@pytest.mark.parametrize("case", list(WITHIN))
def test_a_strict_engine_enforces_everything_as_it_happens(case):
    engine = Engine(fires(*WITHIN[case]), "trainer", strict=True)
    engine.register_events("clip_started", "clip_completed")
    with pytest.raises(EventOrderError, match=r"(?s)trainer.*EPOCH 1 / ITERATION 1.*expected: "):
        engine.run([1, 2])
    assert engine.state.iteration == 1


@pytest.mark.parametrize("strict", [False, True])
def test_a_custom_event_outside_its_loop_is_illegal(strict):
    engine = Engine(echo, strict=strict)
    engine.register_events("grads_clipped")
    engine.add_event_handler(E.EPOCH_COMPLETED, lambda engine: engine.fire_event("grads_clipped"))
    with record() as trace, pytest.raises(EventOrderError, match=r"(?s)GRADS_CLIPPED.*expected: "):
        engine.run([1])
        trace.assert_legal()


def test_a_strict_engine_runs_what_is_legal():
    for call in CALLS.values():
        engine = Engine(
            [Phase("FORWARD", fires("clip_started", "clip_completed")), Phase("STEP", nothing, when=every(2))],
            strict=True,
        )
        engine.register_events("clip_started", "clip_completed")
        handle = engine.add_event_handler(
            E.ITERATION_STARTED(once=2), lambda engine, call: call(engine) or handle.remove(), call
        )
        with record() as trace:
            engine.run(Closing(3), max_epochs=3)
            if engine.active is not None:
                engine.run()
        trace.assert_legal()


@pytest.mark.parametrize("left", ["terminate", "terminate_epoch", "failure"])
def test_a_state_that_was_entered_may_be_left_by_a_terminate_or_a_failure(left):
    engine = Engine([Phase("FORWARD", fires("clip_started")), Phase("BACKWARD", fires("clip_completed"))])
    engine.register_events("clip_started", "clip_completed")
    engine.add_event_handler("forward_completed", fail if left == "failure" else CALLS[left])
    engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    assert legal(engine, [1, 2], max_epochs=2).count("clip_completed") == 0


def test_within_puts_the_state_elsewhere():
    engine = Engine(echo)
    engine.register_events("validation_started", "validation_completed", within="EPOCH")
    engine.add_event_handler(E.EPOCH_STARTED, lambda engine: engine.fire_event("validation_started"))
    handle = engine.add_event_handler(
        E.ITERATION_COMPLETED(once=2), lambda engine: engine.fire_event("validation_completed")
    )
    assert "EPOCH/VALIDATION" in engine.machine.states
    legal(engine, [1, 2])
    handle.remove()
    with pytest.raises(EventOrderError, match=r"(?s)EPOCH_COMPLETED.*VALIDATION_COMPLETED"):
        traced(engine, [1, 2]).assert_legal()


def test_within_run_puts_the_state_around_the_outermost_loop():
    engine = Engine(echo)
    engine.register_events("warmed_up", within="RUN")
    engine.add_event_handler(E.STARTED, lambda engine: engine.fire_event("warmed_up"))
    assert names(legal(engine, [1]))[:3] == ["started", "warmed_up", "epoch_started"]


DECLARED = ["clip_started", "clip_completed", "grads_clipped"]


@pytest.mark.parametrize("fired", [DECLARED, [], ["grads_clipped"], DECLARED[:2]])
def test_a_declared_order_allows_each_event_at_most_once_a_pass(fired):
    engine = Engine(fires(*fired))
    engine.register_events(*DECLARED, order="declared")
    assert legal(engine, [1, 2], max_epochs=2).count("grads_clipped") == 4 * fired.count("grads_clipped")


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize(
    "fired",
    [
        ["grads_clipped", "clip_started"],
        ["grads_clipped", "grads_clipped"],
        [*DECLARED, "clip_started"],
        ["clip_completed"],
    ],
)
def test_a_declared_order_is_enforced_as_it_happens(fired, heard):
    engine = Engine(fires(*fired), "trainer")
    engine.register_events(*DECLARED, order="declared")
    if heard:
        watch(engine, fired[-1])
    with pytest.raises(
        EventOrderError, match=rf"(?s)trainer event.* {fired[-1].upper()} .*EPOCH 1 / ITERATION 1.*expected: "
    ):
        engine.run([1])


def test_a_declared_order_holds_in_each_pass_of_the_loop_it_is_within():
    engine = Engine(fires("first", "second"))
    engine.register_events("first", "second", within="EPOCH", order="declared")
    with pytest.raises(EventOrderError, match=r"(?s)FIRST.*EPOCH 1 / ITERATION 2.*expected: "):
        engine.run([1, 2])
    engine.close()
    legal(engine, [1, 2], epoch_length=1, max_epochs=2)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            {"after": "BACKWARD"},
            ["backward_started", "backward_completed", "grads_clipped", "optim_step_started", "optim_step_completed"],
        ),
        (
            {"before": "BACKWARD"},
            ["grads_clipped", "backward_started", "backward_completed", "optim_step_started", "optim_step_completed"],
        ),
        (
            {"after": "OPTIM_STEP"},
            ["backward_started", "backward_completed", "optim_step_started", "optim_step_completed", "grads_clipped"],
        ),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_after_or_before_gives_an_event_a_place_where_the_engine_fires_it(where, expected, strict):
    engine = Engine([Phase("BACKWARD", nothing), Phase("OPTIM_STEP", nothing)], strict=strict)
    engine.register_events(ClipEvents.GRADS_CLIPPED, **where)
    heard = watch(engine, ClipEvents.GRADS_CLIPPED)
    iteration = [*ITERATION[:3], *expected, E.ITERATION_COMPLETED]
    assert legal(engine, [1, 2]) == [E.STARTED, E.EPOCH_STARTED, *iteration * 2, E.EPOCH_COMPLETED, E.COMPLETED]
    assert heard == [1, 2]


def test_after_takes_several_events_in_the_order_given_and_pairs_as_one_state():
    engine = Engine([Phase("BACKWARD", nothing)])
    engine.register_events("grads_clipped", "clip_started", "clip_completed", after="BACKWARD")
    assert names(legal(engine, [1]))[7:10] == ["grads_clipped", "clip_started", "clip_completed"]
    assert isinstance(engine.loop.find("CLIP"), Phase)


def test_after_a_loop_is_a_place_too():
    engine = Engine(echo)
    engine.register_events("validated", after="ITERATION")
    assert names(legal(engine, [1, 2]))[-3:] == ["validated", "epoch_completed", "completed"]


@pytest.mark.parametrize("heard", [False, True])
def test_firing_a_placed_event_by_hand_is_an_error(heard):
    engine = Engine([Phase("BACKWARD", fires("grads_clipped"))], "trainer")
    engine.register_events("grads_clipped", after="BACKWARD")
    if heard:
        watch(engine, "grads_clipped")
    with pytest.raises((ValueError, EventOrderError), match=r"GRADS_CLIPPED.*place"):
        engine.run([1])


def test_the_order_in_which_an_opaque_step_fires_free_events_is_observed():
    fired = [["first", "second"], ["second", "first"], ["second"]]

    def step(engine, batch):
        fires(*fired[batch])(engine, batch)

    engine = Engine(step)
    engine.register_events("first", "second")
    assert [name for name in names(legal(engine, [0, 1, 2])) if name in ("first", "second")] == list(chain(*fired))


# -- legal ------------------------------------------------------------------------------------------------------------


def doctored(trace, path, edit):
    """The trace with its events edited, as ``[run, event, count, time]``, on their way through a file."""
    trace.save(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    head, events = (
        [line for line in lines[:-1] if isinstance(line, dict)],
        [line for line in lines if isinstance(line, list)],
    )
    edited = edit(events)
    for line in head:
        if "segment" in line:
            line["segment"][2] += len(edited) - len(events)
    path.write_text("\n".join(json.dumps(line) for line in [*head, *edited, {"end": len(edited)}]) + "\n")
    return Trace.load(path)


def renumbered(events, lost):
    """Without the events ``lost`` of one iteration, the later ones counted as if it had not been."""
    kept = [list(each) for index, each in enumerate(events) if index not in lost]
    for each in kept[min(lost) :]:
        each[2] -= "epoch" not in each[1] and each[1] != "completed"
    return kept


EDITS = {
    "cut off at the end": lambda events: events[:-1],
    "cut off in the middle": lambda events: events[:9],
    "without its start": lambda events: events[1:],
    "an event dropped": lambda events: events[:5] + events[6:],
    "two events swapped": lambda events: [*events[:4], events[5], events[4], *events[6:]],
    "an event fired twice": lambda events: [*events[:5], *events[4:]],
    "an iteration lost": lambda events: events[:6] + events[10:],
    "an iteration lost and the others counted anew": lambda events: renumbered(events, range(6, 10)),
    "an epoch lost": lambda events: [events[0], *events[15:]],
    "an event after the end": lambda events: [*events, events[-1]],
    "an event of no loop": lambda events: [*events[:5], [0, "unheard_of", 1, 0.0], *events[5:]],
    "a wrong count": lambda events: [[*each[:2], each[2] + (index == 5), each[3]] for index, each in enumerate(events)],
}


@pytest.mark.parametrize("edit", list(EDITS))
def test_a_trace_is_legal_when_it_is_a_complete_path_and_its_counters_satisfy_every_guard(edit, tmp_path):
    trace = legal(Engine(echo, "trainer"), [1, 2, 3], max_epochs=2)
    doctored(trace, tmp_path / "trace", list).assert_legal()
    with pytest.raises(EventOrderError, match="trainer"):
        doctored(trace, tmp_path / "trace", EDITS[edit]).assert_legal()


def test_a_legal_trace_ends_with_completed_terminate_interrupt_or_failed():
    endings = {
        "completed": lambda engine: None,
        "terminate": lambda engine: engine.terminate(skip_completed=True),
        "interrupt": lambda engine: engine.interrupt(),
        "exception_raised": fail,
    }
    for last, action in endings.items():
        engine = Engine(echo)
        engine.add_event_handler(E.ITERATION_COMPLETED(once=2), action)
        engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
        assert names(legal(engine, [1, 2, 3]))[-1] == last


def test_counters_that_a_handler_moves_are_miscounted():
    engine = Engine(echo)
    engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: setattr(engine.state, "iteration", 3))
    with pytest.raises(EventOrderError, match="miscounted"):
        traced(engine, [1, 2, 3, 4]).assert_legal()


def test_nested_engines_are_each_legal_and_lie_wholly_inside_one_event_of_the_outer_engine():
    trainer, evaluator = pair()
    trainer.nest(evaluator, on=E.EPOCH_STARTED | E.EPOCH_COMPLETED, data=[1, 2])
    trace = legal(trainer, [1], max_epochs=2)
    inner = standard(1, 2)
    first = [E.EPOCH_STARTED, *inner, *ITERATION, E.EPOCH_COMPLETED, *inner]
    assert trace == [E.STARTED, *first, E.EPOCH_STARTED, *inner, *RESTARTED, E.EPOCH_COMPLETED, *inner, E.COMPLETED]
    assert [(run.engine, run.parent) for run in trace.runs] == [("trainer", None), *[("evaluator", 0)] * 4]


def test_a_nested_engine_runs_at_its_place_among_the_handlers_of_the_event():
    trainer, evaluator = pair()
    order = []
    trainer.add_event_handler(E.EPOCH_COMPLETED, lambda: order.append("before"))
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    trainer.add_event_handler(E.EPOCH_COMPLETED, lambda: order.append("after"))
    evaluator.add_event_handler(E.STARTED, lambda: order.append("evaluator"))
    legal(trainer, [1])
    assert order == ["before", "evaluator", "after"]


def test_an_illegal_nested_engine_makes_the_trace_illegal():
    trainer, evaluator = Engine(echo, "trainer"), Engine(fires("clip_started"), "evaluator")
    evaluator.register_events("clip_started", "clip_completed")
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    with pytest.raises(EventOrderError, match="evaluator"):
        traced(trainer, [1]).assert_legal()


def test_no_event_of_the_outer_engine_falls_between_those_of_a_nested_one(tmp_path):
    trainer, evaluator = pair()
    trainer.nest(evaluator, on=E.EPOCH_COMPLETED, data=[1])
    trace = legal(trainer, [1])
    with pytest.raises(EventOrderError, match="trainer"):
        doctored(trace, tmp_path / "trace", lambda events: [*events[:-2], events[-1], events[-2]]).assert_legal()


def test_a_nested_engine_that_goes_on_in_another_event_of_the_outer_one_is_illegal():
    trainer, evaluator = pair()
    steps = []
    trainer.add_event_handler(E.ITERATION_STARTED, lambda: next(steps.append(evaluator.steps([1, 2])) or steps[0]))
    trainer.add_event_handler(E.ITERATION_COMPLETED, lambda: list(steps[0]) and None)
    with pytest.raises(EventOrderError, match=r"trainer|evaluator"):
        traced(trainer, [1]).assert_legal()


def test_a_state_saved_at_epoch_started_of_a_restored_run_has_its_position():
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


def test_an_epoch_that_is_terminated_where_a_restored_run_begins_is_followed_by_the_next():
    saved = []
    first = Engine(echo)
    first.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: saved.append(engine.state_dict()))
    first.run([1, 2, 3], max_epochs=2)
    second = Engine(echo)
    second.load_state_dict(saved[0])
    second.add_event_handler(E.EPOCH_STARTED(once=1), second.terminate_epoch)
    legal(second, [1, 2, 3])
    assert (second.state.epoch, second.state.iteration) == (2, 5)
