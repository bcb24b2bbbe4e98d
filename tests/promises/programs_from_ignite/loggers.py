"""The loggers of pytorch-ignite at events of the engine, with filters, unions and custom events."""

import torch
from ignite.engine import Engine, EventEnum, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import ProgressBar, global_step_from_engine
from ignite.handlers.base_logger import BaseHandler, BaseLogger
from torch import nn


class Steps(EventEnum):
    DONE = "done"


class Lines(BaseLogger):
    def _create_output_handler(self, *args, **kwargs):
        raise NotImplementedError

    _create_opt_params_handler = _create_output_handler


class Line(BaseHandler):
    def __init__(self, tag, global_step_transform=None):
        self.tag, self.transform = tag, global_step_transform

    def __call__(self, engine, logger, event_name):
        step = engine.state.get_event_attrib_value(event_name)
        other = self.transform(engine, event_name) if self.transform else None
        print(self.tag, getattr(event_name, "name", event_name), step, other)


torch.manual_seed(0)
model = nn.Linear(2, 2)
trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
evaluator = create_supervised_evaluator(model)
trainer.register_events(Steps.DONE, event_to_attr={Steps.DONE: "done"})
data = [(torch.randn(4, 2), torch.arange(4) % 2) for _ in range(3)]


@trainer.on(Events.ITERATION_COMPLETED)
def count(engine):
    engine.state.done += 1
    engine.fire_event(Steps.DONE)


logger = Lines()
logger.attach(trainer, Line("every"), Events.ITERATION_COMPLETED(every=2))
logger.attach(trainer, Line("both"), Events.EPOCH_STARTED | Events.COMPLETED)
logger.attach(trainer, Line("custom"), Steps.DONE(once=4))
logger.attach(evaluator, Line("evaluation", global_step_from_engine(trainer)), Events.COMPLETED)
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(data))
bar = ProgressBar(persist=False)
print(isinstance(trainer, Engine), trainer.run(data, max_epochs=2).iteration)
