"""Programs written for pytorch-ignite run unchanged, apart from their import lines.

The programs are quoted word for word: the guide to custom events of the backward pass, and fragments of the FAQ. A
small set of tensors replaces MNIST. The tests define the names that the fragments leave undefined.
"""

import enum
import subprocess
import sys
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import camshaft.handlers
from camshaft import Engine, EventEnum, Events, create_supervised_evaluator, create_supervised_trainer, event, record
from camshaft.metrics import Accuracy, Loss

GUIDE_IMPORTS = """\
import pandas as pd

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.models import resnet18
from torchvision.transforms import Compose, Normalize, ToTensor

from ignite.engine import Engine, EventEnum, Events, create_supervised_evaluator
from ignite.metrics import Accuracy, Loss
from ignite.handlers import Timer
from ignite.contrib.handlers import BasicTimeProfiler, HandlersTimeProfiler
"""

GUIDE = [
    """\
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()

        self.model = resnet18(num_classes=10)
        self.model.conv1 = nn.Conv2d(1, 64, kernel_size=3, padding=1, bias=False)

    def forward(self, x):
        return self.model(x)


model = Net().to(device)

data_transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])

train_loader = DataLoader(
    MNIST(download=True, root=".", transform=data_transform, train=True),
    batch_size=128,
    shuffle=True,
)

optimizer = torch.optim.RMSprop(model.parameters(), lr=0.005)
criterion = nn.CrossEntropyLoss()
""",
    """\
class BackpropEvents(EventEnum):
    BACKWARD_STARTED = 'backward_started'
    BACKWARD_COMPLETED = 'backward_completed'
    OPTIM_STEP_COMPLETED = 'optim_step_completed'
""",
    """\
def train_step(engine, batch):
    model.train()
    optimizer.zero_grad()
    x, y = batch[0].to(device), batch[1].to(device)
    y_pred = model(x)
    loss = criterion(y_pred, y)
    
    engine.fire_event(BackpropEvents.BACKWARD_STARTED)
    loss.backward()
    engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)

    optimizer.step()
    engine.fire_event(BackpropEvents.OPTIM_STEP_COMPLETED)

    return loss.item()


trainer = Engine(train_step)
""",  # noqa: W293  (as in the guide)
    """\
trainer.register_events(*BackpropEvents)
""",
    """\
@trainer.on(BackpropEvents.BACKWARD_COMPLETED)
def function_before_backprop(engine):
    print(f"Iter[{engine.state.iteration}] Function fired after backward pass")
""",
    """\
trainer.run(train_loader, max_epochs=3)
""",
]

FAQ_TRAINER_AND_EVALUATOR = """\
@trainer.on(Events.EPOCH_COMPLETED)
def in_training_loop_on_epoch_completed(engine):
    evaluator.run(val_loader) # this starts another loop on validation dataset to compute metrics

@evaluator.on(Events.COMPLETED)
def when_validation_loop_is_done(engine):
    # do something with computed metrics etc
    # -> early stopping or reduce LR on plateau
    # or just log them
"""

FAQ_CUSTOM_EVENTS = """\
class BackpropEvents(Enum):
    \"\"\"
    Events based on back propagation
    \"\"\"
    BACKWARD_STARTED = 'backward_started'
    BACKWARD_COMPLETED = 'backward_completed'
    OPTIM_STEP_COMPLETED = 'optim_step_completed'

def update(engine, batch):
    model.train()
    opitmizer.zero_grad()
    x, y = process_batch(batch)
    y_pred = model(x)
    loss = loss_fn(y_pred, y)
    engine.fire_event(BackpropEvents.BACKWARD_STARTED)
    loss.backward()
    engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
    optimizer.step()
    engine.fire_event(BackpropEvents.OPTIM_STEP_COMPLETED)
    
    return loss.item()

trainer = Engine(update)
trainer.register_events(*BackpropEvents)

@trainer.on(BackpropEvents.BACKWARD_STARTED)
def function_before_backprop(engine):
    # insert custom function here
"""  # noqa: W293  (as in the FAQ)

FAQ_HANDLERS = """\
handler = EarlyStopping(patience=10, score_function=score_function, trainer=trainer)
evaluator.add_event_handler(Events.COMPLETED, handler)

best_model_saver = ModelCheckpoint('/tmp/models', 'best', score_function=score_function)
evaluator.add_event_handler(Events.COMPLETED, best_model_saver, {'mymodel': model})
"""

FAQ_ACCUMULATION = """\
accumulation_steps = 4

def update_fn(engine, batch):
    model.train()

    x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
    y_pred = model(x)
    loss = criterion(y_pred, y) / accumulation_steps
    loss.backward()

    if engine.state.iteration % accumulation_steps == 0:
        optimizer.step()
        optimizer.zero_grad()

    return loss.item()

trainer = Engine(update_fn)
"""

