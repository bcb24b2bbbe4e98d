"""Knowledge distillation (Hinton, Vinyals & Dean 2015): a student learns from what its teacher thinks of few images.

The student's loop is the standard one with one state more, TEACHER_FORWARD, which puts the teacher's scores beside the
labels; the teacher's own training is an engine nested at STARTED, so that one run does both. Run it:

    python examples/knowledge_distillation.py

It takes a few seconds. The teacher sees all training images, the student fifty (section 6 of the paper). From their
labels alone it learns to read some 82 of 100 new digits, untrained 10; with the teacher's soft targets at least 3 more,
on average 10.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from sklearn import datasets
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from camshaft import Engine, Events, Phase, create_supervised_evaluator, create_supervised_trainer, supervised_loop
from camshaft.metrics import Accuracy

TEMPERATURE = 10.0
SOFT_SHARE = 0.9  # of the soft targets in the loss; the labels have the rest


def make_model(hidden: int) -> nn.Module:
    """A network for images of 8x8 and ten classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def distillation_loss(scores: torch.Tensor, targets: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Cross entropy with labels and with softened scores of the teacher, the latter times T² (section 2 of the paper).

    Args:
        scores: of the student, of shape (N, 10).
        targets: labels, of shape (N,), and scores of the teacher, of shape (N, 10).
    """
    labels, teacher_scores = targets
    soft = F.cross_entropy(scores / TEMPERATURE, (teacher_scores / TEMPERATURE).softmax(dim=1))
    return SOFT_SHARE * TEMPERATURE**2 * soft + (1 - SOFT_SHARE) * F.cross_entropy(scores, labels)


class Program(NamedTuple):
    """Who learns, who measures it, and from what: the teacher's trainer is nested in the student's."""

    student_trainer: Engine
    lone_trainer: Engine
    evaluators: dict[str, Engine]
    few_loader: DataLoader[Any]
    test_loader: DataLoader[Any]

    def accuracies(self) -> dict[str, float]:
        """The share of test images that each model reads rightly."""
        return {name: e.run(self.test_loader).metrics["accuracy"] for name, e in self.evaluators.items()}


def build(seed: int = 0) -> Program:
    """Make everything, without running anything."""
    torch.manual_seed(seed)
    digits = datasets.load_digits()
    everything = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))
    few, more, test = random_split(everything, [50, 1247, 500])
    many_loader, few_loader = (DataLoader(data, batch_size=50, shuffle=True) for data in (few + more, few))
    teacher, student, lone_student = make_model(128), make_model(32), make_model(32)
    teacher_optimizer, student_optimizer, lone_optimizer = (
        torch.optim.Adam(model.parameters(), lr=0.005) for model in (teacher, student, lone_student)
    )

    @torch.no_grad()
    def teacher_forward(engine: Engine, batch: Sequence[torch.Tensor]) -> None:
        images, labels = batch
        teacher.eval()
        engine.state.batch = (images, (labels, teacher(images)))

    distillation = supervised_loop(student, student_optimizer, distillation_loss)
    distillation = distillation.insert(Phase("TEACHER_FORWARD", teacher_forward), before="FORWARD")
    student_trainer = Engine(distillation, name="student_trainer")
    teacher_trainer = create_supervised_trainer(
        teacher, teacher_optimizer, nn.CrossEntropyLoss(), name="teacher_trainer"
    )
    student_trainer.nest(teacher_trainer, on=Events.STARTED, data=many_loader, max_epochs=20)
    lone_trainer = create_supervised_trainer(lone_student, lone_optimizer, nn.CrossEntropyLoss(), name="lone_trainer")
    models = {"teacher": teacher, "student": student, "lone student": lone_student}
    evaluators = {
        name: create_supervised_evaluator(model, {"accuracy": Accuracy()}, name=f"{name} evaluator")
        for name, model in models.items()
    }
    return Program(student_trainer, lone_trainer, evaluators, few_loader, DataLoader(test, batch_size=500))


def student_trainer() -> Engine:
    """The student's trainer, to be looked at: ``camshaft show examples/knowledge_distillation.py:student_trainer``."""
    return build().student_trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Train teacher and student, and a student on its own, and compare."""
    program = build()
    print(program.student_trainer.loop)
    untrained = program.accuracies()
    for trainer in (program.student_trainer, program.lone_trainer):
        trainer.run(program.few_loader, max_epochs=200)
    for name, accuracy in program.accuracies().items():
        print(f"{name:12}  accuracy {accuracy:.3f}, untrained {untrained[name]:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
