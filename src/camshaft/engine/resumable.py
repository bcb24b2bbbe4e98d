"""The part of a snapshot that an engine uses, so that the engine need not import it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Resumable"]


class Resumable(Protocol):
    """The part of :class:`~camshaft.Snapshot` that an engine uses."""

    @property
    def is_wanted(self) -> bool:
        """True if a file was requested and is not written yet."""

    @property
    def opens_data(self) -> bool:
        """True if the next data is opened at the position of a file, and in its random states."""

    def resume(self, path: str | os.PathLike[str]) -> Path | None:
        """Make the next run resume from a file. Returns the file, or None if there is none."""

    def check_folder(self) -> None:
        """Refuse to begin a run whose files would replace those of an earlier one."""

    def forget(self) -> None:
        """Cancel a pending resume."""

    def __call__(self, engine: Any = None) -> None:
        """Request a file at the next point where the run can be resumed."""
