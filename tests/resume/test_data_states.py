"""States inside of data resume exactly, wherever they are, or a warning names them."""

import copy
import functools
import itertools
import random
import warnings
import zlib
from collections import Counter, defaultdict, deque
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
)
from torch.utils.data.distributed import DistributedSampler

from camshaft import Engine, Events, Snapshot, create_supervised_evaluator
from camshaft.resume.data_states import DataStates

BASE = torch.arange(8)
GENERATORS = {
    "torch": lambda: torch.Generator().manual_seed(0),
    "random.Random": lambda: random.Random(0),
    "NumPy": lambda: np.random.default_rng(0),
    "legacy NumPy": lambda: np.random.RandomState(0),
    "PCG64DXSM": lambda: np.random.Generator(np.random.PCG64DXSM(0)),
}


def number(rng):
    """Draw a number below 1,000."""
    if isinstance(rng, torch.Generator):
        return int(torch.randint(1000, (), generator=rng))
    if isinstance(rng, random.Random):
        return rng.randrange(1000)
    return int(rng.integers(1000)) if isinstance(rng, np.random.Generator) else int(100 * rng.randn()) % 1000


def shuffled(rng):
    return sorted(range(8), key=lambda _: number(rng))


class Own(Sampler):
    """Draws the whole order when an epoch begins."""

    def __init__(self, rng):
        self.rng = rng

    def __len__(self):
        return 8

    def __iter__(self):
        return iter(shuffled(self.rng))


class Lazy(Own):
    """Draws each index when it is asked for."""

    def __iter__(self):
        return (number(self.rng) % 8 for _ in range(8))


class Slotted(Own):
    __slots__ = ("hidden",)

    def __init__(self, rng):
        self.hidden = rng

    def __iter__(self):
        return iter(shuffled(self.hidden))


class Around(Sampler):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        return iter(self.inner)


class Holding(Own):
    """Holds its generator in a container."""

    def __init__(self, rng):
        self.parts = {"all": [None, (rng,)]}

    def __iter__(self):
        return iter(shuffled(self.parts["all"][1][0]))


class WithState(Own):
    def state_dict(self):
        return {"rng": self.rng.get_state()} if isinstance(self.rng, torch.Generator) else {}

    def load_state_dict(self, state):
        if state:
            self.rng.set_state(state["rng"])


class Resumable(Sampler):
    """Counts what it has given, and goes on there after load_state_dict(), in one epoch."""

    def __init__(self, rng):
        self.rng, self.epoch, self.given, self.skip = rng, 0, 0, 0

    def __len__(self):
        return 8

    def __iter__(self):
        skip, self.skip, self.given = self.skip, 0, 0
        self.epoch += 1
        for index in [(3 * index + self.epoch) % 8 for index in range(8)][skip:]:
            self.given += 1
            yield index

    def state_dict(self):
        return {"epoch": self.epoch, "given": self.given}

    def load_state_dict(self, state):
        self.epoch, self.skip = state["epoch"], 0


class Counting(Own):
    """Has no generator: the order depends on how often it was asked."""

    def __init__(self, rng):
        self.epochs, self.seen = 0, []

    def __iter__(self):
        self.epochs += 1
        self.seen.append(self.epochs)
        return iter([(index * self.epochs + len(self.seen)) % 8 for index in range(8)])


class Changing(Sampler):
    """Has a variable that changes each time it is asked, in place or by assignment."""

    def __init__(self, value, change):
        self.value, self.change, self.same = value, change, [value]

    def __len__(self):
        return 8

    def __iter__(self):
        new = self.change(self.value)
        self.value = self.value if new is None else new
        number = zlib.crc32(repr((self.value, self.same if new is None else None)).encode())
        return iter([(number + index * (number % 5 + 1)) % 8 for index in range(8)])


def with_item(value):
    value[len(value)] = len(value)


def with_key(value):
    value["n"] += 1


