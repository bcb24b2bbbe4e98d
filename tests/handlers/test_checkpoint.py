"""Tests of checkpoints of real trainings in real files: names, ranking, refused arguments."""

import copy
import gc
import logging
import math
import os

import ignite.engine
import ignite.handlers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from camshaft import DATA, Engine, Events, Loop, Phase, create_supervised_evaluator, record
from camshaft.exceptions import StorageError
from camshaft.handlers import Checkpoint, EarlyStopping, ModelCheckpoint, global_step_from_engine
from camshaft.metrics import Accuracy
from camshaft.resume.storage import load, save
from support.checkpoints import counting, names, new_model, new_trainer, same, scored

FAQ = """\
handler = EarlyStopping(patience=10, score_function=score_function, trainer=trainer)
evaluator.add_event_handler(Events.COMPLETED, handler)

best_model_saver = ModelCheckpoint('/tmp/models', 'best', score_function=score_function)
evaluator.add_event_handler(Events.COMPLETED, best_model_saver, {'mymodel': model})
"""


# -- programs ----------------------------------------------------------------------------------------------------------


def test_the_program_of_the_faq_keeps_the_best_model(dataset, tmp_path):
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
def test_a_restored_training_ends_with_the_same_weights(dataset, tmp_path, at):
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


def test_a_checkpoint_at_exception_raised_has_that_state(tmp_path):
    trainer = Engine(lambda engine, batch: 1 / batch, "trainer")
    handler = Checkpoint({"trainer": trainer}, tmp_path, "failed")
    trainer.add_event_handler(Events.EXCEPTION_RAISED, handler)
    with pytest.raises(ZeroDivisionError):
        trainer.run([3, 2, 0, 1])
    assert names(tmp_path) == ["failed_trainer_3.pt"]
    assert load(handler.last_checkpoint)["iteration"] == 3


def test_model_checkpoint_at_exception_raised_is_refused(tmp_path):
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


# -- names of files ----------------------------------------------------------------------------------------------------


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
    with pytest.raises(
        ValueError, match="score_name='accuracy' must be a metric of evaluator, which has none; give score"
    ):
        engine.run([0])


def test_the_step_counts_the_data_loop_or_else_the_outermost(tmp_path):
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


NOT_NAMES = ["a/b", "/", "", ".", "..", "a\0b", "\ud800", "n" * 300, "ä" * 120]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_cannot_be_a_file_name_is_refused_when_given(tmp_path, name):
    models = {name: nn.Linear(1, 1)}
    engine, folder = counting(), tmp_path / "made"
    with pytest.raises(ValueError, match="Checkpoint: .*is (not a valid file name|.*too long).*the name of the object"):
        Checkpoint(models, folder)
    assert not folder.exists()
    handler = ModelCheckpoint(folder)
    with pytest.raises(ValueError, match="ModelCheckpoint: .*is (not a valid file name|.*too long)"):
        engine.add_event_handler(Events.COMPLETED, handler, models)
    assert not engine.has_event_handler(handler)
    if name not in ("", ".", ".."):  # within a longer name they are possible
        for option in ("filename_prefix", "score_name"):
            for kind in (
                ModelCheckpoint,
                lambda *args, **options: Checkpoint({"model": models[name]}, *args, **options),
            ):
                with pytest.raises(ValueError, match="Checkpoint: .*is (not a valid file name|.*too long)"):
                    kind(folder, **{option: name})
    both = Checkpoint(models | {"other": nn.Linear(1, 1)}, folder)  # then the name is only inside of the file
    engine.add_event_handler(Events.COMPLETED, both)
    engine.run([0])
    assert names(folder) == ["checkpoint_1.pt"] and set(load(both.last_checkpoint)) == {name, "other"}


@pytest.mark.parametrize(("option", "value"), [("filename_prefix", None), ("filename_prefix", 3), ("score_name", 1)])
def test_names_that_are_no_strings_are_refused(tmp_path, option, value):
    with pytest.raises(TypeError, match=f"Checkpoint: {option} must be a string, got {value}"):
        ModelCheckpoint(tmp_path, **{option: value})


def test_a_step_that_is_no_integer_is_refused(tmp_path):
    engine = counting()
    handler = Checkpoint({"model": nn.Linear(1, 1)}, tmp_path, global_step_transform=lambda engine, event: "now")
    engine.add_event_handler(Events.COMPLETED, handler)
    with pytest.raises(TypeError, match="Checkpoint: global_step_transform must return an integer, got 'now'"):
        engine.run([0])
    assert names(tmp_path) == []


# -- which files are kept ----------------------------------------------------------------------------------------------


