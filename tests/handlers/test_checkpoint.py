"""Checkpoints of real trainings in real files, by processes that are really killed."""

import logging
import math
import os
import random
import re
import signal
import subprocess
import sys
import time

import ignite.engine
import ignite.handlers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from camshaft import DATA, Engine, Events, Loop, Phase, create_supervised_evaluator, create_supervised_trainer, record
from camshaft.handlers import Checkpoint, EarlyStopping, ModelCheckpoint, global_step_from_engine
from camshaft.metrics import Accuracy
from camshaft.storage import StorageError, is_temporary, load, save

SAMPLES, FEATURES, CLASSES = 50, 6, 3


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(dim=1)
    return TensorDataset(x, y)


def new_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))


def new_trainer(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss()), optimizer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(first, second):
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


def counting(name="trainer"):
    return Engine(lambda engine, batch: None, name)


def scored(folder, scores, **options):
    """An engine with a checkpoint of a model in each epoch, scored in turn; the model counts the epochs."""
    model = nn.Linear(1, 1, bias=False)
    engine = counting()
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: nn.init.constant_(model.weight, engine.state.epoch))
    handler = ModelCheckpoint(
        folder, "best", score_function=lambda engine: scores[engine.state.epoch - 1], **({"n_saved": 2} | options)
    )
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler, {"model": model})
    return engine, handler


# -- programs ---------------------------------------------------------------------------------------------------------

FAQ = """\
handler = EarlyStopping(patience=10, score_function=score_function, trainer=trainer)
evaluator.add_event_handler(Events.COMPLETED, handler)

best_model_saver = ModelCheckpoint('/tmp/models', 'best', score_function=score_function)
evaluator.add_event_handler(Events.COMPLETED, best_model_saver, {'mymodel': model})
"""


def test_the_fragment_of_the_faq_stops_early_and_keeps_the_best_model(dataset, tmp_path):
    model = new_model()
    trainer, _ = new_trainer(model)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    scores, states = [], []

    def score_function(engine):
        return engine.state.metrics["accuracy"]

    program = FAQ.replace("/tmp/models", str(tmp_path / "models"))
    defined = {
        "Events": Events,
        "EarlyStopping": EarlyStopping,
        "ModelCheckpoint": ModelCheckpoint,
        "score_function": score_function,
        "trainer": trainer,
        "evaluator": evaluator,
        "model": model,
    }
    exec(program, defined)

    @evaluator.on(Events.COMPLETED)
    def note(engine):
        scores.append(score_function(engine))
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=DataLoader(dataset, batch_size=25))
    with record() as trace:
        trainer.run(DataLoader(dataset, batch_size=8), max_epochs=200)

    trace.assert_legal()
    assert trainer.state.epoch == scores.index(max(scores)) + 11 < 200
    saver = defined["best_model_saver"]
    assert names(tmp_path / "models") == [f"best_mymodel_{max(scores):.4f}.pt"] == [saver.last_checkpoint.name]
    assert same(load(saver.last_checkpoint), states[scores.index(max(scores))])


@pytest.mark.parametrize(
    "at", [Events.ITERATION_COMPLETED(once=9), Events.ITERATION_COMPLETED(once=14), Events.EPOCH_COMPLETED(once=2)]
)
def test_a_training_restored_from_a_checkpoint_ends_with_the_same_weights_bit_for_bit(dataset, tmp_path, at):
    data = DataLoader(dataset, batch_size=8)  # 7 iterations

    def training(folder):
        model = new_model()
        trainer, optimizer = new_trainer(model)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: schedule.step())
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "trainer": trainer}
        handler = Checkpoint(parts, folder, "run")
        parts["checkpoint"] = handler
        trainer.add_event_handler(at, handler)
        return trainer, parts

    whole, parts = training(tmp_path / "whole")
    whole.run(data, max_epochs=4)
    saved_at = 9 if at.filter.once == (9,) else 14
    file = parts["checkpoint"].last_checkpoint
    assert file.name == f"run_checkpoint_{saved_at}.pt"

    again, restored = training(tmp_path / "again")
    Checkpoint.load_objects(restored, file)
    with record() as trace:
        again.run(data)
    trace.assert_legal()
    assert (again.state.epoch, again.state.iteration) == (4, 28)
    assert same(restored["model"].state_dict(), parts["model"].state_dict())
    for mine, theirs in zip(restored["optimizer"].state_dict()["state"].values(), parts["optimizer"].state.values()):
        assert same(mine, theirs)