CHANGING = {
    "an array": (lambda: np.arange(3), lambda value: value.__iadd__(1) is None),
    "a new array": (lambda: np.arange(3), lambda value: value + 1),
    "a NumPy number": (lambda: np.float32(0), lambda value: value + 1),
    "a tensor": (lambda: torch.zeros(2), lambda value: value.add_(1) is None),
    "a deque": (lambda: deque([0, 1], maxlen=5), lambda value: value.rotate() or value.append(len(value))),
    "a set": (set, lambda value: value.add(len(value))),
    "a Counter": (lambda: Counter(n=1), with_key),
    "a defaultdict": (lambda: defaultdict(int), with_key),
    "number keys": (dict, with_item),
    "a long list": (lambda: list(range(3_000)), lambda value: value.append(value.pop(0))),
    "a nest": (lambda: [{"a": (1, [2])}], lambda value: [{"a": (1, [*value[0]["a"][1], 3])}]),
    "a string": (str, lambda value: value + "a"),
    "None": (lambda: None, lambda value: (value or 0) + 1),
}


@pytest.mark.parametrize("kind", CHANGING)
def test_attributes_that_change_resume(tmp_path, kind):
    make, change = CHANGING[kind]

    def changed(value):
        new = change(value)
        return None if isinstance(new, bool) else new

    check(lambda: loader(sampler=Changing(make(), changed)), tmp_path, (1, 6, 8))


class OwnList(list):
    """A list that draws from the generator in it when it is read."""

    def __iter__(self):
        raise AssertionError("the search reads it")


class Reading(Own):
    def __init__(self, rng):
        self.parts = OwnList([rng])

    def __iter__(self):
        return iter(shuffled(list.__getitem__(self.parts, 0)))


def drawing_function(rng):
    def draw():
        return number(draw.rng)

    draw.rng = rng
    return draw


class Drawing(Sampler):
    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 8

    def __iter__(self):
        return iter([self.draw() % 8 for _ in range(8)])


IN_LAMBDA = random.Random(0)


class UsesLambda(Own):
    def __init__(self):
        pass

    def __iter__(self):
        return iter(sorted(range(8), key=lambda _: IN_LAMBDA.random()))


def with_lambda():
    IN_LAMBDA.seed(0)
    return UsesLambda()


PLACES = {
    "a list of its own class": lambda: Reading(random.Random(0)),
    "a bound method": lambda: Drawing(partial(random.Random(0).randrange, 100)),
    "a built-in bound method": lambda: Drawing(partial(random.Random(0).getrandbits, 16)),
    "a bound method of NumPy": lambda: Drawing(partial(np.random.default_rng(0).integers, 100)),
    "an attribute of a function": lambda: Drawing(drawing_function(random.Random(0))),
    "a lambda in a method": with_lambda,
}


@pytest.mark.parametrize("place", PLACES)
def test_generators_in_unusual_places_resume(tmp_path, place):
    check(lambda: loader(sampler=PLACES[place]()), tmp_path, (1, 6))


def test_what_two_objects_share_stays_shared(tmp_path):
    class Shares(Counting):
        def __init__(self, order):
            self.order = order

        def __iter__(self):
            self.order.append(self.order.pop(0))
            return iter([*self.order])

    order = [*range(8)]
    made = loader(sampler=Around(Shares(order)))
    made.sampler.order = order
    run(lambda: made, tmp_path, 5, epochs=2)
    order = [*range(8)]
    made = loader(sampler=Around(Shares(order)))
    made.sampler.order = order
    run(lambda: made, tmp_path, resume="latest", epochs=2)
    assert made.sampler.order is made.sampler.inner.order
    assert order == [2, 3, 4, 5, 6, 7, 0, 1]


class OwnBatches(BatchSampler):
    def __init__(self, rng):
        self.rng = rng

    def __len__(self):
        return 4

    def __iter__(self):
        order = shuffled(self.rng)
        return iter([order[first : first + 2] for first in range(0, 8, 2)])


class Augmented(Dataset):
    def __init__(self, rng):
        self.rng = rng

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return int(BASE[index]) + 10 * number(self.rng)


