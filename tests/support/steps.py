"""Steps and handlers of engines that train nothing."""

from collections.abc import Callable
from typing import Any


def no_op(engine: Any, batch: Any) -> None:
    """A step that does nothing."""


def echo(engine: Any, batch: Any) -> Any:
    """A step whose output is its batch."""
    return batch


def fires(*events: Any) -> Callable[[Any, Any], None]:
    """A step that fires these events by hand."""

    def step(engine: Any, batch: Any) -> None:
        for event in events:
            engine.fire_event(event)

    return step


def nothing_to_do() -> None:
    """A handler that does nothing."""
