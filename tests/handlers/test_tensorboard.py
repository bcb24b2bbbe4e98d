"""Tests of logging for TensorBoard: real trainings, read back with tensorboard's own reader."""

import contextlib
import subprocess
import sys

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from camshaft import Engine, Events, Loop, Phase, create_supervised_evaluator, create_supervised_trainer, record
from camshaft.handlers import TensorBoardLogger, global_step_from_engine
from camshaft.metrics import Accuracy, Loss
from support.logged import scalars


def steps_of(series):
    return [step for step, _ in series]


def values_of(series):
    return [value for _, value in series]


def single(value):
    """Return a number in the precision of an event file."""
    return torch.tensor(float(value), dtype=torch.float32).item()


@pytest.fixture
def training():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.25}], lr=0.1, momentum=0.9
    )
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(24, 4, generator=generator), torch.randint(2, (24,), generator=generator))
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(
        model, metrics={"accuracy": Accuracy(), "loss": Loss(nn.functional.cross_entropy)}
    )
    loader = DataLoader(data, batch_size=8)
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=loader)
    return trainer, evaluator, optimizer, loader


def test_a_training_is_in_the_file_with_its_tags_steps_and_values(training, tmp_path):
    trainer, evaluator, optimizer, loader = training
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    losses, metrics = [], []
    with TensorBoardLogger(tmp_path) as logger, record() as trace:
        logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED(every=2), tag="training")
        logger.attach_output_handler(
            evaluator,
            Events.COMPLETED,
            tag="validation",
            metric_names="all",
            global_step_transform=global_step_from_engine(trainer),
        )
        logger.attach_opt_params_handler(trainer, Events.EPOCH_STARTED, optimizer)
        logger.attach_opt_params_handler(trainer, Events.EPOCH_STARTED, optimizer, "momentum", tag="sgd")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: losses.append(trainer.state.output))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: metrics.append(dict(evaluator.state.metrics)))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step())
        trainer.run(loader, max_epochs=4)
    trace.assert_legal()

    found = scalars(tmp_path)
    assert set(found) == {
        "training/output",
        "validation/accuracy",
        "validation/loss",
        "lr/group_0",
        "lr/group_1",
        "sgd/momentum/group_0",
        "sgd/momentum/group_1",
    }
    assert found["training/output"] == [(n, single(losses[n - 1])) for n in range(2, 13, 2)]
    for name in ("accuracy", "loss"):
        assert found[f"validation/{name}"] == [(n + 1, single(one[name])) for n, one in enumerate(metrics)]
    assert found["lr/group_0"] == [(n + 1, single(0.5 * 0.5**n)) for n in range(4)]
    assert found["lr/group_1"] == [(n + 1, single(0.25 * 0.5**n)) for n in range(4)]
    assert values_of(found["sgd/momentum/group_1"]) == [single(0.9)] * 4


def test_an_evaluator_logs_at_the_iteration_of_its_trainer(training, tmp_path):
    trainer, evaluator, _, loader = training
    trainer.nest(evaluator, on=Events.ITERATION_COMPLETED(once=2), data=loader)
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(
            evaluator,
            Events.EPOCH_COMPLETED,
            "validation",
            ["loss"],
            global_step_transform=global_step_from_engine(trainer),
        )
        logger.attach_output_handler(evaluator, Events.EPOCH_COMPLETED, "own", "loss")
        trainer.run(loader)
    found = scalars(tmp_path)
    assert steps_of(found["validation/loss"]) == [2, 1]
    assert steps_of(found["own/loss"]) == [1, 1]
    assert "validation/accuracy" not in found


def test_mappings_lists_and_tensors_become_one_chart_each(tmp_path):
    def step(engine, batch):
        engine.fire_event("ping")
        return {"loss": torch.tensor(batch / 2), "parts": [1, 2.5], "rates": torch.tensor([0.25, 0.5]), "ok": True}

    engine = Engine(step)
    engine.register_events("ping")
    engine.add_event_handler(Events.STARTED, lambda: engine.state.metrics.update(whole=7))
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "step")
        logger.attach_output_handler(
            engine,
            Events.ITERATION_COMPLETED,
            "both",
            metric_names=["whole"],
            output_transform=lambda output: {"half": output["loss"] / 2},
        )
        logger.attach_output_handler(engine, "ping", "ping", output_transform=lambda output: engine.state.batch)
        logger.attach_output_handler(
            engine,
            Events.COMPLETED | Events.STARTED,
            "ends",
            metric_names="whole",
            global_step_transform=lambda engine, event: 100 if event is Events.STARTED else 200,
        )
        engine.run([1, 2])
    assert scalars(tmp_path) == {
        "step/loss": [(1, 0.5), (2, 1.0)],
        "step/parts/0": [(1, 1), (2, 1)],
        "step/parts/1": [(1, 2.5), (2, 2.5)],
        "step/rates/0": [(1, 0.25), (2, 0.25)],
        "step/rates/1": [(1, 0.5), (2, 0.5)],
        "step/ok": [(1, 1), (2, 1)],
        "both/half": [(1, 0.25), (2, 0.5)],
        "both/whole": [(1, 7), (2, 7)],
        "ping/output": [(1, 1), (2, 2)],
        "ends/whole": [(100, 7), (200, 7)],
    }


