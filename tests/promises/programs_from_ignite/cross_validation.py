"""One trainer and two evaluators for each fold; results are collected by handlers."""

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EarlyStopping
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
x = torch.randn(60, 3)
data = TensorDataset(x, (x[:, 0] > 0).long())
results = []
for fold in range(3):
    chosen = [index for index in range(60) if index % 3 != fold]
    parts = {"train": chosen, "test": [index for index in range(60) if index % 3 == fold]}
    loaders = {name: DataLoader(Subset(data, part), batch_size=10) for name, part in parts.items()}
    torch.manual_seed(fold)
    model = nn.Linear(3, 2)
    criterion = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.5), criterion)
    metrics = {"accuracy": Accuracy(), "loss": Loss(criterion)}
    evaluators = {name: create_supervised_evaluator(model, metrics=metrics) for name in loaders}
    evaluators["test"].add_event_handler(
        Events.COMPLETED, EarlyStopping(2, lambda engine: -round(engine.state.metrics["loss"], 2), trainer)
    )

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine, loaders=loaders, evaluators=evaluators, fold=fold):
        found = {name: evaluators[name].run(loaders[name]).metrics for name in loaders}
        results.append([fold, {name: round(one["accuracy"], 4) for name, one in found.items()}])

    state = trainer.run(loaders["train"], max_epochs=8)
    print(fold, state.epoch, round(evaluators["test"].state.metrics["loss"], 5))
print(results)