def test_a_checkpoint_at_exception_raised_has_the_state_at_the_failure(tmp_path):
    trainer = Engine(lambda engine, batch: 1 / batch, "trainer")
    handler = Checkpoint({"trainer": trainer}, tmp_path, "failed")
    trainer.add_event_handler(Events.EXCEPTION_RAISED, handler)
    with pytest.raises(ZeroDivisionError):
        trainer.run([3, 2, 0, 1])
    assert names(tmp_path) == ["failed_trainer_3.pt"]
    assert load(handler.last_checkpoint)["iteration"] == 3


def test_model_checkpoint_at_exception_raised_says_what_to_use_instead(tmp_path):
    trainer = Engine(lambda engine, batch: 1 / batch)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, ModelCheckpoint(tmp_path), {"model": nn.Linear(1, 1)})
    with pytest.raises(TypeError, match="ModelCheckpoint cannot be called at EXCEPTION_RAISED: use Checkpoint"):
        trainer.run([0])


@pytest.mark.parametrize("call", ["terminate", "interrupt"])
def test_checkpoints_are_saved_where_runs_end_or_pause(tmp_path, call):
    trainer = counting()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: getattr(trainer, call)())
    trainer.add_event_handler(Events[call.upper()], Checkpoint({"trainer": trainer}, tmp_path))
    trainer.run(range(5))
    assert names(tmp_path) == ["trainer_3.pt"]
    restored = counting()
    Checkpoint.load_objects({"trainer": restored}, tmp_path / "trainer_3.pt")
    assert restored.state.iteration == 3


# -- names of files ---------------------------------------------------------------------------------------------------


def test_names_have_prefix_object_step_and_score(tmp_path):
    one, two = {"model": nn.Linear(1, 1)}, {"model": nn.Linear(1, 1), "other": nn.Linear(1, 1)}
    engine = counting()
    engine.state.metrics["accuracy"] = 0.97512
    score, epoch = {"score_function": lambda engine: -0.5}, {"global_step_transform": lambda engine, event: 3}
    made = {}
    for number, (objects, options) in enumerate(
        [
            (one, {}),
            (two, {}),
            (one, {"filename_prefix": "best"}),
            (one, score),
            (one, score | {"score_name": "loss"}),
            (one, score | epoch | {"filename_prefix": "best"}),
            (two, score | epoch | {"score_name": "loss"}),
            (one, epoch),
            (one, {"score_function": lambda engine: 7}),
            (one, {"score_function": lambda engine: math.inf}),
        ]
    ):
        engine = counting()
        handler = Checkpoint(objects, tmp_path / str(number), **options)
        engine.add_event_handler(Events.COMPLETED, handler)
        engine.run(range(5))
        (made[number],) = names(tmp_path / str(number))
        assert handler.last_checkpoint == handler.best_checkpoint == tmp_path / str(number) / made[number]
    assert list(made.values()) == [
        "model_5.pt",
        "checkpoint_5.pt",
        "best_model_5.pt",
        "model_-0.5000.pt",
        "model_loss=-0.5000.pt",
        "best_model_3_-0.5000.pt",
        "checkpoint_3_loss=-0.5000.pt",
        "model_3.pt",
        "model_7.pt",
        "model_inf.pt",
    ]