class Wrapping(Dataset):
    def __init__(self, inner):
        self.inners = [inner]

    def __len__(self):
        return len(self.inners[0])

    def __getitem__(self, index):
        return self.inners[0][index]


class CountingItems(Dataset):
    def __init__(self):
        self.loaded = 0

    def __len__(self):
        return 8

    def __getitem__(self, index):
        self.loaded += 1
        return index + 10 * self.loaded


class Stream(IterableDataset):
    def __init__(self, rng):
        self.rng = rng

    def __iter__(self):
        return iter([number(self.rng) for _ in range(8)])


class NoLoader:
    """Data that is no DataLoader."""

    def __init__(self, rng):
        self.rng = rng

    def __len__(self):
        return 4

    def __iter__(self):
        return iter([torch.tensor([number(self.rng)]) for _ in range(4)])


class Collating:
    def __init__(self, rng):
        self.rng = rng

    def __call__(self, batch):
        return torch.tensor(batch) + 10 * number(self.rng)

    def collate(self, batch):
        return self(batch)


def collating_closure(rng):
    def collate(batch):
        return torch.tensor(batch) + 10 * number(rng)

    return collate


def collate_with(rng, batch):
    return torch.tensor(batch) + 10 * number(rng)


loader = partial(DataLoader, BASE, batch_size=2)
MAKERS = {
    "the loader": lambda rng: loader(sampler=Own(rng)),
    "a lazy sampler": lambda rng: loader(sampler=Lazy(rng)),
    "a slot": lambda rng: loader(sampler=Slotted(rng)),
    "a container": lambda rng: loader(sampler=Holding(rng)),
    "a sampler around it": lambda rng: loader(sampler=Around(Around(Own(rng)))),
    "a sampler with a state": lambda rng: loader(sampler=WithState(rng)),
    "a sampler that resumes": lambda rng: loader(sampler=Resumable(rng)),
    "a sampler that counts": lambda rng: loader(sampler=Counting(rng)),
    "a batch sampler": lambda rng: DataLoader(BASE, batch_sampler=OwnBatches(rng)),
    "a batch sampler around it": lambda rng: DataLoader(BASE, batch_sampler=BatchSampler(Around(Own(rng)), 2, False)),
    "the data set": lambda rng: DataLoader(Augmented(rng), batch_size=2),
    "a data set in data sets": lambda rng: DataLoader(
        torch.utils.data.ConcatDataset([Subset(Wrapping(Augmented(rng)), range(4)), Wrapping(Augmented(rng))]),
        batch_size=3,
    ),
    "a data set that counts": lambda rng: DataLoader(CountingItems(), batch_size=2, sampler=Own(rng)),
    "a stream": lambda rng: DataLoader(Stream(rng), batch_size=2),
    "no loader": NoLoader,
    "a collating object": lambda rng: loader(collate_fn=Collating(rng)),
    "a collating method": lambda rng: loader(collate_fn=Collating(rng).collate),
    "a collating closure": lambda rng: loader(collate_fn=collating_closure(rng)),
    "a collating partial": lambda rng: loader(collate_fn=partial(collate_with, rng)),
}


def run(make, folder, stop=None, resume=None, epochs=3):
    engine, seen = Engine(lambda engine, batch: batch.tolist(), name="trainer"), []
    snapshot = Snapshot(engine, folder)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.output))
    if stop is not None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda: (snapshot(), engine.interrupt()))
    engine.run(make(), max_epochs=epochs, resume=resume)
    engine.close()  # its workers would otherwise end only when it is collected, which takes seconds
    return seen


def check(make, folder, stops):
    torch.manual_seed(0)
    whole = run(make, folder / "whole")
    for stop in stops:
        torch.manual_seed(0)
        first = run(make, folder / f"{stop}", stop)
        torch.manual_seed(99)
        random.seed(99)
        assert first + run(make, folder / f"{stop}", resume="latest") == whole


@pytest.mark.parametrize("rng", GENERATORS)
@pytest.mark.parametrize("place", MAKERS)
def test_generators_resume_wherever_they_are(tmp_path, place, rng):
    check(lambda: MAKERS[place](GENERATORS[rng]()), tmp_path, (1, 6, 8))


