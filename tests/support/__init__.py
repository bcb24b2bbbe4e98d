"""What several tests need: models, loops, a second way to run a loop, and readers of pictures and tables."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder of the repository."""


def path_of(file: str) -> str:
    """Where a file of the repository is, as a call site of an event says it."""
    return Path(file).relative_to(ROOT).as_posix()