def test_all_metrics_are_those_that_are_numbers(tmp_path):
    engine = Engine(lambda engine, batch: None, "trainer")
    no_numbers = {"matrix": torch.eye(2), "array": numpy.eye(2), "text": "a", "none": None, "complex": 1j}
    numbers = {
        "number": 1,
        "scalar": torch.tensor(2),
        "numpy": numpy.float32(3),
        "each": torch.tensor([4.0, 5.0]),
        "array of one dimension": numpy.array([6]),
        "zero dimensions": numpy.array(7),
        "mixed": {"good": 8, "matrix": torch.eye(2), "list": [9, "a"]},
    }
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: engine.state.metrics.update(no_numbers | numbers))
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "m", "all")
        with pytest.warns(UserWarning, match="metrics of trainer that are no numbers are not written: ") as all_:
            engine.run([1, 2])
    (said,) = [str(one.message).partition("not written: ")[2] for one in all_]
    assert said.startswith("m/matrix (a tensor of shape (2, 2)), m/array (an array of shape (2, 2)), m/text ('a'), ")
    assert said.endswith("m/mixed/matrix (a tensor of shape (2, 2)), m/mixed/list/1 ('a')")
    assert {tag.removeprefix("m/"): values_of(series) for tag, series in scalars(tmp_path).items()} == {
        "number": [1, 1],
        "scalar": [2, 2],
        "numpy": [3, 3],
        "each/0": [4, 4],
        "each/1": [5, 5],
        "array of one dimension/0": [6, 6],
        "zero dimensions": [7, 7],
        "mixed/good": [8, 8],
        "mixed/list/0": [9, 9],
    }


def test_a_metric_that_is_named_must_be_a_number(tmp_path):
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.STARTED, lambda: engine.state.metrics.update(matrix=torch.eye(2)))
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, Events.COMPLETED, "m", ["matrix"])
        with pytest.raises(TypeError, match=r"m/matrix must be a number, got a tensor of shape \(2, 2\)"):
            engine.run([1])


def test_it_works_with_loops_of_other_names(tmp_path):
    act = Loop("TIMESTEP", Phase("ACT", lambda engine, batch: engine.state.timestep), times=2)
    engine = Engine(Loop("EPISODE", act))
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, "timestep_completed", "steps")
        logger.attach_output_handler(engine, "episode_completed", "episodes")
        engine.run(max_epochs=2)
    found = scalars(tmp_path)
    assert found["steps/output"] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert found["episodes/output"] == [(1, 2), (2, 4)]


@pytest.mark.parametrize("how", ["terminate", "interrupt", "raise"])
def test_what_was_logged_before_a_run_ended_is_in_the_file(tmp_path, how):
    def act(engine):
        if how == "raise":
            raise ZeroDivisionError
        getattr(engine, how)()

    engine = Engine(lambda engine, batch: batch)
    fails = pytest.raises(ZeroDivisionError) if how == "raise" else contextlib.nullcontext()
    with record() as trace, fails, TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "step")
        logger.attach_output_handler(engine, Events.EXCEPTION_RAISED, "failed")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), act)
        engine.run([1, 2, 3, 4])
    trace.assert_legal()
    assert scalars(tmp_path)["step/output"] == [(1, 1), (2, 2), (3, 3)]
    assert ("failed/output" in scalars(tmp_path)) == (how == "raise")
    if how == "interrupt":  # the run continues without the logger, which is closed
        engine.run()
        assert steps_of(scalars(tmp_path)["step/output"]) == [1, 2, 3]


