"""The examples train nothing on import, and print what their texts say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from camshaft import Engine, Events, record
from support.examples import EXAMPLES, load

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def resnet():
    return load("custom_events_resnet18")


@pytest.fixture(scope="module")
def faq():
    return load("trainer_and_evaluator")


QUICK = ["--epochs", "2", "--epoch-length", "2", "--batch-size", "8", "--device", "cpu"]


# -- custom_events_resnet18 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["custom_events_resnet18", "trainer_and_evaluator"])
def test_importing_an_example_prints_nothing_and_runs_nothing(name, capsys):
    with record() as trace:
        load(name)
    assert len(trace) == 0
    assert capsys.readouterr() == ("", "")


def test_resnet18_builds_without_training(resnet):
    training = resnet.build(seed=3, device="cpu")
    trainer = training.trainer
    assert isinstance(trainer, Engine)
    assert [nested.name for nested in trainer.loop.nested] == ["train_evaluator", "validation_evaluator"]
    assert {free.name for free in trainer.loop.custom_states} == {"BACKWARD", "OPTIM_STEP"}
    assert [engine.state.iteration for engine in training[:3]] == [0, 0, 0]
    assert (len(training.train_loader.dataset), len(training.validation_loader.dataset)) == (1437, 360)
    x, y = next(iter(training.train_loader))
    assert (x.shape, y.shape) == ((64, 1, 28, 28), (64,))


def test_the_digits_are_split_the_same_way_without_overlap(resnet):
    (train, validation), (again, _) = resnet.load_digits(), resnet.load_digits()
    assert train.indices == again.indices
    assert sorted([*train.indices, *validation.indices]) == list(range(1797))
    x = torch.stack([image for image, _ in train])
    assert abs(x.mean().item()) < 0.05
    assert abs(x.std().item() - 1) < 0.05


def test_resnet18_prints_loop_machine_metrics_and_verdict(resnet, capsys):
    assert resnet.main(QUICK) == 0
    out = capsys.readouterr().out
    trainer = resnet.build(device="cpu").trainer
    metrics = r"  train accuracy \d\.\d{4} loss \d+\.\d{4}  validation accuracy \d\.\d{4} loss \d+\.\d{4}\n"
    parts = [
        "=== The loop that runs ===",
        trainer.source(),
        "=== Its machine ===",
        str(trainer.machine),
        "=== Its states ===",
        str(trainer.loop),
        "=== Training ===",
        "epoch 1/2  train accuracy",
        "epoch 2/2  train accuracy",
        "trained for ",
        "=== Order check ===",
        "legal",
    ]
    places = [out.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert len(re.findall(r"^epoch \d/2" + metrics, out, re.MULTILINE)) == 2
    assert re.search(r"^(\d+) events in 5 runs checked against their machines: legal\n\Z", out, re.MULTILINE)


def test_resnet18_fires_its_events_around_backward_and_step(resnet):
    training = resnet.build(batch_size=4, device="cpu", epoch_length=1)
    trainer, own = training.trainer, resnet.BackpropEvents
    stood = []
    trainer.add_event_handler(own.BACKWARD_COMPLETED, lambda: stood.append(trainer.where))
    with record() as trace:
        trainer.run(training.train_loader, max_epochs=1, epoch_length=3)
    assert [seen.event for seen in trace if seen.event in {event.value for event in own}] == [
        event.value for event in own
    ] * 3
    assert stood == [("EPOCH", "ITERATION", "BACKWARD")] * 3
    assert trace.count(Events.ITERATION_COMPLETED, "validation_evaluator") == 1
    trace.assert_legal()


def test_resnet18_repeats_its_numbers_with_the_same_seed(resnet, capsys):
    def numbers(seed):
        resnet.main(["--seed", seed, "--epochs", "1", *QUICK[2:]])
        return re.findall(r"^epoch .*", capsys.readouterr().out, re.MULTILINE)

    first, other, again = numbers("1"), numbers("2"), numbers("1")
    assert len(first) == 1
    assert first == again
    assert first != other


@pytest.mark.parametrize(("data", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_missing_files_are_one_line_that_says_what_to_do(resnet, capsys, tmp_path, data, folder):
    assert resnet.main(["--data", data, "--root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"no {data} under {tmp_path}")
    assert err.endswith(
        f"unpack its four IDX files into {tmp_path / folder / 'raw'}, or add --download to fetch them\n"
    )


def idx(values):
    """Return a tensor of bytes in the IDX format."""
    header = [0, 0, 8, values.ndim]
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes(header) + sizes + values.to(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(("data", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_read_from_root(resnet, capsys, tmp_path, data, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for part, samples in (("train", 24), ("t10k", 12)):
        images = torch.randint(256, (samples, 28, 28), generator=generator)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(torch.arange(samples) % 10))
    training = resnet.build(data, root=tmp_path, device="cpu")
    assert training.train_loader.batch_size == 128
    assert (len(training.train_loader.dataset), len(training.validation_loader.dataset)) == (24, 12)
    assert resnet.main(["--data", data, "--root", str(tmp_path), *QUICK]) == 0
    assert capsys.readouterr().out.endswith("legal\n")


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--epoch-length"])
def test_options_that_cannot_work_are_refused(resnet, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        resnet.main([option, "0"])
    assert f"argument {option}: must be 1 or more, got 0" in capsys.readouterr().err


def test_resnet18_writes_no_bars_where_there_is_no_terminal(resnet, capsys):
    assert resnet.main(QUICK) == 0
    out, err = capsys.readouterr()
    assert re.search(r"=== Training ===\n\nIter.*\nepoch 1/2 .*\nepoch 2/2 .*\n\ntrained for ", out)
    assert "\x1b" not in out + err
    assert err == ""


# -- trainer_and_evaluator ------------------------------------------------------------------------------------------


def test_trainer_and_evaluator_builds_without_running(faq, tmp_path):
    program = faq.build(tmp_path)
    assert [program.trainer.name, program.evaluator.name] == ["trainer", "evaluator"]
    assert program.trainer.state.epoch == program.evaluator.state.epoch == 0


def test_trainer_and_evaluator_completes_once_in_every_run(faq, capsys):
    faq.main(max_epochs=2)
    said, tree = capsys.readouterr().out.split("\n\n", 1)
    assert [tuple(line.split()[:2]) for line in said.splitlines()] == [
        ("trainer", "EPOCH_COMPLETED"),
        ("evaluator", "EPOCH_COMPLETED"),
        ("evaluator", "COMPLETED"),
    ] * 2 + [("trainer", "COMPLETED")]
    assert tree.startswith("trainer\n  STARTED 0\n")
    assert "  EPOCH_COMPLETED 1\n    evaluator\n      STARTED 0\n" in tree
    assert re.search(r"^evaluator +COMPLETED +2$", tree, re.MULTILINE)
    best = max(re.findall(r"validation accuracy ([\d.]+)\n", said))
    assert f"best_mymodel_{best}.pt loaded back: validation accuracy {best}\n" in tree


def test_trainer_and_evaluator_stops_and_keeps_the_best(faq, tmp_path):
    program = faq.build(tmp_path)
    scores = []
    program.evaluator.add_event_handler(
        Events.COMPLETED, lambda engine: scores.append(engine.state.metrics["accuracy"])
    )
    program.trainer.run(program.train_loader, max_epochs=60)
    epochs = program.trainer.state.epoch
    best = scores.index(max(scores))
    assert epochs == len(scores) < 60
    assert best == epochs - 4  # patience is 3
    assert [path.name for path in tmp_path.iterdir()] == [f"best_mymodel_{scores[best]:.4f}.pt"]


# -- testing_event_order ----------------------------------------------------------------------------------------------

SUITE = EXAMPLES / "testing_event_order"
SUITE_README = (SUITE / "README.md").read_text(encoding="utf-8")
ALONE = ["-p", "no:cacheprovider", "--color=no"]

STEP = """\
                with span("optim_step", report):
                    optimizer.step()
