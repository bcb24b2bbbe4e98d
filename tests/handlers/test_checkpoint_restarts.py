"""Tests of checkpoints after a restart: the ranking continues, and objects are loaded."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from camshaft import Events
from camshaft.exceptions import StorageError
from camshaft.handlers import Checkpoint, ModelCheckpoint
from camshaft.resume.storage import load, save
from support.checkpoints import SERIAL, counting, names, new_model, same, scored

# -- restarts ----------------------------------------------------------------------------------------------------------


def test_the_ranking_goes_on_after_a_restart(tmp_path):
    scores = [0.5, 0.9, 0.1, 0.7, 0.8, 0.6]
    whole, reference = scored(tmp_path / "whole", scores)
    whole.run([0], max_epochs=6)

    first, handler = scored(tmp_path / "again", scores)
    first.run([0], max_epochs=4)
    save(tmp_path / "state.pt", {"trainer": first.state_dict(), "checkpoint": handler.state_dict()})
    second, restored = scored(tmp_path / "again", scores, require_empty=False)
    Checkpoint.load_objects({"trainer": second, "checkpoint": restored}, tmp_path / "state.pt")
    assert restored.last_checkpoint.name == "best_model_0.7000.pt"
    second.run([0], max_epochs=6)
    assert names(tmp_path / "again") == names(tmp_path / "whole") == ["best_model_0.8000.pt", "best_model_0.9000.pt"]
    assert restored.state_dict() == reference.state_dict()


def test_a_handler_that_saves_itself_ranks_that_file(tmp_path):
    engine = counting()
    parts = {"trainer": engine}
    handler = Checkpoint(parts, tmp_path, n_saved=2)
    parts["checkpoint"] = handler
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.run([0], max_epochs=4)

    again = counting()
    parts = {"trainer": again}
    restored = Checkpoint(parts, tmp_path, n_saved=2, require_empty=False)
    parts["checkpoint"] = restored
    again.add_event_handler(Events.EPOCH_COMPLETED, restored)
    Checkpoint.load_objects(parts, handler.last_checkpoint)
    assert restored.state_dict() == handler.state_dict()
    again.run([0], max_epochs=6)
    assert names(tmp_path) == ["checkpoint_5.pt", "checkpoint_6.pt"]


def test_files_belong_to_the_handler_that_loaded_the_ranking(tmp_path):
    engine, handler = scored(tmp_path, [0.5, 0.9])
    engine.run([0], max_epochs=2)
    again, restored = scored(tmp_path, [0.95, 0.97, 0.1], require_empty=False)
    restored.load_state_dict(handler.state_dict())
    again.run([0])
    assert names(tmp_path) == ["best_model_0.9000.pt", "best_model_0.9500.pt"]
    handler.load_state_dict(restored.state_dict())  # and back to the first one
    restored(engine_with_epoch(again, 2), {"model": nn.Linear(1, 1)})
    assert names(tmp_path) == ["best_model_0.9000.pt", "best_model_0.9500.pt", "best_model_0.9700.pt"]


def engine_with_epoch(engine, epoch):
    engine.state.epoch = epoch
    return engine


def test_files_that_are_gone_drop_out_of_the_ranking(tmp_path):
    engine, handler = scored(tmp_path, [0.5, 0.9, 0.7], n_saved=3)
    engine.run([0], max_epochs=3)
    ranking = handler.state_dict()
    (tmp_path / "best_model_0.9000.pt").unlink()
    _, restored = scored(tmp_path, [0.6], n_saved=2, require_empty=False)
    restored.load_state_dict(ranking)
    assert restored.state_dict() == {"saved": [(0.5, "best_model_0.5000.pt"), (0.7, "best_model_0.7000.pt")]}


def test_a_file_that_vanished_during_the_run_does_no_harm(tmp_path):
    engine, _ = scored(tmp_path, [0.1, 0.2], n_saved=1)
    engine.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: (tmp_path / "best_model_0.1000.pt").unlink())
    engine.run([0], max_epochs=2)
    assert names(tmp_path) == ["best_model_0.2000.pt"]


def test_a_smaller_limit_after_a_restart_removes_the_surplus(tmp_path):
    engine, handler = scored(tmp_path, [0.1, 0.3, 0.2], n_saved=None)
    engine.run([0], max_epochs=3)
    again, restored = scored(tmp_path, [0.25], n_saved=2, require_empty=False)
    restored.load_state_dict(handler.state_dict())
    again.run([0])
    assert names(tmp_path) == ["best_model_0.2500.pt", "best_model_0.3000.pt"]


@pytest.mark.parametrize("state", [{}, None, {"saved": 3}, {"saved": [1, 2]}, {"saved": [(0.5, "../model_1.pt")]}])
def test_a_state_that_is_no_ranking_is_refused(tmp_path, state):
    with pytest.raises(
        ValueError,
        match="ModelCheckpoint: state_dict must be one of this handler, got .*: give the result of state_dict",
    ):
        ModelCheckpoint(tmp_path).load_state_dict(state)


# -- loading -----------------------------------------------------------------------------------------------------------


def test_objects_are_loaded_from_paths_and_checkpoints(tmp_path):
    source, other = new_model(), nn.Linear(2, 2)
    save(tmp_path / "both.pt", {"model": source.state_dict(), "other": other.state_dict()})
    for checkpoint in (tmp_path / "both.pt", str(tmp_path / "both.pt"), load(tmp_path / "both.pt")):
        model = new_model()
        nn.init.zeros_(model[0].weight)
        Checkpoint.load_objects({"model": model}, checkpoint)
        assert same(model.state_dict(), source.state_dict())


def test_one_object_may_have_its_state_under_any_name(tmp_path):
    source = nn.Linear(2, 2)
    save(tmp_path / "best_mymodel_0.9.pt", source.state_dict())
    model = nn.Linear(2, 2)
    ModelCheckpoint.load_objects({"net": model}, tmp_path / "best_mymodel_0.9.pt")
    assert same(model.state_dict(), source.state_dict())


def test_missing_names_are_told_and_nothing_is_loaded(tmp_path):
    save(tmp_path / "one.pt", {"model": nn.Linear(1, 1).state_dict(), "trainer": counting().state_dict()})
    model = nn.Linear(1, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"one.pt has no optimizer, schedule; it has model, trainer"):
        Checkpoint.load_objects({"model": model, "optimizer": model, "schedule": model}, tmp_path / "one.pt")
    assert same(model.state_dict(), before)


def test_a_state_that_does_not_fit_names_the_object(tmp_path):
    save(tmp_path / "one.pt", {"model": nn.Linear(1, 1).state_dict(), "trainer": {"epoch": -1}})
    with pytest.raises(ValueError, match=r"the state in .*one.pt does not fit 'model': (?s:.*)size mismatch"):
        Checkpoint.load_objects({"model": nn.Linear(2, 2)}, tmp_path / "one.pt")
    with pytest.raises(ValueError, match=r"the state in the checkpoint does not fit 'trainer': .* epoch"):
        Checkpoint.load_objects({"trainer": counting()}, load(tmp_path / "one.pt"))


def test_what_is_no_checkpoint_or_cannot_be_loaded_into_is_named(tmp_path):
    save(tmp_path / "list.pt", [1, 2])
    with pytest.raises(ValueError, match=r"list.pt must contain state dicts by name, got a list"):
        Checkpoint.load_objects({"model": nn.Linear(1, 1)}, tmp_path / "list.pt")
    with pytest.raises(StorageError, match=r"none.pt does not exist"):
        Checkpoint.load_objects({"model": nn.Linear(1, 1)}, tmp_path / "none.pt")
    with pytest.raises(
        TypeError, match=r"load_objects: 'rate' must have load_state_dict\(\), got a float: leave it out"
    ):
        Checkpoint.load_objects({"rate": 0.1}, tmp_path / "list.pt")


def test_of_wrapped_modules_the_inner_one_is_saved_and_loaded(tmp_path):
    inner = nn.Linear(2, 2)
    engine = counting()
    handler = Checkpoint({"model": nn.DataParallel(inner)}, tmp_path)
    engine.add_event_handler(Events.COMPLETED, handler)
    engine.run([0])
    assert same(load(handler.last_checkpoint), inner.state_dict())
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    Checkpoint.load_objects({"model": wrapped}, handler.last_checkpoint)
    assert same(wrapped.module.state_dict(), inner.state_dict())


def test_of_compiled_modules_the_plain_one_is_saved_and_loaded(tmp_path):
    inner = nn.Linear(2, 2)
    engine = counting()
    handler = Checkpoint({"model": nn.DataParallel(torch.compile(inner))}, tmp_path)
    engine.add_event_handler(Events.COMPLETED, handler)
    engine.run([0])
    plain, compiled = nn.Linear(2, 2), torch.compile(nn.Linear(2, 2))
    plain.load_state_dict(load(handler.last_checkpoint))
    Checkpoint.load_objects({"model": compiled}, handler.last_checkpoint)
    for module in (plain, compiled._orig_mod):
        assert same(module.state_dict(), inner.state_dict())


def test_the_compiler_is_not_imported_where_nothing_is_compiled(tmp_path):
    code = """
