"""Tests of supervised training and evaluation, with real models, optimizers and data loaders."""

import copy
from collections import namedtuple

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from camshaft import (
    BackpropEvents,
    Engine,
    Events,
    Phase,
    create_supervised_evaluator,
    create_supervised_trainer,
    every,
    record,
    supervised_loop,
)
from camshaft.training import ForwardResult
from support.learning import CLASSES, FEATURES, classifier, sgd, weights


@pytest.fixture
def model():
    return classifier()


def loader(dataset, seed=0, **options):
    return DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(seed), **options)


def same(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


def trained_by_hand(model, optimizer, data, epochs, clip=None):
    losses = []
    for _ in range(epochs):
        for x, y in data:
            model.train()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            losses.append(loss.item())
    return losses


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


# -- the trainer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "workers"), [(sgd, 0), (adamw, 0), (sgd, 2)])
def test_weights_and_losses_equal_a_loop_written_by_hand(model, dataset, make, workers):
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    expected = trained_by_hand(twin, make(twin), loader(dataset, num_workers=workers), epochs=3)

    trainer = create_supervised_trainer(model, make(model), nn.CrossEntropyLoss())
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output))
    torch.manual_seed(5)
    with record() as trace:
        state = trainer.run(loader(dataset, num_workers=workers), max_epochs=3)

    assert losses == expected
    assert same(weights(model), weights(twin))
    assert (state.epoch, state.iteration, state.epoch_length) == (3, 21, 7)
    trace.assert_legal()


def test_clipping_at_backward_completed_is_as_by_hand(model, dataset):
    plain, twin = copy.deepcopy(model), copy.deepcopy(model)
    torch.manual_seed(5)
    trained_by_hand(plain, sgd(plain), loader(dataset), epochs=1)
    torch.manual_seed(5)
    trained_by_hand(twin, sgd(twin), loader(dataset), epochs=1, clip=0.01)
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss())

    @trainer.on(BackpropEvents.BACKWARD_COMPLETED)
    def clip():
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)

    torch.manual_seed(5)
    trainer.run(loader(dataset))
    assert same(weights(model), weights(twin))
    assert not same(weights(model), weights(plain))


def test_a_phase_inserted_after_backward_has_its_own_events(model, dataset):
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    trained_by_hand(twin, sgd(twin), loader(dataset), epochs=2, clip=0.01)

    def clip(engine, batch):
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)

    loop = supervised_loop(model, sgd(model), nn.CrossEntropyLoss())
    trainer = Engine(loop.insert(Phase("CLIP", clip), after="BACKWARD"))
    fired = []
    trainer.add_event_handler("clip_completed", lambda: fired.append(trainer.where))
    torch.manual_seed(5)
    with record() as trace:
        trainer.run(loader(dataset), max_epochs=2)

    assert same(weights(model), weights(twin))
    assert fired == [("EPOCH", "ITERATION", "CLIP")] * 14
    assert trace.count("clip_started") == trace.count(loop.events.BACKWARD_COMPLETED) == 14
    assert "CLIP" not in [item.name for _, item in loop.walk()]
    trace.assert_legal()


def test_phases_fire_backprop_events_in_order(model, dataset):
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss())
    with record() as trace:
        trainer.run(loader(dataset), max_iters=1)
    inner = list(BackpropEvents)
    assert trace == [
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.GET_BATCH_STARTED,
        Events.GET_BATCH_COMPLETED,
        Events.ITERATION_STARTED,
        *inner,
        Events.ITERATION_COMPLETED,
        Events.TERMINATE,
        Events.COMPLETED,
    ]


def test_gradients_come_in_backward_and_weights_move_in_the_step(model, dataset):
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss())
    first = next(model.parameters())
    seen = {}

    def see(engine):
        grad = None if first.grad is None else bool(first.grad.any())
        seen[engine.last_event_name] = (grad, first.detach().clone())

    for event in BackpropEvents:
        trainer.add_event_handler(event, see)
    trainer.run(loader(dataset), max_iters=1)

    before = seen["forward_started"][1]
    assert seen["forward_completed"][0] is None
    assert seen["backward_completed"][0] is True
    assert torch.equal(seen["optim_step_started"][1], before)
    assert not torch.equal(seen["optim_step_completed"][1], before)


def test_forward_leaves_what_backward_needs_in_the_output(model, dataset):
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss())
    seen = []
    trainer.add_event_handler(BackpropEvents.FORWARD_COMPLETED, lambda engine: seen.append(engine.state.output))
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, lambda engine: seen.append(engine.state.output))
    trainer.run(loader(dataset), max_iters=1)
    forward, loss = seen
    assert isinstance(forward, ForwardResult)
    assert forward.y_pred.shape == (8, CLASSES)
    assert forward.loss.item() == loss


