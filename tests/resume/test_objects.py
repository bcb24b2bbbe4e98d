"""Objects with a state resume exactly, or the difference is told by name."""

import copy
import itertools
import warnings

import pytest
import torch
import torchmetrics
from torch import nn
from torchmetrics import wrappers
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from camshaft import BackpropEvents, Engine, Events, Snapshot, create_supervised_evaluator, create_supervised_trainer
from camshaft.metrics import RUNNING, attach
from support.learning import batches, classifier, criterion, same, sgd

NUMBERS = [(torch.tensor([i % 3, i * 2 % 3]), torch.tensor([i % 3, i % 2])) for i in range(6)]


def accuracy(**options):
    return MulticlassAccuracy(3, **options)


def as_numbers(output):
    return output[0].float().view(-1, 1), output[1].float().view(-1, 1)


def as_task(output):
    return {"t": output[0]}, {"t": output[1]}


def itself(output):
    return output


class Averaged(torchmetrics.Metric):
    """A metric that counts in plain attributes, and holds other metrics in a list and a dictionary."""

    def __init__(self):
        super().__init__()
        self.parts, self.named = [accuracy(), MulticlassF1Score(3)], {"a": {"b": accuracy(average=None)}}
        self.seen, self.best, self.history = 0, None, []

    def update(self, y_pred, y):
        for part in (*self.parts, self.named["a"]["b"]):
            part.update(y_pred, y)
        self.seen += len(y)
        self.best = max(self.best or 0.0, self.parts[0].compute().item())
        self.history.append(self.best)

    def compute(self):
        values = [part.compute().mean().item() for part in (*self.parts, self.named["a"]["b"])]
        return torch.tensor([*values, self.seen, self.best, *self.history])


METRICS = {
    "plain": (accuracy, itself),
    "min and max": (lambda: wrappers.MinMaxMetric(accuracy()), itself),
    "sum": (lambda: accuracy() + MulticlassF1Score(3), itself),
    "sum of a sum": (lambda: 2 * (accuracy() + MulticlassF1Score(3)) - accuracy(), itself),
    "tasks": (lambda: wrappers.MultitaskWrapper({"t": accuracy()}), as_task),
    "tasks with collections": (
        lambda: wrappers.MultitaskWrapper({"t": torchmetrics.MetricCollection([accuracy(), MulticlassF1Score(3)])}),
        as_task,
    ),
    "outputs": (lambda: wrappers.MultioutputWrapper(torchmetrics.MeanSquaredError(), 1), as_numbers),
    "bootstrap": (lambda: wrappers.BootStrapper(accuracy(), num_bootstraps=3), itself),
    "window": (lambda: wrappers.Running(torchmetrics.MeanSquaredError(), window=3), as_numbers),
    "classes": (lambda: wrappers.ClasswiseWrapper(accuracy(average=None)), itself),
    "extremes of a sum": (lambda: wrappers.MinMaxMetric(accuracy() + MulticlassF1Score(3)), itself),
    "collection of extremes": (
        lambda: torchmetrics.MetricCollection({"a": wrappers.MinMaxMetric(accuracy()), "b": accuracy()}),
        itself,
    ),
    "own": (Averaged, itself),
    "list states": (
        lambda: torchmetrics.SpearmanCorrCoef(),
        lambda output: [part.view(-1) for part in as_numbers(output)],
    ),
}


def value_of(name, folder, stop=None, resume=None, usage=None):
    make, transform = METRICS[name]
    torch.manual_seed(3)
    engine = Engine(lambda engine, batch: batch, name="trainer")
    options = {} if usage is None else {"usage": usage}
    attach(make(), engine, "m", output_transform=transform, **options)
    snapshot = Snapshot(engine, folder)
    if stop:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda: (snapshot(), engine.interrupt()))
    engine.run(NUMBERS, max_epochs=2, resume=resume)
    return str(engine.state.metrics.get("m"))


@pytest.mark.parametrize("usage", [None, RUNNING], ids=["of an epoch", "of the run"])
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
def test_metrics_in_metrics_resume_exactly(tmp_path, name, usage):
    whole = value_of(name, tmp_path / "whole", usage=usage)
    for stop in (3, 8):
        folder = tmp_path / f"{stop}"
        value_of(name, folder, stop=stop, usage=usage)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", module="camshaft")
            assert value_of(name, folder, resume="latest", usage=usage) == whole


