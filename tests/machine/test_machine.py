"""The machine of a loop."""

from __future__ import annotations

from camshaft import Engine, Loop, Phase


def test_an_outermost_loop_ends_with_its_elements():
    text = str(Engine(Loop("FOLD", Phase("SPLIT"), over=[1, 2])).machine)
    assert "FOLD_STARTED -> FOLD\n      if another element" in text
    assert "COMPLETED -> COMPLETED\n      if no element left" in text
