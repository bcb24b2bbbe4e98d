"""Handlers that stop a run, and their own small tests."""

import math

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping, TerminateOnNan, TimeLimit

scores = iter([0.1, 0.3, 0.2, 0.2, 0.2])
trainer, evaluator = Engine(lambda engine, batch: batch), Engine(lambda engine, batch: None)
handler = EarlyStopping(patience=2, score_function=lambda engine: next(scores), trainer=trainer)
for _ in range(3):
    handler(evaluator)
    print(trainer.should_terminate, handler.counter, handler.best_score)
handler(evaluator)
print(bool(trainer.should_terminate))

nans = Engine(lambda engine, batch: math.nan if engine.state.iteration == 4 else 1.0)
nans.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
print(nans.run(range(3), max_epochs=5).iteration)

limited = Engine(lambda engine, batch: None)
limited.add_event_handler(Events.ITERATION_COMPLETED, TimeLimit(1000))
print(limited.run(range(3), max_epochs=2).iteration, bool(limited.should_terminate))

manual = Engine(lambda engine, batch: None)
manual.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: manual.terminate(True))
done = []
manual.add_event_handler(Events.COMPLETED, lambda: done.append("completed"))
manual.add_event_handler(Events.TERMINATE, lambda: done.append("terminate"))
manual.run(range(10))
print(done, manual.should_terminate, manual.state.iteration)
