"""What makes handlers of pytorch-ignite take an engine for one of its own."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import Events

__all__ = ["as_ignite"]

E = TypeVar("E", bound=Engine)


def as_ignite(engine: E) -> E:
    """Let handlers of pytorch-ignite that insist on its class of engine take this one.

    From now on ``isinstance(engine, ignite.engine.Engine)`` is True, pytorch-ignite's loggers and
    ``global_step_from_engine`` know the built-in events of camshaft, ``engine.state`` has
    ``get_event_attrib_value()``, and the event of its ``Checkpoint`` is registered, because a loop cannot change
    while it runs. What the engine does stays as it is: it inherits nothing.

    Args:
        engine: an engine that is not running.

    Returns:
        The same engine.

    Raises:
        TypeError: it is no engine of camshaft.
        ModuleNotFoundError: pytorch-ignite is not installed.
        RuntimeError: the engine has a run that is not over.

    >>> import ignite.engine
    >>> trainer = as_ignite(Engine(lambda engine, batch: None))
    >>> isinstance(trainer, ignite.engine.Engine), isinstance(trainer, Engine)
    (True, True)
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"as_ignite: {engine!r} is no engine of camshaft")
    try:
        import ignite.engine
        from ignite.handlers.checkpoint import CheckpointEvents
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("as_ignite needs pytorch-ignite: pip install pytorch-ignite") from missing
    if not engine.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT):
        engine.register_events(CheckpointEvents.SAVED_CHECKPOINT, within="RUN")
    counted: dict[Any, str] = ignite.engine.State.event_to_attr
    counted.update({Events(event.value): counted[event] for event in ignite.engine.Events if event in counted})
    if not isinstance(engine, _TakenForIgnite):
        engine.__class__ = _taken_for_ignite(type(engine))  # type: ignore[assignment, arg-type]
        engine.state.__class__ = _CountingState
    return engine


class _TakenForIgnite(Engine):
    """An engine that says that it is one of pytorch-ignite, which ``isinstance`` believes."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        import ignite.engine

        return ignite.engine.Engine

    @property
    def _allowed_events(self) -> list[Any]:
        """The handles of its events, those of pytorch-ignite among them: its ProgressBar looks its own up there."""
        import ignite.engine

        keys = self.loop.event_keys
        return [*map(self.event_object, keys), *(event for event in ignite.engine.Events if event.value in keys)]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self.__dict__.get('name')} has no {name}: it is an engine of camshaft, made to look like one of "
            f"pytorch-ignite by as_ignite(); what needs more than public names does not work with it"
        )


class _CountingState(State):
    __slots__ = ()

    def get_event_attrib_value(self, event_name: Any) -> Any:
        """What pytorch-ignite counts at an event."""
        import ignite.engine

        return getattr(self, ignite.engine.State.event_to_attr[event_name])


@cache
def _taken_for_ignite(own: Any) -> type[Engine]:
    return type(own.__name__, (_TakenForIgnite, own), {"__module__": own.__module__})
