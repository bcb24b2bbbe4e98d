"""Traces: recorded runs, how they are judged, compared with patterns, stored and exported."""

from camshaft.trace.recording import record
from camshaft.trace.trace import HandlerTime, RunRecord, Selection, Trace, TraceError, TraceEvent, Violation

__all__ = ["HandlerTime", "RunRecord", "Selection", "Trace", "TraceError", "TraceEvent", "Violation", "record"]
