"""Data whose ``len()`` is an estimate: each sample is used once in an epoch, and one warning says the difference."""

from __future__ import annotations

import warnings

import pytest
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from camshaft import Engine, Events, record
from support.engines import collect
from support.steps import no_op


class Samples(IterableDataset):
    def __init__(self, samples, says):
        self.samples, self.says = samples, says

    def __len__(self):
        return self.says

    def __iter__(self):
        info = get_worker_info()
        yield from range(self.samples) if info is None else range(info.id, self.samples, info.num_workers)


class Numbers(Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        return index


class Filtered(Sampler):
    def __init__(self, samples, says):
        self.samples, self.says = samples, says

    def __len__(self):
        return self.says

    def __iter__(self):
        return iter(range(self.samples))


class Batches:
    def __init__(self, batches, says):
        self.batches, self.says = batches, says

    def __len__(self):
        return self.says

    def __iter__(self):
        return iter([[2 * number, 2 * number + 1] for number in range(self.batches)])


SOURCES = {
    "iterable data set": lambda gives, says: DataLoader(Samples(2 * gives, 2 * says), batch_size=2),
    "iterable data set in workers": lambda gives, says: DataLoader(
        Samples(2 * gives, 2 * says), batch_size=2, num_workers=2
    ),
    "sampler": lambda gives, says: DataLoader(Numbers(), batch_size=2, sampler=Filtered(2 * gives, 2 * says)),
    "batch sampler": lambda gives, says: DataLoader(Numbers(), batch_sampler=Batches(gives, says)),
    "iterable": Batches,
}


def run(data, told=None, **limits):
    """Run, check the trace, and return the engine, its samples, and the warnings about lengths."""
    engine, seen = Engine(no_op), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.extend(map(int, engine.state.batch)))
    with warnings.catch_warnings(record=True) as caught, record() as trace:
        warnings.simplefilter("always")
        engine.run(data, **limits)
    trace.assert_legal()
    return engine, seen, [str(one.message) for one in caught if str(one.message).startswith("the data ")]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("gives", "says", "told"),
    [
        (4, 5, "gave only 4 batches, and its length is 5"),
        (6, 4, "gives more batches than its length of 4"),
        (4, 4, None),
    ],
)
@pytest.mark.parametrize("epochs", [1, 2])
def test_every_sample_is_used_once_in_an_epoch(source, gives, says, told, epochs):
    if "workers" in source and epochs == 2 and gives != 6:
        return
    engine, seen, warned = run(SOURCES[source](gives, says), max_epochs=epochs)
    assert sorted(seen) == sorted([*range(2 * gives)] * epochs)
    assert (engine.state.epoch_length, engine.state.iteration) == (gives, epochs * gives)
    assert len(warned) == (told is not None)
    assert told is None or told in warned[0]


def test_samples_of_more_workers_than_full_batches():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of more workers than cores
        loader = DataLoader(Samples(8, 8), batch_size=4, num_workers=4)
        _, seen, _ = run(loader)
    assert sorted(seen) == [*range(8)]


@pytest.mark.parametrize(("gives", "says"), [(4, 5), (6, 4)])
def test_an_explicit_epoch_length_holds(gives, says):
    engine, seen, warned = run(Batches(gives, says), epoch_length=says, max_epochs=2)
    assert (engine.state.iteration, warned) == (2 * says, [])
    assert len(seen) == 4 * says


def test_a_length_set_by_a_handler_holds():
    engine = Engine(no_op)
    engine.add_event_handler(Events.STARTED, lambda: setattr(engine.state, "epoch_length", 3))
    assert engine.run(Batches(6, 4), max_epochs=2).iteration == 6


def test_the_expected_length_is_shown_until_the_first_epoch_has_ended():
    engine = Engine(no_op)
    lengths = collect(engine, Events.STARTED | Events.ITERATION_COMPLETED, lambda engine: engine.state.epoch_length)
    with pytest.warns(UserWarning, match="gave only"):
        engine.run(Batches(2, 3), max_epochs=2)
    assert lengths == [3, 3, 3, 2, 2]


@pytest.mark.parametrize("max_iters", [3, 4, 5, 9])
def test_max_iters_counts_batches_that_are_there(max_iters):
    engine, seen, warned = run(Batches(4, 5), max_iters=max_iters)
    assert engine.state.iteration == max_iters
    assert [sample // 2 for sample in seen[::2]] == [number % 4 for number in range(max_iters)]
    assert len(warned) == (max_iters > 4)


@pytest.mark.parametrize(("gives", "says"), [(4, 5), (6, 4)])
@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_a_run_resumed_in_the_first_epoch_goes_on_with_what_is_left(gives, says, at):
    saved = []
    first = Engine(no_op)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=at), lambda: saved.append(first.state_dict()))
    with pytest.warns(UserWarning, match="the data g"):
        first.run(Batches(gives, says), max_epochs=2)
    engine, seen = Engine(no_op), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.batch[0] // 2))
    engine.load_state_dict(saved[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine.run(Batches(gives, says))
    assert seen == [*range(gives), *range(gives)][at:]


def test_a_run_that_was_paused_or_ended_in_the_first_epoch_goes_on():
    for call in (Engine.interrupt, Engine.terminate):
        engine = Engine(no_op)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), call)
        engine.run(Batches(6, 4), max_epochs=2)
        with pytest.warns(UserWarning, match="more batches"):
            engine.run(max_epochs=2)
        assert engine.state.iteration == (12 if call is Engine.interrupt else 8)


def test_a_second_run_reads_all_of_its_data_too():
    engine = Engine(no_op)
    for gives, says in ((4, 5), (6, 4), (3, 3)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert engine.run(Batches(gives, says)).iteration == gives


def test_a_strict_engine_accepts_data_that_is_longer_or_shorter():
    for gives, says in ((4, 5), (6, 4)):
        with pytest.warns(UserWarning, match="the data g"):
            assert Engine(no_op, strict=True).run(Batches(gives, says), max_epochs=2).iteration == 2 * gives


def test_lists_and_plain_loaders_have_no_fetch_that_finds_nothing():
    for data in ([[1], [2]], DataLoader(Numbers(), batch_size=50), DataLoader(Numbers(), batch_size=50, shuffle=True)):
        engine = Engine(no_op)
        fetches = collect(engine, Events.GET_BATCH_STARTED)
        assert engine.run(data).iteration == len(fetches) == 2