MOVED = {
    "from ignite.engine import Engine, EventEnum, Events, create_supervised_evaluator": (
        "from camshaft import Engine, EventEnum, Events, create_supervised_evaluator"
    ),
    "from ignite.metrics import Accuracy, Loss": "from camshaft.metrics import Accuracy, Loss",
    "from ignite.handlers import Timer": "from camshaft.handlers import Timer",
    "from ignite.contrib.handlers import BasicTimeProfiler, HandlersTimeProfiler": (
        "from camshaft.handlers import BasicTimeProfiler, HandlersTimeProfiler"
    ),
    "import pandas as pd": "",  # the guide does not use it
}


def changed_imports(imports):
    return "\n".join(MOVED.get(line, line) for line in imports.splitlines()) + "\n"


def images(samples):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 1, 28, 28, generator=generator)
    return TensorDataset(x, torch.randint(10, (samples,), generator=generator))


def small(seed=0):
    """Return the objects that the fragments of the FAQ leave undefined."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(48, 5, generator=generator)
    loader = DataLoader(TensorDataset(x, (x.sum(dim=1) > 0).long()), batch_size=8)
    model = nn.Linear(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SimpleNamespace(model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), loader=loader)


# -- the guide ------------------------------------------------------------------------------------------------------


def test_the_guide_imports_what_camshaft_has():
    namespace = {}
    exec(changed_imports(GUIDE_IMPORTS), namespace)
    assert namespace["Engine"] is Engine
    assert namespace["EventEnum"] is EventEnum
    assert namespace["Events"] is Events
    assert namespace["create_supervised_evaluator"] is create_supervised_evaluator
    assert (namespace["Accuracy"], namespace["Loss"]) == (Accuracy, Loss)
    names = ("Timer", "BasicTimeProfiler", "HandlersTimeProfiler")
    assert [namespace[name] for name in names] == [getattr(camshaft.handlers, name) for name in names]


def test_timer_and_profilers_of_the_guide_measure_its_trainer(capsys):
    namespace = {"__name__": "guide"}
    torch.manual_seed(0)
    exec(changed_imports(GUIDE_IMPORTS), namespace)
    namespace["MNIST"] = lambda **_: images(136)
    for block in GUIDE[:-1]:
        exec(block, namespace)
    guide = SimpleNamespace(**namespace)
    timer = guide.Timer(average=True)
    timer.attach(
        guide.trainer,
        start=Events.STARTED,
        resume=Events.ITERATION_STARTED,
        pause=Events.ITERATION_COMPLETED,
        step=Events.ITERATION_COMPLETED,
    )
    profilers = [guide.BasicTimeProfiler(), guide.HandlersTimeProfiler()]
    for profiler in profilers:
        profiler.attach(guide.trainer)
    guide.trainer.run(guide.train_loader, max_epochs=1)
    assert (timer.step_count, timer.running) == (2, False)
    basic, handlers = (profiler.get_results() for profiler in profilers)
    assert basic["event_handlers_names"]["BACKWARD_COMPLETED_names"] == ["function_before_backprop"]
    assert basic["event_handlers_stats"]["BACKWARD_COMPLETED"]["total"] > 0
    assert ["function_before_backprop", "BACKWARD_COMPLETED"] in [row[:2] for row in handlers]
    for profiler, results in zip(profilers, (basic, handlers), strict=True):
        capsys.readouterr()
        assert "function_before_backprop" in profiler.print_results(results) == capsys.readouterr().out


def test_the_guide_prints_its_line_after_each_backward_pass(capsys):
    namespace = {"__name__": "guide"}
    torch.manual_seed(0)
    exec(changed_imports(GUIDE_IMPORTS), namespace)
    namespace["MNIST"] = lambda **_: images(136)
    with record() as trace:
        for block in GUIDE:
            exec(block, namespace)

    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Iter[{n}] Function fired after backward pass" for n in range(1, 7)]
    trainer, own = namespace["trainer"], namespace["BackpropEvents"]
    assert (trainer.state.epoch, trainer.state.iteration, trainer.state.epoch_length) == (3, 6, 2)
    for member in own:
        assert trace.count(member) == 6
    fired = [seen.event for seen in trace if seen.event in {member.value for member in own}]
    assert fired == [member.value for member in own] * 6
    trace.assert_legal()


def test_the_guide_trains_like_a_hand_written_loop():
    def namespace():
        made = {"__name__": "guide"}
        torch.manual_seed(0)
        exec(changed_imports(GUIDE_IMPORTS), made)
        made["MNIST"] = lambda **_: images(136)
        for block in GUIDE[:-1]:
            exec(block, made)
        return SimpleNamespace(**made)

    guide = namespace()
    guide.trainer.run(guide.train_loader, max_epochs=1)
    by_hand = namespace()
    for x, y in by_hand.train_loader:
        by_hand.model.train()
        by_hand.optimizer.zero_grad()
        by_hand.criterion(by_hand.model(x), y).backward()
        by_hand.optimizer.step()
    for trained, expected in zip(guide.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.equal(trained, expected)


def test_the_guide_runs_as_a_script(tmp_path):
    """Run the guide in a process that imports nothing of this test suite."""
    own = (
        "from torch.utils.data import TensorDataset\n"
        "MNIST = lambda **_: TensorDataset(torch.randn(40, 1, 28, 28), torch.arange(40) % 10)\n"
    )
    script = tmp_path / "guide.py"
    script.write_text(changed_imports(GUIDE_IMPORTS) + own + "\n\n".join(GUIDE))
    command = [sys.executable, "-W", "error", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"Iter[{n}] Function fired after backward pass" for n in (1, 2, 3)]


# -- the FAQ --------------------------------------------------------------------------------------------------------


def test_faq_each_engine_has_its_own_events():
    made = small()
    log = []
    namespace = {
        "Events": Events,
        "trainer": create_supervised_trainer(made.model, made.optimizer, made.criterion),
        "evaluator": create_supervised_evaluator(made.model, {"accuracy": Accuracy(), "loss": Loss(made.criterion)}),
        "val_loader": made.loader,
        "log": log,
    }
    exec(FAQ_TRAINER_AND_EVALUATOR + "    log.append(dict(engine.state.metrics))\n", namespace)
    evaluator = namespace["evaluator"]
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: log.append(engine.state.epoch))
    with record() as trace:
        namespace["trainer"].run(made.loader, max_epochs=3)

    assert log[::2] == [1, 1, 1]
    assert [sorted(metrics) for metrics in log[1::2]] == [["accuracy", "loss"]] * 3
    assert log[1]["loss"] > log[3]["loss"] > log[5]["loss"]
    assert trace.count(Events.EPOCH_COMPLETED, "evaluator") == trace.count(Events.COMPLETED, "evaluator") == 3
    assert (trace.count(Events.EPOCH_COMPLETED, "trainer"), trace.count(Events.COMPLETED, "trainer")) == (3, 1)
    assert [run.parent for run in trace.runs] == [None, 0, 0, 0]
    trace.assert_legal()


def test_faq_early_stopping_and_the_best_model(tmp_path):
    made = small()
    scores = iter([1, 3, 2.5, 3.5, *[0] * 90])
    namespace = {
        "Events": Events,
        "EarlyStopping": camshaft.handlers.EarlyStopping,
        "ModelCheckpoint": camshaft.handlers.ModelCheckpoint,
        "score_function": lambda engine: engine.state.score,
        "trainer": create_supervised_trainer(made.model, made.optimizer, made.criterion),
        "evaluator": create_supervised_evaluator(made.model),
        "val_loader": made.loader,
        "model": made.model,
    }
    evaluator = namespace["evaluator"]
    kept = {}
    evaluator.add_event_handler(
        event(Events.COMPLETED, priority=1), lambda engine: setattr(engine.state, "score", next(scores))
    )
    evaluator.add_event_handler(
        event(Events.COMPLETED, priority=-1),
        lambda engine: kept.update({engine.state.score: made.model.weight.clone()}),
    )
    exec(FAQ_HANDLERS.replace("/tmp/models", str(tmp_path)), namespace)  # the FAQ writes to a shared folder
    trainer = namespace["trainer"]
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(made.loader))
    with record() as trace:
        trainer.run(made.loader, max_epochs=90)
    trace.assert_legal()

    assert trainer.state.epoch == 14  # ten epochs after the fourth
    (best,) = tmp_path.iterdir()
    assert best.name == "best_mymodel_3.5000.pt"
    assert torch.equal(torch.load(best, weights_only=True)["weight"], kept[3.5])


def test_faq_custom_events_from_a_plain_enum():
    made = small()
    log = []
    namespace = {
        "Engine": Engine,
        "Enum": enum.Enum,
        "model": made.model,
        "optimizer": made.optimizer,
        "opitmizer": made.optimizer,  # this spelling is in the FAQ
        "loss_fn": made.criterion,
        "process_batch": lambda batch: batch,
        "log": log,
    }
    exec(FAQ_CUSTOM_EVENTS + "    log.append(engine.state.iteration)\n", namespace)
    trainer, own = namespace["trainer"], namespace["BackpropEvents"]
    assert all(map(trainer.has_registered_events, own))
    with record() as trace:
        trainer.run(made.loader, max_epochs=2)

    assert log == list(range(1, 13))
    assert [trace.count(member) for member in own] == [12] * 3
    trace.assert_legal()


def test_faq_gradient_accumulation():
    made, by_hand = small(), small()
    namespace = {
        "Engine": Engine,
        "model": made.model,
        "optimizer": made.optimizer,
        "criterion": made.criterion,
        "device": torch.device("cpu"),
        "non_blocking": False,
        "prepare_batch": lambda batch, device, non_blocking: [part.to(device) for part in batch],
    }
    exec(FAQ_ACCUMULATION, namespace)
    state = namespace["trainer"].run(made.loader, max_epochs=2)

    steps = 0
    for number, (x, y) in enumerate([*by_hand.loader, *by_hand.loader], start=1):
        loss = by_hand.criterion(by_hand.model(x), y) / 4
        loss.backward()
        if number % 4 == 0:
            by_hand.optimizer.step()
            by_hand.optimizer.zero_grad()
            steps += 1
    assert (state.iteration, steps) == (12, 3)
    assert state.output == loss.item()
    assert torch.equal(made.model.weight, by_hand.model.weight)