def test_a_name_of_a_score_alone_takes_the_metric(tmp_path, dataset):
    model = new_model()
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    trainer = counting()
    handler = ModelCheckpoint(
        tmp_path, "best", score_name="accuracy", global_step_transform=global_step_from_engine(trainer)
    )
    evaluator.add_event_handler(Events.COMPLETED, handler, {"model": model})
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED(every=2), data=DataLoader(dataset, batch_size=25))
    trainer.run(range(3), max_epochs=2)
    assert names(tmp_path) == [f"best_model_2_accuracy={evaluator.state.metrics['accuracy']:.4f}.pt"]


def test_a_metric_that_is_not_there_is_named(tmp_path):
    engine = counting("evaluator")
    engine.add_event_handler(Events.COMPLETED, Checkpoint({"m": nn.Linear(1, 1)}, tmp_path, score_name="accuracy"))
    with pytest.raises(ValueError, match="score_name='accuracy' is no metric of evaluator, which has none; give score"):
        engine.run([0])


def test_the_step_is_the_count_of_the_data_loop_or_else_of_the_outermost(tmp_path):
    model = {"model": nn.Linear(1, 1)}
    steps = Engine(Loop("EPISODE", Loop("TIMESTEP", Phase("ACT", lambda engine, batch: None), over=DATA)))
    steps.add_event_handler(Events.COMPLETED, Checkpoint(model, tmp_path / "steps"))
    steps.run(range(4), max_epochs=2)
    assert names(tmp_path / "steps") == ["model_8.pt"]
    folds = Engine(Loop("FOLD", Phase("TRAIN", lambda engine, batch: None), times=3))
    folds.add_event_handler(Events.COMPLETED, Checkpoint(model, tmp_path / "folds"))
    folds.run()
    assert names(tmp_path / "folds") == ["model_3.pt"]


def test_the_step_transform_gets_the_engine_and_the_event(tmp_path):
    seen = []

    def step(engine, event):
        seen.append((engine, event))
        return 7

    engine = counting()
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, Checkpoint({"trainer": engine}, tmp_path, global_step_transform=step)
    )
    engine.run([0])
    assert seen == [(engine, Events.EPOCH_COMPLETED)] and names(tmp_path) == ["trainer_7.pt"]


def test_names_that_cannot_be_files_and_steps_that_are_none_are_refused(tmp_path):
    engine = counting()
    engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path), {"a/b": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="'a/b_1.pt' is no name of a file: leave slashes out"):
        engine.run([0])
    engine = counting()
    handler = Checkpoint({"model": nn.Linear(1, 1)}, tmp_path, global_step_transform=lambda engine, event: "now")
    engine.add_event_handler(Events.COMPLETED, handler)
    with pytest.raises(TypeError, match="Checkpoint: global_step_transform gave 'now', which is no whole number"):
        engine.run([0])
    assert names(tmp_path) == []


# -- which files are kept ---------------------------------------------------------------------------------------------


def test_without_a_score_the_last_ones_are_kept(tmp_path):
    engine = counting()
    handler = Checkpoint({"trainer": engine}, tmp_path, n_saved=3)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.run(range(2), max_epochs=9)
    assert names(tmp_path) == ["trainer_14.pt", "trainer_16.pt", "trainer_18.pt"]
    assert handler.last_checkpoint.name == handler.best_checkpoint.name == "trainer_18.pt"
    engine.close()
    engine.run(range(2), max_epochs=1)  # a new run counts anew, and still is the last
    assert names(tmp_path) == ["trainer_16.pt", "trainer_18.pt", "trainer_2.pt"]
    assert handler.last_checkpoint.name == "trainer_2.pt"


def test_all_are_kept_when_there_is_no_limit(tmp_path):
    engine, _ = scored(tmp_path, [0.3, 0.1, 0.2], n_saved=None)
    engine.run([0], max_epochs=3)
    assert names(tmp_path) == ["best_model_0.1000.pt", "best_model_0.2000.pt", "best_model_0.3000.pt"]


