"""Present an engine of camshaft to handlers that require pytorch-ignite's own class of engine."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar
from weakref import WeakSet

from camshaft.engine.engine import Engine
from camshaft.events import CallableEvent, EventUnion

__all__ = ["as_ignite"]

E = TypeVar("E", bound=Engine)


def as_ignite(engine: E) -> E:
    """Make an engine acceptable to handlers of pytorch-ignite that require its own class of engine.

    Afterwards ``isinstance(engine, ignite.engine.Engine)`` is True. The loggers and ``global_step_from_engine`` of
    pytorch-ignite take every event that ``engine.state.event_to_attr`` numbers, filtered and joined ones too. The
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
        _present_events()
        from ignite.handlers.checkpoint import CheckpointEvents
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("as_ignite needs pytorch-ignite: pip install pytorch-ignite") from missing
    if not engine.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT):
        engine.register_events(CheckpointEvents.SAVED_CHECKPOINT, within="RUN")
    if not isinstance(engine, _PresentedAsIgnite):
        engine.__class__ = _presented_as_ignite(type(engine))  # type: ignore[assignment, arg-type]
    _PRESENTED.add(engine)
    return engine


_PRESENTED: WeakSet[Engine] = WeakSet()
"""The engines presented as those of pytorch-ignite."""


class _EventToAttr(dict[Any, str]):
    """What pytorch-ignite's ``State.event_to_attr`` was, with the events that presented engines number."""

    def __contains__(self, event: object) -> bool:
        return super().__contains__(event) or any(event in engine.state.event_to_attr for engine in list(_PRESENTED))


def _present_events() -> None:
    """Make the loggers of pytorch-ignite accept the events of camshaft."""
    from ignite.engine import CallableEventWithFilter, EventsList, State
    from ignite.handlers import base_logger, tqdm_logger

    if not isinstance(State.event_to_attr, _EventToAttr):
        State.event_to_attr = _EventToAttr(State.event_to_attr)
    # They ask with isinstance() whether an event is joined or filtered, and isinstance() takes a tuple of classes.
    vars(base_logger)["EventsList"] = (EventsList, EventUnion)
    vars(tqdm_logger)["CallableEventWithFilter"] = (CallableEventWithFilter, CallableEvent)


class _PresentedAsIgnite(Engine):
    """An engine whose ``__class__`` claims to be pytorch-ignite's Engine. ``isinstance`` consults this attribute."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        import ignite.engine

        return ignite.engine.Engine

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _PRESENTED.add(self)

    @property
    def _allowed_events(self) -> list[Any]:
        """The engine's events, for pytorch-ignite's ProgressBar."""
        return list(map(self.event_object, self.loop.event_keys))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self.__dict__.get('name')} has no attribute {name}: it is an engine of camshaft, which as_ignite() "
            f"presents as one of pytorch-ignite; code that needs private attributes of pytorch-ignite does not work "
            f"with it"
        )


@cache
def _presented_as_ignite(own: Any) -> type[Engine]:
    # One subclass for each class of engine: engines of users' own subclasses keep their methods.
    return type(own.__name__, (_PresentedAsIgnite, own), {"__module__": own.__module__})
