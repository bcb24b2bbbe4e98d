"""Handlers for what a training run needs besides its loop. Handlers are attached to events; the engine knows none."""

from camshaft.handlers.checkpoint import Checkpoint, ModelCheckpoint
from camshaft.handlers.ema import EMA
from camshaft.handlers.gradients import ClipGradNorm, ClipGradValue, GradNorm
from camshaft.handlers.lr_scheduler import LRScheduler
from camshaft.handlers.periodic import CustomPeriodicEvent
from camshaft.handlers.profiling.profilers import BasicTimeProfiler, HandlersTimeProfiler
from camshaft.handlers.profiling.torch_ranges import ProfilerRanges
from camshaft.handlers.progress.bar import ProgressBar
from camshaft.handlers.stopping import EarlyStopping, TerminateOnNan, TimeLimit
from camshaft.handlers.tensorboard import TensorBoardLogger, global_step_from_engine
from camshaft.handlers.timing import Timer

__all__ = [
    "BasicTimeProfiler",
    "Checkpoint",
    "ClipGradNorm",
    "ClipGradValue",
    "CustomPeriodicEvent",
    "EMA",
    "EarlyStopping",
    "GradNorm",
    "HandlersTimeProfiler",
    "LRScheduler",
    "ModelCheckpoint",
    "ProfilerRanges",
    "ProgressBar",
    "TensorBoardLogger",
    "TerminateOnNan",
    "TimeLimit",
    "Timer",
    "global_step_from_engine",
]
