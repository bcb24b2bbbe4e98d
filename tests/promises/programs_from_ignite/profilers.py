"""Timers and profilers: how often and in which order, not how long."""

from ignite.engine import Engine, Events
from ignite.handlers import BasicTimeProfiler, HandlersTimeProfiler, Timer

trainer = Engine(lambda engine, batch: batch)
timer = Timer(average=True)
timer.attach(
    trainer,
    start=Events.EPOCH_STARTED,
    pause=Events.ITERATION_COMPLETED,
    resume=Events.ITERATION_STARTED,
    step=Events.ITERATION_COMPLETED,
)
basic, handlers = BasicTimeProfiler(), HandlersTimeProfiler()
basic.attach(trainer)
handlers.attach(trainer)


@trainer.on(Events.EPOCH_COMPLETED)
def look(engine):
    print(engine.state.epoch, engine.state.times["EPOCH_COMPLETED"] > 0)


state = trainer.run(range(5), max_epochs=2)
results = basic.get_results()
print(sorted(results), int(timer.step_count), timer.value() > 0)
print(any("look" in str(row) for row in handlers.get_results()))
print(sorted(state.times), state.times["COMPLETED"] >= state.times["EPOCH_COMPLETED"])
