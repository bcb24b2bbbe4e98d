"""Pictures for Mermaid, read by its own parser: they have the transitions of the machine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from browser import overlaps
from camshaft.testing import loops
from support.drawn_elsewhere import seen_by_mermaid
from support.loops import LOOPS
from support.picture import declared_custom_states, differences, shown_custom_states

few = settings(max_examples=settings.default.max_examples // 5)


@pytest.mark.parametrize("name", LOOPS)
def test_mermaid_reads_the_machine(page, mermaid, name):
    text = LOOPS[name].diagram("full", control=True).mermaid()
    seen = seen_by_mermaid(mermaid.read(text))
    assert not differences(seen, LOOPS[name])
    assert shown_custom_states(seen) == declared_custom_states(LOOPS[name])
    page.show(f"<body>{mermaid.render(LOOPS[name].diagram('full').mermaid())}</body>", width=1400)
    assert not page.errors
    assert not overlaps(page.geometry().texts)


@few
@given(loop=loops())
def test_mermaid_reads_the_machine_of_any_loop(mermaid, loop):
    text = loop.diagram("full", control=True).mermaid()
    seen = seen_by_mermaid(mermaid.read(text))
    assert not differences(seen, loop)
    assert shown_custom_states(seen) == declared_custom_states(loop)
    mermaid.render(text)