@pytest.mark.parametrize("rng", ["torch", "NumPy"])
@pytest.mark.parametrize("place", ["the loader", "the data set", "a lazy sampler"])
def test_workers_resume_with_generators_of_their_own(tmp_path, place, rng):
    def make():
        made = MAKERS[place](GENERATORS[rng]())
        return DataLoader(made.dataset, batch_size=2, sampler=made.sampler, num_workers=2)

    check(make, tmp_path, (6,))


GLOBAL = np.random.default_rng(0)


class UsesGlobal(Own):
    def __init__(self):
        pass

    def __iter__(self):
        return iter(shuffled(GLOBAL))


def test_a_global_generator_that_a_sampler_uses_resumes(tmp_path):
    def make():
        GLOBAL.bit_generator.state = np.random.default_rng(0).bit_generator.state
        return loader(sampler=UsesGlobal())

    check(make, tmp_path, (1, 6))


class CountsAtItsEnd:
    """Data, or a sampler, that counts and draws after its last batch."""

    def __init__(self, rng=None, batches=True):
        self.rng, self.batches, self.epoch = rng, batches, 0

    def __len__(self):
        return 4 if self.batches else 8

    def __iter__(self):
        start = self.epoch + (number(self.rng) if self.rng is not None else 0)
        for index in range(len(self)):
            yield torch.tensor(start + index) if self.batches else (start + index) % 8
        self.epoch += 1
        if self.rng is not None:
            number(self.rng)


class CountingLoader(DataLoader):
    def __iter__(self):
        self.epoch = getattr(self, "epoch", 0)
        for batch in super().__iter__():
            yield batch + self.epoch
        self.epoch += 1


ENDS = {
    "own data": CountsAtItsEnd,
    "own data with a generator": lambda: CountsAtItsEnd(np.random.default_rng(0)),
    "a sampler": lambda: loader(sampler=CountsAtItsEnd(batches=False)),
    "a sampler of workers": lambda: DataLoader(
        BASE, batch_size=2, sampler=CountsAtItsEnd(batches=False), num_workers=2
    ),
    "a sampler with state_dict() of workers": lambda: DataLoader(
        BASE, batch_size=2, sampler=Resumable(np.random.default_rng(0)), num_workers=2
    ),
    "an own loader": lambda: CountingLoader(BASE, batch_size=2),
}


@pytest.mark.parametrize("data", ENDS)
def test_what_happens_after_the_last_batch_happens_in_a_resumed_run_too(tmp_path, data):
    check(ENDS[data], tmp_path, (4, 5, 8))


def test_two_runs_of_a_resumed_run_resume_too(tmp_path):
    def make():
        return loader(sampler=Counting(None))

    whole = run(make, tmp_path / "whole", epochs=4)
    seen = run(make, tmp_path / "left", 3, epochs=4)
    for stop in (6, 9):
        seen += run(make, tmp_path / "left", stop, resume="latest", epochs=4)
    assert seen + run(make, tmp_path / "left", resume="latest", epochs=4) == whole


@pytest.mark.parametrize("sampler", [lambda: Own(np.random.default_rng(0)), lambda: Counting(None)])
@pytest.mark.parametrize("is_nested_first", [True, False])
def test_data_of_nested_engines_resumes(tmp_path, sampler, is_nested_first):
    model = torch.nn.Linear(1, 1)

    def build(folder):
        engine, seen = Engine(lambda engine, batch: None, name="trainer"), []
        evaluator = create_supervised_evaluator(
            model, prepare_batch=lambda batch, **_: (batch.float().view(-1, 1), batch)
        )
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(evaluator.state.batch.tolist()))
        snapshot = None if is_nested_first else Snapshot(engine, folder)
        engine.nest(evaluator, on=Events.EPOCH_COMPLETED, data=loader(sampler=Around(sampler())))
        return engine, seen, snapshot or Snapshot(engine, folder)

    engine, whole, _ = build(tmp_path / "whole")
    engine.run([1, 2], max_epochs=3)
    engine, seen, snapshot = build(tmp_path / "left")
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: (snapshot(), engine.interrupt()))
    engine.run([1, 2], max_epochs=3)
    engine, rest, _ = build(tmp_path / "left")
    engine.run([1, 2], max_epochs=3, resume="latest")
    assert seen + rest == whole


