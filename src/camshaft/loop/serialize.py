"""A loop as JSON values, without its functions.

The keys and kinds are those of the first release (``"free"`` for custom states, ``"mark"`` for event points, ``"step"``
for opaque steps), so that later versions can read the files of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import attrs

from camshaft.events import Filter, FilteredEvent
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState, EventPoint, Every, Nested, OpaqueStep, Phase
from camshaft.loop.tree import LoopTree

__all__ = ["from_dict", "to_dict"]


def to_dict(loop: Loop) -> dict[str, Any]:
    """Return the declaration of a loop as JSON values. Functions are written by name.

    :func:`from_dict` reads it. The machine of that loop is the same.
    """

    def item_dict(item: Phase | OpaqueStep | EventPoint | LoopTree) -> dict[str, Any]:
        if isinstance(item, OpaqueStep):
            return {"kind": "step", "runs": _name(item.run)}
        if isinstance(item, EventPoint):
            return {"kind": "mark", "event": item.event}
        fields: dict[str, Any] = {"name": item.name, "started": item.started, "completed": item.completed}
        if isinstance(item, Phase):
            when = item.when
            return {"kind": "phase", **fields, "when": when.n if isinstance(when, Every) else when is not None} | {
                "runs": _name(item.run)
            }
        return {"kind": "loop", **fields, "passes": item.passes, "body": [item_dict(child) for child in item.body]}

    nested = [{"name": inner.name, "on": inner.on.key, "filter": _filter(inner.on.filter)} for inner in loop.nested]
    return {**item_dict(loop), "free": [attrs.asdict(custom) for custom in loop.custom_states], "nested": nested}


def from_dict(data: dict[str, Any]) -> Loop:
    """Return the loop that :func:`to_dict` has written. It can be checked and drawn, but not run.

    Args:
        data: the JSON values.

    Raises:
        KeyError, TypeError, ValueError: the values are not those of a loop.
    """

    def item_from(part: dict[str, Any]) -> Any:
        if part["kind"] == "step":
            return OpaqueStep(_placeholder(part.get("runs")))
        if part["kind"] == "mark":
            return EventPoint(part["event"])
        events = {"started": part["started"], "completed": part["completed"]}
        if part["kind"] == "phase":
            when = part["when"]
            condition = None if when is False else _missing_function if when is True else Every(when)
            return Phase(part["name"], _placeholder(part.get("runs")), condition, **events)
        passes = part["passes"]
        kinds: dict[Any, dict[str, Any]] = {
            "data": {"over": DATA},
            "over": {"over": _missing_function},
            "until": {"until": _missing_function},
        }
        return Loop(part["name"], *map(item_from, part["body"]), **kinds.get(passes, {"times": passes}), **events)

    custom = tuple(CustomState(**{**part, "order": tuple(part["order"])}) for part in data["free"])
    nested = tuple(
        Nested(
            None, FilteredEvent(part["on"], Filter(**part["filter"]) if part.get("filter") else None), name=part["name"]
        )
        for part in data["nested"]
    )
    return item_from(data).evolve(custom_states=custom, nested=nested)  # type: ignore[no-any-return]


def _name(function: Any) -> str | None:
    return None if function is None else str(getattr(function, "__name__", type(function).__name__))


def _filter(filter: Filter | None) -> dict[str, Any] | None:
    """Return a filter as JSON values. A filter by a function cannot be written and becomes None."""
    if filter is None or filter.event_filter is not None:
        return None
    return attrs.asdict(filter, filter=lambda _, value: value is not None)


@cache  # equal names give the same function, so that two loops read from the same values are equal
def _placeholder(name: str | None) -> Callable[[Any, Any], Any] | None:
    """Return a function with this name that raises when it is called."""
    if name is None:
        return None

    def placeholder(engine: Any, batch: Any) -> Any:
        return _missing_function(engine)

    placeholder.__name__ = placeholder.__qualname__ = name
    return placeholder


def _missing_function(engine: Any) -> Any:
    raise RuntimeError("this loop was read from a file, without its functions: it can be checked and drawn, not run")
