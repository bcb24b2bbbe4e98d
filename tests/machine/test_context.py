"""Contexts and guards."""

from __future__ import annotations

import attrs
import pytest

from camshaft.machine.context import Context, Guard, function


@pytest.mark.parametrize(("held", "opposite"), [(True, False), (False, True), (None, None)])
def test_a_negated_guard_gives_the_opposite_or_stays_unknown(held, opposite):
    guard = Guard("data", "context.has_data")
    assert guard.test(Context(has_data=held)) is held
    assert guard.negated("no data").test(Context(has_data=held)) is opposite


def test_a_condition_keeps_its_meaning_inside_a_function():
    guard = Guard("known", "context.epoch_length is not None")
    denies = function([f"if ({guard.holds}) is False: return True"])
    assert denies(Context()) is True
    assert denies(Context(epoch_length=3)) is None


def test_a_copied_context_shares_nothing():
    context = Context(counts={"EPOCH": 1}, entered={"X"})
    copied = context.copy()
    assert copied == context
    copied.counts["EPOCH"] = 2
    copied.entered.add("Y")
    assert attrs.asdict(context)["counts"] == {"EPOCH": 1}
    assert context.entered == {"X"}
