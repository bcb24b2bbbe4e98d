"""The diagrams in the repository show the current loops; `make diagrams` draws them."""

from __future__ import annotations

from pathlib import Path

import pytest

from camshaft.cli.kept_diagrams import kept_diagrams
from support import ROOT

KEPT = kept_diagrams(ROOT / "pyproject.toml")


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.path.name)
def test_a_kept_diagram_is_what_the_code_draws_now(kept):
    assert (ROOT / kept.path).read_bytes() == kept.rendered(ROOT)


def test_every_example_is_drawn_and_every_diagram_is_listed():
    drawn = {kept.target.partition(":")[0].removeprefix("examples/").partition("/")[0] for kept in KEPT}
    examples = [path for path in (ROOT / "examples").iterdir() if path.name[0] not in "._"]
    assert {path.name for path in examples} == drawn
    files = {path.name for path in (ROOT / "diagrams").iterdir()}
    assert files == {Path(file).name for kept in KEPT for file in (kept.path, kept.trace) if file is not None}


def test_the_readme_shows_the_kept_diagram():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    mermaid = (ROOT / "diagrams" / "custom_events_resnet18.mmd").read_text(encoding="utf-8")
    assert f"```mermaid\n{mermaid}```" in readme
    assert "diagrams/custom_events_resnet18.svg" in readme