def test_a_closed_logger_writes_no_more(tmp_path):
    engine = Engine(lambda engine, batch: batch)
    logger = TensorBoardLogger(tmp_path)
    removed = logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "gone")
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "step")
    assert [one.name for one in engine.handlers(Events.ITERATION_COMPLETED)] == ["log gone", "log step"]
    removed.remove()
    engine.run([1])
    logger.close()
    logger.close()
    assert engine.handlers(Events.ITERATION_COMPLETED) == ()
    engine.close()
    engine.run([5])
    assert scalars(tmp_path) == {"step/output": [(1, 1)]}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_resumed_training_purges_what_came_after_its_state(tmp_path):
    def trained(engine, **options):
        with TensorBoardLogger(tmp_path, **options) as logger:
            logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "step")
            engine.run([1, 2, 3], max_epochs=2)

    engine = Engine(lambda engine, batch: batch + 10 * engine.state.epoch)
    saved = []
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: saved.append(engine.state_dict()))
    trained(engine)
    expected = scalars(tmp_path)
    again = Engine(lambda engine, batch: batch + 10 * engine.state.epoch)
    again.load_state_dict(saved[0])
    trained(again, purge_step=again.state.iteration + 1)
    assert scalars(tmp_path) == expected


def test_the_writer_is_there_for_all_else(tmp_path):
    engine = Engine(lambda engine, batch: None)
    with TensorBoardLogger(tmp_path, filename_suffix=".mine") as logger:
        engine.add_event_handler(Events.COMPLETED, lambda: logger.writer.add_scalar("by_hand", 3, 4))
        engine.run([1])
    assert scalars(tmp_path) == {"by_hand": [(4, 3)]}
    (file,) = tmp_path.iterdir()
    assert file.name.endswith(".mine")


# -- wrong arguments ---------------------------------------------------------------------------------------------------


def test_wrong_arguments_give_one_clear_error(training, tmp_path):
    trainer, _, optimizer, _ = training
    before = len(trainer.handlers(Events.EPOCH_COMPLETED))
    with TensorBoardLogger(tmp_path) as logger:
        with pytest.raises(TypeError, match="attach_output_handler: engine must be an Engine, got 3"):
            logger.attach_output_handler(3, Events.COMPLETED, "tag")
        with pytest.raises(
            TypeError, match="attach_output_handler: tag must be a non-empty string, got '': it names a group of charts"
        ):
            logger.attach_output_handler(trainer, Events.COMPLETED, "")
        with pytest.raises(ValueError, match="LUNCH is not registered"):
            logger.attach_output_handler(trainer, "lunch", "tag")
        with pytest.raises(TypeError, match="attach_opt_params_handler: optimizer must be one of torch.optim, got 3"):
            logger.attach_opt_params_handler(trainer, Events.EPOCH_COMPLETED, 3)
        with pytest.raises(
            ValueError, match="param_name must be a parameter of SGD, got 'beta': give one of lr, momentum,"
        ):
            logger.attach_opt_params_handler(trainer, Events.EPOCH_COMPLETED, optimizer, "beta")
        with pytest.raises(TypeError, match="global_step_from_engine: engine must be an Engine, got 'trainer'"):
            global_step_from_engine("trainer")
    assert len(trainer.handlers(Events.EPOCH_COMPLETED)) == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "TensorBoardLogger: step/output must be a number, got None: give an output_transform="),
        ("text", "TensorBoardLogger: step/output must be a number, got 'text'"),
        (torch.zeros(2, 3), r"TensorBoardLogger: step/output must be a number, got a tensor of shape \(2, 3\)"),
        ({"a": {"b": object}}, "TensorBoardLogger: step/a/b must be a number, got <class 'object'>"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_it(tmp_path, output, message):
    engine = Engine(lambda engine, batch: output)
    with TensorBoardLogger(tmp_path) as logger, pytest.raises(TypeError, match=message):
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "step")
        engine.run([1])


def test_a_metric_that_is_not_there_is_an_error_that_says_what_is(training, tmp_path):
    _, evaluator, _, loader = training
    with TensorBoardLogger(tmp_path) as logger:
        logger.attach_output_handler(evaluator, Events.COMPLETED, "validation", ["loss", "f1"])
        with pytest.raises(ValueError, match="state.metrics has accuracy, loss at this event, but not 'f1'"):
            evaluator.run(loader)


def test_without_tensorboard_the_error_says_how_to_get_it():
    program = """
import sys
sys.modules["tensorboard"] = None
from camshaft.handlers import TensorBoardLogger
try:
    TensorBoardLogger("nowhere")
except ModuleNotFoundError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "TensorBoardLogger needs the package tensorboard: pip install tensorboard"


def test_importing_handlers_loads_no_optional_library():
    program = """
import sys
import camshaft.handlers
print([name for name in ("tensorboard", "rich", "torchmetrics", "torchvision") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
