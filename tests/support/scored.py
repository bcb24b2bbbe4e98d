"""Values of the metrics of an engine."""

from camshaft import Engine, Events, record


def echo():
    """Return an engine whose output is its batch."""
    return Engine(lambda engine, batch: batch)


def scored(model, data):
    """Return the scores and labels of each batch."""
    return [(model(x).detach(), y) for x, y in data]


def seen_after_each_batch(engine, data, name="metric", **limits):
    values = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: values.append(engine.state.metrics.get(name)))
    with record() as trace:
        engine.run(data, **limits)
    trace.assert_legal()
    return values


def everything(model, data):
    x, y = data.dataset.tensors
    return model(x).detach(), y
