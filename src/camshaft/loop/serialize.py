"""A loop as plain JSON values, without its functions."""

from __future__ import annotations

from functools import cache
from typing import Any

import attrs

from camshaft.events import Filter, FilteredEvent
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState, EventPoint, Every, Nested, OpaqueStep, Phase

__all__ = ["from_dict", "to_dict"]


def to_dict(loop: Loop) -> dict[str, Any]:
    """The declaration without its functions, as JSON values: the same machine can be built from it."""

    def item_dict(item: Any) -> dict[str, Any]:
        if isinstance(item, OpaqueStep):
            return {"kind": "step", "runs": _name(item.run)}
        if isinstance(item, EventPoint):
            return {"kind": "mark", "event": item.event}
        made: dict[str, Any] = {"name": item.name, "started": item.started, "completed": item.completed}
        if isinstance(item, Phase):
            when = item.when
            return {"kind": "phase", **made, "when": when.n if isinstance(when, Every) else when is not None} | {
                "runs": _name(item.run)
            }
        return {"kind": "loop", **made, "passes": item.passes, "body": [item_dict(child) for child in item.body]}

    nested = [{"name": inner.name, "on": inner.on.key, "filter": _filter(inner.on.filter)} for inner in loop.nested]
    return {**item_dict(loop), "free": [attrs.asdict(custom) for custom in loop.custom_states], "nested": nested}


def from_dict(data: dict[str, Any]) -> Loop:
    """The loop that :func:`to_dict` wrote. Its phases run nothing: it is for judging and drawing."""

    def item_from(part: dict[str, Any]) -> Any:
        if part["kind"] == "step":
            return OpaqueStep(_stand_in(part.get("runs")))
        if part["kind"] == "mark":
            return EventPoint(part["event"])
        events = {"started": part["started"], "completed": part["completed"]}
        if part["kind"] == "phase":
            when = part["when"]
            condition = None if when is False else _unknown if when is True else Every(when)
            return Phase(part["name"], _stand_in(part.get("runs")), condition, **events)
        passes = part["passes"]
        kinds: dict[Any, dict[str, Any]] = {
            "data": {"over": DATA},
            "over": {"over": _unknown},
            "until": {"until": _unknown},
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
    """A filter as plain values; that by a function cannot be written."""
    if filter is None or filter.event_filter is not None:
        return None
    return attrs.asdict(filter, filter=lambda _, value: value is not None)


@cache
def _stand_in(name: str | None) -> Any:
    """In the place of a function of this name; the same for all."""
    if name is None:
        return None

    def unknown(engine: Any, batch: Any) -> Any:
        return _unknown(engine)

    unknown.__name__ = unknown.__qualname__ = name
    return unknown


def _unknown(engine: Any) -> Any:
    raise RuntimeError("this loop was read from a file, without its functions: it can be judged and drawn, not run")
