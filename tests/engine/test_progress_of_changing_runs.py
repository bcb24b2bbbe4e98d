"""Whatever ``state_dict()`` writes can be loaded: also in runs whose data, lengths and limits change on the way."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import Engine, Events, Snapshot
from support.engines import Closing
from support.steps import no_op

BOUNDARIES = {"epoch_started", "iteration_completed", "iteration_skipped", "epoch_completed"}
"""The events after which a loaded run does exactly what the saved one does."""


@attrs.frozen
class Change:
    """A change that a handler makes at an event, in a certain iteration or epoch."""

    at: str
    count: int
    what: str
    value: Any = None

    def make(self, engine, data):
        state = engine.state
        if (state.epoch if self.at.startswith("epoch") else state.iteration) != self.count or state.resumed:
            return
        if self.what == "data":
            engine.set_data(data[self.value])
        elif self.what in ("epoch_length", "max_epochs", "max_iters"):
            setattr(state, self.what, self.value)
        else:
            getattr(engine, self.what)()


at = st.sampled_from(["epoch_started", "get_batch_completed", "iteration_completed", "epoch_completed"])
changes = st.builds(
    lambda at, count, what: Change(at, count, *what),
    at,
    st.integers(1, 6),
    st.one_of(
        st.tuples(st.just("data"), st.sampled_from([0, 1, 2, 3])),
        st.tuples(st.just("epoch_length"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["terminate", "terminate_epoch", "interrupt"])),
    ),
)
# an epoch that is terminated before its first iteration is counted would be terminated again, for ever
changes = changes.filter(lambda change: (change.at, change.what) != ("get_batch_completed", "terminate_epoch"))
limit_changes = st.builds(lambda at, count, value: (at, count, value), at, st.integers(1, 6), st.integers(1, 8))


def build(plan, data, seen):
    engine = Engine(lambda engine, batch: batch)
    for key in ("epoch_started", "iteration_started", "iteration_completed", "epoch_completed", "completed"):

        def note(engine, key=key):
            state = engine.state
            if not state.resumed:
                batch = state.batch if key.startswith("iteration") else None
                seen.append((key, state.epoch, state.iteration, batch))

        engine.add_event_handler(key, note)
    for change in plan:
        engine.add_event_handler(change.at, change.make, data)
    return engine


@given(
    plan=st.lists(changes, max_size=4),
    limited=st.lists(limit_changes, max_size=1),
    kind=st.sampled_from(["max_epochs", "max_iters"]),
    limit=st.integers(1, 8),
    epoch_length=st.none() | st.integers(1, 5),
    sized=st.booleans(),
)
def test_every_state_dict_of_a_run_loads_and_goes_on(plan, limited, kind, limit, epoch_length, sized):
    plan = [*plan, *(Change(at, count, kind, value) for at, count, value in limited)]
    data = [list(range(100 * number, 100 * number + number + 1)) for number in range(4)]
    data = data if sized else [Closing(number + 1) for number in range(4)]
    limits = {kind: limit if kind == "max_iters" else min(limit, 4)}
    seen, saved = [], []
    engine = build(plan, data, seen)
    steps = engine.steps(data[2], epoch_length=epoch_length, **limits)
    while True:
        for event in steps:
            if event is Events.INTERRUPT:
                break
            calls = engine.should_terminate or engine.should_terminate_single_epoch or engine.should_interrupt
            is_exact = event.value in BOUNDARIES and not calls
            saved.append((event.value, is_exact, len(seen), engine.state.dataloader, engine.state_dict()))
        if engine.current_run is None:
            break
        steps = engine.steps()
    for event, is_exact, done, loader, state in saved:
        again = []
        resumed = build(plan, data, again)
        resumed.load_state_dict(state)
        resumed.run(loader)
        while resumed.current_run is not None:
            resumed.run()
        if is_exact:
            assert again == seen[done:], f"saved at {event}: {state}"


def doubled(engine):
    engine.set_data([0] * 2 * engine.state.epoch_length)
    engine.state.epoch_length *= 2


def cut_short(engine):
    engine.state.epoch_length = 1


WAYS = {
    "growing epochs": ("epoch_completed", doubled),
    "shrinking epochs": ("epoch_completed", cut_short),
    "an epoch cut short in the middle": ("iteration_completed", cut_short),
    "terminated epochs": ("iteration_completed", lambda e: e.state.iteration % 3 == 2 and e.terminate_epoch()),
    "fewer epochs than begun": ("epoch_completed", lambda e: setattr(e.state, "max_epochs", 1)),
    "longer in the middle": ("iteration_completed", lambda e: setattr(e.state, "epoch_length", 7)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_snapshot_of_a_run_that_changes_is_resumed(tmp_path, way, at):
    moment, change = WAYS[way]

    def build_with_snapshot():
        engine, seen = Engine(no_op), []
        engine.add_event_handler(moment, change)
        engine.add_event_handler(
            "iteration_completed", lambda: seen.append((engine.state.epoch, engine.state.iteration))
        )
        Snapshot(engine, tmp_path)
        return engine, seen

    whole, seen = build_with_snapshot()
    loaders = []
    whole.add_event_handler("iteration_completed", lambda: whole.state.iteration == at and whole.snapshot())
    whole.add_event_handler(
        "iteration_completed", lambda: whole.state.iteration == at and loaders.append(whole.state.dataloader)
    )
    whole.run([0] * 4, max_epochs=3)
    if not loaders:
        return
    resumed, rest = build_with_snapshot()
    assert resumed.resume() is not None
    resumed.run(loaders[0])
    assert rest == seen[at:]


@pytest.mark.parametrize("limit", ["epoch_length", "max_iters"])
@pytest.mark.parametrize(("value", "iterations"), [(1, 2), (2, 2), (4, 4), (7, 7)])
@pytest.mark.parametrize("data", [range(10), None])
def test_a_limit_that_a_handler_changes_acts_at_the_next_fetch(limit, value, iterations, data):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: setattr(engine.state, limit, value))
    engine.run(
        data, epoch_length=5 if limit == "epoch_length" else 10, **({} if limit == "epoch_length" else {"max_iters": 5})
    )
    assert engine.state.iteration == iterations


@pytest.mark.parametrize("data", [range(8), None])
def test_a_paused_run_can_be_limited_to_what_it_has_done(data):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.run(data, max_iters=6, epoch_length=8)
    assert engine.run(max_iters=2).iteration == 2
