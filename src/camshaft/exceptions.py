"""The exceptions of camshaft.

Each message names the thing, the place and the fix. Wrong arguments raise a plain ``ValueError`` or ``TypeError``.
"""

from __future__ import annotations

__all__ = [
    "CamshaftError",
    "EventOrderError",
    "LoopError",
    "NoValueError",
    "PatternError",
    "StorageError",
    "TargetError",
    "TraceError",
]


class CamshaftError(Exception):
    """Base class of camshaft's errors. Each subclass also inherits from a built-in error, such as ``ValueError``."""


class LoopError(CamshaftError, ValueError):
    """An invalid loop declaration. The message names the loop, the state and the fix."""


class EventOrderError(CamshaftError, RuntimeError):
    """An event that the loop does not allow at this place. The message gives the place and the expected events."""


class TraceError(CamshaftError, ValueError):
    """A file that is not a complete trace of this version. The message gives the reason."""


class PatternError(CamshaftError, ValueError):
    """A pattern with a syntax error or an unknown event, state or engine. The message gives the place and the fix."""


class NoValueError(CamshaftError, ValueError):
    """A metric that is computed without samples. An engine leaves such a metric out, with a warning."""


class StorageError(CamshaftError, OSError):
    """A file that cannot be written, or cannot be read safely."""


class TargetError(CamshaftError, ValueError):
    """A target that cannot be imported, or is not an engine or a loop. The message is one line with the reason."""
