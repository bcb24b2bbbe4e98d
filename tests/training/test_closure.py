"""Tests of optimizers that require a closure: FORWARD and BACKWARD run inside OPTIM_STEP."""

import copy

import pytest
import torch
from torch import nn

from camshaft import BackpropEvents, Events, create_supervised_trainer, record, supervised_loop
from support.learning import batches, classifier, criterion, same, sgd


def lbfgs(model, **options):
    return torch.optim.LBFGS(
        model.parameters(), **{"lr": 0.5, "max_iter": 5, "line_search_fn": "strong_wolfe"} | options
    )


def by_hand(model, optimizer, data):
    losses, evaluations = [], 0
    for x, y in data:

        def closure(x=x, y=y):
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            return loss

        model.train()
        losses.append(optimizer.step(closure).item())
    return losses, evaluations


def test_weights_and_evaluations_equal_a_loop_written_by_hand():
    model = classifier()
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    expected, evaluations = by_hand(twin, lbfgs(twin), batches())

    trainer = create_supervised_trainer(model, lbfgs(model), criterion)
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output))
    torch.manual_seed(5)
    with record() as trace:
        trainer.run(batches())
    trace.assert_legal()
    assert losses == expected
    assert same(model, twin)
    assert trace.count("forward_completed") == trace.count("backward_completed") == evaluations > 14
    assert trace.count("optim_step_completed") == 7


def test_each_evaluation_is_inside_the_step():
    model = classifier()
    trainer = create_supervised_trainer(model, lbfgs(model, max_iter=2, line_search_fn=None), criterion)
    where = []
    trainer.add_event_handler(BackpropEvents.BACKWARD_STARTED, lambda: where.append(trainer.where))
    with record() as trace:
        trainer.run(batches(), max_iters=1)
    own = [event.value for event in BackpropEvents]
    assert own[4:] == ["optim_step_started", "optim_step_completed"]
    assert [found.event for found in trace if found.event in own] == [own[4], *own[:4], *own[:4], own[5]]
    assert where == [("EPOCH", "ITERATION", "OPTIM_STEP", "BACKWARD")] * 2
    assert [line.strip().split("  ")[0] for line in str(trainer.loop).splitlines()[3:6]] == [
        "OPTIM_STEP",
        "FORWARD",
        "BACKWARD",
    ]


def test_the_picture_has_both_inside_of_the_step():
    model = classifier()
    trainer = create_supervised_trainer(model, lbfgs(model), criterion)
    text = trainer.diagram().text()
    inside = text[text.index("OPTIM_STEP  optim_step fires events") : text.index("OPTIM_STEP_COMPLETED")]
    assert "any number of times" in inside
    assert "[FORWARD]" in inside
    assert "[BACKWARD]" in inside


def test_clipping_at_backward_completed_is_seen_by_the_optimizer():
    model, twin = classifier(), classifier()
    trainer = create_supervised_trainer(model, lbfgs(model), criterion)
    trainer.add_event_handler(
        BackpropEvents.BACKWARD_COMPLETED, lambda: nn.utils.clip_grad_norm_(model.parameters(), 1e-12)
    )
    trainer.run(batches())
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_run_that_is_terminated_inside_of_a_step_ends_behind_it():
    model = classifier()
    trainer = create_supervised_trainer(model, lbfgs(model), criterion)
    trainer.add_event_handler(BackpropEvents.FORWARD_COMPLETED(once=3), trainer.terminate)
    with record() as trace:
        trainer.run(batches())
    trace.assert_legal()
    assert trace.count("optim_step_started") == trainer.state.iteration == 1


def test_an_error_inside_of_a_step_says_where_it_was():
    model = classifier()
    trainer = create_supervised_trainer(model, lbfgs(model), criterion)

    @trainer.on(BackpropEvents.FORWARD_COMPLETED(once=2))
    def fail():
        raise ArithmeticError("here")

    with pytest.raises(ArithmeticError) as caught:
        trainer.run(batches())
    place = "EPOCH 1 / ITERATION 1 / OPTIM_STEP / FORWARD"
    handler = "test_an_error_inside_of_a_step_says_where_it_was.fail"
    assert caught.value.__notes__ == [f"in trainer: {place}, at FORWARD_COMPLETED, in handler {handler}"]


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
        ({"scaler": torch.amp.GradScaler("cpu")}, "scaler"),
    ],
)
def test_what_a_closure_rules_out_is_refused(extra, named):
    model = classifier()
    with pytest.raises(ValueError, match=f"LBFGS evaluates the model several times in a step: leave out {named}"):
        supervised_loop(model, lbfgs(model), criterion, **extra)


def test_a_scheduler_does_not_hide_what_the_step_takes():
    model, plain = classifier(), classifier()
    optimizer, other = lbfgs(model), sgd(plain)
    for each in (optimizer, other):
        torch.optim.lr_scheduler.StepLR(each, 1)
    assert "STEP" in str(supervised_loop(model, optimizer, criterion).custom_states)
    assert not supervised_loop(plain, other, criterion).custom_states
