"""The examples learn what their texts claim: on three seeds, better than untrained models and than a baseline."""

import re

import pytest
from torch.utils.data import DataLoader

from camshaft import record
from support.examples import EXAMPLES, load

NAMES = ["gan", "reinforcement_learning", "k_fold", "knowledge_distillation"]
seeds = pytest.mark.parametrize("seed", [1, 2, 3])


@pytest.fixture(scope="module")
def example():
    return {name: load(name) for name in NAMES}


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_building_an_example_prints_and_runs_nothing(name, capsys):
    with record() as trace:
        load(name).build()
    assert len(trace) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_shorter_than_120_lines(name):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("name", NAMES)
def test_running_an_example_prints_its_loop_and_its_results(example, name, capsys):
    assert example[name].main() == 0
    loop, results = capsys.readouterr().out.split("\nCOMPLETED\n")
    assert loop.startswith("STARTED\n")
    assert len(re.findall(r"\d\.\d+", results)) >= 3


# -- gan --------------------------------------------------------------------------------------------------------------


@seeds
def test_a_generator_is_five_times_nearer_than_the_best_gaussian(example, seed):
    gan = example["gan"]
    program = gan.build(seed)
    held_out = gan.ring(1000)
    baseline = gan.mmd2(gan.gaussian(1000), held_out)
    assert gan.mmd2(program.sample(1000), held_out) > baseline
    program.trainer.run(program.batches, max_epochs=5)
    assert gan.mmd2(program.sample(1000), held_out) < baseline / 5


def test_the_discrepancy_separates_two_densities(example):
    gan = example["gan"]
    assert abs(gan.mmd2(gan.ring(1000), gan.ring(1000))) < 0.01
    assert gan.mmd2(gan.gaussian(1000), gan.ring(1000)) > 0.03


def test_each_network_of_a_gan_changes_in_its_own_step_only(example):
    program = example["gan"].build()
    trainer, changes = program.trainer, []
    before = [parameter.clone() for parameter in program.generator.parameters()]

    def note(engine):
        now = [parameter.clone() for parameter in program.generator.parameters()]
        changes.append((engine.where[-1], any((old != new).any() for old, new in zip(before, now, strict=True))))
        before[:] = now

    for network in ("DISCRIMINATOR", "GENERATOR"):
        trainer.add_event_handler(f"{network.lower()}_backward_completed", note)
        trainer.add_event_handler(f"{network.lower()}_step_completed", note)
    with record() as trace:
        trainer.run(program.batches, max_iters=1)
    trace.assert_legal()
    assert changes == [
        ("DISCRIMINATOR_BACKWARD", False),
        ("DISCRIMINATOR_STEP", False),
        ("GENERATOR_BACKWARD", False),
        ("GENERATOR_STEP", True),
    ]


# -- reinforcement_learning -------------------------------------------------------------------------------------------


@seeds
def test_a_policy_keeps_the_pole_up_four_times_as_long(example, seed):
    rl = example["reinforcement_learning"]
    program = rl.build(seed)
    untrained, at_random = rl.mean_length(program.evaluator), rl.mean_length(program.random_player)
    program.trainer.run(max_epochs=300)
    assert rl.mean_length(program.evaluator) > 4 * max(untrained, at_random)


def test_episodes_are_legal_and_evaluation_updates_no_policy(example):
    program = example["reinforcement_learning"].build()
    with record() as trace:
        program.trainer.run(max_epochs=2)
        program.evaluator.run(max_epochs=2)
    trace.assert_legal()
    assert trace.count("update_completed", "trainer") == trace.count("episode_completed", "trainer") == 2
    assert "update_completed" not in program.evaluator.loop.event_keys
    assert trace.count("act_completed", "evaluator") == program.evaluator.state.timestep > 2


def test_a_pole_pushed_one_way_falls_to_the_other(example):
    cart_pole = example["reinforcement_learning"].CartPole()
    cart_pole.reset()
    for step in range(1, 200):
        (x, x_dot, theta, _), is_out = cart_pole.step(1)
        if is_out:
            break
    assert 5 < step < 20
    assert x > 0
    assert x_dot > 0
    assert theta < 0


# -- k_fold -----------------------------------------------------------------------------------------------------------


@seeds
def test_cross_validation_beats_the_nearest_centroid(example, seed):
    k_fold = example["k_fold"]
    program = k_fold.build(seed)
    untrained = program.evaluator.run(DataLoader(program.digits, batch_size=500)).metrics["accuracy"]
    accuracies = program.cross_validator.run().accuracies
    mean = sum(accuracies) / len(accuracies)
    assert len(accuracies) == 5
    assert mean > untrained + 0.6
    assert mean > k_fold.baseline(program.digits, seed=seed) + 0.03


def test_each_fold_trains_anew_on_what_it_does_not_validate_on(example):
    program = example["k_fold"].build(n_splits=3, max_epochs=1)
    seen = {"trainer": [], "evaluator": []}
    starts = []
    for engine in (program.trainer, program.evaluator):
        engine.add_event_handler("started", lambda engine: seen[engine.name].append(0))
        engine.add_event_handler("iteration_completed", lambda engine: count(seen[engine.name], engine.state.batch))
    program.trainer.add_event_handler("iteration_started", lambda engine: starts.append(engine.state.iteration))

    def count(numbers, batch):
        numbers[-1] += len(batch[0])

    with record() as trace:
        program.cross_validator.run()
    trace.assert_legal()
    assert seen == {"trainer": [1198] * 3, "evaluator": [599] * 3}
    assert starts == [*range(1, 20)] * 3
    assert [run.engine for run in trace.runs] == ["cross_validator", *["trainer", "evaluator"] * 3]


# -- knowledge_distillation -------------------------------------------------------------------------------------------


@seeds
def test_a_student_learns_more_from_soft_targets(example, seed):
    program = example["knowledge_distillation"].build(seed)
    untrained = program.accuracies()
    for trainer in (program.student_trainer, program.lone_trainer):
        trainer.run(program.few_loader, max_epochs=200)
    trained = program.accuracies()
    assert trained["student"] > untrained["student"] + 0.6
    assert trained["student"] > trained["lone student"] + 0.03
    assert trained["teacher"] > trained["student"]


def test_the_teacher_is_trained_first_and_never_by_the_student(example):
    program = example["knowledge_distillation"].build()
    with record() as trace:
        program.student_trainer.run(program.few_loader, max_epochs=2)
    trace.assert_legal()
    engines = [run.engine for run in trace.runs]
    assert engines == ["student_trainer", "teacher_trainer"]
    assert trace.count("optim_step_completed", "teacher_trainer") == 20 * 26
    assert trace.count("teacher_forward_completed", "student_trainer") == 2
    order = [(seen.engine, seen.event) for seen in trace]
    assert order.index(("teacher_trainer", "completed")) < order.index(("student_trainer", "epoch_started"))