@pytest.mark.parametrize("how", ["named", "handler", "in a named module"])
@pytest.mark.parametrize("name", ["plain", "min and max", "own"])
def test_metrics_that_are_not_attached_resume_exactly(tmp_path, name, how):
    def build(folder):
        metric = METRICS[name][0]()
        engine = Engine(lambda engine, batch: batch, name="trainer")
        if how == "handler":  # a bound method of the metric
            engine.add_event_handler(Events.STARTED, metric.reset)
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: metric.update(*engine.state.output))
            return engine, metric, Snapshot(engine, folder)
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: metric.update(*engine.state.output))
        obj = metric if how == "named" else nn.ModuleDict({"layer": nn.Linear(1, 1), "metric": metric})
        return engine, metric, Snapshot(engine, folder, metric=obj)

    engine, whole, _ = build(tmp_path / "whole")
    engine.run(NUMBERS)
    engine, _, snapshot = build(tmp_path / "left")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: (snapshot(), engine.interrupt()))
    engine.run(NUMBERS)
    engine, resumed, _ = build(tmp_path / "left")
    engine.run(NUMBERS, resume="latest")
    assert str(resumed.compute()) == str(whole.compute())


# -- gradients of wrapped models ---------------------------------------------------------------------------------------

WRAPPERS = {
    "plain": lambda model: model,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "parallel": nn.DataParallel,
    "compiled and parallel": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    "parallel and compiled": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(WRAPPERS, repeat=2)))
def test_gradients_of_a_window_outlive_wrappers(tmp_path, before, after):
    def build(wrap, folder):
        raw = classifier(dropout=0)
        model = WRAPPERS[wrap](raw)
        optimizer = sgd(model)
        trainer = create_supervised_trainer(model, optimizer, criterion, gradient_accumulation_steps=4)
        return trainer, raw, Snapshot(trainer, folder, model=model, optimizer=optimizer)

    trainer, whole, _ = build("plain", tmp_path / "whole")
    trainer.run(batches(shuffle=False))
    trainer, _, snapshot = build(before, tmp_path / "left")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: (snapshot(), trainer.interrupt()))
    trainer.run(batches(shuffle=False))
    trainer, raw, _ = build(after, tmp_path / "left")
    trainer.run(batches(shuffle=False), resume="latest")
    assert same(raw, whole)


# -- what one-time handlers change -------------------------------------------------------------------------------------


def thaw(trainer, model, optimizer):
    model[0].requires_grad_(True)


def add_group(trainer, model, optimizer):
    optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.01})


def add_groups(trainer, model, optimizer):
    for parameter in model[0].parameters():
        optimizer.add_param_group({"params": [parameter]})


def fix_statistics(trainer, model, optimizer):
    model[1].eval()


CHANGES = {"thaw": thaw, "add a group": add_group, "add two groups": add_groups, "fix statistics": fix_statistics}
AT = {
    "an epoch": Events.EPOCH_STARTED(once=2),
    "an iteration": Events.ITERATION_COMPLETED(once=9),
    "a step": BackpropEvents.OPTIM_STEP_COMPLETED(once=9),
}
OPTIMIZERS = {"SGD": sgd, "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01)}


def build_changed(folder, change, at, optimizer_name="SGD", named=True, evaluates=False):
    model = classifier()
    if change == "thaw":
        model[0].requires_grad_(False)
    optimizer = OPTIMIZERS[optimizer_name](model[1:] if "add" in change else model)
    trainer = create_supervised_trainer(model, optimizer, criterion)
    trainer.add_event_handler(AT[at], CHANGES[change], model, optimizer)
    if evaluates:
        evaluator = create_supervised_evaluator(model)
        trainer.nest(evaluator, on=Events.ITERATION_COMPLETED, data=batches(shuffle=False))
    return trainer, model, Snapshot(trainer, folder, optimizer=optimizer, **({"model": model} if named else {}))


@pytest.mark.parametrize("stop", [7, 8, 9, 14, 18])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_one_time_handlers_resume_exactly(tmp_path, change, at, optimizer, stop):
    evaluates = change == "fix statistics" and at != "an epoch"
    if change == "fix statistics" and at != "an epoch":
        stop = max(stop, 9)
    trainer, whole, _ = build_changed(tmp_path / "whole", change, at, optimizer, evaluates=evaluates)
    torch.manual_seed(2)
    trainer.run(batches(shuffle=False), max_epochs=3)
    trainer, _, snapshot = build_changed(tmp_path / "left", change, at, optimizer, evaluates=evaluates)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda: (snapshot(), trainer.interrupt()))
    torch.manual_seed(2)
    trainer.run(batches(shuffle=False), max_epochs=3)
    trainer, model, _ = build_changed(tmp_path / "left", change, at, optimizer, evaluates=evaluates)
    trainer.run(batches(shuffle=False), max_epochs=3, resume="latest")
    assert same(model, whole)
    assert [each.requires_grad for each in model.parameters()] == [each.requires_grad for each in whole.parameters()]


