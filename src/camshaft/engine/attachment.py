"""Handlers with a state of their own: attached to one engine at a time, so that no engine changes another one's."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from camshaft.engine.handler import Handler
from camshaft.events import EventHandle, FilteredEvent

__all__ = ["AttachmentHost", "EventHandler", "StatefulHandler", "attached_to", "note_host", "refuse_other_host"]


class AttachmentHost(Protocol):
    """What a handler asks the engine that it is attached to."""

    name: str

    def handlers(self, event: EventHandle) -> tuple[Handler, ...]:
        """Return the handlers of an event."""

    def has_event_handler(self, handler: Callable[..., Any], event_name: EventHandle | None = None) -> bool:
        """Return whether a handler is attached."""


class EventHandler:
    """Base of handlers that are attached with ``add_event_handler``, to an event that the user chooses."""

    if not TYPE_CHECKING:  # otherwise type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            if name != "attach":
                return object.__getattribute__(self, name)  # the usual error
            kind = type(self).__name__
            raise AttributeError(f"{kind} has no attach(): call engine.add_event_handler(event, ...) with this {kind}")


class StatefulHandler(EventHandler):
    """Base of handlers whose state belongs to one engine. A mistake is found when the handler is attached.

    Such a handler may be attached to several events of its engine, but only once to each. It may be attached to another
    engine when it was detached from the first one, or when that one is gone.
    """

    def check_attachment(
        self, engine: AttachmentHost, events: Sequence[FilteredEvent], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse a second engine, and an event that the handler is attached to already.

        Args:
            engine: the engine that the handler is about to be attached to.
            events: the events, with their filters.
            args, kwargs: further arguments that the handler will be called with.

        Raises:
            ValueError: the handler is attached there already, or to another engine.
        """
        this: Any = self
        host = attached_to(self, this)
        if host is not engine:
            refuse_other_host(self, host, engine)
        for index, single in enumerate(events):
            taken = [made.filter for made in engine.handlers(single.key) if made.function is this]
            if single.filter in [*taken, *(other.filter for other in events[:index] if other.key == single.key)]:
                name = type(self).__name__
                raise ValueError(
                    f"{name} is attached to {single!r} of {engine.name} already, and would run twice: attach it once"
                )
        note_host(self, engine)


_HOSTS: weakref.WeakKeyDictionary[Any, weakref.ref[AttachmentHost]] = weakref.WeakKeyDictionary()
"""The engine that each object was attached to last. It is no attribute, so that objects can be copied and pickled."""


def note_host(owner: Any, engine: AttachmentHost) -> None:
    """Note the engine that an object is attached to."""
    _HOSTS[owner] = weakref.ref(engine)


def attached_to(owner: Any, *functions: Callable[..., Any]) -> AttachmentHost | None:
    """Return the engine that an object is attached to, or None if it was detached or the engine is gone.

    Args:
        owner: the object.
        functions: the handlers of the object. It counts as attached while one of them is.
    """
    host = _HOSTS[owner]() if owner in _HOSTS else None
    return host if host is not None and any(map(host.has_event_handler, functions)) else None


def refuse_other_host(owner: Any, host: AttachmentHost | None, engine: AttachmentHost) -> None:
    """Refuse an object that is attached to an engine already.

    Raises:
        ValueError: ``host`` is not None.
    """
    if host is not None:
        name = type(owner).__name__
        raise ValueError(
            f"{name} is attached to {host.name} already, and its state would be that of {engine.name} too: "
            f"make another {name}, or detach this one first"
        )
