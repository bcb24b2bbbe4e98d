"""Traces for tests of patterns."""

from __future__ import annotations

import pytest

from camshaft import Engine, Phase, record
from support.patterns import make_nested
from support.steps import no_op


@pytest.fixture(scope="module")
def plain():
    """Return the trace of two epochs with two iterations each of the phases A and B."""
    engine = Engine([Phase("A", no_op), Phase("B", no_op)], name="trainer")
    with record() as trace:
        engine.run([1, 2], max_epochs=2)
    assert len(trace) == 39
    return trace


@pytest.fixture(scope="module")
def nested():
    """Return the trace of two epochs of one iteration, with an evaluator after each."""
    with record() as trace:
        make_nested()[0].run([1], max_epochs=2)
    return trace
