"""Handlers that measure how a run spends its time."""

from camshaft.handlers.profiling.profilers import BasicTimeProfiler, HandlersTimeProfiler
from camshaft.handlers.profiling.torch_ranges import ProfilerRanges

__all__ = ["BasicTimeProfiler", "HandlersTimeProfiler", "ProfilerRanges"]
