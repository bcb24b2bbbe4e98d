"""Random programs on an engine of camshaft and on one of pytorch-ignite: both fire the same events.

Programs with a deliberate difference are left out. The other files of this folder test each of these differences.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import assume, given

from support import ROOT, names_of_tests
from support.ignite_differences import DIFFERENCES, differences
from support.ignite_disorders import DISORDERS
from support.ignite_parity import Ignite, Program, Side, make_ours
from support.ignite_programs import any_order, programs


@given(programs(any_order))
def test_both_engines_do_the_same(program: Program) -> None:
    ours = Side(program, make_ours)
    assume(not differences(ours))
    expected = Side(program, Ignite).seen()
    for name, found in ours.seen().items():
        assert found == expected[name], name


def test_each_difference_and_each_disorder_has_its_test():
    here = Path(__file__).parent
    assert set(DIFFERENCES) <= names_of_tests(here.glob("test_*.py"))
    assert set(DISORDERS) <= names_of_tests([ROOT / "tests" / "adapters" / "test_ignite_order.py"])
