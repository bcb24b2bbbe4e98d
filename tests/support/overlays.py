"""A trainer for tests of runs drawn over a picture, and the numbers in such a picture."""

from __future__ import annotations

from camshaft import BackpropEvents, Engine

CUSTOM = (BackpropEvents.BACKWARD_STARTED, BackpropEvents.BACKWARD_COMPLETED, BackpropEvents.OPTIM_STEP_COMPLETED)


def step(engine, batch):
    for event in CUSTOM:
        engine.fire_event(event)
    return batch


def make(name="trainer"):
    trainer = Engine(step, name=name)
    trainer.register_events(*CUSTOM)
    return trainer


def visits(diagram):
    return {element.label: element.visits for element in diagram.chart.elements() if element.visits is not None}


def shares(diagram):
    return {element.label: element.share for element in diagram.chart.elements() if element.share is not None}


def fired(diagram):
    """Return how often each event was fired, according to the counts on its edges."""
    found = {}
    for edge in diagram.chart.edges:
        for event in edge.event_keys:
            number = edge.counts.get(event, 0) if edge.events else edge.count
            found[event] = found.get(event, 0) + number
    return found
