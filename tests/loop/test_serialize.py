"""Loops as JSON values: writing and reading gives the same loop."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from camshaft import Engine, Loop, Phase
from camshaft.loop.serialize import from_dict, to_dict
from camshaft.machine.machine import LoopMachine
from camshaft.testing import loops


@given(loops())
def test_a_loop_is_the_same_after_writing_and_reading(loop):
    written = to_dict(loop)
    read = from_dict(json.loads(json.dumps(written)))
    assert to_dict(read) == written
    assert str(LoopMachine(read)).count("->") == str(LoopMachine(loop)).count("->")
    assert LoopMachine(read).table.keys() == LoopMachine(loop).table.keys()


def test_a_loop_read_from_a_file_cannot_run():
    loop = from_dict(to_dict(Loop("A", Loop("B", Phase("C"), until=lambda engine: True))))
    with pytest.raises(RuntimeError, match="read from a file"):
        Engine(loop).run()
