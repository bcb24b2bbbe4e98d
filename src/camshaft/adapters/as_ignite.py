"""Present an engine of camshaft to handlers that require pytorch-ignite's own class of engine."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import Events

__all__ = ["as_ignite"]

E = TypeVar("E", bound=Engine)


def as_ignite(engine: E) -> E:
    """Make an engine acceptable to handlers of pytorch-ignite that require its own class of engine.

    Afterwards ``isinstance(engine, ignite.engine.Engine)`` is True. The loggers and ``global_step_from_engine`` of
    pytorch-ignite know the built-in events of camshaft, and ``engine.state`` has ``get_event_attrib_value()``. The
    event of pytorch-ignite's ``Checkpoint`` is registered now, because a loop cannot change while it runs. The
    behaviour of the engine does not change, and it inherits nothing from pytorch-ignite.

    Args:
        engine: an engine with no current run.

    Returns:
        The same engine.

    Raises:
        TypeError: ``engine`` is not an engine of camshaft.
        ModuleNotFoundError: pytorch-ignite is not installed.
        RuntimeError: the engine has an unfinished run.

    >>> import ignite.engine
    >>> trainer = as_ignite(Engine(lambda engine, batch: None))
    >>> isinstance(trainer, ignite.engine.Engine), isinstance(trainer, Engine)
    (True, True)
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"as_ignite: engine must be an Engine of camshaft, got {engine!r}")
    try:
        import ignite.engine
        from ignite.handlers.checkpoint import CheckpointEvents
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("as_ignite needs pytorch-ignite: pip install pytorch-ignite") from missing
    if not engine.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT):
        engine.register_events(CheckpointEvents.SAVED_CHECKPOINT, within="RUN")
    counted: dict[Any, str] = ignite.engine.State.event_to_attr
    counted.update({Events(event.value): counted[event] for event in ignite.engine.Events if event in counted})
    if not isinstance(engine, _PresentedAsIgnite):
        engine.__class__ = _presented_as_ignite(type(engine))  # type: ignore[assignment, arg-type]
        engine.state.__class__ = _CountingState
    return engine


class _PresentedAsIgnite(Engine):
    """An engine whose ``__class__`` claims to be pytorch-ignite's Engine. ``isinstance`` consults this attribute."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        import ignite.engine

        return ignite.engine.Engine

    @property
    def _allowed_events(self) -> list[Any]:
        """The engine's events, and pytorch-ignite's events with the same keys, because its ProgressBar needs them."""
        import ignite.engine

        keys = self.loop.event_keys
        return [*map(self.event_object, keys), *(event for event in ignite.engine.Events if event.value in keys)]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self.__dict__.get('name')} has no attribute {name}: it is an engine of camshaft, which as_ignite() "
            f"presents as one of pytorch-ignite; code that needs private attributes of pytorch-ignite does not work "
            f"with it"
        )


class _CountingState(State):
    """A state with the method by which pytorch-ignite's loggers get the count of an event."""

    __slots__ = ()

    def get_event_attrib_value(self, event_name: Any) -> Any:
        """Return pytorch-ignite's count of an event."""
        import ignite.engine

        return getattr(self, ignite.engine.State.event_to_attr[event_name])


@cache
def _presented_as_ignite(own: Any) -> type[Engine]:
    # One subclass for each class of engine: engines of users' own subclasses keep their methods.
    return type(own.__name__, (_PresentedAsIgnite, own), {"__module__": own.__module__})
