"""The position in the data: a resumed run gets the next batch, for every kind of data."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from camshaft import Engine, Events, Snapshot
from support.learning import dataset
from support.snapshots import check, generator


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("at", [10, 14])
def test_a_stateful_data_loader_keeps_its_own_position(tmp_path, workers, at):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    check(
        tmp_path,
        lambda: stateful(dataset(), batch_size=8, shuffle=True, num_workers=workers, generator=generator()),
        "iteration_completed",
        at,
    )


def pairs(folder, samples, moment=None):
    """Return a trainer with shuffled batches of two. With a moment, it saves there and fails after the first epoch."""
    loader = DataLoader(torch.arange(samples), batch_size=2, shuffle=True, generator=generator())
    trainer = Engine(lambda engine, batch: batch.tolist())
    seen = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(trainer.state.output))
    snapshot = Snapshot(trainer, folder)
    if moment is not None:
        trainer.add_event_handler(moment, snapshot)

        @trainer.on(Events.EPOCH_STARTED(once=2))
        def leave():
            raise KeyboardInterrupt

    return trainer, loader, seen


def interrupted(folder, samples, moment):
    trainer, loader, _ = pairs(folder, samples, moment)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(loader, max_epochs=2, resume="latest")


def second_epoch(folder, samples):
    whole, loader, seen = pairs(folder / "whole", samples)
    whole.run(loader, max_epochs=2)
    trainer, loader, rest = pairs(folder, samples)
    trainer.run(loader, max_epochs=2, resume="latest")
    return rest, seen[len(seen) // 2 :]


def test_a_snapshot_before_the_first_read_keeps_the_position(tmp_path):
    interrupted(tmp_path, 5, Events.ITERATION_COMPLETED(once=3))
    interrupted(
        tmp_path, 5, Events.EPOCH_COMPLETED(once=1)
    )  # resumed after the last batch: nothing is read before this snapshot
    rest, expected = second_epoch(tmp_path, 5)
    assert rest == expected


def test_a_run_resumed_after_the_last_batch_exhausts_its_sampler(tmp_path):
    interrupted(
        tmp_path, 4, Events.ITERATION_COMPLETED(once=2)
    )  # the last batch is full: the sampler is not exhausted yet
    rest, expected = second_epoch(tmp_path, 4)
    assert rest == expected


def test_batches_are_passed_over_without_loading_them(tmp_path):
    loaded = []

    class Told(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, index):
            loaded.append(index)
            return index

    def build():
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=8), Snapshot(engine, tmp_path))
        return engine

    build().run(DataLoader(Told(), batch_size=5, shuffle=True, generator=generator()))
    whole, loaded[:] = loaded[:], []
    build().run(DataLoader(Told(), batch_size=5, shuffle=True, generator=generator()), resume="latest")
    assert loaded == whole[40:]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: iter([1, 2, 3]), "can be read only once; give data that can be iterated again"),
        (lambda: DataLoader([1, 2, 3], num_workers=1, persistent_workers=True), "persistent_workers=True"),
        (lambda: DataLoader([1, 2, 3], num_workers=1, in_order=False), "in_order=False"),
    ],
)
def test_where_it_cannot_be_exact_a_warning_says_why_once(tmp_path, data, why):
    engine = Engine(lambda engine, batch: None)
    Snapshot(engine, tmp_path)
    with pytest.warns(
        UserWarning, match=f"a run resumed in the middle of its data may get other batches: .*{why}"
    ) as told:
        engine.run(data(), max_epochs=1)
    told = [each for each in told if each.category is not DeprecationWarning]  # of forks, from Python 3.12 on
    assert len(told) == 1
