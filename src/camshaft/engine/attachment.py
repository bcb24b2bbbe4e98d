"""Handlers with a state of their own: attached to one engine at a time, so that no engine changes another one's."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from camshaft.engine.handler import Handler
from camshaft.events import EventHandle, FilteredEvent

__all__ = ["AttachmentHost", "StatefulHandler", "attached_to"]


class AttachmentHost(Protocol):
    """What a handler asks the engine that it is attached to."""

    name: str

    def handlers(self, event: EventHandle) -> tuple[Handler, ...]:
        """Return the handlers of an event."""

    def has_event_handler(self, handler: Callable[..., Any], event: EventHandle | None = None) -> bool:
        """Return whether a handler is attached."""


class StatefulHandler:
    """Base of handlers whose state belongs to one engine. A mistake is found when the handler is attached."""

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
        kind, host = type(self).__name__, attached_to(self)
        if host is not None and host is not engine:
            raise ValueError(
                f"{kind} is attached to {host.name} already, and would mix its state with that of {engine.name}: "
                f"make another {kind}, or remove the first one with the handle that add_event_handler() returned"
            )
        for index, single in enumerate(events):
            taken = [made.filter for made in engine.handlers(single.key) if made.function is this]
            if single.filter in [*taken, *(other.filter for other in events[:index] if other.key == single.key)]:
                raise ValueError(f"{kind} is attached to {single!r} of {engine.name} already: it would run twice")
        _HOSTS[self] = weakref.ref(engine)


_HOSTS: weakref.WeakKeyDictionary[StatefulHandler, weakref.ref[AttachmentHost]] = weakref.WeakKeyDictionary()
"""The engine that each handler was attached to last. It is no attribute, so that handlers can be copied and pickled."""


def attached_to(handler: StatefulHandler) -> AttachmentHost | None:
    """Return the engine that a handler is attached to, or None if it was detached or the engine is gone."""
    host = _HOSTS[handler]() if handler in _HOSTS else None
    function: Any = handler
    return host if host is not None and host.has_event_handler(function) else None
