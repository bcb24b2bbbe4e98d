"""The names of ``ignite.engine``, with engines for handlers that require pytorch-ignite's own class of engine.

A program that was written for pytorch-ignite, with its handlers and loggers, needs no further change than
``from camshaft.compat import ...`` in place of ``from ignite.engine import ...``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from camshaft.adapters.as_ignite import as_ignite
from camshaft.engine import engine as plain
from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.state import State
from camshaft.events import CallableEvent as CallableEventWithFilter
from camshaft.events import EventEnum, Events
from camshaft.events import EventUnion as EventsList
from camshaft.training import supervised, tbptt

__all__ = [
    "CallableEventWithFilter",
    "Engine",
    "EventEnum",
    "Events",
    "EventsList",
    "RemovableEventHandle",
    "State",
    "as_ignite",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
]

P = ParamSpec("P")
E = TypeVar("E", bound=plain.Engine)


class _AnyEngine(type):
    """The class of :class:`Engine`, of which every engine of camshaft is an instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (cls is Engine and isinstance(instance, plain.Engine))


class Engine(plain.Engine, metaclass=_AnyEngine):
    """An :class:`camshaft.Engine` that :func:`as_ignite` presents as one of pytorch-ignite."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        as_ignite(self)


def _presenting(make: Callable[P, E]) -> Callable[P, E]:
    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> E:
        __tracebackhide__ = True
        return as_ignite(make(*args, **kwargs))

    return made


create_supervised_trainer = _presenting(supervised.create_supervised_trainer)
create_supervised_evaluator = _presenting(supervised.create_supervised_evaluator)
create_supervised_tbptt_trainer = _presenting(tbptt.create_supervised_tbptt_trainer)