# -- what is told ------------------------------------------------------------------------------------------------------


class HoldsIterator(Own):
    def __init__(self):
        self.numbers = (index for index in itertools.count())

    def __iter__(self):
        return (next(self.numbers) % 8 for _ in range(8))


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.warns(UserWarning, match=r"batches: sampler.inner.numbers is a Python generator") as told:
        run(lambda: loader(sampler=Around(HoldsIterator())), tmp_path, epochs=1)
    assert len(told) == 1


def plain(number_of_samples=8, **options):
    return lambda: DataLoader(range(number_of_samples), **{"batch_size": 2} | options)


OTHER_DATA = {
    "batch size": (plain(16, batch_size=4), plain(), "the batch size is 2"),
    "samples": (plain(), plain(7), "the number of samples is 7"),
    "sampler": (plain(), plain(shuffle=True), "class of the sampler is RandomSampler, and was SequentialSampler"),
    "batches": (plain(), plain(batch_size=4), "data of 2 batches, and had 4"),
    "class": (lambda: [torch.ones(1)] * 4, lambda: (torch.ones(1),) * 4, "class of the data is tuple, and was list"),
    "generator": (
        lambda: loader(sampler=Own(np.random.default_rng(0))),
        lambda: loader(sampler=Counting(None)),
        "sampler.rng is in the file, but not here",
    ),
}


class WithNumbers(Dataset):
    def __init__(self, noise=0.1, samples=None):
        self.noise, self.samples, self._reads = noise, torch.arange(8) if samples is None else samples, 0

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self._reads += 1
        return self.samples[index]


def distributed(seed):
    return loader(sampler=DistributedSampler(BASE, num_replicas=1, rank=0, seed=seed))


def weighted(weight):
    return loader(sampler=torch.utils.data.WeightedRandomSampler([weight, *[1.0] * 7], 8))


OTHER_DATA |= {
    "a seed": (lambda: distributed(0), lambda: distributed(1), "sampler.seed is 1, and was 0"),
    "weights": (lambda: weighted(1.0), lambda: weighted(2.0), r"sampler.weights is an array \(.*, and was an array \("),
    "a number of the data set": (
        lambda: DataLoader(WithNumbers(0.1), 2),
        lambda: DataLoader(WithNumbers(0.2), 2),
        "dataset.noise is 0.2, and was 0.1",
    ),
    "samples of the data set": (
        lambda: DataLoader(WithNumbers(), 2),
        lambda: DataLoader(WithNumbers(samples=BASE + 1), 2),
        "dataset.samples is an array",
    ),
    "replacement": (
        lambda: loader(sampler=RandomSampler(BASE, replacement=True)),
        lambda: loader(sampler=RandomSampler(BASE)),
        "sampler.replacement is False, and was True",
    ),
}


@pytest.mark.parametrize("stop", [3, 4])
@pytest.mark.parametrize("difference", OTHER_DATA)
def test_other_data_are_told_in_one_warning(tmp_path, difference, stop):
    before, after, words = OTHER_DATA[difference]
    run(before, tmp_path, stop, epochs=2)
    with pytest.warns(UserWarning, match=words) as told:
        run(after, tmp_path, resume="latest", epochs=2)
    assert len(told) == 1


@pytest.mark.parametrize("how", ["loaded", "continued"])
@pytest.mark.parametrize("batches", [2, 8])
def test_another_number_of_batches_is_told_without_a_snapshot_too(how, batches):
    engine = Engine(lambda engine, batch: None)
    engine.run([1, 2, 3, 4], max_epochs=1)
    if how == "loaded":
        state, engine = engine.state_dict(), Engine(lambda engine, batch: None)
        engine.load_state_dict(state)
    with pytest.warns(UserWarning, match=f"data of {batches} batches, and had 4: its epochs keep 4 iterations"):
        engine.run([1] * batches, max_epochs=2)


