"""Traces as files: versioned JSON lines that carry the declaration of each loop, without its functions.

The first line names the format and its version; then come loops, runs, the segments in which runs went on, the
events, how long handlers took where that was measured, and last how many events there are, so that a file cut short is
noticed.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from camshaft.events import Filter, FilteredEvent
from camshaft.loop.loop import DATA, Every, Free, Loop, Mark, Nested, Phase, Step
from camshaft.machine.context import Context
from camshaft.trace.trace import HandlerClock, HandlerTime, RunRecord, Trace, TraceError

__all__ = ["from_dict", "load_trace", "save_trace", "to_dict"]

VERSION = 1
OUTCOMES = {None, "completed", "terminated", "interrupted", "paused", "failed"}


def save_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace: see :meth:`camshaft.Trace.save`."""
    declarations = [json.dumps(to_dict(record.loop)) for record in trace.runs]
    distinct = list(dict.fromkeys(declarations))
    with open(path, "w", encoding="utf-8") as file:

        def write(value: Any) -> None:
            file.write(json.dumps(value) + "\n")

        write({"camshaft": "trace", "version": VERSION})
        for declaration in distinct:
            write({"loop": json.loads(declaration)})
        for record, declaration in zip(trace.runs, declarations, strict=True):
            fields = {name: getattr(record, name) for name in ("engine", "parent", "place", "outcome", "limits")}
            fields |= {"loop": distinct.index(declaration), "context": _context_to_dict(record.context)}
            write({"run": fields})
        for segment in trace.segments:
            write({"segment": segment})
        for index, row in enumerate(trace.rows()):
            site = trace.site_of(index)
            write(row if site is None else (*row, site))
        for time in trace.handler_times:
            write({"handler": attrs.asdict(time)})
        write({"end": len(trace)})


def load_trace(path: str | Path) -> Trace:
    """Read a trace: see :meth:`camshaft.Trace.load`."""
    trace = Trace()
    loops: list[Loop] = []
    end, number = None, 0
    with open(path, encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                value = json.loads(line)
                if number == 1:
                    _check_header(path, value)
                elif isinstance(value, list):
                    trace.append(*value)
                elif "loop" in value:
                    loops.append(from_dict(value["loop"]))
                elif "run" in value:
                    fields = value["run"]
                    made = {"loop": loops[fields["loop"]], "context": _context_from_dict(fields["context"])}
                    if fields["outcome"] not in OUTCOMES:
                        raise ValueError(f"there is no outcome {fields['outcome']!r}")
                    trace.runs.append(RunRecord(**(fields | made)))
                elif "segment" in value:
                    trace.segments.append(value["segment"])
                elif "handler" in value:
                    trace.clocks.append(_clock_from_dict(value["handler"]))
                else:
                    end = value["end"]
        except TraceError:
            raise
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            what = f"is damaged or cut short ({type(error).__name__}: {error})"
            raise TraceError(f"{path}: line {number} {what}; record the trace again") from error
    if end != len(trace):
        said = "is empty" if not number else f"is cut short after {len(trace)} events"
        raise TraceError(f"{path} {said}; record the trace again")
    return trace


def _check_header(path: Any, value: Any) -> None:
    if not isinstance(value, dict) or value.get("camshaft") != "trace":
        raise TraceError(f"{path} is no trace: its first line does not say so")
    if value.get("version") != VERSION:
        raise TraceError(
            f"{path} is a trace of version {value.get('version')}, and this camshaft reads version {VERSION}: "
            f"record it again"
        )


_PLAIN = ("max_epochs", "max_iters", "epoch_length", "has_data", "knows_entered", "counts", "passes", "position")


def _context_to_dict(context: Context) -> dict[str, Any]:
    return {name: getattr(context, name) for name in _PLAIN} | {"resumed": sorted(context.resumed)}


def _context_from_dict(fields: dict[str, Any]) -> Context:
    return Context(**(fields | {"resumed": set(fields["resumed"])}))


def _clock_from_dict(fields: dict[str, Any]) -> HandlerClock:
    time = HandlerTime(**fields)
    names, seconds = (time.engine, time.event, time.handler), (time.total, time.maximum)
    if {*map(type, names)} != {str} or type(time.count) is not int or not {*map(type, seconds)} <= {int, float}:
        raise TypeError(f"{fields} has values of other types")
    if time.count < 1 or not 0 <= time.maximum <= time.total < math.inf:
        raise ValueError(f"{fields} says what cannot be")
    return HandlerClock(**attrs.asdict(time))


def to_dict(loop: Loop) -> dict[str, Any]:
    """The declaration without its functions, as JSON values: the same machine can be built from it."""

    def item_dict(item: Any) -> dict[str, Any]:
        if isinstance(item, Step):
            return {"kind": "step", "runs": _name(item.run)}
        if isinstance(item, Mark):
            return {"kind": "mark", "event": item.event}
        made: dict[str, Any] = {"name": item.name, "started": item.started, "completed": item.completed}
        if isinstance(item, Phase):
            when = item.when
            return {"kind": "phase", **made, "when": when.n if isinstance(when, Every) else when is not None} | {
                "runs": _name(item.run)
            }
        return {"kind": "loop", **made, "passes": item.passes, "body": [item_dict(child) for child in item.body]}

    nested = [{"name": inner.name, "on": inner.on.key, "filter": _filter(inner.on.filter)} for inner in loop.nested]
    return {**item_dict(loop), "free": [attrs.asdict(free) for free in loop.free], "nested": nested}


def from_dict(data: dict[str, Any]) -> Loop:
    """The loop that :func:`to_dict` wrote. Its phases run nothing: it is for judging and drawing."""

    def item_from(part: dict[str, Any]) -> Any:
        if part["kind"] == "step":
            return Step(_stand_in(part.get("runs")))
        if part["kind"] == "mark":
            return Mark(part["event"])
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

    free = tuple(Free(**{**part, "order": tuple(part["order"])}) for part in data["free"])
    nested = tuple(
        Nested(
            None, FilteredEvent(part["on"], Filter(**part["filter"]) if part.get("filter") else None), name=part["name"]
        )
        for part in data["nested"]
    )
    return item_from(data).evolve(free=free, nested=nested)  # type: ignore[no-any-return]


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
