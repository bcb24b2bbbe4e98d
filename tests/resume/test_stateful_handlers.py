"""Handlers with a state: which objects have one, and that a snapshot ends whatever a handler answers."""

from __future__ import annotations

import functools
from unittest.mock import MagicMock, Mock

import pytest

from camshaft import Engine, Events, Phase, Snapshot
from camshaft.resume.statefuls import stateful_owner
from support.steps import no_op


class Throttled:
    """A wrapper as people write it: it counts its calls, and keeps what it wraps."""

    def __init__(self, func):
        self.func, self.calls = func, 0

    def __call__(self, engine, batch=None):
        self.calls += 1

    def method(self, engine):
        self.calls += 1

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Delegates:
    """An object that passes every attribute on to another one."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


HANDLERS = {
    "object": lambda owner: owner,
    "method": lambda owner: owner.method,
    "partial": functools.partial,
    "partial of a partial of a method": lambda owner: functools.partial(functools.partial(owner.method)),
}


@pytest.mark.parametrize("how", HANDLERS)
@pytest.mark.parametrize("func", [print, None, Throttled(print), MagicMock()], ids=["function", "None", "own", "mock"])
def test_a_handler_with_an_attribute_func_is_saved(how, func, tmp_path):
    def build():
        engine, owner = Engine(no_op, name="trainer"), Throttled(func)
        engine.add_event_handler(Events.ITERATION_COMPLETED, HANDLERS[how](owner))
        return engine, owner, Snapshot(engine, tmp_path)

    engine, _, snapshot = build()
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: (snapshot(), engine.interrupt()))
    engine.run(range(6))
    engine, owner, _ = build()
    engine.run(range(6), resume="latest")
    assert owner.calls == 6


def test_a_phase_with_an_attribute_func_is_saved(tmp_path):
    def build():
        owner = Throttled(print)
        engine = Engine([Phase("COUNT", owner)], name="trainer")
        return engine, owner, Snapshot(engine, tmp_path)

    engine, _, snapshot = build()
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: (snapshot(), engine.interrupt()))
    engine.run(range(5))
    engine, owner, _ = build()
    engine.run(range(5), resume="latest")
    assert owner.calls == 5


class AnswersEverything:
    def __getattr__(self, name):
        return AnswersEverything()

    def __call__(self, *args):
        pass


@pytest.mark.parametrize("make", [MagicMock, Mock, AnswersEverything, lambda: MagicMock(spec=functools.partial)])
@pytest.mark.parametrize("wrap", [lambda function: function, functools.partial], ids=["itself", "partial"])
def test_a_handler_that_answers_every_attribute_has_no_state(make, wrap, tmp_path):
    engine = Engine(make(), name="trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED, wrap(make()))
    engine.add_event_handler(Events.EPOCH_COMPLETED, Snapshot(engine, tmp_path))
    engine.run([1, 2])
    assert len(list(tmp_path.iterdir())) == 1


def test_an_object_that_passes_attributes_on_has_the_state():
    owner = Delegates(Throttled(print))
    assert stateful_owner(owner) is owner
