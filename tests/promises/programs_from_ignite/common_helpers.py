"""Training handlers, TensorBoard, the best models and early stopping by the helpers of pytorch-ignite."""

import os

import torch
from ignite.contrib.engines import common
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy()})
data = [(torch.randn(4, 2), torch.arange(4) % 2) for _ in range(5)]
common.setup_common_training_handlers(
    trainer,
    to_save={"model": model, "optimizer": optimizer, "trainer": trainer},
    save_every_iters=5,
    output_path=".",
    lr_scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5),
    with_pbars=False,
    output_names=["loss"],
    with_gpu_stats=False,
    clear_cuda_cache=False,
)


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    evaluator.run(data)


board = common.setup_tb_logging(
    "board", trainer, optimizers=optimizer, evaluators={"validation": evaluator}, log_every_iters=2
)
common.save_best_model_by_val_score(".", evaluator, model, "accuracy", n_saved=2, trainer=trainer)
common.add_early_stopping_by_val_score(3, evaluator, trainer, "accuracy")
state = trainer.run(data, max_epochs=3)
board.close()
written = EventAccumulator("board").Reload()
for tag in written.Tags()["scalars"]:
    print(tag, [(event.step, round(event.value, 5)) for event in written.Scalars(tag)])
for name in os.listdir("board"):
    os.remove(os.path.join("board", name))  # the name has the time and the process in it
print(state.epoch, state.iteration, state.metrics, optimizer.param_groups[0]["lr"])
