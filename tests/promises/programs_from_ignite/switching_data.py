"""Switch data by assignment and by set_data(), in handlers."""

from ignite.engine import Engine, Events

seen = []
trainer = Engine(lambda engine, batch: seen.append(batch) or batch)
easy, hard = [1, 2, 3], [10, 20, 30]


@trainer.on(Events.EPOCH_COMPLETED(once=2))
def assign(engine):
    engine.state.dataloader = hard


@trainer.on(Events.ITERATION_COMPLETED(once=8))
def set_new(engine):
    engine.set_data([100, 200, 300])


@trainer.on(Events.EPOCH_COMPLETED)
def show(engine):
    print(engine.state.epoch, engine.state.iteration, sorted(seen)[-1] > 0)


trainer.run(easy, max_epochs=4)
print(len(seen), [line for line in repr(trainer.state).splitlines() if "times" not in line])
