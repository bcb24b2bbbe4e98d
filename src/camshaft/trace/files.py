"""Traces as files: versioned JSON lines with the declaration of each loop, without its functions.

The first line names the format and its version. Then come the loops, the runs, the segments of runs, the events, and
the times of handlers if they were measured. The last line has the number of events: it shows if a file was cut
short.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs

from camshaft.events import LAST_EVENTS
from camshaft.exceptions import TraceError
from camshaft.loop.loop import Loop
from camshaft.loop.serialize import from_dict, to_dict
from camshaft.machine.context import Context
from camshaft.trace.log import HandlerTime, HandlerTimer, RunRecord, TraceLog

__all__ = ["load_trace", "save_trace"]

VERSION = 1
KNOWN_OUTCOMES = {None, "paused", *LAST_EVENTS}


def save_trace(trace: TraceLog, path: str | Path) -> None:
    """Write a trace to a file: see :meth:`camshaft.Trace.save`."""
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
        for index, event in enumerate(trace.raw_events()):
            site = trace.site_of(index)
            write(event if site is None else (*event, site))
        for time in trace.handler_times:
            write({"handler": attrs.asdict(time)})
        write({"end": len(trace)})


def load_trace(trace: TraceLog, path: str | Path) -> None:
    """Fill an empty trace from a file: see :meth:`camshaft.Trace.load`."""
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
                    if fields["outcome"] not in KNOWN_OUTCOMES:
                        raise ValueError(f"unknown outcome {fields['outcome']!r}")
                    trace.runs.append(RunRecord(**(fields | made)))
                elif "segment" in value:
                    trace.segments.append(value["segment"])
                elif "handler" in value:
                    trace.timers.append(_timer_from_dict(value["handler"]))
                else:
                    end = value["end"]
        except TraceError:
            raise
        except (
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            OverflowError,
        ) as error:  # a damaged line can cause each of these
            what = f"is damaged or cut short ({type(error).__name__}: {error})"
            raise TraceError(f"{path}: line {number} {what}; record the trace again") from error
    # If a file is cut at the end of a line, all its lines are readable: only the missing last line shows it.
    if end != len(trace):
        problem = "is empty" if not number else f"is cut short after {len(trace)} events"
        raise TraceError(f"{path} {problem}; record the trace again")


def _check_header(path: Any, value: Any) -> None:
    if not isinstance(value, dict) or value.get("camshaft") != "trace":
        raise TraceError(
            f"{path} is not a trace: its first line does not name the format; give a file that Trace.save() wrote"
        )
    if value.get("version") != VERSION:
        raise TraceError(
            f"{path} is a trace of version {value.get('version')}, but this camshaft reads version {VERSION}; "
            f"record it again"
        )


_PLAIN = ("max_epochs", "max_iters", "epoch_length", "has_data", "knows_entered", "counts", "passes", "position")


def _context_to_dict(context: Context) -> dict[str, Any]:
    return {name: getattr(context, name) for name in _PLAIN} | {"resumed": sorted(context.resumed)}


def _context_from_dict(fields: dict[str, Any]) -> Context:
    return Context(**(fields | {"resumed": set(fields["resumed"])}))


def _timer_from_dict(fields: dict[str, Any]) -> HandlerTimer:
    time = HandlerTime(**fields)
    names, seconds = (time.engine, time.event, time.handler), (time.total, time.maximum)
    if {*map(type, names)} != {str} or type(time.count) is not int or not {*map(type, seconds)} <= {int, float}:
        raise TypeError(f"the handler time {fields} has values of wrong types")
    if time.count < 1 or not 0 <= time.maximum <= time.total < math.inf:
        raise ValueError(f"the handler time {fields} has impossible values")
    return HandlerTimer(**attrs.asdict(time))
