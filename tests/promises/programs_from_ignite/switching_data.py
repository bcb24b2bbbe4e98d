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


def numbers(size):
    yield from range(size)


# data without a length, which is restarted by hand
restarted = Engine(lambda engine, batch: seen.append(batch))


@restarted.on(Events.ITERATION_COMPLETED(every=4))
def restart(engine):
    engine.state.dataloader = numbers(4)


state = restarted.run(numbers(4), max_epochs=3)
print(state.epoch, state.iteration, state.epoch_length, seen[-12:])
