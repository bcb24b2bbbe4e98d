"""In which order the handlers of camshaft itself run at an event, around those that a user attaches."""

__all__ = ["BEGIN", "BEHIND_SNAPSHOT", "CLOSE", "GO_ON", "MEASURE", "METRICS", "OPEN", "SHOW", "SNAPSHOT"]

MEASURE = 1_000_000_000
"""What measures others: before all of them."""

BEGIN = MEASURE - 1
"""A resumed run says that it is one."""

METRICS = OPEN = 1_000_000
"""Results are there, and bars stand, before a user's handlers run."""

SHOW = METRICS - 1
"""Results are shown."""

CLOSE = -OPEN
"""Bars close behind a user's handlers."""

GO_ON = -MEASURE + 1
"""What was saved takes the place of what handlers have set up."""

SNAPSHOT = GO_ON - 1
"""A snapshot is written behind all that belongs to the event."""

BEHIND_SNAPSHOT = 2 * SNAPSHOT
"""A run is left."""
