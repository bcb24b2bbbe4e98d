"""Targets of the command line: an invalid target is refused with the reason."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("train.py:nothing", "has no attribute 'nothing'"),
        ("train.py:number", "must be an Engine, a Loop, or a function without arguments that returns one, got 3"),
        ("nowhere.py:trainer", "no file nowhere.py"),
        ("no.such.module:trainer", "No module named 'no'"),
        ("train.py", "write package.module:name"),
    ],
)
def test_a_target_that_is_no_loop_says_why(run, target, why):
    done = run("source", target)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr
