"""Fixtures for tests of all adapters."""

from __future__ import annotations

import pytest

from camshaft.engine.run import executing
from camshaft.testing import Reporter
from support.ignite_engines import quiet_and_clean
from support.reported import EVALUATION, LOOP

__all__ = ["nothing_is_left_around", "pair", "quiet_and_clean"]


@pytest.fixture(autouse=True)
def nothing_is_left_around():
    """Check after each test that no reporter is left as the one around later runs."""
    yield
    assert executing.get() is None


@pytest.fixture
def pair():
    return Reporter(LOOP, "trainer"), Reporter(EVALUATION, "evaluator")
