"""Random programs on an engine of camshaft and on one of pytorch-ignite: both fire the same events.

Programs with a deliberate difference are left out. The other files of this folder test each of these differences.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given

from camshaft.testing import Call, Data
from support import ROOT, names_of_tests
from support.ignite_differences import DIFFERENCES, differences
from support.ignite_disorders import DISORDERS
from support.ignite_parity import Ignite, Program, Side, make_ours, program
from support.ignite_programs import any_order, programs


@given(programs(any_order))
def test_both_engines_do_the_same(program: Program) -> None:
    ours = Side(program, make_ours)
    assume(not differences(ours))
    expected = Side(program, Ignite).seen()
    for name, found in ours.seen().items():
        assert found == expected[name], name


@pytest.mark.parametrize("at", ["iteration_started", "iteration_completed", "epoch_completed"])
@pytest.mark.parametrize("turns", [1, -1], ids=["set_data first", "set_data last"])
@pytest.mark.parametrize(
    "other", [("terminate", False), ("terminate_epoch", False), ("interrupt", None), ("set_data", Data(2))]
)
def test_new_data_is_taken_together_with_another_call(at, turns, other):
    calls = [Call(at, 1, "set_data", Data(1)), Call(at, 1, *other)][::turns]
    both = program(*calls, data=Data(4), max_epochs=2)
    assert Side(both, make_ours).seen() == Side(both, Ignite).seen()


def test_each_difference_and_each_disorder_has_its_test():
    here = Path(__file__).parent
    assert set(DIFFERENCES) <= names_of_tests(here.glob("test_*.py"))
    assert set(DISORDERS) <= names_of_tests([ROOT / "tests" / "adapters" / "test_ignite_order.py"])
