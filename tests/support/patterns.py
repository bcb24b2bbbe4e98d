"""Patterns over traces: whether they match, and the message if they do not."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, Phase
from camshaft.trace.pattern import check
from support.steps import no_op


def matches(trace, pattern, strict=False, indices=None):
    try:
        check(trace, pattern, strict, indices)
    except AssertionError:
        return False
    return True


def failure(trace, pattern, strict=False, indices=None):
    with pytest.raises(AssertionError) as caught:
        check(trace, pattern, strict, indices)
    assert type(caught.value) is AssertionError
    return str(caught.value).splitlines()


def make_nested():
    trainer, evaluator = Engine([Phase("A", no_op)], name="trainer"), Engine([Phase("X", no_op)], name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    return trainer, evaluator
