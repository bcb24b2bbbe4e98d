"""Tests of gradient accumulation, compared bit for bit with loops written by hand."""

import copy
import runpy
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from camshaft import BackpropEvents, Engine, Events, create_supervised_trainer, record, supervised_loop
from support import ROOT
from support.learning import Unsized, batches, classifier, criterion, same, sgd
from support.thoroughness import repeats


def by_hand(model, optimizer, data, steps, epochs=1, max_iters=None, knows_length=True):
    """Train with a loop written by hand. Returns the losses, and the numbers of the batches followed by a step."""
    losses, stepped = [], []
    for epoch in range(epochs):
        length = len(data)
        if max_iters is not None:
            length = min(length, max_iters - epoch * length)
        for index, (x, y) in enumerate(data):
            if index == length:
                break
            first = index - index % steps
            known = knows_length or epoch
            window = min(steps, length - first) if known else steps
            model.train()
            if index == first:
                optimizer.zero_grad()
            loss = criterion(model(x), y)
            (loss / window).backward()
            losses.append(loss.item())
            if index == min(first + steps, length) - 1:
                if index - first + 1 < window:  # the length was not known when the window began
                    for parameter in model.parameters():
                        parameter.grad *= window / (index - first + 1)
                optimizer.step()
                stepped.append(len(losses))
    return losses, stepped


def trained(model, data, steps, **limits):
    trainer = create_supervised_trainer(model, sgd(model), criterion, gradient_accumulation_steps=steps)
    losses, stepped = [], []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output))
    trainer.add_event_handler(
        BackpropEvents.OPTIM_STEP_COMPLETED, lambda engine: stepped.append(engine.state.iteration)
    )
    torch.manual_seed(5)
    with record() as trace:
        trainer.run(data, **limits)
    trace.assert_legal()
    return losses, stepped


@settings(max_examples=25)
@given(steps=st.integers(1, 9), epochs=st.integers(1, 3), size=st.sampled_from([8, 10, 25]), knows_length=st.booleans())
def test_weights_losses_and_steps_equal_a_loop_written_by_hand(steps, epochs, size, knows_length):
    model = classifier()
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    expected = by_hand(twin, sgd(twin), batches(batch_size=size), steps, epochs, knows_length=knows_length)
    data = batches(batch_size=size)
    assert trained(model, data if knows_length else Unsized(data), steps, max_epochs=epochs) == expected
    assert same(model, twin)


@settings(max_examples=10)
@given(steps=st.integers(2, 5), max_iters=st.integers(1, 14))
def test_the_last_window_that_max_iters_cuts_is_stepped_too(steps, max_iters):
    model = classifier()
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    expected = by_hand(twin, sgd(twin), batches(), steps, 1 + (max_iters > 7), max_iters)
    assert trained(model, batches(), steps, max_iters=max_iters) == expected
    assert same(model, twin)


def test_one_batch_a_window_is_plain_training():
    model, twin = classifier(), classifier()
    assert str(create_supervised_trainer(model, sgd(model), criterion, gradient_accumulation_steps=1).loop) == str(
        create_supervised_trainer(twin, sgd(twin), criterion).loop
    )


def test_the_loop_says_when_it_steps():
    model = classifier()
    loop = supervised_loop(model, sgd(model), criterion, gradient_accumulation_steps=4)
    assert str(loop).splitlines() == [
        "STARTED",
        "EPOCH",
        "  ITERATION  for each batch",
        "    FORWARD",
        "    BACKWARD",
        "    OPTIM_STEP  when window_is_full",
        "  RESCALE  when gradients_are_left",
        "  LAST_OPTIM_STEP  when gradients_are_left",
        "COMPLETED",
    ]


def accumulating(steps=3, model=None):
    model = classifier() if model is None else model
    return create_supervised_trainer(model, sgd(model), criterion, gradient_accumulation_steps=steps), model


def stepped_at(trainer, data, **limits):
    found = []
    event = BackpropEvents.OPTIM_STEP_COMPLETED
    with trainer.add_event_handler(event, lambda: found.append(trainer.state.iteration)), record() as trace:
        trainer.run(data, **limits)
    trace.assert_legal()
    return found