def test_batches_that_are_skipped_in_other_data_are_told():
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.run([1, 2, 3, 4], epoch_length=3)
    state, engine = engine.state_dict(), Engine(lambda engine, batch: None)
    engine.load_state_dict(state)
    with pytest.warns(UserWarning, match="of 6 batches, and had 4: the 2 batches that it skips are not those"):
        engine.run([1] * 6, epoch_length=3)


@pytest.mark.parametrize("how", ["a given length", "the same length", "a length that is set"])
def test_what_is_meant_is_not_told(how):
    engine = Engine(lambda engine, batch: None)
    engine.run([1, 2, 3, 4], max_epochs=1, epoch_length=3 if how == "a given length" else None)
    data = [1] * (4 if how == "the same length" else 8)
    if how == "a length that is set":
        engine.state.epoch_length = 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.run(data, max_epochs=2)


def test_configuration_is_not_taken_from_the_file(tmp_path):
    class Sized(Own):
        def __init__(self, size):
            self.size, self.epochs = size, 0

        def __iter__(self):
            self.epochs += 1
            return iter([(index * self.size + self.epochs) % 8 for index in range(8)])

    run(lambda: loader(sampler=Sized(1)), tmp_path, 5, epochs=2)
    made = loader(sampler=Sized(3))
    with pytest.warns(UserWarning, match="sampler.size is 3, and was 1"):
        run(lambda: made, tmp_path, resume="latest", epochs=2)
    assert (made.sampler.size, made.sampler.epochs) == (3, 2)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        np.array([object()]),
        np.array(["a", "b"]),
        np.float32(2),
        [float("nan")],
        {"a": {1, 2}},
        {"b", "c"},
    ],
)
def test_a_setting_that_is_the_same_is_not_told(tmp_path, value):
    class Configured(Own):
        def __init__(self):
            self.value = copy.deepcopy(value)

        def __iter__(self):
            return iter(range(8))

    run(lambda: loader(sampler=Configured()), tmp_path, 5, epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(lambda: loader(sampler=Configured()), tmp_path, resume="latest", epochs=2)


def test_the_epoch_of_a_distributed_sampler_is_a_state(tmp_path):
    def make(epoch):
        sampler = DistributedSampler(BASE, num_replicas=2, rank=0)
        sampler.set_epoch(epoch)
        return loader(sampler=sampler)

    made = make(0)
    engine = Engine(lambda engine, batch: None, name="trainer")
    snapshot = Snapshot(engine, tmp_path)
    engine.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: made.sampler.set_epoch(7))
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: (snapshot(), engine.interrupt()))
    engine.run(made, max_epochs=4)
    made = make(0)
    run(lambda: made, tmp_path, resume="latest", epochs=4)
    assert made.sampler.epoch == 7


def test_the_search_does_not_read_the_samples():
    class Samples(list):
        def __getitem__(self, index):
            raise AssertionError(index)

    states = DataStates(
        DataLoader(Samples(range(100_000)), sampler=RandomSampler(range(8), generator=GENERATORS["torch"]()))
    )
    assert list(states.generators) == ["sampler.generator"]


def test_samples_in_containers_are_not_copied():
    data = WithNumbers(samples=[torch.zeros(1000)] * 999 + [torch.zeros(2000)])
    data.more = {"a": ([torch.zeros(1000)] * 500, [torch.zeros(1000)] * 501)}
    data.deep = functools.reduce(lambda inner, _: [inner], range(30), 1)
    (attributes,) = DataStates(data).attributes().values()
    assert attributes.keys() == {"noise", "_reads"}


def test_a_search_that_goes_in_a_circle_ends():
    sampler = Own(random.Random(0))
    sampler.itself = [sampler]
    assert list(DataStates(loader(sampler=sampler)).generators) == ["sampler.rng"]
