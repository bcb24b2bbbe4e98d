"""Tests of the order of events in train.py: their sequence, their number and their nesting.

Nothing here trains with camshaft. Each of the two loops calls a Reporter with its events. camshaft records and checks
them like the events of an engine.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import train
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset

from camshaft import DATA, EventOrderError, Loop, Phase
from camshaft.testing import Reporter


def at_the_end_of_a_window(_: Any) -> bool:
    """Condition of the optimizer's step. It is never called: train.py decides, and the machine allows both."""
    raise NotImplementedError


TRAINING = Loop(
    "EPOCH",
    Loop(
        "ITERATION",
        Phase("FORWARD"),
        Phase("BACKWARD"),
        Phase("OPTIM_STEP", when=at_the_end_of_a_window),
        Phase("ZERO_GRAD", when=at_the_end_of_a_window),
        over=DATA,
    ),
)
VALIDATION = Loop("ITERATION", over=DATA)

EPOCHS, BATCHES, ACCUMULATE = 2, 5, 2


@pytest.fixture(scope="module")
def loaders() -> list[Any]:
    """Return loaders of a few small batches of the real data."""
    return [DataLoader(Subset(full.dataset, range(8 * BATCHES)), batch_size=8) for full in train.load_digits()]


def run(loaders: list[Any], epochs: int = EPOCHS) -> None:
    """Train a new model with a reporter for each loop. The limits are given, so a missing batch is illegal too."""
    torch.manual_seed(0)
    with (
        Reporter(TRAINING, name="trainer", max_epochs=epochs, epoch_length=BATCHES) as trainer,
        Reporter(VALIDATION, name="evaluator", epoch_length=BATCHES) as evaluator,
    ):
        train.fit(
            train.make_model(),
            *loaders,
            epochs=epochs,
            accumulate=ACCUMULATE,
            report=trainer,
            report_validation=evaluator,
        )


# -- the order of a run -----------------------------------------------------------------------------------------------


@pytest.mark.legal_events
def test_every_event_comes_where_its_loop_allows_it(loaders):
    """Leave the check to the mark: the machines of both loops check all events of the test."""
    run(loaders)


def test_every_epoch_is_followed_by_one_validation(loaders, event_trace):
    """Match a pattern. Its names are events, whole states such as EPOCH, or whole runs such as evaluator."""
    with event_trace() as trace:
        run(loaders)
    trace.assert_matches("STARTED (EPOCH evaluator){2} COMPLETED", strict=True)


def test_validation_never_runs_inside_of_an_epoch(loaders, event_trace):
    """Select the events that the evaluator fired while the trainer was in EPOCH: there must be none."""
    with event_trace() as trace:
        run(loaders)
    assert trace.select(engine="evaluator", inside="EPOCH") == []
    assert trace.count("completed", engine="evaluator") == EPOCHS


def test_the_optimizer_steps_at_the_end_of_each_window_the_last_one_too(loaders, event_trace):
    """Train on five batches in windows of two: the last window has one batch, and a step too."""
    with event_trace() as trace:
        run(loaders)
    trace.assert_matches("(EPOCH[((FORWARD BACKWARD){1,2} OPTIM_STEP)+]){2}")
    assert trace.count("optim_step_completed") == 3 * EPOCHS


def test_the_whole_run_is_as_it_was_reviewed(loaders, golden_trace):
    """Compare all events with the file traces/one_epoch.txt. ``pytest --update-traces`` rewrites it."""
    with golden_trace("one_epoch"):
        run(loaders, epochs=1)


# -- the state at an event --------------------------------------------------------------------------------------------


def test_the_model_trains_in_training_mode_after_a_validation_too(loaders):
    """Check the model at an event. This needs no Reporter."""
    model, modes = train.make_model(), []

    def check_mode(event: str) -> None:
        if event == "iteration_started":
            modes.append(model.training)

    train.fit(model, *loaders, epochs=EPOCHS, report=check_mode)
    assert modes == [True] * EPOCHS * BATCHES


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_label_that_does_not_exist_ends_the_run_in_forward(loaders, event_trace):
    """Let an exception leave the block of a Reporter: the last event is EXCEPTION_RAISED, a legal end."""
    training, validation = loaders
    batches = list(training)
    batches[2][1][0] = 10  # there are ten digits, from 0
    with event_trace() as trace, pytest.raises(IndexError, match="Target 10 is out of bounds"):
        run([batches, validation])
    trace.assert_legal()
    trace.assert_matches("STARTED EPOCH_STARTED ITERATION{2} ITERATION_STARTED FORWARD_STARTED EXCEPTION_RAISED")


def zero_too_early(model: nn.Module, loader: Any, optimizer: Any, accumulate: int, report: train.Report) -> None:
    """Train for one epoch with a common mistake: it runs without an error, but the model never learns."""
    for x, y in loader:
        with train.span("iteration", report):
            with train.span("forward", report):
                loss = cross_entropy(model(x), y)
            with train.span("backward", report):
                loss.backward()
            with train.span("zero_grad", report):
                optimizer.zero_grad()
            with train.span("optim_step", report):
                optimizer.step()


def test_gradients_that_are_gone_before_the_step_are_caught(loaders, event_trace, monkeypatch):
    """Read what a failure names: the event, the place in the loop, and the events expected there."""
    monkeypatch.setattr(train, "train_epoch", zero_too_early)
    with event_trace() as trace:
        run(loaders)
    with pytest.raises(EventOrderError) as caught:
        trace.assert_legal()
    assert str(caught.value).splitlines()[:5] == [
        "trainer event #10 OPTIM_STEP_STARTED is illegal in EPOCH 1 / ITERATION 1 / after ZERO_GRAD",
        "     8  ZERO_GRAD_STARTED",
        "     9  ZERO_GRAD_COMPLETED",
        "  > 10  OPTIM_STEP_STARTED",
        "  expected: ITERATION_COMPLETED | TERMINATE | INTERRUPT | TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED",
    ]
