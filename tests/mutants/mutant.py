"""Mutants: changes of the running code, and changes of recorded traces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import attrs

from camshaft import Trace
from mutants.cases import Case, families

__all__ = ["Mutant", "StaleError", "TraceMutant"]


class StaleError(LookupError):
    """The code has changed, so that a mutant of it can no longer be made."""


@attrs.frozen(eq=False)
class Mutant:
    """A change of the code that runs.

    Attributes:
        kind: the kind under which it is counted.
        name: the change in words.
        family: the name of the cases in which it is judged.
        applied: returns a context manager inside which engines run the mutant. None if the mutant does not compile.
        harmless: the reason why it has no observable effect, or None.
        gap: an order that ``assert_legal`` accepts although the loop cannot fire it, or None.
    """

    kind: str
    name: str
    family: str
    applied: Callable[[], AbstractContextManager[None]] | None
    harmless: str | None = None
    gap: str | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases in which it is judged."""
        return families()[self.family][1]


@attrs.frozen(eq=False)
class TraceMutant:
    """A change of a recorded trace.

    Attributes:
        kind: the kind under which it is counted.
        name: the change in words.
        case: the case that was recorded.
        trace: the changed trace.
        harmless: the reason why it has no observable effect, or None.
        gap: an order that ``assert_legal`` accepts although the loop cannot fire it, or None.
    """

    kind: str
    name: str
    case: Case
    trace: Trace
    harmless: str | None = None
    gap: str | None = None