def test_without_a_score_the_last_ones_are_kept(tmp_path):
    engine = counting()
    handler = Checkpoint({"trainer": engine}, tmp_path, n_saved=3)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.run(range(2), max_epochs=9)
    assert names(tmp_path) == ["trainer_14.pt", "trainer_16.pt", "trainer_18.pt"]
    assert handler.last_checkpoint.name == handler.best_checkpoint.name == "trainer_18.pt"
    engine.close()
    engine.run(range(2), max_epochs=1)  # a new run counts from 1, and its file is still the latest
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


def test_an_old_file_stays_until_the_new_one_is_written(tmp_path):
    there = []

    class Watching:
        def state_dict(self):
            there.append(names(tmp_path))
            return {}

    engine = counting()
    engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"watching": Watching()}, tmp_path))
    there.clear()  # the state was checked when the handler was attached
    engine.run([0], max_epochs=3)
    assert there == [[], ["watching_1.pt"], ["watching_2.pt"]]
    assert names(tmp_path) == ["watching_3.pt"]


@given(
    scores=st.lists(st.integers(-8, 8).map(lambda number: number / 8), min_size=1, max_size=10, unique=True),
    n_saved=st.none() | st.integers(1, 4),
    step=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_different_scores_keep_the_same_files_as_by_ignite(tmp_path_factory, scores, n_saved, step):
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


@given(
    scores=st.lists(st.sampled_from([0.25, 0.5, 0.50001, 1, 1.0, math.inf, 0.1234, 0.12341]), min_size=1, max_size=10),
    n_saved=st.none() | st.integers(1, 4),
    steps=st.sampled_from([None, lambda engine, _: engine.state.epoch, lambda engine, _: 7]),
    options=st.sampled_from([{}, {"score_name": "accuracy"}]),
)
@settings(deadline=None, max_examples=40)
def test_of_equal_scores_the_first_is_kept(tmp_path_factory, scores, n_saved, steps, options):
    folder = tmp_path_factory.mktemp("equal")
    engine, handler = scored(folder, scores, n_saved=n_saved, global_step_transform=steps, **options)
    engine.run([0], max_epochs=len(scores))
    kept = sorted(load(folder / name)["weight"].item() for name in names(folder))
    ranked = sorted(range(1, len(scores) + 1), key=lambda epoch: -scores[epoch - 1])[:n_saved]
    assert kept == sorted(ranked)
    assert load(handler.best_checkpoint)["weight"].item() == ranked[0]
    assert load(handler.last_checkpoint)["weight"].item() == max(ranked)


def test_a_step_saved_twice_without_a_score_is_one_file(tmp_path):
    engine = counting()
    engine.add_event_handler(
        Events.EPOCH_COMPLETED | Events.COMPLETED, Checkpoint({"trainer": engine}, tmp_path, n_saved=2)
    )
    engine.run([0], max_epochs=3)
    assert names(tmp_path) == ["trainer_2.pt", "trainer_3.pt"]


close = st.integers(0, 99).map(lambda number: 0.5 + number / 1e6)  # equal when rounded to four decimals


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
    assert caplog.messages == ["ModelCheckpoint: the score is NaN, so nothing is saved"] * 2


def test_scores_may_be_tensors_of_one_element(tmp_path):
    engine, handler = scored(tmp_path, [torch.tensor(0.5), torch.tensor([0.75])])
    engine.run([0], max_epochs=2)
    assert names(tmp_path) == ["best_model_0.5000.pt", "best_model_0.7500.pt"]
    save(tmp_path / "ranking.pt", handler.state_dict())
    assert load(tmp_path / "ranking.pt")["saved"] == [(0.5, "best_model_0.5000.pt"), (0.75, "best_model_0.7500.pt")]


@pytest.mark.parametrize("score", ["0.5", None, torch.ones(2)])
def test_a_score_that_is_no_number_is_an_error(tmp_path, score):
    engine, _ = scored(tmp_path, [score])
    with pytest.raises(TypeError, match="ModelCheckpoint: score_function must return a number, got "):
        engine.run([0])


def test_a_failed_save_leaves_files_and_ranking_alone(tmp_path):
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


class Careless:
    """An object whose state contains a class, from the beginning or only later."""

    def __init__(self, begins):
        self.begins = begins

    def state_dict(self):
        return {"parts": [{"optimizer": torch.optim.SGD}]} if self.begins else {"parts": []}


def test_a_state_that_could_not_be_loaded_is_refused_at_once(tmp_path):
    engine = counting()
    named = r"contains torch.optim.sgd.SGD at careless.parts\[0\].optimizer, and loading that could run code"
    for handler, *to_save in (
        (Checkpoint({"careless": Careless(True)}, tmp_path),),
        (Checkpoint({"model": nn.Linear(1, 1), "careless": Careless(True)}, tmp_path),),
        (ModelCheckpoint(tmp_path), {"careless": Careless(True)}),
    ):
        with pytest.raises(StorageError, match=f"Checkpoint: the state {named}"):
            engine.add_event_handler(Events.EPOCH_COMPLETED, handler, *to_save)
    assert not engine.handlers(Events.EPOCH_COMPLETED)


@pytest.mark.parametrize("others", [{}, {"model": nn.Linear(1, 1)}])
def test_a_state_that_changes_names_the_place_when_it_is_saved(tmp_path, others):
    engine, careless = counting(), Careless(False)
    engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"careless": careless} | others, tmp_path))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: setattr(careless, "begins", True))
    with pytest.raises(
        StorageError,
        match=r"_1.pt was not written: .* contains torch.optim.sgd.SGD at careless.parts\[0\].optimizer, and loading",
    ):
        engine.run([0])
    assert names(tmp_path) == []


