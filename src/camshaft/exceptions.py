"""The errors of camshaft.

Each message names the thing, the place and the fix. Wrong arguments raise plain ``ValueError`` and ``TypeError``.
"""

from __future__ import annotations

__all__ = [
    "CamshaftError",
    "EventOrderError",
    "LoopError",
    "PatternError",
    "StorageError",
    "TargetError",
    "TraceError",
]


class CamshaftError(Exception):
    """Base of all errors of camshaft. Each one is also the built-in error that fits, such as ``ValueError``."""


class LoopError(CamshaftError, ValueError):
    """A loop that cannot run; the message names the loop, the state and the fix."""


class EventOrderError(CamshaftError, RuntimeError):
    """An event fired where the loop does not allow it; the message says where that is and what was expected."""


class TraceError(CamshaftError, ValueError):
    """A file that is no whole trace of this version; the message says what is wrong with it."""


class PatternError(CamshaftError, ValueError):
    """A pattern that cannot be read, or names what no recorded engine has; the message gives the place and the fix."""


class StorageError(CamshaftError, OSError):
    """A file cannot be written, or cannot be read back safely."""


class TargetError(CamshaftError, ValueError):
    """What a target names cannot be had; the message says why, in one line."""
