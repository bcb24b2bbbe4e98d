"""How many cases a test tries: a share in ``make test``, all of them in ``make test-long``."""

from __future__ import annotations

import os

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""True in ``make test-long``."""


def repeats(few: int, many: int) -> int:
    """Return ``many`` in a long run, else ``few``."""
    return many if IS_LONG else few
