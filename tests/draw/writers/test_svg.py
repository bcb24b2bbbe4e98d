"""SVG pictures, as a browser shows them: they have the transitions of the machine, and all text is readable."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from camshaft.testing import loops
from support.drawn import check_readable, seen_in
from support.loops import LOOPS
from support.picture import declared_custom_states, differences, shown_custom_states

few = settings(max_examples=settings.default.max_examples // 5)


@pytest.mark.parametrize("name", LOOPS)
def test_the_picture_is_the_machine(page, name):
    page.show(LOOPS[name].diagram("full", control=True).svg(), width=1400)
    seen = seen_in(check_readable(page))
    assert not differences(seen, LOOPS[name])
    assert shown_custom_states(seen) == declared_custom_states(LOOPS[name])


@few
@given(loop=loops())
def test_the_picture_of_any_loop_is_its_machine(page, loop):
    page.show(loop.diagram("full", control=True).svg(), width=1400)
    seen = seen_in(check_readable(page))
    assert not differences(seen, loop)
    assert shown_custom_states(seen) == declared_custom_states(loop)


@few
@given(loop=loops())
def test_the_overview_of_any_loop_can_be_read(page, loop):
    page.show(loop.diagram().svg(), width=1400)
    check_readable(page)