import sys
from torch import nn
from camshaft import Engine, Events
from camshaft.handlers import Checkpoint
engine = Engine(lambda engine, batch: None)
engine.add_event_handler(Events.COMPLETED, Checkpoint({"model": nn.Linear(2, 2)}, sys.argv[1]))
engine.run([0])
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=SERIAL, check=True, timeout=240)


RANKS = """
import sys
import torch
from torch import distributed, multiprocessing, nn
from camshaft import Engine, Events
from camshaft.handlers import Checkpoint

def train(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    trainer = Engine(lambda engine, batch: None)
    handler = Checkpoint({"model": model}, f"{folder}/{rank}", n_saved=2)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)
    trainer.run([0], max_epochs=3)
    assert handler.last_checkpoint.name == "model_3.pt"
    distributed.barrier()
    Checkpoint.load_objects({"model": model}, f"{folder}/0/model_2.pt")
    distributed.destroy_process_group()

if __name__ == "__main__":
    multiprocessing.start_processes(train, (sys.argv[1],), nprocs=2, start_method="fork")
"""


def test_in_distributed_training_rank_0_writes_the_inner_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RANKS, str(tmp_path)], env=SERIAL, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "0") == ["model_2.pt", "model_3.pt"]
    assert not (tmp_path / "1").exists()
    assert set(load(tmp_path / "0" / "model_3.pt")) == {"weight", "bias"}
