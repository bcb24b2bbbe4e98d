"""A GAN with two optimizers, running averages, and a message for each checkpoint."""

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ModelCheckpoint
from ignite.metrics import RunningAverage
from torch import nn

torch.manual_seed(0)
generator, discriminator = nn.Linear(2, 1), nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
optimizers = [torch.optim.SGD(net.parameters(), lr=0.05) for net in (generator, discriminator)]
loss_of = nn.BCEWithLogitsLoss()


def step(engine, real):
    fake = generator(torch.randn(len(real), 2))
    optimizers[1].zero_grad()
    ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
    loss_d = loss_of(discriminator(real), ones) + loss_of(discriminator(fake.detach()), zeros)
    loss_d.backward()
    optimizers[1].step()
    optimizers[0].zero_grad()
    loss_g = loss_of(discriminator(fake), ones)
    loss_g.backward()
    optimizers[0].step()
    return {"errD": loss_d.item(), "errG": loss_g.item()}


trainer = Engine(step)
for name in ("errD", "errG"):
    RunningAverage(alpha=0.98, output_transform=lambda output, name=name: output[name]).attach(trainer, name)
trainer.register_events(ModelCheckpoint.SAVED_CHECKPOINT)
handler = ModelCheckpoint("gan", "networks", n_saved=2, require_empty=False)


@trainer.on(ModelCheckpoint.SAVED_CHECKPOINT)
def saved(engine):
    print("saved in epoch", engine.state.epoch)


trainer.add_event_handler(
    Events.EPOCH_COMPLETED, handler, to_save={"generator": generator, "discriminator": discriminator}
)
state = trainer.run([torch.randn(8, 1) for _ in range(5)], max_epochs=4)
print({name: round(value, 6) for name, value in state.metrics.items()}, state.epoch, state.iteration)
print([parameter.tolist() for parameter in generator.parameters()])