def test_the_last_and_the_best_are_told_apart(tmp_path):
    engine, handler = scored(tmp_path, [0.3, 0.9, 0.5])
    assert handler.last_checkpoint is None and handler.best_checkpoint is None
    engine.run([0], max_epochs=3)
    assert handler.last_checkpoint == tmp_path / "best_model_0.5000.pt"
    assert handler.best_checkpoint == tmp_path / "best_model_0.9000.pt"
    assert load(handler.best_checkpoint)["weight"].item() == 2


def test_a_superseded_file_is_still_there_when_the_new_one_is_written(tmp_path):
    there = []

    class Watching:
        def state_dict(self):
            there.append(names(tmp_path))
            return {}

    engine = counting()
    engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"watching": Watching()}, tmp_path))
    engine.run([0], max_epochs=3)
    assert there == [[], ["watching_1.pt"], ["watching_2.pt"]]
    assert names(tmp_path) == ["watching_3.pt"]


@given(
    scores=st.lists(st.integers(-8, 8).map(lambda number: number / 8), min_size=1, max_size=10),
    n_saved=st.none() | st.integers(1, 4),
    step=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_the_same_files_are_kept_as_by_ignite(tmp_path_factory, scores, n_saved, step):
    folder = tmp_path_factory.mktemp("kept")
    steps = {"global_step_transform": lambda engine, _: engine.state.epoch} if step else {}
    engine, _ = scored(folder / "mine", scores, n_saved=n_saved, **steps)
    engine.run([0], max_epochs=len(scores))

    model = nn.Linear(1, 1, bias=False)
    foreign = ignite.engine.Engine(lambda engine, batch: nn.init.constant_(model.weight, engine.state.epoch))
    handler = ignite.handlers.ModelCheckpoint(
        folder / "theirs", "best", lambda engine: scores[engine.state.epoch - 1], n_saved=n_saved, **steps
    )
    foreign.add_event_handler(ignite.engine.Events.EPOCH_COMPLETED, handler, {"model": model})
    foreign.run([0], max_epochs=len(scores))
    assert names(folder / "mine") == names(folder / "theirs")
    for name in names(folder / "mine"):
        assert same(load(folder / "mine" / name), torch.load(folder / "theirs" / name, weights_only=True))


close = st.integers(0, 99).map(lambda number: 0.5 + number / 1e6)  # four digits do not tell them apart


@given(st.lists(close | st.floats(-1, 1) | st.integers(-2, 2), min_size=1, max_size=10, unique=True), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_the_best_are_kept_however_close_they_are(tmp_path_factory, scores, n_saved):
    folder = tmp_path_factory.mktemp("close")
    engine, handler = scored(folder, scores, n_saved=n_saved)
    engine.run([0], max_epochs=len(scores))
    kept = {load(folder / name)["weight"].item() for name in names(folder)}
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[:n_saved]
    assert kept == {index + 1 for index in best}
    assert load(handler.best_checkpoint)["weight"].item() == best[0] + 1


def test_a_score_of_nan_saves_nothing_and_says_so(tmp_path, caplog):
    engine, _ = scored(tmp_path, [math.nan, 0.5, math.nan, 0.25], n_saved=3)
    with caplog.at_level(logging.WARNING):
        engine.run([0], max_epochs=4)
    assert names(tmp_path) == ["best_model_0.2500.pt", "best_model_0.5000.pt"]
    assert caplog.messages == ["ModelCheckpoint: the score is NaN, nothing is saved"] * 2


def test_scores_may_be_tensors_of_one_element(tmp_path):
    engine, handler = scored(tmp_path, [torch.tensor(0.5), torch.tensor([0.75])])
    engine.run([0], max_epochs=2)
    assert names(tmp_path) == ["best_model_0.5000.pt", "best_model_0.7500.pt"]
    save(tmp_path / "ranking.pt", handler.state_dict())
    assert load(tmp_path / "ranking.pt")["saved"] == [(0.5, "best_model_0.5000.pt"), (0.75, "best_model_0.7500.pt")]


@pytest.mark.parametrize("score", ["0.5", None, torch.ones(2)])
def test_a_score_that_is_no_number_is_an_error(tmp_path, score):
    engine, _ = scored(tmp_path, [score])
    with pytest.raises(TypeError, match="ModelCheckpoint: score_function gave .*, which is no number; have it return"):
        engine.run([0])


def test_a_failed_save_leaves_the_files_and_the_ranking_as_they_were(tmp_path):
    class Failing:
        fails = False

        def state_dict(self):
            if self.fails:
                raise RuntimeError("no state today")
            return {"plain": 1}

    failing = Failing()
    engine = counting()
    handler = Checkpoint({"failing": failing, "trainer": engine}, tmp_path)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: setattr(failing, "fails", True))
    with pytest.raises(RuntimeError, match="no state today"):
        engine.run([0], max_epochs=3)
    assert names(tmp_path) == ["checkpoint_1.pt"] == [handler.last_checkpoint.name]
    failing.fails = False
    engine.run()
    assert names(tmp_path) == ["checkpoint_3.pt"]


def test_a_state_that_could_not_be_loaded_again_is_refused_at_once(tmp_path):
    class Careless:
        def state_dict(self):
            return {"optimizer": torch.optim.SGD}

    engine = counting()
    engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"careless": Careless()}, tmp_path))
    with pytest.raises(StorageError, match=r"careless_1.pt was not written: .* holds torch.optim.sgd.SGD"):
        engine.run([0])
    assert names(tmp_path) == []


