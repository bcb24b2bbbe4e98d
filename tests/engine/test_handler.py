"""Attachment of handlers: their arguments, and unions of events, which are attached to completely or not at all."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events
from support.engines import E
from support.steps import echo, no_op, nothing_to_do


def test_the_engine_argument_goes_only_to_handlers_that_accept_it():
    engine, got = Engine(echo), []

    class Handler:
        def with_engine(self, engine):
            got.append(engine)

        def without(self):
            got.append("without")

    engine.add_event_handler(E.STARTED, lambda: got.append("none"))
    engine.add_event_handler(E.STARTED, lambda *args: got.append(args))
    engine.add_event_handler(E.STARTED, Handler().with_engine)
    engine.add_event_handler(E.STARTED, Handler().without)
    engine.add_event_handler(E.STARTED, lambda engine, x, y: got.append((engine, x, y)), 1, y=2)
    engine.add_event_handler(E.STARTED, lambda x, *, y: got.append((x, y)), 1, y=2)
    engine.run([1])
    assert got == ["none", (engine,), engine, "without", (engine, 1, 2), (1, 2)]


def test_a_union_with_one_bad_event_changes_nothing():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    with pytest.raises(ValueError, match="NOPE is not registered"):
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED | "nope", data=[1])
    assert trainer.loop.nested == ()
    assert trainer.handlers(Events.EPOCH_COMPLETED) == ()
    trainer.add_event_handler(Events.STARTED, nothing_to_do)
    with pytest.raises(ValueError, match="not attached to COMPLETED"):
        trainer.remove_event_handler(nothing_to_do, Events.STARTED | Events.COMPLETED)
    assert trainer.has_event_handler(nothing_to_do, Events.STARTED)