"""
ZERO_GRAD = """\
                with span("zero_grad", report):
                    optimizer.zero_grad()
"""
VALIDATE = "        accuracy = validate(model"
TRAIN_MODE = "    model.train()\n"
FIT = '    report("started")\n    for _ in range(epochs):\n'


@pytest.fixture(scope="module")
def plain():
    """Return the module train.py, and its accuracy after a training without a recorder."""
    module = load("testing_event_order/train")
    torch.manual_seed(0)
    return module, module.fit(module.make_model(), *module.load_digits(), epochs=3)


@pytest.fixture
def suite(plain, pytester):  # `plain` imports all first: an in-process session drops the modules that it imports
    """Return a function that runs a copy of the suite with some lines of train.py changed."""

    def run(*edits):
        shutil.copytree(SUITE, pytester.path, dirs_exist_ok=True)
        path = pytester.path / "train.py"
        source = path.read_text(encoding="utf-8")
        for old, new in edits:
            assert source.count(old) == 1
            source = source.replace(old, new)
        path.write_text(source, encoding="utf-8")
        return pytester.runpytest_inprocess(*ALONE)

    return run


def test_the_suite_for_a_plain_loop_passes_by_itself():
    assert "\npytest examples/testing_event_order\n" in SUITE_README
    command = [sys.executable, "-m", "pytest", *ALONE, "examples/testing_event_order"]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert " 8 passed in " in done.stdout


def test_the_plain_loop_learns_and_imports_no_camshaft(plain):
    module, accuracy = plain
    assert accuracy > 0.85
    imported = re.findall(r"^\s*(?:from|import) (\S+)", Path(module.__file__).read_text(), re.MULTILINE)
    assert "torch" in imported
    assert not any(name.startswith("camshaft") for name in imported)


def test_two_swapped_lines_fail_with_the_message_of_its_readme(suite):
    shown = re.search(r"^```text\n(.*?)^```$", SUITE_README, re.MULTILINE | re.DOTALL)[1]
    assert "OPTIM_STEP_STARTED is illegal in EPOCH 1 / ITERATION 2 / after ZERO_GRAD" in shown
    assert "  expected: ITERATION_COMPLETED | " in shown
    result = suite((STEP + ZERO_GRAD, ZERO_GRAD + STEP))
    assert result.ret == 1
    assert shown in str(result.stdout)


@pytest.mark.parametrize(
    ("how", "edits", "says"),
    [
        (
            "delete `or i == len(loader)`",
            [(" or i == len(loader)", "")],
            "inside EPOCH, at event 41 trainer EPOCH_COMPLETED 1; expected: FORWARD | OPTIM_STEP",
        ),
        (
            "indent `validate(...)` into the epoch",
            [(VALIDATE, "    " + VALIDATE)],
            "> 58  trainer EPOCH_STARTED 2",
        ),
        (
            'delete `report("completed")` in `validate`',
            [('    report("completed")\n    return correct', "    return correct")],
            "evaluator stops with event #",
        ),
        (
            "move `model.train()` from `train_epoch` to the start of `fit`",
            [(TRAIN_MODE, ""), (FIT, TRAIN_MODE + FIT)],
            "At index 5 diff: False != True",
        ),
    ],
    ids=["window", "place", "end", "mode"],
)
def test_each_edit_fails_the_test_that_its_readme_names(suite, how, edits, says):
    (row,) = (line for line in SUITE_README.splitlines() if line.startswith(f"| {how} | `test_"))
    result = suite(*edits)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"FAILED test_train.py::{row.split('`')[-2]}*"])
    assert says in str(result.stdout)