# -- restarts ---------------------------------------------------------------------------------------------------------


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


def test_a_handler_that_is_among_what_it_saves_finds_that_file_in_its_ranking(tmp_path):
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


@pytest.mark.parametrize("state", [{}, None, {"saved": 3}, {"saved": [1, 2]}])
def test_a_state_that_is_no_ranking_is_refused(tmp_path, state):
    with pytest.raises(ValueError, match="ModelCheckpoint: .* is no state of it; give what state_dict"):
        ModelCheckpoint(tmp_path).load_state_dict(state)


# -- loading ----------------------------------------------------------------------------------------------------------


def test_objects_are_loaded_from_a_path_a_string_and_a_loaded_checkpoint(tmp_path):
    source, other = new_model(), nn.Linear(2, 2)
    save(tmp_path / "both.pt", {"model": source.state_dict(), "other": other.state_dict()})
    for checkpoint in (tmp_path / "both.pt", str(tmp_path / "both.pt"), load(tmp_path / "both.pt")):
        model = new_model()
        nn.init.zeros_(model[0].weight)
        Checkpoint.load_objects({"model": model}, checkpoint)
        assert same(model.state_dict(), source.state_dict())


def test_a_single_object_may_have_its_bare_state_dict_under_any_name(tmp_path):
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
    with pytest.raises(ValueError, match=r"list.pt holds a list, no state dicts by name"):
        Checkpoint.load_objects({"model": nn.Linear(1, 1)}, tmp_path / "list.pt")
    with pytest.raises(StorageError, match=r"none.pt does not exist"):
        Checkpoint.load_objects({"model": nn.Linear(1, 1)}, tmp_path / "none.pt")
    with pytest.raises(TypeError, match=r"load_objects: 'rate' is a float, without load_state_dict\(\); leave it out"):
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


# -- folders and arguments --------------------------------------------------------------------------------------------


def test_a_folder_with_files_of_the_prefix_is_refused_unless_allowed(tmp_path):
    save(tmp_path / "best_model_1.pt", 1)
    with pytest.raises(ValueError, match=r"ModelCheckpoint: .* has best_model_1.pt already: .* require_empty=False"):
        ModelCheckpoint(tmp_path, "best")
    ModelCheckpoint(tmp_path, "best", require_empty=False)
    ModelCheckpoint(tmp_path, "last")
    with pytest.raises(ValueError, match="already"):
        ModelCheckpoint(tmp_path)


def test_what_a_killed_writer_left_is_not_in_the_way(tmp_path):
    (tmp_path / ".camshaft-0123456789abcdef.tmp").write_bytes(b"half")
    engine = counting()
    engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path), {"trainer": engine})
    engine.run([0])
    assert names(tmp_path) == ["trainer_1.pt"]


