"""Checks of arguments: what counts as an integer, and what the message says."""

import re

import numpy as np
import pytest

from camshaft import LoopError
from camshaft._checks import check_integer, is_integer


@pytest.mark.parametrize(
    ("value", "least", "expected"),
    [(1, 1, True), (0, 1, False), (-3, None, True), (True, None, False), (1.0, None, False), ("1", None, False)],
)
def test_what_is_an_integer(value, least, expected):
    assert is_integer(value, least) is expected


def test_an_integer_of_a_subclass_is_one():
    class Count(int):
        pass

    assert is_integer(Count(3), least=1)
    assert not is_integer(np.bool_(True))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None])
def test_the_message_names_argument_bound_and_value(value):
    message = f"n_saved must be an integer of 1 or more, got {value!r}: give None to keep all"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_integer("n_saved", value, hint="give None to keep all")


def test_the_class_of_the_error_can_be_given():
    with pytest.raises(LoopError, match="times must be an integer of 0 or more, got -1"):
        check_integer("times", -1, least=0, error=LoopError)


def test_a_value_that_fits_raises_nothing():
    check_integer("n", 1)
    check_integer("n", 0, least=0)
