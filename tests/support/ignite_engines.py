"""Engines of pytorch-ignite."""

from __future__ import annotations

import logging
from typing import Any

import ignite.engine
import pytest

from support.steps import no_op


@pytest.fixture(autouse=True, scope="module")
def quiet_and_clean():
    """Silence the log of pytorch-ignite's engines, and restore the attributes that they register for all engines."""
    logger, state = logging.getLogger("ignite"), ignite.engine.State
    level, counted = logger.level, state.event_to_attr
    logger.setLevel(logging.CRITICAL + 1)
    state.event_to_attr = dict(counted)
    yield
    logger.setLevel(level)
    state.event_to_attr = counted


def run_out(engine: Any, *args: Any, **limits: Any) -> BaseException:
    """Run an engine, and return the exception that it raises."""
    with pytest.raises(BaseException) as caught:
        engine.run(*args, **limits)
    return caught.value


THEIR = ignite.engine.Events


def make_trainer(step: Any = no_op, *events: Any) -> ignite.engine.Engine:
    trainer = ignite.engine.Engine(step)
    if events:
        trainer.register_events(*events)
    return trainer
