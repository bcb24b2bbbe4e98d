"""Pictures for Graphviz, read by its own parser: they have the transitions of the machine."""

from __future__ import annotations

from hypothesis import given, settings

from camshaft.testing import loops
from support.drawn_elsewhere import seen_by_graphviz
from support.picture import declared_custom_states, differences, shown_custom_states

few = settings(max_examples=settings.default.max_examples // 5)


@few
@given(loop=loops())
def test_graphviz_reads_the_machine_of_any_loop(graphviz, loop):
    seen = seen_by_graphviz(graphviz(loop.diagram("full", control=True).dot()))
    assert not differences(seen, loop)
    assert shown_custom_states(seen) == declared_custom_states(loop)
