"""Traces: recorded runs of engines. They can be judged, compared with patterns, saved and shown as timelines."""

from camshaft.exceptions import TraceError
from camshaft.trace.log import HandlerTime, RunRecord, TraceEvent
from camshaft.trace.recording import record
from camshaft.trace.selection import Selection
from camshaft.trace.trace import Trace
from camshaft.trace.violations import Violation

__all__ = ["HandlerTime", "RunRecord", "Selection", "Trace", "TraceError", "TraceEvent", "Violation", "record"]