def test_an_object_without_a_state_yet_is_looked_at_when_saved(tmp_path):
    class Late:
        def state_dict(self):
            return {"loss": self.loss}

    engine, late = counting(), Late()
    handler = Checkpoint({"late": late}, tmp_path)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: setattr(late, "loss", 0.5))
    engine.run([0])
    assert load(handler.last_checkpoint) == {"loss": 0.5}


# -- several handlers in one folder ------------------------------------------------------------------------------------

FALLING, RISING = ([0.9, 0.9, 0.8, 0.7, 0.6], [0.1, 0.9, 0.8, 0.95, 0.9])
PAIRS = {
    "two scores": ({"score": FALLING}, {"score": RISING}),
    "two scores of one name": ({"score": FALLING, "score_name": "s"}, {"score": RISING, "score_name": "s"}),
    "the last one and all": ({"n_saved": 1}, {"n_saved": None}),
    "a prefix that is a step": ({"n_saved": 2}, {"filename_prefix": "model", "objects": ["1"], "n_saved": 2}),
    "a name inside another": ({"n_saved": 1}, {"objects": ["model_2"], "score": [1, 2, 3, 4, 5]}),
    "a score that is a step": ({"n_saved": 1}, {"score": [5, 4, 3, 2, 1], "n_saved": 3}),
    "a prefix that is a name": ({"filename_prefix": "a", "objects": ["b"]}, {"objects": ["a_b"], "n_saved": 4}),
    "names in other letters": ({"n_saved": 1}, {"objects": ["Model"], "n_saved": None}),
    "several objects": ({"objects": ["x", "y"]}, {"objects": ["checkpoint"], "n_saved": None}),
}


def saver(folder, kind, objects=("model",), score=None, **options):
    """Return a handler, and the arguments that it is attached with. The weights of its objects are the epoch."""
    modules = {name: nn.Linear(1, 1, bias=False) for name in objects}
    if score is not None:
        options["score_function"] = lambda engine: score[engine.state.epoch - 1]
    first = (modules,) if kind is Checkpoint else ()
    return kind(*first, folder, **options), modules, () if first else (modules,)


@pytest.mark.parametrize("kind", [Checkpoint, ModelCheckpoint])
@pytest.mark.parametrize("spelling", ["same", "symlink", "dots", "relative"])
@pytest.mark.parametrize("pair", PAIRS)
def test_no_handler_touches_the_files_of_another_one(tmp_path, monkeypatch, pair, spelling, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "made")
    folder = tmp_path / "made"
    other = {"same": folder, "symlink": tmp_path / "link", "dots": folder / ".." / "made", "relative": "made"}[spelling]
    engine = counting()
    made = [saver(where, kind, **options) for where, options in zip((folder, other), PAIRS[pair], strict=True)]
    expected = [{}, {}]

    def set_weights(engine):
        for _, modules, _ in made:
            for module in modules.values():
                nn.init.constant_(module.weight, engine.state.epoch)

    def look(engine):
        for number, (handler, modules, _) in enumerate(made):
            if handler.last_checkpoint not in expected[number]:
                expected[number][handler.last_checkpoint] = engine.state.epoch
            for file in [handler.dirname / name for _, name in handler.state_dict()["saved"]]:
                states = load(file) if len(modules) > 1 else {"only": load(file)}
                assert {state["weight"].item() for state in states.values()} == {expected[number][file]}, file

    engine.add_event_handler(Events.EPOCH_STARTED, set_weights)
    for handler, _, arguments in made:
        engine.add_event_handler(Events.EPOCH_COMPLETED, handler, *arguments)
    engine.add_event_handler(Events.EPOCH_COMPLETED, look)
    engine.run([0], max_epochs=5)
    assert len(names(folder)) == sum(len(handler.state_dict()["saved"]) for handler, _, _ in made)