def test_groups_of_unknown_parameters_are_refused(tmp_path):
    trainer, _, snapshot = build_changed(tmp_path, "add a group", "an epoch", named=False)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), lambda: (snapshot(), trainer.interrupt()))
    with pytest.warns(UserWarning, match="6 parameters of optimizer are in no named module, so snapshots have neither"):
        trainer.run(batches(), max_epochs=3)
    trainer, _, _ = build_changed(tmp_path, "add a group", "an epoch", named=False)
    with pytest.raises(ValueError, match="optimizer does not fit: it has 1 groups of parameters, and 2 in"):
        trainer.resume()


def test_a_head_that_was_replaced_is_told_by_name(tmp_path):
    def build():
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        engine, optimizer = Engine(lambda engine, batch: None), torch.optim.SGD(model.parameters())
        return engine, model, Snapshot(engine, tmp_path, model=model, optimizer=optimizer)

    _, model, snapshot = build()
    model[1] = nn.Linear(2, 1)  # the optimizer still has the parameters of the old one
    with pytest.warns(UserWarning, match="2 parameters of optimizer are in no named module"):
        snapshot()
    engine, _, _ = build()
    with pytest.warns(
        UserWarning, match=r"model\.1\.weight has the state of a parameter in no .*model\.1\.bias has the"
    ):
        engine.resume()


CONFIGURED = {
    "a number": lambda model: setattr(model[0], "p", 0.7),
    "a number that changes type": lambda model: setattr(model[0], "p", None),
    "a container": lambda model: model.history.append(3),
    "a tensor": lambda model: model.scale.add_(1),
    "another tensor": lambda model: setattr(model, "scale", torch.ones(3)),
    "a buffer that is not persistent": lambda model: model.count.add_(1),
    "a generator": lambda model: torch.rand(5, generator=model.generator),
    "momentum": lambda model: setattr(model[1], "momentum", 0.5),
}


def configured(eps):
    model = nn.Sequential(nn.Dropout(0.1), nn.BatchNorm1d(2, eps=eps), nn.LSTM(2, 2), nn.Linear(2, 1))
    model.history, model.scale, model.generator = [1], torch.zeros(2), torch.Generator().manual_seed(1)
    model.register_buffer("count", torch.zeros(2), persistent=False)
    return model


def seen(model):
    attributes = (model[0].p, model[1].momentum, model.history, model.scale, model.count)
    return str((*attributes, model.generator.get_state().sum()))


@pytest.mark.parametrize("wrap", ["plain", "parallel"])
@pytest.mark.parametrize("change", CONFIGURED)
def test_attributes_of_a_model_resume_if_they_changed(tmp_path, change, wrap):
    def build(eps=1e-5):
        model, engine = configured(eps), Engine(lambda engine, batch: None, name="trainer")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: CONFIGURED[change](model))
        return engine, model, Snapshot(engine, tmp_path, model=WRAPPERS[wrap](model))

    engine, whole, snapshot = build()
    before = seen(whole)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: (snapshot(), engine.interrupt()))
    engine.run(range(6))
    engine, model, _ = build(eps=0.5)  # another configuration holds, because no handler had changed it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.run(range(6), resume="latest")
    assert seen(model) == seen(whole) != before
    assert model[1].eps == 0.5


def test_groups_of_other_parameters_are_refused(tmp_path):
    model = classifier()
    trainer = create_supervised_trainer(model, optimizer := sgd(model), criterion)
    Snapshot(trainer, tmp_path, model=model, optimizer=optimizer)()
    optimizer = torch.optim.SGD(reversed(list(model.parameters())), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, criterion)
    Snapshot(trainer, tmp_path, model=model, optimizer=optimizer)
    with pytest.raises(ValueError, match=r"group 0 has the parameters model.4.bias, .* and model.0.weight"):
        trainer.resume()


# -- a refusal changes nothing, and all differences are told -----------------------------------------------------------


class Counting:
    refuses = False

    def __init__(self, value):
        self.value = value

    def __call__(self):
        self.value += 1

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        if self.refuses and state["value"] != 5:
            raise KeyError("value")
        self.value = state["value"]


