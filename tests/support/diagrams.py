"""A trainer for tests of diagrams."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from camshaft import BackpropEvents, Engine


def step(engine, batch):
    engine.fire_event(BackpropEvents.BACKWARD_STARTED)
    engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
    engine.fire_event(BackpropEvents.OPTIM_STEP_COMPLETED)
    return batch


def make():
    trainer = Engine(step, name="trainer")
    trainer.register_events(
        BackpropEvents.BACKWARD_STARTED, BackpropEvents.BACKWARD_COMPLETED, BackpropEvents.OPTIM_STEP_COMPLETED
    )
    return trainer


def log(engine):
    """Do nothing: a handler to be listed."""


def words(diagram):
    """Return all texts of a picture."""
    return [element.text for element in ET.fromstring(diagram.svg()).iter("{http://www.w3.org/2000/svg}text")]
