"""Keep the best two models of an evaluator by score, and load the best one."""

import os

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, ModelCheckpoint, global_step_from_engine
from torch import nn

torch.manual_seed(0)
model = nn.Linear(1, 1)
scores = [0.2, 0.9, 0.5, 0.7]


def step(engine, batch):
    with torch.no_grad():
        model.weight.fill_(engine.state.epoch)


trainer = Engine(step)
evaluator = Engine(lambda engine, batch: None)
handler = ModelCheckpoint(
    "best",
    n_saved=2,
    filename_prefix="best",
    score_function=lambda engine: scores[trainer.state.epoch - 1],
    score_name="accuracy",
    global_step_transform=global_step_from_engine(trainer),
)
evaluator.add_event_handler(Events.COMPLETED, handler, {"model": model})


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    evaluator.run([0])


trainer.run([0, 1], max_epochs=4)
print(sorted(os.listdir("best")))
print(os.path.dirname(str(handler.last_checkpoint)))
Checkpoint.load_objects({"model": model}, torch.load(os.path.join("best", "best_model_2_accuracy=0.9000.pt")))
print(model.weight.item())
