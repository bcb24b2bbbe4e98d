"""Metrics: torchmetrics metrics attached to an engine, with Accuracy, Loss and RunningAverage built in."""

from camshaft.metrics.attachment import BATCH_WISE, EPOCH_WISE, RUNNING, RUNNING_EPOCH, Usage, attach
from camshaft.metrics.basic import Accuracy, Loss, RunningAverage

__all__ = [
    "Accuracy",
    "BATCH_WISE",
    "EPOCH_WISE",
    "Loss",
    "RUNNING",
    "RUNNING_EPOCH",
    "RunningAverage",
    "Usage",
    "attach",
]
