"""Knowledge distillation (Hinton, Vinyals & Dean 2015): a student learns from its teacher's scores of few images.

The student's loop is the standard loop with an additional state. TEACHER_FORWARD adds the teacher's scores to the
labels. The teacher is trained by an engine nested at STARTED, so one run trains both. Run it:

    python examples/knowledge_distillation.py

It takes a few seconds. The teacher is trained on all training images, the student on fifty (section 6 of the paper).
Before training, the student classifies about 10 of 100 new digits correctly. Trained with labels alone, it reaches
about 82. The teacher's soft targets add at least 3, and 10 on average.
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
SOFT_SHARE = 0.9  # weight of the soft targets in the loss; the labels have the rest


def make_model(hidden: int) -> nn.Module:
    """Return a network for images of shape (8, 8) and ten classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def distillation_loss(scores: torch.Tensor, targets: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the weighted sum of two cross entropies: with the labels, and T² times that with the soft targets.

    See section 2 of the paper.

    Args:
        scores: the scores of the student, of shape (N, 10).
        targets: the labels, of shape (N,), and the scores of the teacher, of shape (N, 10).
    """
    labels, teacher_scores = targets
    soft = F.cross_entropy(scores / TEMPERATURE, (teacher_scores / TEMPERATURE).softmax(dim=1))
    return SOFT_SHARE * TEMPERATURE**2 * soft + (1 - SOFT_SHARE) * F.cross_entropy(scores, labels)


class Program(NamedTuple):
    """The engines and the data. The teacher's trainer is nested in the student's."""

    student_trainer: Engine
    lone_trainer: Engine
    evaluators: dict[str, Engine]
    few_loader: DataLoader[Any]
    test_loader: DataLoader[Any]

    def accuracies(self) -> dict[str, float]:
        """Return the accuracy of each model on the test images."""
        return {name: e.run(self.test_loader).metrics["accuracy"] for name, e in self.evaluators.items()}


def build(seed: int = 0) -> Program:
    """Build the engines and the data, without running anything."""
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
    """Return the student's trainer, for ``camshaft show examples/knowledge_distillation.py:student_trainer``."""
    return build().student_trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Train teacher and student, train another student with labels alone, and compare them."""
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
