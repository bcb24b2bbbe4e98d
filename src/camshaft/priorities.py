"""The priorities of camshaft's own handlers, the highest first.

At an event, handlers with a higher priority run first. A user's handlers have priority 0 unless another is given. They
run after :data:`SHOW_RESULTS` and before :data:`CLOSE_BARS`.
"""

__all__ = [
    "CLOSE_BARS",
    "MARK_RESUMED",
    "MEASURE",
    "METRICS",
    "OPEN_BARS",
    "PAUSE",
    "RESTORE",
    "SHOW_RESULTS",
    "SNAPSHOT",
    "SWITCH_MODE",
]

MEASURE = 1_000_000_000
"""Profilers start their clocks. They run before all other handlers, so that they time every one of them."""

MARK_RESUMED = MEASURE - 1
"""A resumed run sets ``state.resumed``. Every other handler of STARTED can then read it."""

SWITCH_MODE = MEASURE - 2
"""Trainers and evaluators switch the mode of the model. A user's handlers can then switch parts of it back."""

METRICS = 1_000_000
"""Metrics are updated and computed. A user's handlers can then read the results."""

OPEN_BARS = METRICS
"""Progress bars open and count a pass. Messages of a user's handlers then appear above the bar."""

SHOW_RESULTS = METRICS - 1
"""Progress bars show results. They run after the metrics that compute these."""

CLOSE_BARS = -OPEN_BARS
"""Progress bars close. They stay open for the messages of a user's handlers."""

RESTORE = -MEASURE + 1
"""A resumed run loads the saved state. Handlers of STARTED may have set up new objects, so it replaces their state."""

SNAPSHOT = RESTORE - 1
"""Snapshots are written. They contain the changes made by all other handlers of the event."""

PAUSE = 2 * SNAPSHOT
"""A graceful exit pauses the run. It runs last, so that a snapshot of this event is written before the process ends."""