def test_outputs_in_the_state_are_detached(model, dataset):
    def everything(x, y, y_pred, loss):
        return {"loss": loss, "pair": (y_pred, [y_pred * 2]), "name": "n", "none": None}

    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss(), output_transform=everything)
    kept = []
    for event in (BackpropEvents.BACKWARD_COMPLETED, Events.ITERATION_COMPLETED):
        trainer.add_event_handler(event, lambda engine: kept.append(engine.state.output))
    output = trainer.run(loader(dataset), max_iters=2).output
    for kept_output in (*kept, output):
        y_pred, (double,) = kept_output["pair"]
        assert [tensor.requires_grad for tensor in (kept_output["loss"], y_pred, double)] == [False] * 3
        assert torch.equal(double, y_pred * 2)
        assert (kept_output["name"], kept_output["none"]) == ("n", None)


def test_outputs_in_named_tuples_are_detached_too(model, dataset):
    out = namedtuple("out", "y_pred loss")
    trainer = create_supervised_trainer(
        model, sgd(model), nn.CrossEntropyLoss(), output_transform=lambda x, y, y_pred, loss: out(y_pred, loss)
    )
    output = trainer.run(loader(dataset), max_iters=1).output
    assert isinstance(output, out)
    assert not output.y_pred.requires_grad
    assert not output.loss.requires_grad


def test_the_output_is_the_loss_as_a_number(model, dataset):
    state = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss()).run(loader(dataset))
    assert isinstance(state.output, float)


def test_modes_of_the_model_while_a_trainer_evaluates_in_between(model, dataset):
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss())
    evaluator = create_supervised_evaluator(model)
    modes = []
    for engine in (trainer, evaluator):
        engine.add_event_handler(
            BackpropEvents.FORWARD_COMPLETED, lambda engine: modes.append((engine.name, model.training))
        )
    trainer.nest(evaluator, on=Events.ITERATION_COMPLETED, data=loader(dataset), epoch_length=1)
    model.eval()
    trainer.run(loader(dataset), max_iters=3)
    assert modes == [("trainer", True), ("evaluator", False)] * 3


def engines(model, **arguments):
    """Return both kinds of engine by name, created with the same arguments."""
    trainer = create_supervised_trainer(model, sgd(model), nn.CrossEntropyLoss(), **arguments)
    return {"trainer": trainer, "evaluator": create_supervised_evaluator(model, **arguments)}


KINDS = pytest.mark.parametrize("kind", ["trainer", "evaluator"])


# -- arguments ---------------------------------------------------------------------------------------------------------


@KINDS
def test_device_and_non_blocking_reach_prepare_batch(model, dataset, kind):
    seen = []

    def prepare(batch, device=None, non_blocking=False):
        seen.append((device, non_blocking))
        return batch

    arguments = {"device": "cpu", "non_blocking": True, "prepare_batch": prepare}
    engines(model, **arguments)[kind].run(loader(dataset), max_iters=2)
    assert seen == [("cpu", True)] * 2


@KINDS
def test_device_moves_batches(kind):
    model = nn.Linear(2, 2).to("meta")
    seen = []

    def call(model, x):
        seen.append(x.device.type)
        return model(x)

    arguments = {"device": torch.device("meta"), "model_fn": call}
    engine = engines(model, **arguments)[kind]
    data = [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))]
    if kind == "trainer":  # a loss on the meta device has no value: stop before it is read
        engine.add_event_handler(BackpropEvents.FORWARD_COMPLETED, engine.terminate)
    engine.run(data)
    assert seen == ["meta"]


@KINDS
def test_without_a_device_batches_stay_where_they_are(model, kind):
    x, y = torch.zeros(4, FEATURES), torch.zeros(4, dtype=torch.long)
    seen = []

    def call(model, given):
        seen.append(given)
        return model(given)

    engines(model, model_fn=call)[kind].run([(x, y)])
    assert seen[0] is x


@KINDS
def test_prepare_batch_takes_batches_of_any_kind(model, dataset, kind):
    def prepare(batch, device=None, non_blocking=False):
        return batch["x"], batch["y"]

    batches = [{"x": x, "y": y} for x, y in loader(dataset)]
    state = engines(model, prepare_batch=prepare)[kind].run(batches)
    assert state.iteration == 7


@KINDS
def test_model_fn_and_model_transform(model, dataset, kind):
    calls = []

    def call(given, x):
        calls.append(given)
        return {"logits": given(x), "features": x}

    arguments = {"model_fn": call, "model_transform": lambda made: made["logits"]}
    state = engines(model, **arguments)[kind].run(loader(dataset))
    assert calls == [model] * 7
    if kind == "evaluator":
        assert state.output[0].shape == (2, CLASSES)


def test_output_transform_of_the_trainer(model, dataset):
    trainer = create_supervised_trainer(
        model, sgd(model), nn.CrossEntropyLoss(), output_transform=lambda x, y, y_pred, loss: (x, y, y_pred, loss)
    )
    x, y, y_pred, loss = trainer.run(loader(dataset), max_iters=1).output
    assert (x.shape, y.shape, y_pred.shape, loss.shape) == ((8, FEATURES), (8,), (8, CLASSES), ())
    assert torch.equal(loss, nn.functional.cross_entropy(y_pred, y))


