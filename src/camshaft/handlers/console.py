"""Output to consoles that ends no training, whatever the encoding is and wherever the output goes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["EncodableStream", "encodable", "is_terminal"]


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal. A closed stream is none, nor is an object that can only be written to."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


class EncodableStream:
    """A stream that replaces what its encoding lacks, and writes nothing any more when nobody can read it.

    Args:
        stream: the stream to write to; None for the present standard error.
    """

    def __init__(self, stream: Any = None) -> None:
        self._given = stream

    @property
    def _stream(self) -> Any:
        stream = sys.stderr if self._given is None else self._given
        return getattr(stream, "rich_proxied_file", stream)  # the real one while bars are shown

    def __getattr__(self, name: str) -> Any:
        if name == "rich_proxied_file":  # rich would write to that stream instead
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text. Each character that cannot be encoded becomes a question mark."""
        with suppress(OSError, ValueError, AttributeError):  # the reader is gone, or the stream is closed or missing
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(self._replaced(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if it can be."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def _replaced(self, text: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "ascii"
        try:
            return text.encode(encoding, "replace").decode(encoding)
        except LookupError:
            return text.encode("ascii", "replace").decode("ascii")


_LOCK = threading.Lock()
_USES: dict[Console, int] = {}
_GIVEN: dict[Console, Any] = {}


@contextmanager
def encodable(console: Console) -> Iterator[None]:
    """Within the block, let a console write to its stream by an :class:`EncodableStream`.

    Blocks of several threads, and blocks inside of one another, may have the same console.
    """
    with _LOCK:
        if console not in _USES:
            _GIVEN[console] = getattr(console, "_file", None)  # None for the present standard output or error
            console.file = EncodableStream(console.file)  # type: ignore[assignment]
        _USES[console] = _USES.get(console, 0) + 1
    try:
        yield
    finally:
        with _LOCK:
            _USES[console] -= 1
            if not _USES[console]:
                del _USES[console]
                console.file = _GIVEN.pop(console)
