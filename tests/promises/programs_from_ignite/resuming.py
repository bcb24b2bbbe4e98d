"""Save at EPOCH_COMPLETED, load into new objects, and train on."""

import torch
from ignite.engine import Engine, Events, create_supervised_trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build():
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, optimizer, create_supervised_trainer(model, optimizer, nn.MSELoss())


x = torch.linspace(-1, 1, 16).reshape(8, 2)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=2)
model, optimizer, trainer = build()
saved = {}


@trainer.on(Events.EPOCH_COMPLETED(once=2))
def save(engine):
    objects = {"model": model, "optimizer": optimizer, "trainer": engine}
    torch.save({name: one.state_dict() for name, one in objects.items()}, "saved.pt")


trainer.run(loader, max_epochs=2)
model, optimizer, trainer = build()
checkpoint = torch.load("saved.pt", weights_only=False)
for name, one in {"model": model, "optimizer": optimizer, "trainer": trainer}.items():
    one.load_state_dict(checkpoint[name])
events = []
for event in (Events.EPOCH_STARTED, Events.DATALOADER_STOP_ITERATION, Events.EPOCH_COMPLETED):
    trainer.add_event_handler(event, lambda engine, event: events.append(event.value), event)
state = trainer.run(loader, max_epochs=4)
print(state.epoch, state.iteration, events, isinstance(trainer, Engine))
print([parameter.tolist() for parameter in model.parameters()])