def test_files_of_handlers_that_are_gone_belong_to_nobody(tmp_path):
    first = counting()
    first.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"trainer": first}, tmp_path))
    first.run([0])
    del first
    gc.collect()  # the handler saves the engine that it is attached to
    second = counting()
    second.add_event_handler(
        Events.EPOCH_COMPLETED, Checkpoint({"trainer": second}, tmp_path, require_empty=False, n_saved=2)
    )
    second.run([0], max_epochs=2)
    assert names(tmp_path) == ["trainer_1.pt", "trainer_2.pt"]


def test_files_of_a_detached_handler_stay(tmp_path):
    engine = counting()
    detached = Checkpoint({"trainer": engine}, tmp_path)
    with engine.add_event_handler(Events.EPOCH_COMPLETED, detached):
        engine.run([0])
    engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"trainer": engine}, tmp_path, require_empty=False))
    engine.close()
    engine.run([0])
    assert names(tmp_path) == ["trainer_1.pt", "trainer_1_2.pt"]
    assert detached.last_checkpoint.name == "trainer_1.pt"


def test_a_copied_handler_does_not_remove_the_files_of_the_first(tmp_path):
    engine, original = scored(tmp_path, [0.5, 0.1, 0.9], n_saved=1)
    engine.run([0])
    copied = copy.copy(original)
    copied(engine_at(epoch=3, of=engine), {"model": nn.Linear(1, 1)})
    assert original.best_checkpoint.is_file() and copied.best_checkpoint.is_file()
    assert names(tmp_path) == ["best_model_0.5000.pt", "best_model_0.9000.pt"]


def engine_at(epoch, of):
    """Return an engine that counts this epoch."""
    of.state.epoch = epoch
    return of


# -- folders and arguments ---------------------------------------------------------------------------------------------


def test_a_folder_with_files_of_the_prefix_is_refused(tmp_path):
    save(tmp_path / "best_model_1.pt", 1)
    with pytest.raises(
        ValueError, match=r"ModelCheckpoint: .* already contains best_model_1.pt: .* require_empty=False"
    ):
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
    with pytest.raises(StorageError, match="ModelCheckpoint: the folder .*nowhere does not exist: create it, or"):
        ModelCheckpoint(tmp_path / "nowhere", create_dir=False)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="ModelCheckpoint: cannot create the folder .*file/models: Not a directory"):
        ModelCheckpoint(tmp_path / "file" / "models")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"n_saved": 0}, "Checkpoint: n_saved must be an integer of 1 or more, got 0: give None to keep all files"),
        ({"n_saved": 1.5}, "n_saved must be an integer of 1 or more, got 1.5"),
        ({"score_function": 1}, "Checkpoint: score_function must be a function, got 1"),
        ({"global_step_transform": 1}, "Checkpoint: global_step_transform must be a function, got 1"),
        ({"to_save": {}}, "Checkpoint: objects must be a mapping of names to objects, got {}: give {'model': model}"),
        ({"to_save": [1]}, r"Checkpoint: objects must be a mapping of names to objects, got \[1\]"),
        ({"to_save": {"rate": 0.1}}, r"Checkpoint: 'rate' must have state_dict\(\), got a float: leave it out"),
        ({"to_save": {1: nn.Linear(1, 1)}}, "Checkpoint: the name of a Linear must be a string, got 1"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, argument, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Checkpoint(**({"to_save": {"model": nn.Linear(1, 1)}, "dirname": tmp_path} | argument))


def test_wrong_attachments_of_model_checkpoint_are_named(tmp_path):
    engine = counting()
    with pytest.raises(TypeError, match=r"handler .* does not fit COMPLETED"):
        engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path))
    with pytest.raises(TypeError, match="ModelCheckpoint: objects must be a mapping of names to objects, got {}"):
        engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path), {})
    with pytest.raises(TypeError, match="ModelCheckpoint: attach it with one mapping, such as {'model': model}, got"):
        engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(tmp_path), {}, {})


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_loading_objects_runs_no_code(tmp_path):
    model = new_model()
    torch.save({"model": model.state_dict(), "extra": Planted(tmp_path / "planted")}, tmp_path / "evil.pt")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(StorageError, match="loading that could run code"):
        Checkpoint.load_objects({"model": model}, tmp_path / "evil.pt")
    assert names(tmp_path) == ["evil.pt"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
