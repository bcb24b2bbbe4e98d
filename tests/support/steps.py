"""Steps and handlers for engines that train nothing."""

from collections.abc import Callable
from typing import Any


def no_op(engine: Any, batch: Any) -> None:
    """Do nothing, as a step."""


def echo(engine: Any, batch: Any) -> Any:
    """Return the batch, as a step."""
    return batch


def fires(*events: Any) -> Callable[[Any, Any], None]:
    """Return a step that fires these events by hand."""

    def step(engine: Any, batch: Any) -> None:
        for event in events:
            engine.fire_event(event)

    return step


def nothing_to_do() -> None:
    """Do nothing, as a handler."""
