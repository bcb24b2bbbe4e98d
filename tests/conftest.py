"""Profiles of Hypothesis for ``make test`` (ci) and ``make test-long`` (long), and fixtures for all tests."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel: their threads would compete

from hypothesis import HealthCheck, settings

from browser import browser, graphviz, mermaid, page
from support import learning

collect_ignore_glob = ["promises/programs_from_ignite/*.py"]  # otherwise the search for doctests would run them

__all__ = ["browser", "dataset", "graphviz", "mermaid", "page"]


@pytest.fixture
def dataset():
    """50 samples of three classes."""
    return learning.dataset()


slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
