"""What an engine promises: the standard loop, events and handlers, control, failure, custom events, legal traces."""

import enum
import json
import multiprocessing
import weakref
from itertools import count

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from camshaft import DATA, BackpropEvents, Engine, EventEnum, EventOrderError, Events, Loop, Phase, State, Trace, event, every, record
from camshaft.events import event_key

E = Events
FETCH = [E.GET_BATCH_STARTED, E.GET_BATCH_COMPLETED]
ITERATION = [*FETCH, E.ITERATION_STARTED, E.ITERATION_COMPLETED]
RESTARTED = [E.GET_BATCH_STARTED, E.DATALOADER_STOP_ITERATION, *ITERATION[1:]]


class ClipEvents(EventEnum):
    CLIP_STARTED = "clip_started"
    CLIP_COMPLETED = "clip_completed"
    GRADS_CLIPPED = "grads_clipped"


def echo(engine, batch):
    return batch


def nothing(engine, batch):
    return None


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


def firing(*events):
    """A step that fires these events by hand."""

    def step(engine, batch):
        for each in events:
            engine.fire_event(each)

    return step


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
    engine = Engine([Phase("FORWARD", firing("grads_clipped")), Phase("BACKWARD", nothing)])
    engine.register_events("grads_clipped")
    inside = ["forward_started", "grads_clipped", "forward_completed", "backward_started", "backward_completed"]
    assert legal(engine, [1]) == [E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], *inside, E.ITERATION_COMPLETED, E.EPOCH_COMPLETED, E.COMPLETED]


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
    first, second = [E.EPOCH_STARTED, *ITERATION * 2, E.EPOCH_COMPLETED], [E.EPOCH_STARTED, *RESTARTED, *ITERATION, E.EPOCH_COMPLETED]
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
    with engine.add_event_handler(E.ITERATION_COMPLETED(once=1), lambda engine: stop(engine)):
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
    [lambda step: step, lambda step: [Phase("FORWARD", step), Phase("BACKWARD", nothing)], lambda step: [Phase("A", nothing), Phase("B", step)], inner_steps],
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
    engine = Engine(firing(Plain.CLIPPED, "grads_clipped", ClipEvents.GRADS_CLIPPED))
    engine.register_events(ClipEvents.GRADS_CLIPPED)
    heard = [watch(engine, handle) for handle in (ClipEvents.GRADS_CLIPPED, "grads_clipped", Plain.CLIPPED)]
    assert legal(engine, [1]).count("grads_clipped") == 3
    assert heard == [[1, 1, 1]] * 3
    assert all(map(engine.has_registered_events, (ClipEvents.GRADS_CLIPPED, "grads_clipped", Plain.CLIPPED)))


def test_an_event_with_a_value_that_is_no_string_is_identified_by_class_and_name():
    engine = Engine(firing("Numbers.ONE", Numbers.ONE))
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
    assert Engine(echo).loop == second.loop.evolve(body=Engine(echo).loop.body)


def test_started_and_completed_default_each_by_itself_and_are_reachable_as_loop_events():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("CLIP", nothing), Phase("STEP_DOWN", nothing, started="going_down"), over=DATA))
    assert (loop.find("CLIP").started, loop.find("CLIP").completed) == ("clip_started", "clip_completed")
    assert (loop.find("STEP_DOWN").started, loop.find("STEP_DOWN").completed) == ("going_down", "step_down_completed")
    assert event_key(loop.events.CLIP_COMPLETED) == "clip_completed"
    assert Loop("FOLD", Phase("FIT", nothing), completed="fold_done").started == "fold_started"
    engine = Engine(loop)
    assert watch(engine, loop.events.STEP_DOWN_COMPLETED) == []
    assert names(legal(engine, [1]))[5:9] == ["clip_started", "clip_completed", "going_down", "step_down_completed"]


def test_backprop_events_has_forward_backward_and_optim_step_each_started_and_completed():
    states = ("FORWARD", "BACKWARD", "OPTIM_STEP")
    assert {member.name: member.value for member in BackpropEvents} == {f"{state}_{end}": f"{state}_{end}".lower() for state in states for end in ("STARTED", "COMPLETED")}


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
    engine = Engine(firing("grads_clipped", "grads_clipped"))
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
    engine, heard = Engine(firing("grads_clipped")), []
    engine.register_events("grads_clipped")
    late = event("grads_clipped", every=2)
    engine.add_event_handler(E.ITERATION_COMPLETED(once=3), lambda engine: engine.add_event_handler(late, lambda engine: heard.append(engine.state.iteration)))
    engine.run(range(8))
    assert heard == [5, 7]