def test_output_transform_of_the_evaluator(model, dataset):
    evaluator = create_supervised_evaluator(model, output_transform=lambda x, y, y_pred: {"x": x, "y_pred": y_pred})
    output = evaluator.run(loader(dataset), max_iters=1).output
    assert output["y_pred"].shape == (8, CLASSES)
    assert torch.equal(model.eval()(output["x"]), output["y_pred"])


@KINDS
def test_names_and_strictness(model, kind):
    engine = engines(model)[kind]
    assert (engine.name, engine.strict) == (kind, False)
    engine = engines(model, name="mine", strict=True)[kind]
    assert (engine.name, engine.strict) == ("mine", True)


def test_the_arguments_can_be_given_by_position_in_the_known_order(model, dataset):
    def prepare(batch, device=None, non_blocking=False):
        return batch

    common = (torch.device("cpu"), False, prepare, lambda made: made)
    by_position = (model, sgd(model), nn.CrossEntropyLoss(), *common, lambda x, y, y_pred, loss: "kept")
    assert create_supervised_trainer(*by_position).run(loader(dataset)).output == "kept"
    assert Engine(supervised_loop(*by_position)).run(loader(dataset)).output == "kept"
    evaluator = create_supervised_evaluator(model, None, *common, lambda x, y, y_pred: "kept")
    assert evaluator.run(loader(dataset)).output == "kept"


@KINDS
@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(3, FEATURES),
        torch.zeros(2, FEATURES),
        numpy.zeros((2, FEATURES)),
        {"x": torch.zeros(3, FEATURES), "y": torch.zeros(3)},
        "xy",
        b"xy",
        (torch.zeros(3, FEATURES), torch.zeros(3), 1.0),
        3,
    ],
)
def test_a_batch_that_is_no_pair_says_what_to_give(model, kind, batch):
    says = rf"a batch must be a pair \(x, y\), got a {type(batch).__name__}: give a prepare_batch="
    with pytest.raises(ValueError, match=says):
        engines(model)[kind].run([batch])


# -- the loop as data --------------------------------------------------------------------------------------------------


def test_supervised_loop_is_declared_as_three_phases(model):
    loop = supervised_loop(model, sgd(model), nn.CrossEntropyLoss())
    assert [path for path, _ in loop.walk()][2:] == [
        ("EPOCH", "ITERATION", name) for name in ("FORWARD", "BACKWARD", "OPTIM_STEP")
    ]


def test_accumulation_by_replacing_two_phases(model, dataset):
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    optimizer = sgd(twin)
    for number, (x, y) in enumerate(loader(dataset), start=1):
        nn.functional.cross_entropy(twin.train()(x), y).backward()
        if number % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()

    optimizer = sgd(model)

    def forward(engine, batch):
        x, y = batch
        return ForwardResult(x, y, None, nn.functional.cross_entropy(model.train()(x), y))

    def step(engine, batch):
        optimizer.step()
        optimizer.zero_grad()

    loop = supervised_loop(model, optimizer, nn.CrossEntropyLoss())
    loop = loop.replace("FORWARD", Phase("FORWARD", forward))
    loop = loop.replace("OPTIM_STEP", Phase("OPTIM_STEP", step, when=every(3)))
    torch.manual_seed(5)
    with record() as trace:
        Engine(loop).run(loader(dataset))
    assert same(weights(model), weights(twin))
    assert trace.count(BackpropEvents.OPTIM_STEP_COMPLETED) == 2
    trace.assert_legal()


def test_one_loop_serves_two_engines(model, dataset):
    loop = supervised_loop(model, sgd(model), nn.CrossEntropyLoss())
    first, second = Engine(loop, "first"), Engine(loop, "second")
    heard = []
    first.add_event_handler(BackpropEvents.BACKWARD_COMPLETED, lambda engine: heard.append(engine.name))
    first.run(loader(dataset), max_iters=2)
    second.run(loader(dataset), max_iters=2)
    assert heard == ["first", "first"]


# -- the evaluator -----------------------------------------------------------------------------------------------------


def test_evaluation_makes_no_graph_and_changes_nothing(model, dataset):
    before = weights(model)
    evaluator = create_supervised_evaluator(model)
    outputs = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    evaluator.run(DataLoader(dataset, batch_size=8, num_workers=2))
    y_pred, y = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    x, labels = dataset.tensors
    assert not y_pred.requires_grad
    assert torch.equal(y, labels)
    torch.testing.assert_close(y_pred, model.eval()(x).detach())
    assert same(weights(model), before)
    assert torch.is_grad_enabled()


def test_gradients_are_only_off_within_forward(model, dataset):
    evaluator = create_supervised_evaluator(model)
    enabled = []
    for event in (BackpropEvents.FORWARD_STARTED, BackpropEvents.FORWARD_COMPLETED, Events.ITERATION_COMPLETED):
        evaluator.add_event_handler(event, lambda: enabled.append(torch.is_grad_enabled()))
    evaluator.run(loader(dataset), max_iters=1)
    assert enabled == [True] * 3


# -- moving batches ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@KINDS
def test_batches_go_to_the_gpu(model, dataset, kind):
    engine = engines(model.to("cuda"), device="cuda", non_blocking=True)[kind]
    assert engine.run(loader(dataset, pin_memory=True)).iteration == 7