def test_folders_are_made_unless_that_is_not_wanted_or_possible(tmp_path):
    ModelCheckpoint(tmp_path / "deep" / "down")
    assert (tmp_path / "deep" / "down").is_dir()
    with pytest.raises(StorageError, match="ModelCheckpoint: there is no folder .*nowhere: make it, or"):
        ModelCheckpoint(tmp_path / "nowhere", create_dir=False)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="ModelCheckpoint: the folder .*file/models cannot be made: Not a directory"):
        ModelCheckpoint(tmp_path / "file" / "models")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"n_saved": 0}, "Checkpoint: n_saved=0 is no whole number of 1 or more, nor None for all"),
        ({"n_saved": 1.5}, "n_saved=1.5 is no whole number"),
        ({"score_function": 1}, "Checkpoint: score_function=1 is no function; give one"),
        ({"global_step_transform": 1}, "Checkpoint: global_step_transform=1 is no function; give one"),
        ({"to_save": {}}, "Checkpoint: {} is no mapping of names to objects: give {'model': model}"),
        ({"to_save": [1]}, r"Checkpoint: \[1\] is no mapping of names to objects"),
        ({"to_save": {"rate": 0.1}}, r"Checkpoint: 'rate' is a float, without state_dict\(\); leave it out"),
        ({"to_save": {1: nn.Linear(1, 1)}}, "Checkpoint: 1 is no name for a Linear: give a string"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, argument, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Checkpoint(**({"to_save": {"model": nn.Linear(1, 1)}, "dirname": tmp_path} | argument))


def test_what_model_checkpoint_is_attached_without_or_with_the_wrong_things_is_named(tmp_path):
    engine = counting()
    with pytest.raises(TypeError, match=r"handler .* does not fit COMPLETED"):
        engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path))
    engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path), {})
    with pytest.raises(TypeError, match="ModelCheckpoint: {} is no mapping of names to objects"):
        engine.run([0])


# -- killed while it writes -------------------------------------------------------------------------------------------

SERIAL = os.environ | {"OMP_NUM_THREADS": "1"}

# A process that forks a training for each line that it reads, so that torch is imported once for all of them.
TRAININGS = '''
import os, sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from camshaft import Events, create_supervised_trainer
from camshaft.handlers import Checkpoint
from camshaft.storage import is_temporary, load

EPOCHS, BATCHES, WIDTH = 20, 4, 700


class DiesInside:
    """Is pickled into each checkpoint, and has the process killed in the middle of the one that it is told."""

    def __init__(self, dies_at):
        self.saves, self.dies_at = 0, dies_at

    def state_dict(self):
        return {"inside": self}

    def load_state_dict(self, state):
        pass

    def __reduce__(self):
        self.saves += 1
        if self.saves == self.dies_at:
            os.kill(os.getpid(), 9)
        return OrderedDict, ()


def train(folder, dies_at):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    parts = {"model": model, "inside": DiesInside(dies_at), "optimizer": optimizer, "trainer": trainer}
    handler = Checkpoint(parts, folder, n_saved=2, require_empty=False)
    parts["checkpoint"] = handler
    steps = [int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("checkpoint_*.pt")]
    if steps:
        Checkpoint.load_objects(parts, Path(folder) / f"checkpoint_{max(steps)}.pt")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, handler)

    @trainer.on(Events.ITERATION_COMPLETED)
    def report():
        print("saved", trainer.state.iteration, flush=True)

    data = torch.Generator().manual_seed(1)
    batches = [(torch.randn(4, 8, generator=data), torch.randint(2, (4,), generator=data)) for _ in range(BATCHES)]
    trainer.run(batches, max_epochs=EPOCHS)


torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()  # imports what torch imports late, before forking

for line in sys.stdin:
    folder, dies_at = line.split()
    child = os.fork()
    if not child:
        status = 1
        try:
            train(folder, int(dies_at))
            status = 0
        finally:
            os._exit(status)
    print("pid", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
'''


