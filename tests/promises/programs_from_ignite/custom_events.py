"""Custom events with event_to_attr: filters count an attribute of the state."""

from ignite.engine import Engine, EventEnum, Events


class BackpropEvents(EventEnum):
    BACKWARD_STARTED = "backward_started"
    BACKWARD_COMPLETED = "backward_completed"
    OPTIM_STEP_COMPLETED = "optim_step_completed"


EVENT_TO_ATTR = {
    BackpropEvents.BACKWARD_STARTED: "backward_started",
    BackpropEvents.BACKWARD_COMPLETED: "backward_completed",
    BackpropEvents.OPTIM_STEP_COMPLETED: "optim_steps",
}


def update(engine, batch):
    for event in BackpropEvents:
        attribute = EVENT_TO_ATTR[event]
        setattr(engine.state, attribute, getattr(engine.state, attribute) + 1)
        engine.fire_event(event)
    return batch


trainer = Engine(update)
trainer.register_events(*BackpropEvents, event_to_attr=EVENT_TO_ATTR)
print(trainer.state.optim_steps, trainer.has_registered_events(BackpropEvents.OPTIM_STEP_COMPLETED))


@trainer.on(BackpropEvents.OPTIM_STEP_COMPLETED(every=2) | Events.EPOCH_COMPLETED)
def show(engine):
    print(engine.last_event_name.name, engine.state.optim_steps, engine.state.iteration)


@trainer.on(BackpropEvents.BACKWARD_STARTED(event_filter=lambda engine, count: count in (1, 5)))
def chosen(engine):
    print("chosen", engine.state.get_event_attrib_value(BackpropEvents.BACKWARD_STARTED))


for event in Events.STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED:
    print(event.name, trainer.state.get_event_attrib_value(event))
trainer.run([1, 2, 3], max_epochs=2)
print(Events.ITERATION_COMPLETED(every=2) == Events.ITERATION_COMPLETED, len(Events.STARTED | Events.COMPLETED))