def test_own_firings_are_counted_anew_in_each_run():
    engine = Engine(firing("grads_clipped"))
    engine.register_events("grads_clipped")
    heard = watch(engine, event("grads_clipped", every=2))
    engine.run(range(3))
    engine.run(range(3))
    assert heard == [2, 2]


def test_own_firings_are_saved_with_the_state():
    def make():
        engine = Engine(firing("grads_clipped"))
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
    add = lambda engine: engine.add_event_handler(E.ITERATION_STARTED(**filter), lambda engine: heard.append(engine.state.iteration))
    engine.add_event_handler(E.ITERATION_STARTED(once=2), add)
    engine.run(range(4))
    assert heard == [3, 4]


@pytest.mark.parametrize("filter", [{}, {"before": 100}])
def test_a_handler_removed_during_a_firing_does_not_run_again(filter):
    engine, heard = Engine(echo), []

    @engine.on(E.ITERATION_STARTED(once=2))
    def remove():
        handle.remove()

    handle = engine.add_event_handler(E.ITERATION_STARTED(**filter), lambda engine: heard.append(engine.state.iteration))
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
    engine, heard = Engine([Phase("FORWARD", nothing), Phase("BACKWARD", firing("grads_clipped"))]), []
    engine.register_events("grads_clipped")
    add = lambda engine: engine.add_event_handler(later, lambda engine: heard.append(engine.state.iteration))
    engine.add_event_handler(E.ITERATION_STARTED(once=2), add)
    engine.run(range(3))
    assert heard == [2, 3]


# -- control ----------------------------------------------------------------------------------------------------------

MOMENTS = [E.STARTED, E.EPOCH_STARTED, E.GET_BATCH_STARTED, E.GET_BATCH_COMPLETED, E.ITERATION_STARTED, E.ITERATION_COMPLETED, E.EPOCH_COMPLETED]


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
    assert legal(engine, [1, 2], max_epochs=2) == [E.STARTED, E.EPOCH_STARTED, E.TERMINATE_SINGLE_EPOCH, *standard(1, 2)[1:]]


@pytest.mark.parametrize("moment", [E.GET_BATCH_COMPLETED, E.ITERATION_STARTED])
@pytest.mark.parametrize("process", [echo, [Phase("FORWARD", echo)]])
def test_skip_iteration_fires_iteration_skipped_in_place_of_phases_and_iteration_completed_and_the_iteration_counts(moment, process):
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


def test_interrupt_in_a_step_goes_on_behind_the_step():
    engine = Engine(lambda engine, batch: engine.interrupt())
    with record() as trace:
        engine.run([1])
        engine.run()
    trace.assert_legal()
    assert trace == [E.STARTED, E.EPOCH_STARTED, *ITERATION[:3], E.INTERRUPT, E.ITERATION_COMPLETED, E.EPOCH_COMPLETED, E.COMPLETED]


def paused(data=(1, 2, 3), **limits):
    engine = Engine(echo)
    handle = engine.add_event_handler(E.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt() or handle.remove())
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
        engine.add_event_handler(E.ITERATION_STARTED(once=2), lambda engine: [CALLS[call](engine) for call in calls] and None)
    with record() as trace:
        engine.run([1, 2, 3], max_epochs=2)
        if engine.active is not None:
            engine.run()
    trace.assert_legal()
    return names(trace), stepped


@pytest.mark.parametrize("apart", [False, True], ids=["one handler", "two handlers"])
@pytest.mark.parametrize(("lower", "higher"), [(low, high) for index, high in enumerate(CALLS) for low in list(CALLS)[index + 1 :]])
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
    evaluator.add_event_handler(E.ITERATION_STARTED(once=1), lambda: trainer.terminate())
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
    for outer, inner in zip(engines, engines[1:], strict=False):
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


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
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
    engine, caught = Engine(firing("not_there")), []
    engine.add_event_handler(E.EXCEPTION_RAISED, lambda error: caught.append(error))
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
    engine = Engine(fail if place == "step" else firing("grads_clipped"), "trainer")
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
    evaluator.add_event_handler(E.ITERATION_STARTED(once=2), lambda: evaluator.interrupt())
    moment, action = ENDINGS[ending]
    if moment is not None:
        trainer.add_event_handler(moment, action)
    if ending == "swallowed failure":
        trainer.add_event_handler(E.EXCEPTION_RAISED, lambda error: True)
    try:
        trainer.run([1, 2])
    except (ValueError, KeyboardInterrupt):
        pass
    assert (data.opened, data.closed, evaluator.active) == (1, 1, None)
