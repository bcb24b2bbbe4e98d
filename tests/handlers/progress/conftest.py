"""Fixtures for tests of progress bars."""

import io
import re

import pytest
from rich.console import Console

from camshaft.handlers import ProgressBar


@pytest.fixture
def log():
    """Return a bar that writes to a file, with the lines written so far. Times and rates are removed from the lines."""

    class Log:
        def __init__(self):
            self.file = io.StringIO()
            self.bar = ProgressBar(console=Console(file=self.file))

        @property
        def lines(self):
            return [
                re.sub(r"  \d+:\d\d( < \d+:\d\d)?(  \S+/s)?", "", line) for line in self.file.getvalue().splitlines()
            ]

    return Log()