class Weight(nn.Module):
    """A model whose gradient for a batch is the number in it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.weight * x


CALLS = ("terminate_epoch", "terminate", "interrupt", "close", "fail")


@st.composite
def interrupted_trainings(draw):
    """Draw a training, and what happens in some of its iterations, at a place between its events."""
    length = draw(st.integers(1, 7))
    limit = draw(st.sampled_from(["max_epochs", "max_iters"]))
    return {
        "length": length,
        "knows_length": draw(st.booleans()),
        "steps": draw(st.integers(2, 5)),
        "limits": {limit: draw(st.integers(1, 3 if limit == "max_epochs" else 12))},
        "with_scaler": draw(st.booleans()),
        "skipped": draw(st.sets(st.integers(1, 2 * length))),
        "calls": draw(
            st.dictionaries(
                st.integers(1, 2 * length),
                st.tuples(
                    st.sampled_from(CALLS),
                    st.sampled_from([*BackpropEvents, Events.ITERATION_COMPLETED]),
                ),
                max_size=3,
            )
        ),
    }


@settings(max_examples=repeats(150, 3000))
@given(interrupted_trainings())
def test_a_step_has_the_mean_gradient_of_its_window(case):
    model = Weight()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2) if case["with_scaler"] else None
    trainer = create_supervised_trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        lambda y_pred, y: y_pred.sum(),
        gradient_accumulation_steps=case["steps"],
        scaler=scaler,
    )
    window, done = [], set()

    def act(engine):
        call, at = case["calls"].get(engine.state.iteration, (None, None))
        if at != engine.last_event_name or (engine.state.epoch, engine.state.iteration) in done:
            return
        done.add((engine.state.epoch, engine.state.iteration))
        if call == "fail":
            raise ArithmeticError
        getattr(engine, "interrupt" if call == "close" else call)()

    def skip(engine):
        if engine.state.iteration in case["skipped"]:
            engine.skip_iteration()

    def check():
        assert 1 <= len(window) <= case["steps"]
        assert model.weight.grad.item() == pytest.approx(sum(window) / len(window), rel=1e-5)
        window.clear()

    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: window.clear())
    trainer.add_event_handler(Events.ITERATION_STARTED, skip)
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, lambda: window.append(trainer.state.batch[0].item()))
    trainer.add_event_handler("unscale_completed" if scaler else BackpropEvents.OPTIM_STEP_STARTED, check)
    for at in {at for _, at in case["calls"].values()}:
        trainer.add_event_handler(at, act)
    data = [(torch.tensor(2.0**number), torch.tensor(0.0)) for number in range(case["length"])]
    data = data if case["knows_length"] else Unsized(data)
    with record() as trace:
        for _ in range(6):  # each call may end a run early; the next run continues or starts anew
            with suppress(ArithmeticError):
                trainer.run(data, **case["limits"])
            if any(call == "close" for call, _ in case["calls"].values()):
                trainer.close()
    trace.assert_legal()


@pytest.mark.parametrize("knows_length", [True, False])
@pytest.mark.parametrize("with_scaler", [True, False])
@pytest.mark.parametrize("skipped", [{1}, {4}, {7}, {2, 3}, {6, 7}, {1, 2, 3, 4}, {5, 6, 7}, set(range(1, 7)), set()])
@pytest.mark.parametrize("steps", [2, 3, 4, 9])
def test_no_batch_is_lost_or_counted_twice(steps, skipped, with_scaler, knows_length):
    model = Weight()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer = create_supervised_trainer(
        model,
        optimizer,
        lambda y_pred, y: y_pred.sum(),
        gradient_accumulation_steps=steps,
        scaler=torch.amp.GradScaler("cpu", init_scale=4.0) if with_scaler else None,
    )
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: engine.skip_iteration() if engine.state.iteration in skipped else None
    )
    data = [(torch.tensor(10.0**number), torch.tensor(0.0)) for number in range(7)]
    trainer.run(data if knows_length else Unsized(data))
    kept = [10.0**number for number in range(7) if number + 1 not in skipped]
    windows = [kept[first : first + steps] for first in range(0, len(kept), steps)]
    expected = -sum(sum(window) / len(window) for window in windows)
    assert model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_a_skipped_batch_leaves_a_step_after_the_epoch():
    trainer, _ = accumulating()
    trainer.add_event_handler(Events.ITERATION_STARTED(event_filter=lambda _, n: n in (3, 7)), trainer.skip_iteration)
    assert stepped_at(trainer, batches()) == [4, 7]  # 1 2 4, and 5 6


def test_a_terminated_epoch_drops_what_it_left():
    trainer, model = accumulating()
    twin = copy.deepcopy(model)
    optimizer = sgd(twin)
    torch.manual_seed(5)
    data = batches()
    for length in (2, 7):
        for index, (x, y) in zip(range(length), data, strict=False):
            if index % 3 == 0:
                optimizer.zero_grad()
            (criterion(twin.train()(x), y) / min(3, 7 - index // 3 * 3)).backward()
            if index % 3 == 2 or index == 6:
                optimizer.step()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate_epoch)
    torch.manual_seed(5)
    assert stepped_at(trainer, batches(), max_epochs=2) == [5, 8, 9]
    assert same(model, twin)


def test_a_failed_epoch_drops_what_it_left():
    trainer, _ = accumulating()

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def fail():
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        trainer.run(batches(), max_epochs=2)
    assert stepped_at(trainer, batches(), max_epochs=2) == [5, 8, 9]


def test_a_state_of_an_engine_of_ones_own_can_be_gone_on_with():
    def build():
        model = classifier()
        return Engine(supervised_loop(model, sgd(model), criterion, gradient_accumulation_steps=2))

    saved = []
    first, second = build(), build()
    first.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda engine: saved.append(engine.state_dict()))
    first.run(batches(), max_epochs=2)
    second.load_state_dict(saved[0])
    assert stepped_at(second, batches()) == [6, 7, 9, 11, 13, 14]


def test_a_run_that_starts_anew_forgets_what_the_last_one_left():
    trainer, _ = accumulating(4)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate)
    assert stepped_at(trainer, batches()) == []
    assert trainer.loop.find("OPTIM_STEP").when.__self__.accumulated == 2
    trainer.close()
    trainer.remove_event_handler(trainer.terminate, Events.ITERATION_COMPLETED)
    assert stepped_at(trainer, batches()) == [4, 7]


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, None, "4"])
def test_what_is_no_number_of_batches_is_refused(steps):
    model = classifier()
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps must be an integer of 1 or more, got .*"):
        create_supervised_trainer(model, sgd(model), criterion, gradient_accumulation_steps=steps)


def test_a_saved_run_resumes_in_the_middle_of_an_epoch():
    def build():
        model = classifier()
        optimizer = sgd(model)
        return create_supervised_trainer(model, optimizer, criterion, gradient_accumulation_steps=3), model, optimizer

    whole, expected, _ = build()
    torch.manual_seed(5)
    whole.run(batches(shuffle=False), max_epochs=2)

    first, model, optimizer = build()
    saved = []

    @first.on(Events.ITERATION_COMPLETED(once=6))
    def save(engine):
        saved.extend(copy.deepcopy([engine.state_dict(), model.state_dict(), optimizer.state_dict()]))
        engine.terminate()

    torch.manual_seed(5)
    first.run(batches(shuffle=False), max_epochs=2)
    assert saved[0]["position"] == 6

    random = torch.get_rng_state()
    second = build()
    for part, state in zip(second, saved, strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(random)
    assert stepped_at(second[0], batches(shuffle=False)) == [7, 10, 13, 14]
    assert same(second[1], expected)


def test_a_window_that_max_iters_ends_has_its_own_length():
    model = classifier()
    engine = Engine(supervised_loop(model, sgd(model), criterion, gradient_accumulation_steps=2))
    window = engine.loop.find("OPTIM_STEP").when.__self__
    lengths = []
    engine.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, lambda: lengths.append(window.length))
    engine.run(batches(), max_iters=3)
    assert (lengths, window.accumulated) == ([2, 2, 1], 0)


# -- the example ------------------------------------------------------------------------------------------------------


def test_the_example_shows_both_ways_to_be_the_same(capsys):
    example = runpy.run_path(str(ROOT / "examples" / "gradient_accumulation.py"))
    assert example["main"]() == 0
    out = capsys.readouterr().out
    assert "12 batches an epoch, 4 a window, 3 epochs: the same weights, bit for bit" in out
    assert "10 batches an epoch, 4 a window, 3 epochs: weights differ" in out
    difference, by_hand, by_loop = example["compare"](10)
    assert difference > 0
    assert (by_hand[-1], by_loop) == (28, [4, 8, 10, 14, 18, 20, 24, 28, 30])
