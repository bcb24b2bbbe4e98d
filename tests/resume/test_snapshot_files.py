"""Files of snapshots are checked when they are read: a damaged one is refused, and the previous one is used."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from camshaft import BackpropEvents, Engine, Events, Snapshot, create_supervised_trainer
from camshaft.exceptions import StorageError
from camshaft.handlers import EMA
from camshaft.resume.storage import load
from support.learning import batches, classifier, criterion, sgd
from support.snapshots import equal, snapshots


def test_the_newest_files_are_kept_over_restarts_too(tmp_path):
    for restart in range(2):
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, tmp_path, n_saved=3))
        engine.run(range(4), max_epochs=restart + 1, resume="latest")
        last = 4 * (restart + 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f"snapshot_{number:06}_iteration_{number}.pt" for number in range(last - 2, last + 1)
        ]


def resume(folder, path="latest", **objects):
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    Snapshot(trainer, folder, **{"model": model} | objects)
    return trainer.resume(path), trainer


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_snapshot_is_checked_when_it_is_read(tmp_path, damage):
    _, (older, newest) = snapshots(tmp_path)
    damage(newest)
    with pytest.warns(UserWarning) as told:
        path, trainer = resume(tmp_path)
    assert path == older
    assert trainer.state.iteration == 2
    (message,) = (str(one.message) for one in told)
    assert newest.name in message
    assert older.name in message
    with pytest.raises(StorageError, match="is damaged, incomplete, or was not written"):
        resume(tmp_path, newest)
    damage(older)
    with pytest.raises(StorageError, match=f"{newest.name} is damaged"):
        resume(tmp_path)


@settings(max_examples=40)
@given(data=st.data())
def test_any_flipped_byte_is_noticed_or_does_not_matter(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    _, (_, newest) = snapshots(folder, model=nn.Linear(6, 3))
    content = bytearray(newest.read_bytes())
    whole = torch.load(newest, weights_only=True)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    newest.write_bytes(content)
    try:
        loaded = load(newest)
    except StorageError:
        return
    assert equal(loaded, whole)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("it ran",))

    torch.save({"camshaft snapshot": 1, "progress": Runs()}, tmp_path / "snapshot_000001_iteration_1.pt")
    with pytest.raises(StorageError, match="contains .*print, and loading that could run code"):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"camshaft snapshot": 2}, "has version 2 of snapshots, and this camshaft reads 1: update camshaft"),
        ({"camshaft snapshot": None}, "is not a snapshot: give a file that a Snapshot has written"),
        ({"objects": {}}, "has no state of model: it was written with none"),
    ],
)
def test_files_of_another_kind_give_one_clear_error(tmp_path, change, says):
    _, (_, newest) = snapshots(tmp_path)
    torch.save(torch.load(newest, weights_only=True) | change, newest)
    with pytest.raises(ValueError, match=f"{newest.name} {says}"):
        resume(tmp_path)


def test_a_file_of_another_model_gives_one_clear_error(tmp_path):
    snapshots(tmp_path, model=nn.Linear(6, 3))
    with pytest.raises(ValueError, match=r"snapshot_000003_iteration_3.pt: the state of model does not fit: Error"):
        resume(tmp_path)


def test_a_file_of_a_program_with_other_handlers_says_so(tmp_path):
    snapshots(tmp_path)
    model = classifier()
    trainer = create_supervised_trainer(model, sgd(model), criterion)
    Snapshot(trainer, tmp_path, model=model)
    trainer.add_event_handler(BackpropEvents.OPTIM_STEP_COMPLETED, EMA(model))
    message = "was written with other objects: trainer: EMA is not in the file"
    with pytest.warns(UserWarning, match=message) as told:
        trainer.resume()
        trainer.run(batches(), max_iters=4)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda engine, folder: Snapshot("trainer", folder), TypeError, "trainer must be an Engine, got 'trainer'"),
        (
            lambda engine, folder: Snapshot(engine, folder, 0),
            ValueError,
            "n_saved must be an integer of 1 or more, got 0",
        ),
        (
            lambda engine, folder: Snapshot(engine, folder, lr=0.1),
            TypeError,
            r"lr=0.1 has no state_dict\(\) and load_state",
        ),
        (lambda engine, folder: [Snapshot(engine, folder) for _ in range(2)], ValueError, "already has a snapshot"),
        (lambda engine, folder: engine.resume(), RuntimeError, "has nothing to resume with: make a Snapshot"),
        (
            lambda engine, folder: Snapshot(engine, folder) and engine.resume(folder / "x.pt"),
            StorageError,
            "does not exist",
        ),
    ],
)
def test_wrong_calls_are_refused(tmp_path, wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(Engine(lambda engine, batch: None), tmp_path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(StorageError, match="file/snapshots cannot be created: .*; choose another"):
        Snapshot(engine, tmp_path / "file" / "snapshots")()


def test_resuming_a_run_that_is_under_way_is_refused(tmp_path):
    engine = Engine(lambda engine, batch: engine.resume())
    Snapshot(engine, tmp_path)
    with pytest.raises(RuntimeError, match="has a run that is not over: resume before"):
        engine.run([1])
