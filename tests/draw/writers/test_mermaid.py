"""Pictures for Mermaid, as its own parser reads them: they say what the machine says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from browser import overlaps
from camshaft.testing import loops
from support.drawn_elsewhere import seen_by_mermaid
from support.loops import LOOPS
from support.picture import customs, differences, frees_of

few = settings(max_examples=settings.default.max_examples // 5)


@pytest.mark.parametrize("name", LOOPS)
def test_mermaid_reads_the_machine(page, mermaid, name):
    text = LOOPS[name].diagram("full", control=True).mermaid()
    seen = seen_by_mermaid(mermaid.read(text))
    assert not differences(seen, LOOPS[name])
    assert customs(seen) == frees_of(LOOPS[name])
    page.show(f"<body>{mermaid.render(LOOPS[name].diagram('full').mermaid())}</body>", width=1400)
    assert not page.errors
    assert not overlaps(page.geometry().texts)


@few
@given(loop=loops())
def test_mermaid_reads_the_machine_of_any_loop(mermaid, loop):
    text = loop.diagram("full", control=True).mermaid()
    seen = seen_by_mermaid(mermaid.read(text))
    assert not differences(seen, loop)
    assert customs(seen) == frees_of(loop)
    mermaid.render(text)
