"""Episodes as epochs: each ends by terminate_epoch(), and the training by should_terminate."""

import torch
from ignite.engine import Engine, EventEnum, Events

torch.manual_seed(0)


class EpisodeEvents(EventEnum):
    EPISODE_STARTED = "episode_started"
    EPISODE_COMPLETED = "episode_completed"


def timestep(engine, number):
    engine.state.reward += 1
    if torch.rand(()) < 0.1 / engine.state.epoch:
        engine.terminate_epoch()
    return number


trainer = Engine(timestep)
trainer.register_events(*EpisodeEvents)
trainer.state.running_reward = 5.0


@trainer.on(Events.EPOCH_STARTED)
def begin(engine):
    engine.state.reward = 0
    engine.fire_event(EpisodeEvents.EPISODE_STARTED)


@trainer.on(EpisodeEvents.EPISODE_STARTED)
def tell(engine):
    print("episode", engine.state.epoch)


@trainer.on(Events.EPOCH_COMPLETED)
def end(engine):
    engine.state.running_reward = 0.5 * engine.state.reward + 0.5 * engine.state.running_reward
    engine.fire_event(EpisodeEvents.EPISODE_COMPLETED)


@trainer.on(EpisodeEvents.EPISODE_COMPLETED)
def finish(engine):
    print(engine.state.reward, engine.state.running_reward)
    if engine.state.running_reward > 20:
        engine.should_terminate = True


state = trainer.run(range(50), max_epochs=30)
print(state.epoch, state.iteration, bool(trainer.should_terminate))
