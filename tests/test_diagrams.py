"""The drawings in the repository show the loops as they are now; `make diagrams` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from camshaft.cli import app

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["custom_events_resnet18", "trainer_and_evaluator"])
def test_the_drawing_of_an_example_is_up_to_date(name):
    shown = CliRunner().invoke(app, ["show", str(ROOT / "examples" / f"{name}.py:trainer")])
    assert shown.output == (ROOT / "diagrams" / f"{name}.txt").read_text(encoding="utf-8")


def test_every_example_is_drawn():
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert {path.stem for path in (ROOT / "diagrams").iterdir()} == examples