@pytest.mark.parametrize("refuses", ["model", "handler", "progress"])
def test_a_refused_resume_has_changed_nothing(tmp_path, refuses):
    def build(value, features=16):
        torch.manual_seed(value)
        first, second = nn.Linear(6, 3), nn.Linear(features, 1)
        engine = Engine(lambda engine, batch: None)
        handler = Counting(value)
        handler.refuses = value and refuses == "handler"
        engine.add_event_handler(Events.STARTED, Counting(value))
        engine.add_event_handler(Events.COMPLETED, handler)
        engine.state_dict_user_keys += ["note"] if value and refuses == "progress" else []
        engine.state.note = value
        optimizer = torch.optim.Adam(first.parameters())
        return engine, Snapshot(engine, tmp_path, first=first, second=second, optimizer=optimizer)

    engine, snapshot = build(0)
    engine.run([1, 2])
    snapshot()
    engine, snapshot = build(5, 17 if refuses == "model" else 16)
    before = copy.deepcopy(snapshot._objects.state_dict()), engine.state_dict()
    with pytest.raises(ValueError, match="does not fit|lacks note"):
        engine.resume()
    after = snapshot._objects.state_dict(), engine.state_dict()
    assert str(after) == str(before)
    assert (engine.state.iteration, engine.state.note) == (0, 5)


def test_a_warning_that_is_an_error_has_changed_nothing(tmp_path):
    def build(value, *handlers):
        engine, named = Engine(lambda engine, batch: None, name="trainer"), Counting(value)
        for handler in handlers:
            engine.add_event_handler(Events.COMPLETED, handler)
        return engine, named, Snapshot(engine, tmp_path, named=named)

    engine, _, snapshot = build(1, Counting(1))
    engine.run([1, 2])
    snapshot()
    engine, named, _ = build(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="trainer: Counting is in the file, but not here"):
            engine.resume()
    assert (named.value, engine.state.iteration) == (5, 0)


def test_all_states_that_do_not_fit_are_named(tmp_path):
    def build(features):
        engine = Engine(lambda engine, batch: None)
        models = {f"model_{number}": nn.Linear(features, 1) for number in range(3)}
        kept = torch.optim.SGD(models["model_0"].parameters(), lr=1 / features)
        return engine, kept, Snapshot(engine, tmp_path, kept=kept, **models)

    _, _, snapshot = build(2)
    snapshot()
    engine, kept, _ = build(4)
    with pytest.raises(ValueError, match="(?s)state of model_0 does .* state of model_1 does .* state of model_2 does"):
        engine.resume()
    assert kept.param_groups[0]["lr"] == 0.25


def test_all_differences_are_told_at_once(tmp_path):
    def build(*handlers, **objects):
        engine = Engine(lambda engine, batch: None, name="trainer")
        for handler in handlers:
            engine.add_event_handler(Events.COMPLETED, handler)
        return engine, Snapshot(engine, tmp_path, **objects)

    class Other(Counting):
        pass

    _, snapshot = build(Counting(1), Counting(2), extra=Counting(3), kept=Counting(4))
    snapshot()
    engine, _ = build(Counting(1), Other(1), kept=Counting(4))
    with pytest.warns(UserWarning) as told:
        engine.resume()
    (message,) = (str(warning.message) for warning in told)
    for name in ("Counting 2 is in the file", "Other is not in the file", "extra is in the file"):
        assert name in message


def test_a_nested_evaluation_begins_without_the_metrics_of_the_last_one_in_a_resumed_run_too(tmp_path):
    def build(folder):
        trainer, evaluator = Engine(lambda engine, batch: None, name="trainer"), Engine(lambda engine, batch: None)
        seen = []

        @evaluator.on(Events.STARTED)
        def look(engine):
            seen.append(dict(engine.state.metrics))

        @evaluator.on(Events.COMPLETED)
        def write(engine):
            engine.state.metrics["epoch"] = trainer.state.epoch

        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
        trainer.state.metrics["given"] = 1
        return trainer, seen, Snapshot(trainer, folder, evaluator=evaluator)

    trainer, seen, snapshot = build(tmp_path)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: (snapshot(), trainer.interrupt()))
    trainer.run([1, 2], max_epochs=3)
    trainer, rest, _ = build(tmp_path)
    state = trainer.run([1, 2], max_epochs=3, resume="latest")
    assert seen + rest == [{}, {}, {}]
    assert state.metrics == {"given": 1}
