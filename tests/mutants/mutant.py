"""What a mutant is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import attrs

from camshaft import Trace
from mutants.cases import Case, families

__all__ = ["Mutant", "StaleError", "TraceMutant"]


class StaleError(LookupError):
    """The code has changed, so that a mutant of it cannot be made any more."""


@attrs.frozen(eq=False)
class Mutant:
    """A change of what runs.

    Attributes:
        kind: under which it is counted.
        name: what is changed.
        family: in whose cases it is judged.
        applied: while what it gives is open, engines run the mutant; None for one that does not compile.
        harmless: why nobody can see it, where nobody can.
        gap: what ``assert_legal`` does not see yet, where it passes what the loop cannot do.
    """

    kind: str
    name: str
    family: str
    applied: Callable[[], AbstractContextManager[None]] | None
    harmless: str | None = None
    gap: str | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        """Where it is judged."""
        return families()[self.family][1]


@attrs.frozen(eq=False)
class TraceMutant:
    """A change of what was recorded.

    Attributes:
        kind: under which it is counted.
        name: what is changed.
        case: of which case the trace is.
        trace: the changed trace.
        harmless: why nobody can see it, where nobody can.
        gap: what ``assert_legal`` does not see yet, where it passes what the loop cannot do.
    """

    kind: str
    name: str
    case: Case
    trace: Trace
    harmless: str | None = None
    gap: str | None = None
