"""Exact resume: snapshots, the position in the data, random states, and files that survive a crash."""

from camshaft.resume.exit_signals import graceful_exit
from camshaft.resume.snapshot import Snapshot

__all__ = ["Snapshot", "graceful_exit"]