class Trainings:
    """Starts trainings in processes of their own, one after the other, and kills them."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAININGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=SERIAL
        )

    def run(self, folder, dies_at=0, watch=lambda pid: None):
        """Run one; ``watch(pid)`` is called when it has begun. Returns its exit status and the iterations it saved."""
        self.process.stdin.write(f"{folder} {dies_at}\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        pid = int(next(lines).removeprefix("pid "))
        watch(pid)
        saved = []
        for line in lines:
            word, number = line.split()
            if word == "ended":
                return int(number), saved
            saved.append(int(number))
        raise AssertionError("the process that starts trainings has ended")

    def close(self):
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def trainings():
    started = Trainings()
    yield started
    started.close()


@pytest.fixture(scope="module")
def uninterrupted(trainings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    status, saved = trainings.run(folder)
    assert (status, saved) == (0, list(range(1, 81)))
    return load(folder / "checkpoint_80.pt")


def check(folder, reported):
    """Every file is whole, and what was reported last is there. Returns the steps of the files."""
    files = [path for path in folder.iterdir() if not is_temporary(path)]
    steps = sorted(int(re.fullmatch(r"checkpoint_(\d+)\.pt", path.name)[1]) for path in files)
    for path in files:
        assert load(path)["trainer"]["iteration"] == int(path.stem.rpartition("_")[2])
    if reported:
        assert reported[-1] in steps
        assert len(steps) > 1 or reported[-1] == 1
    assert len(steps) <= 3 and steps == list(range(steps[0], steps[0] + len(steps))) if steps else True
    assert len(list(folder.iterdir())) - len(files) <= 1
    return steps


def test_a_training_that_is_killed_again_and_again_has_only_whole_files_and_ends_as_if_it_never_was(
    trainings, uninterrupted, tmp_path
):
    chance = random.Random(5)

    def wait_for(is_so):
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.0002)

    def at_random(pid):
        before = set(tmp_path.glob("*.pt"))
        wait_for(lambda: set(tmp_path.glob("*.pt")) != before)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)

    def half_written():
        for path in tmp_path.glob(".camshaft-*"):
            try:
                if 100_000 < path.stat().st_size < 3_000_000:
                    return True
            except FileNotFoundError:
                pass
        return False

    def while_tensors_are_written(pid):
        wait_for(half_written)
        os.kill(pid, signal.SIGKILL)

    def before_the_superseded_is_removed(pid):
        wait_for(lambda: len(list(tmp_path.glob("*.pt"))) == 3)
        os.kill(pid, signal.SIGKILL)

    last = []
    kills = 0
    for dies_at, watch in [
        (1, None),
        (4, None),
        (0, while_tensors_are_written),
        (0, at_random),
        (1, None),
        (0, before_the_superseded_is_removed),
        (2, None),
        (0, while_tensors_are_written),
        (0, before_the_superseded_is_removed),
        (0, at_random),
        (3, None),
        (0, while_tensors_are_written),
        (0, at_random),
        (0, at_random),
    ]:
        status, reported = trainings.run(tmp_path, dies_at, watch or (lambda pid: None))
        assert status == -signal.SIGKILL
        kills += 1
        if watch is None:
            assert len(reported) == dies_at - 1
            assert len([path for path in tmp_path.iterdir() if is_temporary(path)]) == 1
        last = reported or last
        steps = check(tmp_path, last)
    assert kills >= 10 and 0 < steps[-1] < 80

    status, reported = trainings.run(tmp_path)
    assert status == 0 and reported[0] == steps[-1] + 1
    assert names(tmp_path) == ["checkpoint_79.pt", "checkpoint_80.pt"]
    final = load(tmp_path / "checkpoint_80.pt")
    assert same(final["model"], uninterrupted["model"])
    assert final["trainer"] == uninterrupted["trainer"]
    assert final["checkpoint"]["saved"][-1][1] == "checkpoint_80.pt"
