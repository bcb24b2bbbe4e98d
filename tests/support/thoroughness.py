"""How much is tried where it is a matter of how many: a share in continuous integration, all of it in a long run."""

from __future__ import annotations

import os

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""True in ``make test-long``."""


def repeats(few: int, many: int) -> int:
    """Return ``many`` in a long run, else ``few``."""
    return many if IS_LONG else few
