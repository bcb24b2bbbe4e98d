"""The progress bar."""

from camshaft.handlers.progress.bar import ProgressBar

__all__ = ["ProgressBar"]
